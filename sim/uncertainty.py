"""Intervals: how far a predicted time moves when the constants behind it do.

Every time in a task graph names the constant it rests on, and every constant states how well it is
known. A *world* draws one factor per constant, log-normally, with the constant's spread as the
half-width of the central 90 %; all tasks that rest on it scale together, and so do all plans that
are compared (common random numbers), and constants with a fitted coefficient in common. The engine
then runs again: what was hidden behind something else may not be hidden in that world.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from math import exp, log, sqrt
from statistics import NormalDist
from typing import TypeVar

import numpy as np

from cost_models.cost import TIMES
from cost_models.device import Device
from cost_models.draws import draw_u32
from cost_models.model import POOLS
from cost_models.quantity import Quantity
from sim.critical import parameter_shares
from sim.engines import run as run_engine
from sim.expected import Expectation
from sim.taskgraph import I64, TaskGraph
from sim.timeline import Timeline

Number = TypeVar("Number", int, float)
Draw = Callable[[str], float]
"""Standard normal draw of a constant, or of a coefficient that several constants share."""

ONE = 1 << 16
"""Fixed-point 1 of the factors."""
Z90 = NormalDist().inv_cdf(0.95)
KINDS = ("measured", "published", "derived", "assumed")
"""Kinds of evidence, the strongest first."""
UNKNOWN_SPREAD = 2.0
"""Spread of a constant that is in no description; there should be none."""


def factor(path: str, quantities: Mapping[str, Quantity], world: int, seed: int) -> int:
    """Return the factor on a time in one world, in units of 1 / 65,536; at least 1.

    ``path`` names a constant, or several joined by :data:`cost_models.cost.TIMES`, whose factors
    multiply. The exponential is the platform's: on another one a factor may differ by one unit
    in a rare tie of rounding, nothing else does.
    """
    return _factor(path, quantities, lambda name: _normal_draw(name, world, seed))


def _factor(path: str, quantities: Mapping[str, Quantity], draw: Draw) -> int:
    log_factor = 0.0
    for name in path.split(TIMES):
        if name in quantities:
            log_factor += _log_factor(name, quantities[name], draw)
        else:
            log_factor += log(UNKNOWN_SPREAD) / Z90 * draw(name)
    return max(1, round(ONE * exp(log_factor)))


def _log_factor(name: str, quantity: Quantity, draw: Draw) -> float:
    """Logarithm of one constant's factor on a time.

    Numbers that share a fitted coefficient move together with it; what their spread has beyond
    their coefficients is each number's own. No share goes beyond its limit, the measured peak.
    """
    shared = sum(slope * draw(term) for term, slope in quantity.common)
    rest = own_spread(quantity) * draw(name)
    found = ((-shared if quantity.is_rate else shared) + rest) / Z90
    if quantity.limit is None:
        return found
    return max(found, log(quantity.value / quantity.limit))


def own_spread(quantity: Quantity) -> float:
    """Half-width, in logs, of what a constant's spread has beyond its shared coefficients."""
    own = log(quantity.factor) ** 2 - sum(slope**2 for _, slope in quantity.common)
    return sqrt(max(0.0, own))


@lru_cache(maxsize=1 << 18)
def _normal_draw(name: str, world: int, seed: int) -> float:
    """Standard normal draw of a constant in a world, the same for all plans."""
    return NormalDist().inv_cdf((draw_u32(seed, world, name, "world") + 0.5) / 2**32)


def in_world(
    graph: TaskGraph, quantities: Mapping[str, Quantity], world: int, seed: int, ddr: str
) -> TaskGraph:
    """Return a task graph as it would be in one world.

    Parameters
    ----------
    quantities
        Constants by the dotted names that ``graph.parameters`` uses.
    ddr
        Name of the constant behind ``graph.ddr_rate``.
    """
    return with_draws(graph, quantities, lambda name: _normal_draw(name, world, seed), ddr)


