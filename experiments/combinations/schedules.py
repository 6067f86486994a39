"""The schedule of a combination: searched for least energy within the memory budget.

A search starts from built-in plans that were given the combination's filter, and holds what decides
learning: precision, the backward rule and, for whole batches, the split. Placement, subgraphs,
reuse, rescale rules and clocks are free. The risk that rescale rules may take is that of the plan
around which is searched.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from math import ceil
from typing import Any

from cost_models.device import Device
from experiments.cli_common import plan_sha256
from experiments.combinations.combination import Combination
from experiments.combinations.settings import StudySettings
from experiments.search.front import Found, merge
from experiments.search.ground import Ground
from experiments.search.objectives import OBJECTIVES
from experiments.search.registry import load_searcher
from experiments.search.shard import explore
from experiments.search.starts import Start
from sim.autodiff import training_graph
from sim.encoding import HELD, Space
from sim.encoding.repair import repaired
from sim.graph import TrainingGraph
from sim.plan import Plan
from sim.policies import Filtered
from sim.policies.base import Policy
from sim.policies.build import available, made, recipe_of
from sim.zoo.grouped import grouped_alexnet

SEARCHER = "annealing"
RECIPES = {
    "fp32": ("mnn-fp32", "mnn-fp32-gpu"),
    "int8": ("mandheling", "mnn-int8"),
}
"""Built-in plans that a search starts from, by precision; the first is what it is around."""
ENERGY, MEMORY = (OBJECTIVES.index(name) for name in ("energy", "memory"))


@dataclass(frozen=True, slots=True)
class SearchedPlan:
    """The plan that was found for a combination in one precision.

    Attributes
    ----------
    plan
        Of least energy within the memory budget; of least memory where none is within it.
    time_ns, energy_pj, memory_bytes
        Of the expected step.
    base_pj
        Energy of the built-in plan that was searched around.
    """

    plan: Plan
    time_ns: int
    energy_pj: int
    memory_bytes: int
    base_pj: int

    def document(self) -> dict[str, Any]:
        """The figures as JSON values; the plan by its digest."""
        measures = ("time_ns", "energy_pj", "memory_bytes", "base_pj")
        return {name: getattr(self, name) for name in measures} | {
            "plan_sha256": plan_sha256(self.plan),
            "split_kernels": len(self.plan.aspect("batch_split")),
        }


def graph_of(combination: Combination, settings: StudySettings) -> TrainingGraph:
    """The training step of a combination's width."""
    return training_graph(grouped_alexnet(settings.batch, combination.width))


def searched(
    combination: Combination,
    settings: StudySettings,
    device: Device,
    known: Iterable[Plan] = (),
    turn: int = 0,
) -> SearchedPlan:
    """Search the schedule of a combination in one precision.

    Parameters
    ----------
    combination
        One whose precision is ``fp32`` or ``int8``.
    known
        Plans of the same width and precision to start from as well, with whatever filter and split
        they were found for: their free choices are taken over.
    turn
        Seeds the draws: another search in each turn.
    """
    graph = graph_of(combination, settings)
    plans = _starts(combination, graph, device)
    held = {*HELD, "precision"} | ({"batch_split"} if combination.split == "whole" else set())
    space = Space.of(graph, device, plans[0], held=held)
    kept = {key: choice for key, choice in space.base.choices if key[0] in held}
    for number, plan in enumerate(known):
        free = {key: choice for key, choice in plan.choices if key[0] not in held}
        plans.append(repaired(f"known {number}", graph, device, free, kept))
    named = tuple(Start(plan.name, space.encode(plan)) for plan in plans)
    ground = Ground.around(space, ("energy", "time"), {}, named)
    base_pj = int(ground.values[0, ENERGY])
    best = _least(ground, settings, turn)
    plan = space.decode(best.row, combination.name)
    time_ns, energy_pj, _, memory_bytes = best.values
    return SearchedPlan(plan, time_ns, energy_pj, memory_bytes, base_pj)


def _least(ground: Ground, settings: StudySettings, turn: int) -> Found:
    """Plan of least energy within the memory budget, or of least memory if none is."""
    limit = settings.memory_bytes
    elites: tuple[Found, ...] = ()
    if not (ground.values[ground.excess_ppm(ground.values) == 0, MEMORY] <= limit).any():
        lean = replace(ground, objectives=("memory",))
        elites = _explored(lean, settings, turn)
        if elites[0].values[MEMORY] > limit:
            return elites[0]
    bounded = replace(ground, limits={**ground.limits, "memory": limit})
    return _explored(bounded, settings, turn, elites)[0]


def _explored(
    ground: Ground, settings: StudySettings, turn: int, elites: tuple[Found, ...] = ()
) -> tuple[Found, ...]:
    """Front after all shards, each from the front of those before."""
    front, factory = elites, load_searcher(SEARCHER)
    for shard in range(settings.shards):
        seed = turn * settings.shards + shard
        result = explore(ground, factory, seed, settings.evaluations, shard=shard, elites=front)
        front = merge(ground.objectives, front, result.found)
    return front


def _starts(combination: Combination, graph: TrainingGraph, device: Device) -> list[Plan]:
    """Built-in plans with the combination's filter, and without splits where it has none."""
    policies: tuple[Policy, ...] = ()
    if combination.patch > 1:
        policies = (Filtered(combination.patch, masks=True),)
    plans = []
    for name in RECIPES[combination.precision]:
        recipe = recipe_of(name)
        if not available(recipe, device):
            continue
        kept = tuple(t for t in recipe.techniques if combination.split == "split" or t != "split")
        given = replace(recipe, policies=(*recipe.policies, *policies), techniques=kept)
        plans.append(made(given, graph, device).plan)
    return plans


def affordable(energy_pj: int, schedule_pj: int) -> int:
    """Steps that an energy is enough for, the last one begun with some of it left."""
    return ceil(energy_pj / schedule_pj)
