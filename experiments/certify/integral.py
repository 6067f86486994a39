"""The program of a step with whole choices: no node runs half here and half there.

CP-SAT (OR-tools) decides in integers, so that what it proves needs no tolerance. Times are in
microseconds. Every coefficient is rounded so that a row only gets easier to keep, and a row of ``c``
slots gives ``c - 1`` away: times rounded down then keep it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from experiments.certify.relaxation import CertificateError
from experiments.certify.windows import StepProgram

UNIT_NS = 1000


def integral_bound(step: StepProgram, work: float, upper_ns: int) -> int:
    """Return a bound on the step time over whole choices, nanoseconds.

    Parameters
    ----------
    step
        The program of a step, with its windows.
    work
        Limit in CP-SAT's deterministic units, each some seconds of one core; the same limit gives
        the same bound on every machine.
    upper_ns
        No larger bound is looked for: the time of a known plan.

    Raises
    ------
    CertificateError
        OR-tools is not installed.
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
    model.minimize(variables[0])
    solver = cp_model.CpSolver()
    solver.parameters.num_workers = 1
    solver.parameters.linearization_level = 2
    solver.parameters.max_deterministic_time = work
    status = solver.solve(model)
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
