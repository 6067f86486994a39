"""Lower bounds on the expected step of every plan of a space.

The bound is the optimum of a linear program that each plan satisfies
(:mod:`experiments.certify.windows`), evaluated in exact integers
(:meth:`experiments.certify.program.Program.safe_bound`). It holds for the whole space: every
precision, micro-batch, rescale rule, unit, number of slots, cut, reuse rule, operating point and
dispatch rule. What it leaves out is listed in :mod:`experiments.certify.relaxation`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from time import perf_counter

from experiments.certify.integral import integral_bound
from experiments.certify.relaxation import relax
from experiments.certify.windows import StepProgram
from sim.encoding import Space
from sim.expected import expected_ns

ROUNDS = 12
"""Times that violated windows are added; on the networks of the documentation it then stands."""
WINDOWS_PER_ROUND = 40


@dataclass(frozen=True, slots=True)
class Bound:
    """What no plan of a space can beat.

    Attributes
    ----------
    time_ns
        No plan has a smaller expected step time (:func:`sim.expected.expect`), nanoseconds.
    method
        How it was found.
    parts
        Nanoseconds of the bound by what binds there: time on the critical path by unit, load of a
        unit that must do the work between two points, FastRPC and mapping for the GPU, packing of
        filters; and what whole
        choices add to the linear program. They add up to ``time_ns`` but for rounding.
    seconds
        Wall time that it took.
    """

    time_ns: int
    method: str
    parts: Mapping[str, int]
    seconds: float

    def gap(self, time_ns: int) -> float:
        """Share of a plan's time that a better plan could save at most."""
        return 1 - self.time_ns / time_ns


def lower_bound(space: Space, *, rounds: int = ROUNDS, work: float = 0.0) -> Bound:
    """Bound the expected step time of every plan of a space from below.

    Parameters
    ----------
    rounds
        How often windows that the last solution violates are added. The same number gives the same
        bound on every machine of the same libraries, and each number a valid one.
    work
        How long CP-SAT then tightens it over whole choices, in its deterministic units, each some
        seconds of one core; needs OR-tools. 0: not at all.

    Raises
    ------
    CertificateError
        The space searches an aspect that the relaxation does not know, or OR-tools is missing.

    Examples
    --------
    >>> from sim import build_plan, expect, load_device, load_model, training_graph
    >>> graph = training_graph(load_model("lenet", batch=64))
    >>> device = load_device("snapdragon-865")
    >>> plan = build_plan("mandheling", graph, device)
    >>> bound = lower_bound(Space.of(graph, device, plan))
    >>> bound.time_ns <= expect(graph, plan, device).time_ns
    True
    """
    begin = perf_counter()
    step = StepProgram(relax(space))
    solution = step.program.solve()
    best = step.program.safe_bound(solution.multipliers)
    for _ in range(rounds):
        added = [step.window(*window) for window in step.violated(solution, WINDOWS_PER_ROUND)]
        if not added:
            break
        solution = step.program.solve()
        best = max(best, step.program.safe_bound(solution.multipliers))
    time_ns = min(best, step.longest_ns)
    parts = step.parts(solution)
    method = f"linear relaxation, {len(step.windows)} windows, exact integers"
    if work > 0:
        upper = min(step.longest_ns, expected_ns(space.graph, space.base, space.device))
        whole = integral_bound(step, work, upper)
        if whole > time_ns:
            parts["whole choices"] = whole - time_ns
            time_ns, method = whole, f"whole choices of the {method}"
    return Bound(time_ns, method, parts, perf_counter() - begin)


def quick_bound(space: Space) -> Bound:
    """Return :func:`lower_bound` without added windows: for a line of progress."""
    return lower_bound(space, rounds=0)


def energy_bound(space: Space) -> int:
    """Bound the expected energy of every plan of a space from below, picojoules.

    Work at its least energy, whatever the clocks, and static power for as long as the
    step lasts at least.

    Raises
    ------
    CertificateError
        As :func:`lower_bound`.
    """
    step = StepProgram(relax(space, energy=True), energy=True)
    return max(0, step.program.safe_bound(step.program.solve().multipliers))
