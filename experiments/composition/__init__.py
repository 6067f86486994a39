"""Which techniques go together: every pair run in both engines and on real tensors, or refused."""

from experiments.composition.pairs import Pair, Tried, judged
from experiments.composition.techniques import CATALOGUE, Technique, uncovered

__all__ = ["CATALOGUE", "Pair", "Technique", "Tried", "judged", "uncovered"]
