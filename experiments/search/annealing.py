"""Simulated annealing in many chains with compiled moves: the main engine of policy search.

Chains work in groups. The chains of a group share what is computed (the frame genes), since a new
frame costs the evaluator more than many plans of a known one, and go after the same blend of the
objectives; the blends of the groups cover the front. Most rounds move schedules, several tries per
chain; now and then a group tries another frame on all of its chains at once and judges it by their
mean (Kirkpatrick, Gelatt and Vecchi, 1983; acceptance by a drawn threshold). With one objective a
small second group explores from a start of other precisions; half-way both go on from the better.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from experiments.search.frames import FrameMoves
from experiments.search.moves import moves_of
from experiments.search.moves_jit import (
    ALONE,
    COPY,
    CUT,
    DRAWS,
    FAMILY,
    LAYER,
    RUN,
    SHIFT,
    STEP,
    SWAP,
)
from experiments.search.objectives import Values
from experiments.search.protocol import Searcher
from sim.encoding import Evaluator, Genes, Space

F64 = NDArray[np.float64]
WORD = 1 << 32
FINEST = 1e-12
"""No temperature is below; parts of the start's value."""


@dataclass(frozen=True, slots=True)
class Tuning:
    """How the annealer anneals; the defaults are what did best (docs/guides/search-a-policy.md).

    Attributes
    ----------
    chains, explorers
        Chains in each group, and in the group that explores when there is one objective.
    groups
        Groups, at least, when there are several objectives.
    hot, halvings
        First temperature, a part of the start's value, and how often it halves.
    ways
        Neighbours of which a static step picks each plan that is asked for.
    frame_every
        Rounds between two tries of another frame by a group.
    gather_every
        Rounds after which chains that fell behind start again from their group's best.
    odds
        Weights of the kinds of move of schedules.
    """

    chains: int = 8
    explorers: int = 2
    groups: int = 8
    hot: float = 1e-3
    halvings: int = 5
    ways: int = 4
    frame_every: int = 16
    gather_every: int = 24
    odds: tuple[tuple[int, int], ...] = (
        (ALONE, 20),
        (FAMILY, 15),
        (LAYER, 3),
        (RUN, 10),
        (SWAP, 10),
        (COPY, 15),
        (CUT, 15),
        (SHIFT, 8),
        (STEP, 4),
    )


