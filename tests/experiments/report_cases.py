"""Small real searches, for tests of the report."""

from __future__ import annotations

from functools import lru_cache

from experiments.search.backends import started
from experiments.search.budget import Budget
from experiments.search.drive import search
from experiments.search.problem import Problem
from experiments.search.result import Extras, SearchResult, result_of


@lru_cache(maxsize=4)
def searched(
    model: str = "lenet",
    device: str = "snapdragon-865",
    objectives: tuple[str, ...] = ("time", "energy", "memory"),
    evaluations: int = 16,
) -> SearchResult:
    """Return a search of two shards, with a bound that stands for none of the certifier's."""
    problem = Problem(
        model,
        device=device,
        objectives=objectives,
        searcher="annealing",
        evaluations_per_shard=evaluations,
        generation=1,
    )
    with started("serial") as backend:
        outcome = search(problem, Budget(shards=2), backend)
        return result_of(outcome, backend, Extras())
