"""The plans that a shard keeps as its finalists."""

from __future__ import annotations

import numpy as np

from experiments.search.front import undominated
from experiments.search.objectives import Values
from sim.encoding import Genes


class Archive:
    """Keeps the best plans told to it: few, different, and whichever order they come in.

    With one objective these are the least; with several, plans that no other one dominates, spread
    over the front.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._rows: Genes | None = None
        self._values: Values | None = None

    def add(self, batch: Genes, values: Values) -> None:
        """Take note of plans; both arrays are copied."""
        rows = batch if self._rows is None else np.concatenate([self._rows, batch])
        both = values if self._values is None else np.concatenate([self._values, values])
        kept = self._least(rows, both) if both.shape[1] == 1 else self._spread(both)
        self._rows, self._values = rows[kept], both[kept]

    def rows(self) -> Genes:
        """Return the plans that are kept, shape ``(plans, genes)``."""
        assert self._rows is not None
        return self._rows

    def _least(self, rows: Genes, values: Values) -> list[int]:
        kept: dict[bytes, int] = {}
        for k in np.argsort(values[:, 0], kind="stable"):
            kept.setdefault(rows[k].tobytes(), int(k))
            if len(kept) == self.size:
                break
        return list(kept.values())

    def _spread(self, values: Values) -> list[int]:
        """Of the undominated, one per distinct values; the most crowded go while too many."""
        _, first = np.unique(values, axis=0, return_index=True)
        front = np.sort(first)
        front = front[undominated(values[front])]
        while len(front) > self.size:
            front = np.delete(front, int(np.argmin(_distances(values[front]))))
        return [int(k) for k in front]


def _distances(values: Values) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Crowding distance of each row (Deb et al. 2002, NSGA-II): infinite at the ends."""
    found = np.zeros(len(values))
    for column in values.T.astype(np.float64):
        order = np.argsort(column, kind="stable")
        spread = max(column[order[-1]] - column[order[0]], 1.0)
        found[order[[0, -1]]] = np.inf
        found[order[1:-1]] += (column[order[2:]] - column[order[:-2]]) / spread
    return found
