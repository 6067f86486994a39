"""Genetic search: ``genetic`` for one objective, ``nsga2`` for fronts; both by pymoo.

Needs ``pip install 'mandheling-sandbox[search]'``.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from experiments.search.objectives import SearchError, Values
from experiments.search.protocol import Searcher
from sim.encoding import Genes, Space

POPULATION = 128


class Nsga2(Searcher):
    """NSGA-II (Deb, Pratap, Agarwal and Meyarivan, 2002), from the starts and neighbours of them.

    Children take what is computed from one parent and each layer's schedule from either, and then
    change by moves of the annealer.

    Raises
    ------
    SearchError
        pymoo is not installed.
    """

    batch: ClassVar[int] = POPULATION
    packages: ClassVar[tuple[str, ...]] = ("pymoo",)

    def __init__(self, space: Space, starts: Genes, seed: int, objectives: tuple[str, ...]) -> None:
        super().__init__(space, starts, seed, objectives)
        self._parts = _pymoo(type(self).__name__.lower())
        self._algorithm: Any = None
        self._waiting: Genes = np.zeros((0, len(space.genes)), dtype=np.int16)
        self._population: Any = None
        self._told: list[Values] = []

    def make(self) -> Any:
        """Return pymoo's algorithm."""
        return self._parts.nsga2(self.space, self.starts, POPULATION)

    def ask(self, n: int) -> Genes:
        """Return the next children; a generation may be asked for in several batches."""
        if self._algorithm is None:
            self._algorithm = self.make()
            self._parts.set_up(self._algorithm, self.space, len(self.objectives), self.seed)
        if not len(self._waiting):
            self._population = self._algorithm.ask()
            if self._population is None or not len(self._population):
                return self._waiting  # every child is known already: the space is used up
            self._waiting = self._population.get("X").astype(np.int16)
            self._told = []
        batch, self._waiting = self._waiting[:n], self._waiting[n:]
        return batch.copy()

    def tell(self, batch: Genes, values: Values) -> None:
        """Collect a generation's values, and let it survive or not."""
        if self._population is None:
            return  # the starts are asked for again, as the first of the population
        self._told.append(values)
        if not len(self._waiting):
            self._population.set("F", np.concatenate(self._told).astype(np.float64))
            self._algorithm.tell(infills=self._population)


class Genetic(Nsga2):
    """A genetic algorithm with tournament selection, for one objective.

    Raises
    ------
    SearchError
        There are several objectives, or pymoo is not installed.
    """

    def __init__(self, space: Space, starts: Genes, seed: int, objectives: tuple[str, ...]) -> None:
        if len(objectives) > 1:
            raise SearchError(
                f"searcher genetic has one objective and was given {','.join(objectives)}; "
                "choose nsga2"
            )
        super().__init__(space, starts, seed, objectives)

    def make(self) -> Any:
        """Return pymoo's algorithm."""
        return self._parts.genetic(self.space, self.starts, POPULATION)


def _pymoo(searcher: str) -> Any:
    try:
        from experiments.search import pymoo_parts
    except ImportError as error:
        raise SearchError(
            f"searcher {searcher} needs pymoo ({error}); "
            "install it with pip install 'mandheling-sandbox[search]'"
        ) from error
    return pymoo_parts