def with_draws(
    graph: TaskGraph, quantities: Mapping[str, Quantity], draw: Draw, ddr: str
) -> TaskGraph:
    """Return a task graph as it would be where constants deviate as ``draw`` says.

    :func:`in_world` draws them all; a sensitivity moves one and leaves the others at 0.
    """
    factors = np.array([_factor(p, quantities, draw) for p in graph.parameters], dtype=np.int64)
    lead, compute, moved = (factors[graph.groups[:, k]] for k in range(3))
    shared = _factor(ddr, quantities, draw)
    return replace(
        graph,
        lead_ns=_scaled(graph.lead_ns, lead),
        compute_ns=_scaled(graph.compute_ns, compute),
        rate_cap=np.maximum(1, (graph.rate_cap << 16) // moved),
        ddr_rate=max(1, (graph.ddr_rate << 16) // shared),
    )


def _scaled(values: I64, factors: I64) -> I64:
    """``values * factors / 65,536`` rounded down, in two parts so that no product wraps."""
    whole, rest = values >> 16, values & 0xFFFF
    return np.asarray(whole * factors + (rest * factors >> 16), dtype=np.int64)


@dataclass(frozen=True, slots=True)
class Shared:
    """Names of the constants that whole task graphs rest on, not single tasks.

    Attributes
    ----------
    ddr_rate, ddr_energy
        Bandwidth of all units together, and energy per byte.
    power
        Power of a unit by its name, of a static domain by its own.
    """

    ddr_rate: str
    ddr_energy: str = ""
    power: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, device: Device) -> Shared:
        """Return the names for a device; of a pool of cores the largest cluster counts."""
        power = {row.domain: f"{device.name}.static.{row.domain}.mw" for row in device.static}
        for unit, pool in POOLS.items():
            clusters = device.pool(pool)
            if clusters:
                most = max(clusters, key=lambda cluster: cluster.cores).name
                power[unit] = f"{device.name}.cpu.clusters.{most}.operating_points"
        power |= {unit: f"{device.name}.{unit}.power_mw" for unit in ("dsp", "gpu")}
        memory = f"{device.name}.memory"
        return cls(f"{memory}.ddr_rate", f"{memory}.pj_per_byte", power)


@dataclass(frozen=True, slots=True)
class Worlds:
    """The expected step in each world: nanoseconds and picojoules."""

    times_ns: tuple[int, ...]
    energies_pj: tuple[int, ...]


def resampled(
    expectation: Expectation,
    quantities: Mapping[str, Quantity],
    shared: Shared,
    worlds: int,
    seed: int = 0,
    *,
    tasks_in_world: Callable[[TaskGraph, int], TaskGraph] | None = None,
) -> Worlds:
    """Return the expected step in each of ``worlds`` worlds.

    ``tasks_in_world``, given a task graph and the number of a world, changes single tasks before
    the constants behind them all are changed.
    """
    times, energies = [], []
    for world in range(worlds):
        time = energy = 0
        for weight, graph in zip(expectation.weights, expectation.graphs, strict=True):
            own = graph if tasks_in_world is None else tasks_in_world(graph, world)
            changed = in_world(own, quantities, world, seed, shared.ddr_rate)
            timeline = run_engine(changed)
            time += weight * timeline.makespan_ns
            energy += weight * energy_in_world(timeline, quantities, shared, world, seed)
        times.append(time // expectation.whole)
        energies.append(energy // expectation.whole)
    return Worlds(tuple(times), tuple(energies))


def energy_in_world(
    timeline: Timeline, quantities: Mapping[str, Quantity], shared: Shared, world: int, seed: int
) -> int:
    """Return the energy of a timeline whose powers are those of one world, picojoules.

    A unit without a constant of its own (FastRPC channels, which draw none) keeps its power.
    """
    graph = timeline.graph

    def scaled(energy_pj: int, path: str | None) -> int:
        return energy_pj if not path else energy_pj * factor(path, quantities, world, seed) >> 16

    busy = graph.power_mw * (timeline.end_ns - timeline.start_ns)
    total = scaled(graph.pj_per_byte * int(graph.ddr_bytes.sum()), shared.ddr_energy)
    for index, unit in enumerate(graph.units):
        total += scaled(int(busy[graph.unit == index].sum()), shared.power.get(unit.name))
    for domain, energy in timeline.static_energy_pj.items():
        total += scaled(energy, shared.power.get(domain))
    return total


def interval(values: Sequence[Number]) -> tuple[Number, Number]:
    """Return the central 90 % of some values: the 5th and 95th percentile, by rank."""
    ordered = sorted(values)
    low = (len(ordered) * 5) // 100
    return ordered[low], ordered[len(ordered) - 1 - low]


def weakest_kind(path: str, quantities: Mapping[str, Quantity]) -> str:
    """Return the weakest evidence among the constants that ``path`` joins."""
    known = [quantities[name].kind for name in path.split(TIMES) if name in quantities]
    return max(known, key=KINDS.index) if len(known) == path.count(TIMES) + 1 else "assumed"


def evidence_shares(
    expectation: Expectation, quantities: Mapping[str, Quantity]
) -> dict[str, float]:
    """Return which share of the critical path rests on each kind of evidence; they add up to 1.

    Steps count by their weight; a time that several constants multiply into counts for the
    weakest of them.
    """
    by_kind = dict.fromkeys(KINDS, 0)
    for weight, timeline in zip(expectation.weights, expectation.timelines, strict=True):
        for path, ns in parameter_shares(timeline).items():
            by_kind[weakest_kind(path, quantities)] += weight * ns
    whole = sum(by_kind.values())
    return {kind: ns / whole if whole else 0.0 for kind, ns in by_kind.items()}
