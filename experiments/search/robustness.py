"""Does a gain survive what is not known? Plans compared over resampled constants and task times.

In each *world* every constant of the cost model has a drawn factor (:mod:`sim.uncertainty`), every
FastRPC call a drawn tail, and every task a drawn factor of its own: what a kernel's time is off
by, beside the constants that it shares with others. All draws are keyed by name, so plans that do
the same work meet the same luck (common random numbers). A gain whose central 90 % holds 0 is
within the noise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from itertools import permutations
from math import exp, log
from statistics import NormalDist, median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cost_models.device import Device
from cost_models.draws import draw_key, draw_u32_many
from cost_models.rpc import rpc_mode, rpc_tail
from experiments.values import whole
from sim.expected import expect
from sim.graph import TrainingGraph
from sim.lowering import cost_model
from sim.plan import Plan
from sim.taskgraph import CATEGORIES, TaskGraph
from sim.uncertainty import ONE, Z90, Shared, Worlds, interval, resampled

WORLDS = 256
JITTER = 1.1
"""Spread of a single task's time beside its constants', as the half-width of the central 90 %.
Assumed: no phone's kernels were recorded often enough to know."""
FASTER, SLOWER, NOISE = "faster", "slower", "within the noise"
LESS, MORE = "uses less", "uses more"
CALL = ".call"
"""Ends the name of the task whose FastRPC tail is drawn."""
KNOTS = 4096


class RobustnessError(ValueError):
    """Plans cannot be compared; the message names the argument, its value and what is allowed."""


@dataclass(frozen=True, slots=True)
class Gain:
    """One plan against another, in the same worlds.

    Attributes
    ----------
    plan, rival
        Their names.
    wins
        Share of the worlds in which ``plan`` takes less time; of equal ones none wins.
    low, median, high
        Share of the rival's time that ``plan`` saves: 5th, 50th and 95th percentile; negative
        where it takes longer.
    energy_wins, energy_low, energy_median, energy_high
        The same of energy.
    verdict
        ``faster``, ``slower``, or ``within the noise`` where the interval of time holds 0.
    energy_verdict
        ``uses less``, ``uses more``, or ``within the noise``, by the interval of energy.
    """

    plan: str
    rival: str
    wins: float
    low: float
    median: float
    high: float
    energy_wins: float
    energy_low: float
    energy_median: float
    energy_high: float
    verdict: str
    energy_verdict: str


@dataclass(frozen=True, slots=True)
class Spread:
    """Expected step of one plan, and the central 90 % of the worlds; ns and pJ."""

    plan: str
    time_ns: int
    time_interval_ns: tuple[int, int]
    energy_pj: int
    energy_interval_pj: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Robustness:
    """How some plans compare over drawn worlds.

    Attributes
    ----------
    spreads
        One per plan, in the order given.
    gains
        One for each ordered pair of plans.
    notes
        What the draws rest on, in sentences.
    """

    worlds: int
    seed: int
    jitter: float
    spreads: tuple[Spread, ...]
    gains: tuple[Gain, ...]
    notes: tuple[str, ...]

    def gain(self, plan: str, rival: str) -> Gain:
        """Return how ``plan`` does against ``rival``; KeyError if either is not there."""
        return {(g.plan, g.rival): g for g in self.gains}[plan, rival]

    def document(self) -> dict[str, Any]:
        """Return it as plain data."""
        return asdict(self)


def compare_plans(
    graph: TrainingGraph,
    device: Device,
    plans: Mapping[str, Plan],
    *,
    worlds: int = WORLDS,
    seed: int = 0,
    jitter: float = JITTER,
) -> Robustness:
    """Compare plans over ``worlds`` worlds of resampled constants and jittered task times.

    Parameters
    ----------
    plans
        By the name to show; two or more.
    jitter
        Factor of a single task's time at the ends of its central 90 %; 1: none.

    Raises
    ------
    RobustnessError
        Fewer than two plans, or a number out of range.
    PlanError
        A plan does not fit the graph or the device.

    Examples
    --------
    >>> from sim import build_plan, load_device, load_model, training_graph
    >>> graph = training_graph(load_model("lenet", batch=64))
    >>> device = load_device("snapdragon-865")
    >>> plans = {n: build_plan(n, graph, device) for n in ("mnn-int8", "mandheling")}
    >>> found = compare_plans(graph, device, plans, worlds=32)
    >>> found.gain("mandheling", "mnn-int8").verdict
    'faster'
    """
    _check(plans, worlds, seed, jitter)
    spreads, drawn = [], {}
    for name, plan in plans.items():
        expected = expect(graph, plan, device)
        quantities = cost_model(device, plan.get("library", "step", "mnn")).quantities()
        shared = Shared.of(device)
        found = resampled(
            expected,
            quantities,
            shared,
            worlds,
            seed,
            tasks_in_world=jittered(plan, device, seed, jitter),
        )
        drawn[name] = found
        times, energies = interval(found.times_ns), interval(found.energies_pj)
        spreads.append(Spread(name, expected.time_ns, times, expected.energy_pj, energies))
    gains = tuple(_gain(a, b, drawn[a], drawn[b]) for a, b in permutations(plans, 2))
    return Robustness(worlds, seed, jitter, tuple(spreads), gains, _notes(device, jitter))


