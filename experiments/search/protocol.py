"""What a searcher is: an object that asks for plans to be scored and is told the scores.

Whoever runs one builds it, tells it the starts with their values, and from then on alternates
:meth:`Searcher.ask` and :meth:`Searcher.tell`. A searcher never sees
limits: plans beyond a limit are told with values worse than those of every start. It must
be deterministic: the same space, starts, seed and values lead to the same questions. All of its
state is its own, so that many run side by side.

A searcher of your own subclasses :class:`Searcher`, is checked by
:func:`experiments.search.conformance.check_searcher`, and is found by the name of its entry point
in the group ``mandheling.searchers``, as the built-in ones are.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar

from experiments.search.objectives import Values
from sim.encoding import Genes, Space


class Searcher(ABC):
    """Looks for plans with small objectives in one space.

    Parameters
    ----------
    space
        Where to search.
    starts
        Encoded plans worth starting from, shape ``(starts, genes)``, at least one.
    seed
        Of every random draw.
    objectives
        Names of the columns of the values.
    """

    batch: ClassVar[int] = 64
    """How many plans it prefers to be asked for at a time."""
    packages: ClassVar[tuple[str, ...]] = ()
    """Distributions that it computes with, besides those of the sandbox: their versions are kept
    with results, and have to be the same on every worker."""

    def __init__(self, space: Space, starts: Genes, seed: int, objectives: tuple[str, ...]) -> None:
        self.space = space
        self.starts = starts
        self.seed = seed
        self.objectives = objectives

    def begin(self, evaluations: int, shard: int) -> None:  # noqa: B027  # most need not know
        """Take note of how much will be asked for; called once, before all else.

        Parameters
        ----------
        evaluations
            Plans in all, starts not counted.
        shard
            Number of this portion of a longer search; other portions ask for as many plans.
        """

    @abstractmethod
    def ask(self, n: int) -> Genes:
        """Return up to ``n`` plans to score next, int16 of shape ``(plans, genes)``.

        None ends the search.
        """

    @abstractmethod
    def tell(self, batch: Genes, values: Values) -> None:
        """Learn the values of the starts, and then of each batch asked for, in the same order.

        Parameters
        ----------
        values
            int64 of shape ``(plans, objectives)``; smaller is better. Only to be read.
        """


SearcherFactory = Callable[[Space, Genes, int, tuple[str, ...]], Searcher]
"""What makes a searcher: usually the class itself."""
