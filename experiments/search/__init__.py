"""Policy search: better plans than the built-in ones, and how sure that is."""

from experiments.search.front import Found, front_sha256, merge
from experiments.search.ground import Ground
from experiments.search.objectives import OBJECTIVES, SearchError
from experiments.search.problem import Problem
from experiments.search.protocol import Searcher
from experiments.search.registry import searcher_names
from experiments.search.shard import ShardResult, explore, run_shard

__all__ = [
    "OBJECTIVES",
    "Found",
    "Ground",
    "Problem",
    "SearchError",
    "Searcher",
    "ShardResult",
    "explore",
    "front_sha256",
    "merge",
    "run_shard",
    "searcher_names",
]
