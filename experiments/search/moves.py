"""Moves of the annealer between encoded plans: who computes and in which calls, and what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from experiments.search.moves_jit import ALONE, FAMILY, KINDS, LAYER, STEP, schedule_moves
from sim.aspects import ORDER, Aspect
from sim.encoding import Gene, Genes, Space
from sim.memo import Memo
from sim.policies.coschedule import family_of

I64 = NDArray[np.int64]
FINE = 4
"""Of the draws of a unit, one in so many is any unit; the others are the widest of a pool."""
SCHEDULE = ("placement", "grouping")
SURROUNDING = tuple(a.name for a in ORDER if type(a).variants is not Aspect.variants)
"""Aspects whose choices bring kernels up or remove them."""


@dataclass(frozen=True, slots=True, eq=False)
class Moves:
    """Tables of one space that the compiled moves read.

    A *kernel* here is a gene of placement: ``column`` is that gene and ``cut`` the one of its cut
    (-1 without). ``choice[k, u]`` is the index of unit ``u`` among its choices (-1 without) and
    ``unit_of[k, c]`` the unit of choice ``c``. ``members[member_ptr[g, k]:member_ptr[g, k + 1]]``
    are the kernels that move with kernel ``k``: alone, as a family, as a layer.
    """

    space: Space
    column: I64
    cut: I64
    choice: I64
    unit_of: I64
    wide: I64
    dsp: I64
    member_ptr: I64
    members: I64
    step: I64
    surrounding: I64
    _orders: dict[bytes, I64] = field(repr=False)

    @classmethod
    def of(cls, space: Space) -> Moves:
        """Build the tables of a space."""
        genes = space.genes
        column = [k for k, g in enumerate(genes) if g.aspect == "placement"]
        kernels = [genes[k] for k in column]
        cuts = {g.subject: k for k, g in enumerate(genes) if g.aspect == "grouping"}
        units = list(dict.fromkeys(unit for gene in kernels for unit in gene.choices))
        pools = [unit.partition(":")[0] for unit in units]
        choice = np.full((len(kernels), len(units)), -1, dtype=np.int64)
        unit_of = np.zeros((len(kernels), len(units)), dtype=np.int64)
        for k, gene in enumerate(kernels):
            for index, unit in enumerate(gene.choices):
                choice[k, units.index(unit)] = index
                unit_of[k, index] = units.index(unit)
        pointers, members = _groupings(kernels)
        last = range(space.frame_genes, len(genes))
        return cls(
            space,
            np.array(column, dtype=np.int64),
            np.array([cuts.get(g.subject, -1) for g in kernels], dtype=np.int64),
            choice,
            unit_of,
            # units are listed widest first within a pool
            np.array([pools.index(p) for p in dict.fromkeys(pools)], dtype=np.int64),
            np.array([p == "dsp" for p in pools], dtype=np.int64),
            pointers,
            members,
            np.array([k for k in last if genes[k].aspect not in SCHEDULE], dtype=np.int64),
            np.array([k for k, g in enumerate(genes) if g.aspect in SURROUNDING], dtype=np.int64),
            {},
        )

    def odds(self, weights: Mapping[int, int]) -> I64:
        """Running sums of the weights of those kinds of move that the space has a gene for."""
        allowed = np.zeros(KINDS, dtype=np.int64)
        for kind, weight in weights.items():
            there = len(self.step) if kind == STEP else len(self.column)
            allowed[kind] = weight if there else 0
        return np.cumsum(allowed)

    def order(self, row: Genes) -> I64:
        """Kernels that exist in the surroundings of a row, about in the order of the graph.

        Only choices of some aspects (``SURROUNDING``) bring kernels up or remove them.
        """
        key = row[self.surrounding].tobytes()
        known = self._orders.get(key)
        if known is None:
            live = self.space.live(row)
            known = self._orders[key] = np.flatnonzero(live[self.column]).astype(np.int64)
        return known

    def propose(
        self, current: Genes, chain: I64, orders: Sequence[I64], draws: I64, odds: I64
    ) -> Genes:
        """Return a neighbour of each ``current[chain]``, differing in its schedule alone.

        Parameters
        ----------
        orders
            Of each row of ``current``.
        draws
            Random words below 2**32, shape ``(len(chain), DRAWS)``.
        """
        out = np.empty((len(chain), current.shape[1]), dtype=np.int16)
        pointers = np.cumsum([0, *map(len, orders)], dtype=np.int64)
        schedule_moves(
            current, chain, np.concatenate(orders), pointers, draws, odds, self.column, self.cut,
            self.choice, self.unit_of, self.wide, FINE, self.dsp, self.member_ptr, self.members,
            self.step, self.space.counts, out,
        )  # fmt: skip
        return out


def _groupings(kernels: Sequence[Gene]) -> tuple[I64, I64]:
    """Who moves with each kernel, as pointers of shape ``(3, kernels + 1)`` and members."""
    pointers = np.zeros((3, len(kernels) + 1), dtype=np.int64)
    members: list[int] = []
    for kind, names in (
        (ALONE, [gene.subject for gene in kernels]),
        (FAMILY, [family_of(gene.subject) for gene in kernels]),
        (LAYER, [gene.subject.partition(".")[0] for gene in kernels]),
    ):
        together: dict[str, list[int]] = {}
        for k, name in enumerate(names):
            together.setdefault(name, []).append(k)
        for k, name in enumerate(names):
            pointers[kind, k] = len(members)
            members += together[name]
        pointers[kind, len(kernels)] = len(members)
    return pointers, np.array(members, dtype=np.int64)


def moves_of(space: Space) -> Moves:
    """Return the tables of a space, remembered: a worker runs many shards in one space."""
    return _MOVES.get(space.sha256, lambda: Moves.of(space))


_MOVES: Memo[Moves] = Memo(4)
