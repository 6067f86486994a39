"""A searcher of your own: change the best plan known in a few places, and keep what is better.

python examples/custom_search.py [MODEL] [EVALUATIONS]
"""

from __future__ import annotations

import sys

import numpy as np

from experiments.search import Problem, Searcher, explore
from experiments.search.objectives import Values
from sim.encoding import Genes


class Climb(Searcher):
    """Changes a few genes of the best plan so far, where and how decided by the seed alone."""

    best_ns = 2**62

    def tell(self, batch: Genes, values: Values) -> None:
        """Remember the best plan of all that were told; the starts come first."""
        k = int(values[:, 0].argmin())
        if values[k, 0] < self.best_ns:
            self.best, self.best_ns = batch[k].copy(), int(values[k, 0])
            self.draws = np.random.default_rng((self.seed, self.best_ns))

    def ask(self, n: int) -> Genes:
        """Return ``n`` neighbours; what is computed stays, so that scoring them is quick."""
        others = self.draws.integers(0, self.space.counts, size=(n, len(self.best)))
        changed = self.draws.random((n, len(self.best))) < 3 / len(self.best)
        changed[:, : self.space.frame_genes] = False
        return np.where(changed, others, self.best).astype(np.int16)


model, evaluations = (sys.argv[1:] + ["vgg16", "20000"][len(sys.argv) - 1 :])[:2]
ground = Problem(model, device="snapdragon-865", objectives=("time",)).ground()
(found,) = explore(ground, Climb, seed=1, evaluations=int(evaluations)).found
plan = ground.space.decode(found.row, "climbed")
for start, values in zip(ground.starts, ground.values, strict=True):
    print(f"{values[0] / 1e6:10.2f} ms  {start.name}")
print(f"{found.values[0] / 1e6:10.2f} ms  {plan.name}: {len(plan.choices)} choices")
