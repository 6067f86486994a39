"""The expected step of a plan: what plans are compared by.

It is a property of the plan, not of a sample. Every FastRPC tail is at its mean, and the steady
state is the mixture of a step in which nothing is scanned and one in which everything is, weighted
by the share of tensors that the plan's rescale rules scan (under drawn shifts). All of them
are simulated with contention. So plans compare free of luck; how single steps scatter around this
is what :func:`sim.run.sample_steady` shows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

from cost_models.cost import Rescaling
from cost_models.device import Device
from sim.checks import check
from sim.critical import breakdown_ns
from sim.engines import run as run_engine
from sim.graph import TrainingGraph
from sim.lowering import Lowering, lowering
from sim.memo import Memo
from sim.memory import peak_bytes
from sim.plan import Plan
from sim.rescaling import RescaleRule
from sim.state import SyntheticShifts
from sim.taskgraph import CATEGORIES, TaskGraph
from sim.timeline import Timeline

PLANNING_SEED = 20_220_615
SETTLED_STEPS = range(256, 512)
PROBES = 16
"""Tensors whose drawn shifts are followed to find how often a rule scans."""
SETTLED_TENSOR_STEPS = PROBES * len(SETTLED_STEPS)


@dataclass(frozen=True, slots=True)
class Expectation:
    """A mixture of steps with integer weights that add up to ``whole``."""

    graphs: tuple[TaskGraph, ...]
    weights: tuple[int, ...]
    timelines: tuple[Timeline, ...]

    @property
    def whole(self) -> int:
        """Sum of the weights."""
        return sum(self.weights)

    def mean(self, value: Callable[[Timeline], int]) -> int:
        """Return the weighted mean of an integer of a timeline, rounded down."""
        pairs = zip(self.weights, self.timelines, strict=True)
        return sum(weight * value(timeline) for weight, timeline in pairs) // self.whole

    @property
    def time_ns(self) -> int:
        """Expected step time, nanoseconds."""
        return self.mean(lambda timeline: timeline.makespan_ns)

    @property
    def energy_pj(self) -> int:
        """Expected energy of a step, picojoules."""
        return self.mean(lambda timeline: timeline.energy_pj)

    @property
    def peak_bytes(self) -> int:
        """Largest memory in use in any of the steps."""
        return max(peak_bytes(timeline) for timeline in self.timelines)

    @property
    def breakdown_ns(self) -> dict[str, int]:
        """Expected time by category; adds up to :attr:`time_ns` exactly.

        Each category is rounded down; what that leaves goes one by one to the largest remainders.
        """
        parts = [breakdown_ns(timeline) for timeline in self.timelines]
        sums = {
            c: sum(w * part[c] for w, part in zip(self.weights, parts, strict=True))
            for c in CATEGORIES
        }
        shares = {c: value // self.whole for c, value in sums.items()}
        order = sorted(CATEGORIES, key=lambda c: (-(sums[c] % self.whole), c))
        for category in order[: self.time_ns - sum(shares.values())]:
            shares[category] += 1
        return shares


def expect(
    graph: TrainingGraph, plan: Plan, device: Device, *, checked: bool = True
) -> Expectation:
    """Return the expected step of a plan on a device, in steady state.

    Parameters
    ----------
    checked
        Whether the conservation checks run on each timeline; only searches, which compare
        thousands of plans and report none of them, leave them out.

    Raises
    ------
    PlanError
        The plan does not fit the graph or the device.
    ConservationError
        A timeline breaks a rule of :mod:`sim.checks`.
    """
    ready = lowering(graph, plan, device)
    ready.draft(mixture(ready)[-1][1])  # needed below, and what is known of subgraphs comes of it
    caches = ready.settled()
    steps = [(w, modes, cache) for w, modes in mixture(ready) if w for cache in caches]
    made = [ready.expected_tasks(modes, cache) for _, modes, cache in reversed(steps)]
    graphs = tuple(reversed(made))
    timelines = tuple(run_engine(tasks) for tasks in graphs)
    if checked:
        for timeline in timelines:
            check(timeline)
    return Expectation(graphs, tuple(w for w, _, _ in steps), timelines)


def expected_ns(graph: TrainingGraph, plan: Plan, device: Device) -> int:
    """Return the expected step time alone, nanoseconds; remembered by content."""
    key = (graph.hash(), plan.graph_hash, plan.choices, device.sha256)
    return _TIMES.get(key, lambda: expect(graph, plan, device, checked=False).time_ns)


def quiet_ns(graph: TrainingGraph, plan: Plan, device: Device) -> int:
    """Return the time of a settled step in which the plan's rules scan as little as they can.

    Of a reuse cycle it takes the step with the most misses. Less work than :func:`expected_ns`:
    what a search compares its many candidates by.
    """
    return run_engine(quiet_tasks(graph, plan, device)).makespan_ns


def quiet_tasks(
    graph: TrainingGraph, plan: Plan, device: Device, *, tensors: bool = False
) -> TaskGraph:
    """Return the tasks of the step that :func:`quiet_ns` times."""
    ready = lowering(graph, plan, device)
    modes = _modes(ready, SETTLED_TENSOR_STEPS)
    ready.draft(modes)  # needed below, and what is known of subgraphs comes of it
    cache = max(ready.settled(), key=lambda step: (sum(step.misses), step.misses))
    return ready.expected_tasks(modes, cache, tensors=tensors)


_TIMES: Memo[int] = Memo(2048)
"""Pure results, remembered: techniques meet the same plans again and again."""


def mixture(ready: Lowering) -> list[tuple[int, dict[str, Rescaling]]]:
    """Weights and modes of the steps that make up the steady state; the quietest comes last.

    Each tensor scans in its rule's share of the steps. The shares are nested: whoever scans
    more rarely does so in steps in which all the others scan too. That keeps every tensor's
    share right with one step more than there are shares.
    """
    if not ready.rules:
        return [(1, {})]
    levels = sorted({0, SETTLED_TENSOR_STEPS, *map(scan_share, ready.rules.values())})
    return [(upper - lower, _modes(ready, upper)) for lower, upper in pairwise(levels)]


def _modes(ready: Lowering, level: int) -> dict[str, Rescaling]:
    """Modes of a step in which the tensors scan whose share is at least ``level``."""
    return {
        subject: "dynamic" if scan_share(rule) >= level else quiet_mode(rule)
        for subject, rule in ready.rules.items()
    }


@lru_cache(maxsize=64)
def scan_share(rule: RescaleRule) -> int:
    """Return in how many of the ``SETTLED_TENSOR_STEPS`` a rule scans."""
    shifts, scans = SyntheticShifts(), 0
    for probe in range(PROBES):
        state, true = rule.start(), 0
        for step in range(SETTLED_STEPS.stop):
            scans += step in SETTLED_STEPS and rule.mode(state) == "dynamic"
            true = shifts.shift(PLANNING_SEED, step, f"probe{probe}", true)
            state = rule.next(state, true)
    return scans


@lru_cache(maxsize=64)
def quiet_mode(rule: RescaleRule) -> Rescaling:
    """Return what a rule does in a settled step without a scan (``dynamic`` if it has none)."""
    state = rule.start()
    modes = []
    for _ in SETTLED_STEPS:
        modes.append(rule.mode(state))
        state = rule.next(state, 8)
    others = [mode for mode in modes if mode != "dynamic"]
    return others[-1] if others else "dynamic"
