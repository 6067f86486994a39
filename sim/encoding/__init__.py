"""Plans as arrays of genes, for searches: see :class:`Space` and :class:`Evaluator`."""

from sim.encoding.discover import SpaceError
from sim.encoding.evaluator import FIDELITIES, Evaluator
from sim.encoding.scores import Scores
from sim.encoding.space import HELD, Gene, Genes, Space

__all__ = ["FIDELITIES", "HELD", "Evaluator", "Gene", "Genes", "Scores", "Space", "SpaceError"]