def _check(plans: Mapping[str, Plan], worlds: int, seed: int, jitter: float) -> None:
    if len(plans) < 2:
        raise RobustnessError(f"plans: {len(plans)}; give two or more, to compare")
    for name, value, low, high in (("worlds", worlds, 20, 100_000), ("seed", seed, 0, 2**63 - 1)):
        if whole(value, low, high) is None:
            raise RobustnessError(f"{name}: {value!r}; allowed: an integer from {low} to {high}")
    if not 1 <= jitter <= 10:
        raise RobustnessError(f"jitter: {jitter!r}; allowed: a factor from 1 (none) to 10")


def jittered(
    plan: Plan, device: Device, seed: int, jitter: float
) -> Callable[[TaskGraph, int], TaskGraph]:
    """Return what gives each task of a graph its own luck in a world.

    FastRPC calls get the tail that :func:`sim.simulate` draws for a step of the world's number;
    other tasks a log-normal factor keyed by (seed, world, name), the micro-batches of one kernel
    the same: they are off by the same. Energy follows the times.
    """
    chosen = plan.get("rpc_qos", "step", "default")
    mode = None if chosen == "default" else chosen
    factors = _factors(jitter)

    def in_world(graph: TaskGraph, world: int) -> TaskGraph:
        keys = _keys(tuple(name.partition("#")[0] for name in graph.names), "jitter")
        own = factors[draw_u32_many(seed, world, keys) >> np.uint32(20)]
        calls = _calls(graph)
        own[graph.category == CATEGORIES.index("rpc")] = ONE
        lead = graph.lead_ns * own >> 16
        if len(calls):
            tail = rpc_tail(device, mode)
            tails = draw_u32_many(seed, world, _keys(_chosen(graph.names, calls), "rpc-tail"))
            lead[calls] += tail.at_many(tails) - tail.mean_ns
        return replace(
            graph,
            lead_ns=lead,
            compute_ns=graph.compute_ns * own >> 16,
            rate_cap=np.maximum(1, (graph.rate_cap << 16) // own),
        )

    return in_world


@lru_cache(maxsize=8)
def _factors(jitter: float) -> NDArray[np.int64]:
    """Quantiles of the log-normal factor, in 1 / 65,536, at the middles of equal cells."""
    normal, spread = NormalDist(), log(jitter) / Z90
    table = [round(ONE * exp(spread * normal.inv_cdf((k + 0.5) / KNOTS))) for k in range(KNOTS)]
    return np.array(table, dtype=np.int64)


@lru_cache(maxsize=64)
def _keys(names: tuple[str, ...], role: str) -> NDArray[np.uint64]:
    return np.array([draw_key(name, role) for name in names], dtype=np.uint64)


def _chosen(names: tuple[str, ...], rows: NDArray[np.int64]) -> tuple[str, ...]:
    return tuple(names[row] for row in rows.tolist())


def _calls(graph: TaskGraph) -> NDArray[np.int64]:
    """Rows of the FastRPC calls."""
    rpc = CATEGORIES.index("rpc")
    rows = zip(graph.names, graph.category.tolist(), strict=True)
    return np.array([k for k, (n, c) in enumerate(rows) if c == rpc and n.endswith(CALL)], np.int64)


def _gain(plan: str, rival: str, mine: Worlds, other: Worlds) -> Gain:
    time = _saved(mine.times_ns, other.times_ns)
    energy = _saved(mine.energies_pj, other.energies_pj)
    low, high = interval(time)
    energy_low, energy_high = interval(energy)
    return Gain(
        plan,
        rival,
        wins=sum(share > 0 for share in time) / len(time),
        low=low,
        median=median(time),
        high=high,
        energy_wins=sum(share > 0 for share in energy) / len(energy),
        energy_low=energy_low,
        energy_median=median(energy),
        energy_high=energy_high,
        verdict=FASTER if low > 0 else SLOWER if high < 0 else NOISE,
        energy_verdict=LESS if energy_low > 0 else MORE if energy_high < 0 else NOISE,
    )


def _saved(mine: Sequence[int], other: Sequence[int]) -> list[float]:
    """Share of the other's that is saved, in each world."""
    return [(b - a) / b for a, b in zip(mine, other, strict=True)]


def _notes(device: Device, jitter: float) -> tuple[str, ...]:
    notes = [
        "Constants are drawn within the spreads that their sources give.",
        f"Each task's own factor has a central 90 % of 1/{jitter:g} to {jitter:g}: assumed.",
    ]
    if device.fastrpc is not None:
        notes.append(f"FastRPC tails are drawn: {rpc_mode(device).tail.kind}, {device.name}.")
    return tuple(notes)
