"""Moves of what is computed: precisions, micro-batches and rescale rules.

They are few, since every new combination costs an evaluator some milliseconds, and so one move may
change a whole role or layer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from experiments.search.pricing import RulePrices
from sim.encoding import Gene, Genes, Space

ROLES = ("input_grad", "weight_grad")
LONGEST_RUN = 8
TRIES = 8
REPRICED = 3
"""One move in so many chooses all rescale rules anew, at a price of risk."""
RISK_SHARES = (0.3, 1.1)
"""Range of the risk that it aims at, beside that of the plan at hand."""


@dataclass(frozen=True, slots=True, eq=False)
class FrameMoves:
    """Sets of frame genes that one move changes together, by the way they belong together."""

    space: Space
    prices: RulePrices
    sets: tuple[tuple[tuple[int, ...], ...], ...]

    @classmethod
    def of(cls, space: Space) -> FrameMoves:
        """Collect single genes, runs of neighbours, layers, roles, and whole aspects."""
        genes = space.genes[: space.frame_genes]
        ways: list[Callable[[Gene], object]] = [
            lambda g: g.key,
            lambda g: (g.aspect, g.subject.partition(".")[0]),
            lambda g: (g.aspect, _role(g.subject)),
            lambda g: g.aspect,
        ]
        sets = []
        for way in ways:
            together: dict[object, list[int]] = {}
            for k, gene in enumerate(genes):
                together.setdefault(way(gene), []).append(k)
            sets.append(tuple(map(tuple, together.values())))
        return cls(space, RulePrices.of(space), tuple(sets))

    def propose(self, row: Genes, draws: np.random.Generator) -> Genes:
        """Return a neighbour of a plan, shape ``(genes,)``, with another frame if it can.

        What newly computes in FP32 may go to another unit at once: the one that it was on may
        have no kernel for it.
        """
        out = row.copy()
        frame = self.space.frame_genes
        if draws.integers(REPRICED) == 0 and self.prices.places():
            low, high = RISK_SHARES
            share = low + (high - low) * float(draws.random())
            return self.prices.proposed(row, share * float(self.prices.risk.of(row[None])[0]))
        for _ in range(TRIES):
            way = self.sets[int(draws.integers(len(self.sets)))]
            chosen = way[int(draws.integers(len(way)))]
            if len(chosen) > LONGEST_RUN and draws.integers(2):
                first = int(draws.integers(len(chosen)))
                chosen = chosen[first : first + 2 + int(draws.integers(LONGEST_RUN - 1))]
            _set_alike(self.space.genes, out, chosen, int(draws.integers(2**31)))
            if self.space.genes[chosen[0]].aspect == "precision" and draws.integers(2):
                layers = {self.space.genes[k].subject for k in chosen}
                self._place(out, layers, int(draws.integers(2**31)))
            if not np.array_equal(out[:frame], row[:frame]):
                break
        return out

    def _place(self, row: Genes, layers: set[str], draw: int) -> None:
        """Put all kernels of some layers on the widest unit of one pool."""
        places = [
            (k, g)
            for k, g in enumerate(self.space.genes)
            if g.aspect == "placement" and g.subject.partition(".")[0] in layers
        ]
        pools = list(dict.fromkeys(u.partition(":")[0] for _, g in places for u in g.choices))
        for k, gene in places:
            pool = pools[draw % len(pools)]
            widest = [c for c, u in enumerate(gene.choices) if u.partition(":")[0] == pool]
            if widest:
                row[k] = widest[0]


def _role(subject: str) -> str:
    return next((role for role in ROLES if subject.endswith(role)), "forward")


def _set_alike(genes: Sequence[Gene], frame: Genes, chosen: Sequence[int], draw: int) -> None:
    """Give all chosen genes the same choice, where they have it."""
    offered = genes[chosen[0]].choices
    choice = offered[draw % len(offered)]
    for k in chosen:
        if choice in genes[k].choices:
            frame[k] = genes[k].choices.index(choice)
