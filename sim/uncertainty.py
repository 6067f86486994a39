"""Intervals: how far a predicted time moves when the constants behind it do.

Every time in a task graph names the constant it rests on, and every constant states how well it is
known. A *world* draws one factor per constant, log-normally, with the constant's spread as the
half-width of the central 90 %; all tasks that rest on it scale together, and so do all plans that
are compared (common random numbers). The engine then runs again: what was hidden behind something
else may not be hidden in that world.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import exp, log
from statistics import NormalDist
from typing import TypeVar

import numpy as np

from cost_models.draws import draw_u32
from cost_models.quantity import Quantity
from sim.critical import parameter_shares
from sim.engines import run as run_engine
from sim.expected import Expectation
from sim.taskgraph import TaskGraph
from sim.timeline import Timeline

Number = TypeVar("Number", int, float)

ONE = 1 << 16
"""Fixed-point 1 of the factors."""
Z90 = NormalDist().inv_cdf(0.95)
UNKNOWN_SPREAD = 2.0
"""Spread of a constant that is in no description; there should be none."""


def factor(quantity: Quantity | None, path: str, world: int, seed: int) -> int:
    """Return the factor of a constant in one world, in units of 1 / 65,536; at least 1."""
    spread = UNKNOWN_SPREAD if quantity is None else quantity.factor
    uniform = (draw_u32(seed, world, path, "world") + 0.5) / 2**32
    return max(1, round(ONE * exp(log(spread) / Z90 * NormalDist().inv_cdf(uniform))))


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
    factors = np.array(
        [factor(quantities.get(p), p, world, seed) for p in graph.parameters], dtype=np.int64
    )
    lead, compute, moved = (factors[graph.groups[:, k]] for k in range(3))
    shared = factor(quantities.get(ddr), ddr, world, seed)
    return replace(
        graph,
        lead_ns=graph.lead_ns * lead >> 16,
        compute_ns=graph.compute_ns * compute >> 16,
        rate_cap=np.maximum(1, (graph.rate_cap << 16) // moved),
        ddr_rate=max(1, (graph.ddr_rate << 16) // shared),
    )


def resampled_ns(
    expectation: Expectation,
    quantities: Mapping[str, Quantity],
    ddr: str,
    worlds: int,
    seed: int = 0,
) -> list[int]:
    """Return the expected step time in each world, nanoseconds."""
    times = []
    for world in range(worlds):
        total = 0
        for weight, graph in zip(expectation.weights, expectation.graphs, strict=True):
            changed = in_world(graph, quantities, world, seed, ddr)
            total += weight * run_engine(changed).makespan_ns
        times.append(total // expectation.whole)
    return times


def interval(values: Sequence[Number]) -> tuple[Number, Number]:
    """Return the central 90 % of some values: the 5th and 95th percentile, by rank."""
    ordered = sorted(values)
    low = (len(ordered) * 5) // 100
    return ordered[low], ordered[len(ordered) - 1 - low]


def evidence_shares(
    timelines: list[Timeline], quantities: Mapping[str, Quantity]
) -> dict[str, float]:
    """Return which share of the critical path rests on each kind of evidence; they add up to 1."""
    by_kind = dict.fromkeys(("measured", "published", "derived", "assumed"), 0)
    for timeline in timelines:
        for path, ns in parameter_shares(timeline).items():
            quantity = quantities.get(path)
            by_kind["assumed" if quantity is None else quantity.kind] += ns
    whole = sum(by_kind.values())
    return {kind: ns / whole if whole else 0.0 for kind, ns in by_kind.items()}
