"""What lies between a plan and the bound of its space, part by part.

The gap has two parts. *Schedule*: what the plan takes beyond its **own** bound, that of the space
in which all of its choices are fixed; here the bound leaves something out. *Choice*: what its own
bound lies above that of the whole space; there may be better plans, or ways that the bound mixes
and no plan can. What the schedule's part consists of shows when the plan is run again without
contention, without the latency of FastRPC, or without packing: by how much its own time falls.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from experiments.certify.bounds import lower_bound
from sim.encoding import Gene, Space
from sim.engines import run as run_engine
from sim.expected import Expectation, expect
from sim.plan import Plan
from sim.taskgraph import CATEGORIES, TaskGraph


@dataclass(frozen=True, slots=True)
class Obstacles:
    """Parts of the gap between a plan and a bound, and the plan's time without some costs.

    Attributes
    ----------
    own_bound_ns
        Bound of the space that holds this plan alone.
    without_contention_ns, without_rpc_ns, without_packing_ns
        Expected time of the plan when streams do not share DDR, when calls and returns take no
        time, and when filters are not packed.
    """

    time_ns: int
    bound_ns: int
    own_bound_ns: int
    without_contention_ns: int
    without_rpc_ns: int
    without_packing_ns: int

    @property
    def schedule(self) -> float:
        """Share of the plan's time that its own bound leaves out."""
        return (self.time_ns - self.own_bound_ns) / self.time_ns

    @property
    def choice(self) -> float:
        """Share of the plan's time by which its own bound is above that of the space."""
        return (self.own_bound_ns - self.bound_ns) / self.time_ns


def obstacles(space: Space, plan: Plan, bound_ns: int) -> Obstacles:
    """Take the gap between a plan and the bound of its space apart.

    Raises
    ------
    SpaceError
        The plan is not in the space.
    """
    found = expect(space.graph, plan, space.device)
    return Obstacles(
        found.time_ns,
        bound_ns,
        lower_bound(only(space, plan)).time_ns,
        _again(found, lambda tasks: run_engine(tasks, contention=False).makespan_ns),
        _again(found, lambda tasks: run_engine(_without(tasks, ("rpc",))).makespan_ns),
        _again(found, lambda tasks: run_engine(_without(tasks, ("prepare",))).makespan_ns),
    )


def only(space: Space, plan: Plan) -> Space:
    """Return the space of this plan alone; raises :class:`SpaceError` if it is not in ``space``."""
    row = space.encode(plan).tolist()
    genes = tuple(
        Gene(gene.aspect, gene.subject, (gene.choices[value],))
        for gene, value in zip(space.genes, row, strict=True)
    )
    return replace(space, genes=genes, counts=np.ones(len(genes), dtype=np.int64))


def _again(found: Expectation, time: Callable[[TaskGraph], int]) -> int:
    pairs = zip(found.weights, found.graphs, strict=True)
    return sum(weight * time(tasks) for weight, tasks in pairs) // found.whole


def _without(tasks: TaskGraph, categories: tuple[str, ...]) -> TaskGraph:
    """Return the tasks with those of some categories taking no time."""
    gone = np.isin(tasks.category, [CATEGORIES.index(name) for name in categories])

    def kept(column: np.ndarray) -> np.ndarray:
        return np.where(gone, 0, column)

    return replace(
        tasks,
        lead_ns=kept(tasks.lead_ns),
        compute_ns=kept(tasks.compute_ns),
        ddr_bytes=kept(tasks.ddr_bytes),
    )
