"""How plans are scored inside a shard: a quiet step, corrected for the scans it leaves out."""

from __future__ import annotations

import numpy as np

from experiments.search.ground import Ground
from experiments.search.objectives import OBJECTIVES, Values
from sim.encoding import Genes

CORRECTED = [OBJECTIVES.index(name) for name in ("time", "energy")]
WORST = 4
"""A plan beyond a limit is told with this many times the worst value of the starts, or more."""
LARGEST_TOLD = 2.0**60


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
        values = self.measures(batch)
        excess = self.ground.excess_ppm(values)
        chosen = self.ground.chosen(values)
        outside = excess > 0
        beyond = self._worst * (1 + excess[outside, None].astype(np.float64) / 1e6)
        chosen[outside] = np.minimum(beyond, LARGEST_TOLD).astype(np.int64)
        return chosen

    def measures(self, batch: Genes) -> Values:
        """Return all measures of a batch, corrected; memory only if it is needed."""
        ground = self.ground
        quiet = ground.measurer(batch, "quiet", memory=ground.needs_memory)
        frames = np.ascontiguousarray(batch[:, : ground.space.frame_genes])
        if len(batch) and (frames == frames[:1]).all():
            return quiet + self._correction(frames[0], batch[:1], quiet[:1])
        found = quiet.copy()
        for k, frame in enumerate(frames):
            found[k] += self._correction(frame, batch[k : k + 1], quiet[k : k + 1])
        return found

    def _correction(self, frame: Genes, row: Genes, quiet: Values) -> Values:
        """What the expected step adds to a quiet one in a frame; ``row`` is a plan with it."""
        key = frame.tobytes()
        if key not in self._corrections:
            exact = self.ground.measurer(row, "expected", memory=False)
            added = np.zeros(exact.shape[1], dtype=np.int64)
            added[CORRECTED] = (exact - quiet)[0, CORRECTED]
            self._corrections[key] = added
        return self._corrections[key]