class Annealing(Searcher):
    """Anneals from the starts; see the module."""

    batch: ClassVar[int] = 64
    tuning: ClassVar[Tuning] = Tuning()

    def __init__(self, space: Space, starts: Genes, seed: int, objectives: tuple[str, ...]) -> None:
        super().__init__(space, starts, seed, objectives)
        self._draws = np.random.default_rng(np.random.SeedSequence(seed))
        self._moves = moves_of(space)
        self._frames = FrameMoves.of(space)
        self._odds = self._moves.odds(dict(self.tuning.odds))
        self._blends = blends(len(objectives), self.tuning.groups)
        sizes = [self.tuning.chains] * len(self._blends)
        self._single = len(objectives) == 1
        if self._single:
            self._blends, sizes = np.ones((2, 1)), [self.tuning.chains, self.tuning.explorers]
        self._group = np.repeat(np.arange(len(self._blends)), sizes)
        self._joined = False
        self._static = Evaluator(space, "static")
        self._evaluations = 8192
        self._asked = self._round = 0
        self._frame_of: int | None = None
        self._chain = np.zeros(0, dtype=np.int64)

    def begin(self, evaluations: int, shard: int) -> None:
        """Cool over this many plans."""
        self._evaluations = evaluations

    def tell(self, batch: Genes, values: Values) -> None:
        """Begin from the starts, and from then on accept or refuse what was asked for."""
        if not self._asked:
            self._start(batch, values)
            return
        blended = self._blended(values)
        if self._frame_of is not None:
            self._judge_frame(batch, blended)
        else:
            self._judge(batch, blended)
        self._round += 1
        if self._round % self.tuning.gather_every == 0:
            self._gather()
        if self._single and not self._joined and self._asked * 2 >= self._evaluations:
            self._joined = True
            self._all_from(np.arange(len(self._group)), int(np.argmin(self._best_worth)))

    def ask(self, n: int) -> Genes:
        """Return neighbours of the chains, ``n`` in all."""
        chains = len(self._group)
        self._chain = (np.arange(n) + self._asked) % chains
        self._asked += n
        every, groups = self.tuning.frame_every, len(self._blends)
        self._frame_of = None
        if self._frames.sets[0] and (self._round * groups) % every < groups:
            self._frame_of = (self._round * groups // every) % groups
            batch = self._ask_frame(n)
        else:
            batch = self._ask_schedules(n)
        return batch

    def _ask_schedules(self, n: int) -> Genes:
        """Propose several neighbours for each plan asked for; the best by a static step is it."""
        ways = self.tuning.ways if "memory" not in self.objectives else 1
        chain = np.tile(self._chain, ways)
        words = self._draws.integers(0, WORD, size=(len(chain), DRAWS))
        found = self._moves.propose(self._current, chain, self._orders, words, self._odds)
        half = np.arange(len(chain) // 2, len(chain))  # these take two moves at once
        words = self._draws.integers(0, WORD, size=(len(half), DRAWS))
        orders = [self._orders[c] for c in chain[half]]
        found[half] = self._moves.propose(
            found[half], np.arange(len(half)), orders, words, self._odds
        )
        if ways == 1:
            return found
        scores = self._static(found)
        known = {"time": scores.time_ns, "energy": scores.energy_pj}
        worth = np.zeros(len(found))
        for column, name in enumerate(self.objectives):
            if name in known:
                weight = self._blends[self._group[chain], column] / self._scale[column]
                worth += known[name] * weight
        best = worth.reshape(ways, n).argmin(axis=0)
        return np.ascontiguousarray(found[best * n + np.arange(n)])

    # -- the chains -------------------------------------------------------------------------

    def _start(self, rows: Genes, values: Values) -> None:
        """Give each group the best start for its blend, and its chains what shares its frame."""
        self._scale = np.maximum(values.min(axis=0), 1).astype(np.float64)
        picks: list[int] = []
        for group, blend in enumerate(self._blends):
            order = np.argsort(summed(values / self._scale * blend), kind="stable")
            if self._single and group == 1:
                order = self._elsewhere(rows, order)
            alike = [k for k in order if self._same_frame(rows[k], rows[order[0]])]
            chains = np.count_nonzero(self._group == group)
            picks += [int(alike[c % len(alike)]) for c in range(chains)]
        self._current = rows[picks].copy()
        self._worth = summed((values / self._scale)[picks] * self._blends[self._group])
        self._best, self._best_worth = self._current.copy(), self._worth.copy()
        self._orders = [self._moves.order(row) for row in self._current]

    def _elsewhere(self, rows: Genes, order: NDArray[np.int64]) -> NDArray[np.int64]:
        """Starts for the explorers: of other precisions than the best if there are, a drawn one."""
        kinds = [row[self._moves.surrounding].tobytes() for row in rows]
        others = np.array([k for k in order if kinds[k] != kinds[order[0]]], dtype=np.int64)
        if not len(others):
            return np.roll(order, -int(self._draws.integers(len(order))))
        # the best of the others twice as often as the second best, and so on
        first = min(len(others) - 1, int(exponential(self._draws.integers(1, WORD, size=1))[0]))
        return np.roll(others, -first)

    def _blended(self, values: Values) -> F64:
        """Worth of each plan asked for, to the chain that asked."""
        share = values / self._scale
        return summed(share * self._blends[self._group[self._chain]])

    def _temperature(self) -> float:
        halvings = self.tuning.halvings * min(1.0, self._asked / self._evaluations)
        whole = int(halvings)
        # halving by products and sums alone gives the same bits on every machine
        return self.tuning.hot * float(0.5**whole) * (1.0 - 0.5 * (halvings - whole))

    def _threshold(self, n: int) -> F64:
        """By how much a plan may be worse: temperature times draws of an exponential law."""
        return self._temperature() * exponential(self._draws.integers(1, WORD, size=n))

    def _judge(self, batch: Genes, worth: F64) -> None:
        """Let each chain take one of the best of its tries, if they pass the threshold."""
        passes = worth <= self._worth[self._chain] + self._threshold(len(worth))
        # what differs by less than the temperature is alike: the first of those is taken
        rank = np.floor(worth / max(self._temperature(), FINEST))
        order = np.lexsort((np.arange(len(worth)), rank, self._chain))
        order = order[passes[order]]
        chains, first = np.unique(self._chain[order], return_index=True)
        taken = order[first]
        self._current[chains], self._worth[chains] = batch[taken], worth[taken]
        self._note(chains)

    def _note(self, chains: NDArray[np.int64]) -> None:
        better = chains[self._worth[chains] < self._best_worth[chains]]
        self._best[better], self._best_worth[better] = self._current[better], self._worth[better]

    def _gather(self) -> None:
        """Start the worse half of each group's chains again from the group's best plans."""
        for group in range(len(self._blends)):
            mine = np.flatnonzero(self._group == group)
            order = mine[np.argsort(self._worth[mine], kind="stable")]
            top = mine[np.argmin(self._best_worth[mine])]
            if self._same_frame(self._best[top], self._current[order[0]]):
                self._all_from(order[(len(order) + 1) // 2 :], int(top))
            elif self._worth[order[0]] > self._best_worth[top] + self._temperature():
                self._all_from(mine, int(top))  # the frames since then led nowhere

    def _all_from(self, chains: NDArray[np.int64], top: int) -> None:
        """Let chains go on from the best plan of one of them."""
        self._current[chains], self._worth[chains] = self._best[top], self._best_worth[top]
        for chain in chains:
            self._orders[chain] = self._moves.order(self._best[top])

    # -- frames -----------------------------------------------------------------------------

    def _same_frame(self, one: Genes, two: Genes) -> bool:
        frame = self.space.frame_genes
        return bool(np.array_equal(one[:frame], two[:frame]))

    def _ask_frame(self, n: int) -> Genes:
        """Put one new frame under all chains of a group; the slots of others repeat its chains."""
        mine = np.flatnonzero(self._group == self._frame_of)[:n]
        self._chain = mine
        batch = self._current[mine].copy()
        neighbour = self._frames.propose(batch[0], self._draws)
        changed = neighbour != batch[0]
        batch[:, changed] = neighbour[changed]
        return batch

    def _judge_frame(self, batch: Genes, worth: F64) -> None:
        """Take the new frame for the whole group if its chains are better off on the mean."""
        mine = np.flatnonzero(self._group == self._frame_of)
        change = float(summed((worth - self._worth[self._chain])[None])[0]) / len(worth)
        if change > float(self._threshold(1)[0]):
            return
        self._current[self._chain], self._worth[self._chain] = batch, worth
        self._note(self._chain)
        left = mine[len(self._chain) :]
        best = self._chain[np.argmin(worth)]
        self._current[left], self._worth[left] = self._current[best], self._worth[best]
        for chain in mine:
            self._orders[chain] = self._moves.order(self._current[chain])


def exponential(words: NDArray[np.int64]) -> F64:
    """Turn words from 1 to 2**32 - 1 into draws of an exponential law of mean about 1.

    The logarithm is a straight line between powers of two (within 0.06), so that the same
    words give the same bits on every machine.
    """
    mantissa, power = np.frexp(words.astype(np.float64))
    return np.asarray((32 - power + 2.0 * (1.0 - mantissa)) * 0.6931471805599453)


def summed(parts: F64) -> F64:
    """Sum over the columns, always in the same order; shape ``(rows, columns)`` to ``(rows,)``."""
    total = np.zeros(len(parts))
    for column in parts.T:
        total += column
    return total


def blends(objectives: int, least: int) -> F64:
    """Weights of the objectives for each group, shape ``(groups, objectives)``.

    They are the points of the coarsest even grid of at least ``least``; one for one objective.
    """
    parts = 1
    while True:
        grid = [p for p in product(range(parts + 1), repeat=objectives) if sum(p) == parts]
        if len(grid) >= least or objectives == 1:
            return np.array(sorted(grid, reverse=True), dtype=np.float64) / parts
        parts += 1
