"""What the tests of searches share: a small problem, and its front when nothing goes wrong."""

from __future__ import annotations

import sys
from functools import cache
from pathlib import Path

from experiments.search.backends import started
from experiments.search.budget import Budget
from experiments.search.drive import Outcome, search
from experiments.search.front import front_sha256
from experiments.search.problem import Problem
from sim.encoding import HELD as DEFAULT_HELD

ROOT = Path(__file__).parents[2]
HELD = ("batch_split", "operating_point", "precision", "rescale")
"""Held so that a process has its ground in no time; what is left is searched as ever."""
SMALL = Problem(
    "lenet",
    batch=8,
    objectives=("time", "energy"),
    held=(*DEFAULT_HELD, *HELD),
    evaluations_per_shard=12,
    generation=4,
)
SHARDS = 10
"""Two generations and a part of a third."""
OPTIONS = (
    "--model lenet --batch 8 --objectives time,energy --evaluations-per-shard 12 --generation 4 "
    + " ".join(f"--hold {aspect}" for aspect in HELD)
).split()


def budget(shards: int = SHARDS) -> Budget:
    """A number of shards."""
    return Budget(shards=shards)


@cache
def whole(shards: int = SHARDS) -> Outcome:
    """What one process finds that nothing disturbs."""
    with started("serial") as backend:
        return search(SMALL, budget(shards), backend)


def sha256(outcome: Outcome) -> str:
    """Digest of the front."""
    return front_sha256(outcome.front)


def command(*arguments: object) -> list[str]:
    """Command line of a search in a process of its own."""
    return [sys.executable, "-m", "experiments.cli", "search", *map(str, arguments)]
