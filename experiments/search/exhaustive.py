"""Exhaustive search: every plan of a small space, once."""

from __future__ import annotations

from math import prod

import numpy as np

from experiments.search.objectives import SearchError, Values
from experiments.search.protocol import Searcher
from sim.encoding import Genes, Space

LARGEST_SPACE = 10_000_000
"""Plans of the largest space that is gone through."""


class Exhaustive(Searcher):
    """Goes through a space in mixed-radix order, the last gene fastest.

    So plans that compute the same follow each other. Each shard takes the part of the space that
    its number says; shards beyond the end find nothing to do.

    Raises
    ------
    SearchError
        The space has more than :data:`LARGEST_SPACE` plans.
    """

    def __init__(self, space: Space, starts: Genes, seed: int, objectives: tuple[str, ...]) -> None:
        super().__init__(space, starts, seed, objectives)
        self.size = prod(map(int, space.counts))
        if self.size > LARGEST_SPACE:
            raise SearchError(
                f"searcher exhaustive: the space has {_told(self.size)} plans and the most it goes "
                f"through is {LARGEST_SPACE}; hold more aspects, or choose annealing"
            )
        self._next = 0

    def begin(self, evaluations: int, shard: int) -> None:
        """Start where the shards before this one end."""
        self._next = min(self.size, evaluations * shard)

    def ask(self, n: int) -> Genes:
        """Return the next ``n`` plans, none at the end of the space."""
        numbers = np.arange(self._next, min(self.size, self._next + n))
        self._next += len(numbers)
        batch = np.zeros((len(numbers), len(self.space.genes)), dtype=np.int16)
        for gene in range(len(self.space.genes) - 1, -1, -1):
            numbers, batch[:, gene] = np.divmod(numbers, self.space.counts[gene])
        return batch

    def tell(self, batch: Genes, values: Values) -> None:
        """Learn nothing: all plans are asked for whatever their values."""


def _told(size: int) -> str:
    return str(size) if size < 10**15 else f"about 10^{len(str(size)) - 1}"
