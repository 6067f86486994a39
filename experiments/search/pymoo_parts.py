"""What pymoo needs to breed encoded plans. Importing this module imports pymoo."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pymoo.algorithms.moo.nsga2 import NSGA2
from pymoo.algorithms.soo.nonconvex.ga import GA
from pymoo.core.crossover import Crossover
from pymoo.core.mutation import Mutation
from pymoo.core.problem import Problem
from pymoo.core.sampling import Sampling
from pymoo.core.termination import NoTermination

from experiments.search.annealing import WORD, Tuning
from experiments.search.frames import FrameMoves
from experiments.search.moves import moves_of
from experiments.search.moves_jit import DRAWS
from sim.encoding import Genes, Space

MOVES = 3
"""Moves that change a child, at most."""
FRAME_PARTS = 64
"""One child in so many also changes what is computed."""


def nsga2(space: Space, starts: Genes, population: int) -> Any:
    """Return NSGA-II over a space."""
    return NSGA2(pop_size=population, **_operators(space, starts))


def genetic(space: Space, starts: Genes, population: int) -> Any:
    """Return a genetic algorithm over a space."""
    return GA(pop_size=population, **_operators(space, starts))


def set_up(algorithm: Any, space: Space, objectives: int, seed: int) -> None:
    """Bind an algorithm to the size of its problem and a seed."""
    problem = Problem(
        n_var=len(space.genes), n_obj=objectives, xl=0, xu=space.counts - 1, vtype=int
    )
    algorithm.setup(problem, termination=NoTermination(), seed=seed)


def _operators(space: Space, starts: Genes) -> dict[str, Any]:
    change = _Moved(space)
    return {
        "sampling": _Neighbours(starts, change),
        "crossover": _LayerCrossover(space),
        "mutation": change,
    }


class _Moved(Mutation):  # type: ignore[misc]  # pymoo has no types
    """Changes children by one to a few of the annealer's moves."""

    def __init__(self, space: Space) -> None:
        super().__init__(prob=1.0)
        self.moves, self.frames = moves_of(space), FrameMoves.of(space)
        self.odds = self.moves.odds(dict(Tuning().odds))

    def _do(self, problem: Any, rows: Any, random_state: Any = None, **_: Any) -> Any:
        changed = np.ascontiguousarray(rows, dtype=np.int16)
        frame = self.moves.space.frame_genes
        for k in np.flatnonzero(random_state.integers(FRAME_PARTS, size=len(rows)) == 0):
            if frame:
                changed[k] = self.frames.propose(changed[k], random_state)
        orders = [self.moves.order(row) for row in changed]
        everyone = np.arange(len(rows))
        times = random_state.integers(1, MOVES + 1, size=len(rows))
        for turn in range(MOVES):
            words = random_state.integers(0, WORD, size=(len(rows), DRAWS))
            moved = self.moves.propose(changed, everyone, orders, words, self.odds)
            changed = np.where((times > turn)[:, None], moved, changed)
        return changed


class _Neighbours(Sampling):  # type: ignore[misc]
    """The starts, and neighbours of them until there are enough."""

    def __init__(self, starts: Genes, change: _Moved) -> None:
        super().__init__()
        self.starts, self.change = starts, change

    def _do(self, problem: Any, n_samples: int, random_state: Any = None, **_: Any) -> Any:
        rows = self.starts[np.arange(n_samples) % len(self.starts)].copy()
        more = rows[len(self.starts) :]
        if len(more):
            rows[len(self.starts) :] = self.change._do(problem, more, random_state=random_state)
        return rows


class _LayerCrossover(Crossover):  # type: ignore[misc]
    """Two children that swap the schedules of half of the layers, each with one parent's frame."""

    def __init__(self, space: Space) -> None:
        super().__init__(2, 2)
        names = [g.subject.partition(".")[0] for g in space.genes[space.frame_genes :]]
        known = {name: k for k, name in enumerate(dict.fromkeys(names))}
        self.layer: NDArray[np.int64] = np.array([known[n] for n in names], dtype=np.int64)
        self.frame = space.frame_genes

    def _do(self, problem: Any, parents: Any, random_state: Any = None, **_: Any) -> Any:
        children = parents.copy()
        layers = int(self.layer.max()) + 1 if len(self.layer) else 0
        swapped = random_state.random((parents.shape[1], layers)) < 0.5
        here = np.zeros(parents.shape[1:], dtype=np.bool_)
        here[:, self.frame :] = swapped[:, self.layer]
        children[0][here], children[1][here] = parents[1][here], parents[0][here]
        return children
