"""Counts of work on a core and the constants that turn them into cycles."""

from __future__ import annotations

from dataclasses import astuple, dataclass
from functools import reduce
from operator import add

CONTENTION_CORES = 8
"""Cores at which :attr:`Constants.contention` was measured; with fewer it shrinks in proportion."""


@dataclass(frozen=True, slots=True)
class Counts:
    """What the busiest core does in one or several parallel calls.

    Attributes
    ----------
    issued
        Cycles of inner loops: instructions and their stalls, one each.
    blocks
        Blocks of outputs: each sets up a loop and its addresses.
    outputs
        Outputs that are zeroed, stored and addressed.
    windows
        Elements that im2row or a transposition moves.
    compares
        Elements that a comparison decides on.
    exponentials
        Exponential functions.
    calls
        Parallel calls: each forks the cores and joins them.
    """

    issued: float = 0
    blocks: float = 0
    outputs: float = 0
    windows: float = 0
    compares: float = 0
    exponentials: float = 0
    calls: float = 0

    def __add__(self, other: Counts) -> Counts:
        """Work done one after the other."""
        return Counts(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))


@dataclass(frozen=True, slots=True)
class Constants:
    """Cycles of each count.

    Attributes
    ----------
    block, output, window, compare, exponential, call
        Of one each, on one core.
    contention
        Share by which :data:`CONTENTION_CORES` cores at once slow each other down: banks and the
        shared instruction cache.
    """

    block: float
    output: float
    window: float
    compare: float
    call: float
    contention: float
    exponential: float = 0.0

    def work(self, counts: Counts) -> dict[str, float]:
        """Cycles of one core's work that nothing slows down, by the constant that they rest on.

        Those under ``issued`` are instructions and rest on no constant.
        """
        return {
            "issued": counts.issued,
            "block": self.block * counts.blocks,
            "output": self.output * counts.outputs,
            "window": self.window * counts.windows,
            "compare": self.compare * counts.compares,
            "exponential": self.exponential * counts.exponentials,
        }

    def cycles(self, counts: Counts, cores: int) -> float:
        """Cycles of a core's work while ``cores`` do the like; calls are not slowed down."""
        slower = 1 + self.contention * (cores - 1) / (CONTENTION_CORES - 1)
        work = reduce(add, self.work(counts).values())  # sum() rounds otherwise in later Pythons
        return work * slower + self.call * counts.calls
