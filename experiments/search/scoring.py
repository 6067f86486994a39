"""How plans are scored inside a shard: a quiet step, corrected for the scans it leaves out."""

from __future__ import annotations

import numpy as np

from experiments.search.ground import Ground
from experiments.search.objectives import OBJECTIVES, Values
from sim.encoding import Genes

CORRECTED = tuple(OBJECTIVES.index(name) for name in ("time", "energy"))
WORST = 4
"""A plan beyond a limit is told with this many times the worst value of the starts, or more."""


class Scorer:
    """Gives the values that a searcher is told.

    A quiet step scans as little as the rescale rules allow, so it cannot tell a rule that scans
    often from one that scans rarely. What all plans with equal frame genes (those that decide what
    is computed) have in common is the amount of scanning: the difference between the expected and
    the quiet step of the first such plan is added to all of them. Which plan comes first depends
    on the searcher alone, so the values do too.
    """

    def __init__(self, ground: Ground) -> None:
        self.ground = ground
        self._corrections: dict[bytes, Values] = {}
        self._worst = ground.chosen(ground.values).max(axis=0) * WORST + 1

    def __call__(self, batch: Genes) -> Values:
        """Return the objectives of a batch, shape ``(plans, objectives)``."""
        ground = self.ground
        values = ground.measurer(batch, "quiet", memory=ground.needs_memory)
        values += self._correction(batch, values)
        excess = ground.excess_ppm(values)
        chosen = ground.chosen(values)
        outside = excess > 0
        beyond = self._worst * (1 + excess[outside, None].astype(np.float64) / 1e6)
        chosen[outside] = np.minimum(beyond, 2.0**60).astype(np.int64)
        return chosen

    def _correction(self, batch: Genes, quiet: Values) -> Values:
        """What the expected step adds to a quiet one, by the plans' frame genes."""
        frames = np.ascontiguousarray(batch[:, : self.ground.space.frame_genes])
        keys = [frame.tobytes() for frame in frames]
        first = {key: k for k, key in reversed(list(enumerate(keys)))}
        new = sorted(k for key, k in first.items() if key not in self._corrections)
        if new:
            exact = self.ground.measurer(batch[new], "expected", memory=False)
            for k, added in zip(new, exact - quiet[new], strict=True):
                kept = np.zeros_like(added)
                kept[list(CORRECTED)] = added[list(CORRECTED)]
                self._corrections[keys[k]] = kept
        return np.stack([self._corrections[key] for key in keys])
