"""Small real searches, for tests of the report."""

from __future__ import annotations

from functools import lru_cache

from cost_models.device import Device
from experiments.report import Searched
from experiments.search.backends import started
from experiments.search.budget import Budget
from experiments.search.drive import search
from experiments.search.extras import robustness_of
from experiments.search.problem import Problem
from experiments.search.result import Extras, SearchResult, result_of
from sim import load_device, load_model, training_graph
from sim.graph import TrainingGraph


@lru_cache(maxsize=4)
def searched(
    model: str = "lenet", evaluations: int = 64, device: str = "snapdragon-865"
) -> SearchResult:
    """Return a search of two shards for a front in time, energy and memory."""
    problem = Problem(
        model,
        device=device,
        objectives=("time", "energy", "memory"),
        evaluations_per_shard=evaluations,
        generation=1,
    )
    with started("serial") as backend:
        outcome = search(problem, Budget(shards=2), backend)
        return result_of(outcome, backend, Extras(robustness=robustness_of(outcome)))


def ground_of(found: SearchResult) -> tuple[TrainingGraph, Device]:
    """Return what a search was made on."""
    problem = Searched.of(found, "result")
    graph = training_graph(load_model(problem.model, problem.batch, problem.image))
    return graph, load_device(problem.device)
