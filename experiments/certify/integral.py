"""The program of a step with whole choices: no node runs half here and half there.

CP-SAT (OR-tools) decides in integers, so that what it proves needs no tolerance. Times are in
microseconds. Every coefficient is rounded so that a row only gets easier to keep, and a row of
``c`` slots gives ``c - 1`` away: times rounded down then keep it.

What whole choices allow beside: a subgraph of the DSP shows its results when all of it has run.
So where a DSP kernel has a reader on the DSP and one elsewhere, either the two are in one subgraph,
and the reader elsewhere waits for both; or a return and a call lie between them.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from experiments.certify.relaxation import CertificateError
from experiments.certify.windows import StepProgram

UNIT_NS = 1000
SEEDS = (0, 1)
"""Random seeds of two searches; the weaker bound counts, since a solver may be wrong."""


def integral_bound(step: StepProgram, work: float, upper_ns: int) -> int:
    """Return a bound on the step time over whole choices, nanoseconds.

    Parameters
    ----------
    step
        The program of a step, with its windows.
    work
        Limit of each of two searches in CP-SAT's deterministic units, each some seconds of one
        core; the same limit gives the same bound on every machine.
    upper_ns
        No larger bound is looked for: the time of a known plan.

    Raises
    ------
    CertificateError
        OR-tools is not installed, or refuses the model.
    """
    try:
        from ortools.sat.python import cp_model
    except ImportError as error:
        raise CertificateError(
            "this bound needs OR-tools; install it: pip install 'mandheling-sandbox[search]', or "
            "ask for no work beyond the linear program"
        ) from error
    model = cp_model.CpModel()
    horizon = -(-upper_ns // UNIT_NS)
    times = {0, *step.starts}
    variables = [
        model.new_int_var(0, horizon if k in times else box, "")
        for k, box in enumerate(step.program.box)
    ]
    _rows(step, model, variables, times)
    _subgraphs(step, model, variables)
    model.minimize(variables[0])
    return min(_solve(cp_model, model, work, upper_ns, seed) for seed in SEEDS)


def check_valid(cp_model: Any, model: Any, status: Any) -> None:
    """Refuse the answer of a solver that did not accept its model: it says nothing of any plan.

    Raises
    ------
    CertificateError
        With the solver's own reason.
    """
    if status == cp_model.MODEL_INVALID:
        raise CertificateError(
            f"OR-tools refuses the model: {model.validate().strip()[:200] or 'no reason given'}; "
            "sums of times must fit its 64-bit integers: take a smaller batch or graph"
        )


def _solve(cp_model: Any, model: Any, work: float, upper_ns: int, seed: int) -> int:
    solver = cp_model.CpSolver()
    solver.parameters.num_workers = 1
    solver.parameters.random_seed = seed
    solver.parameters.linearization_level = 2
    solver.parameters.max_deterministic_time = work
    status = solver.solve(model)
    check_valid(cp_model, model, status)
    if status == cp_model.INFEASIBLE:
        return upper_ns
    return min(upper_ns, UNIT_NS * max(0, int(np.floor(solver.best_objective_bound))))


def _rows(step: StepProgram, model: Any, variables: list[Any], times: set[int]) -> None:
    """Add each row of the program, rounded outward where it speaks of times."""
    rows = step.program.rows
    for row, least in enumerate(step.program.least):
        inside = slice(rows.indptr[row], rows.indptr[row + 1])
        terms = list(zip(rows.indices[inside].tolist(), rows.data[inside].tolist(), strict=True))
        slots = max((abs(value) for column, value in terms if column in times), default=0)
        if not slots:
            model.add(sum(value * variables[column] for column, value in terms) >= least)
            continue
        rounded = [
            (column, value if column in times else -(-value // UNIT_NS)) for column, value in terms
        ]
        total = sum(value * variables[column] for column, value in rounded)
        model.add(total >= least // UNIT_NS - (slots - 1))


def _subgraphs(step: StepProgram, model: Any, variables: list[Any]) -> None:
    """Where one reader of a DSP kernel is on the DSP too, another may wait for it."""
    relaxation = step.relaxation
    after: dict[int, list[int]] = {}
    for edge in relaxation.edges:
        after.setdefault(edge.before, []).append(edge.after)
    on_dsp = [_literal(step, model, variables, k) for k in range(len(relaxation.nodes))]
    gap = (relaxation.call_ns + relaxation.return_ns) // UNIT_NS
    back = relaxation.return_ns // UNIT_NS

    def end(node: int) -> Any:
        ways = zip(step.ways[node], relaxation.nodes[node].ways, strict=True)
        return variables[step.starts[node]] + sum(
            w.time_ns // UNIT_NS * variables[c] for c, w in ways
        )

    for node, readers in after.items():
        inner = [k for k in readers if on_dsp[k] is not None]
        if on_dsp[node] is None or not inner or len(readers) < 2:
            continue
        for reader in inner:
            together = model.new_bool_var("")
            here = [on_dsp[node], on_dsp[reader]]
            start = variables[step.starts[reader]]
            model.add(start >= end(node) + gap).only_enforce_if([*here, together.negated()])
            for other in readers:
                if other == reader:
                    continue
                elsewhere = [] if on_dsp[other] is None else [on_dsp[other].negated()]
                if step.exists[other] >= 0:
                    elsewhere.append(variables[step.exists[other]])
                model.add(variables[step.starts[other]] >= end(reader) + back).only_enforce_if(
                    [*here, together, *elsewhere]
                )


def _literal(step: StepProgram, model: Any, variables: list[Any], node: int) -> Any:
    """Whether a node runs on the DSP; None if it cannot."""
    ways = zip(step.ways[node], step.relaxation.nodes[node].ways, strict=True)
    columns = [column for column, way in ways if way.unit == "dsp"]
    if not columns:
        return None
    literal = model.new_bool_var("")
    model.add(sum(variables[c] for c in columns) == literal)
    return literal
