"""Moves of what is computed: precisions, micro-batches and rescale rules.

They are few, since every new combination costs an evaluator some milliseconds, and so one move may
change a whole role or layer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from sim.encoding import Gene, Genes, Space

ROLES = ("input_grad", "weight_grad")
LONGEST_RUN = 8


@dataclass(frozen=True, slots=True, eq=False)
class FrameMoves:
    """Sets of frame genes that one move changes together, by the way they belong together."""

    space: Space
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
        return cls(space, tuple(sets))

    def propose(self, frame: Genes, draws: np.random.Generator) -> Genes:
        """Return a neighbour of a frame, shape ``(frame genes,)``; not the same one if it can."""
        out = frame.copy()
        for _ in range(8):
            way = self.sets[int(draws.integers(len(self.sets)))]
            chosen = way[int(draws.integers(len(way)))]
            if len(chosen) > LONGEST_RUN and draws.integers(2):
                first = int(draws.integers(len(chosen)))
                chosen = chosen[first : first + 2 + int(draws.integers(LONGEST_RUN - 1))]
            _set_alike(self.space.genes, out, chosen, int(draws.integers(2**31)))
            if not np.array_equal(out, frame):
                break
        return out


def _role(subject: str) -> str:
    return next((role for role in ROLES if subject.endswith(role)), "forward")


def _set_alike(genes: Sequence[Gene], frame: Genes, chosen: Sequence[int], draw: int) -> None:
    """Give all chosen genes the same choice, where they have it."""
    offered = genes[chosen[0]].choices
    choice = offered[draw % len(offered)]
    for k in chosen:
        if choice in genes[k].choices:
            frame[k] = genes[k].choices.index(choice)
