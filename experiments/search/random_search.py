"""Random search: every plan drawn alike; what other searchers have to beat."""

from __future__ import annotations

import numpy as np

from experiments.search.objectives import Values
from experiments.search.protocol import Searcher
from sim.encoding import Genes, Space


class RandomSearch(Searcher):
    """Draws every gene uniformly; what is computed is drawn once per batch.

    Plans that compute the same share the work of preparing it, so a batch costs far less than its
    plans one by one.
    """

    def __init__(self, space: Space, starts: Genes, seed: int, objectives: tuple[str, ...]) -> None:
        super().__init__(space, starts, seed, objectives)
        self._draws = np.random.default_rng(np.random.SeedSequence(seed))

    def ask(self, n: int) -> Genes:
        """Draw ``n`` plans."""
        counts, frame = self.space.counts, self.space.frame_genes
        batch = self._draws.integers(0, counts, size=(n, len(counts))).astype(np.int16)
        batch[:, :frame] = batch[0, :frame]
        return batch

    def tell(self, batch: Genes, values: Values) -> None:
        """Learn nothing: draws do not depend on values."""
