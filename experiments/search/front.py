"""Fronts: the plans that no other one beats in every objective, whichever order they came in."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray

from experiments.search.objectives import COLUMNS, SearchError, Values, places
from experiments.values import short, whole
from sim.encoding import Genes

LARGEST_VALUE = 2**63 - 1
LARGEST_CHOICE = 2**15 - 1


@dataclass(frozen=True, slots=True, order=True)
class Found:
    """A plan that a search found.

    Attributes
    ----------
    values
        All measures by the expected step, in the order of
        :data:`~experiments.search.objectives.COLUMNS`, whatever the objectives are.
    genes
        The encoded plan.
    """

    values: tuple[int, ...]
    genes: tuple[int, ...]

    @classmethod
    def of(cls, row: Genes, values: Values) -> Found:
        """Build from arrays of shapes ``(genes,)`` and ``(measures,)``."""
        return cls(tuple(values.tolist()), tuple(row.tolist()))

    @property
    def row(self) -> Genes:
        """The encoded plan as an array."""
        return np.array(self.genes, dtype=np.int16)

    def to_json(self) -> dict[str, Any]:
        """Return measures by column, and genes."""
        return {**dict(zip(COLUMNS, self.values, strict=True)), "genes": list(self.genes)}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Found:
        """Read what :meth:`to_json` gives.

        Raises
        ------
        SearchError
            A part is missing or is no list of whole numbers.
        """
        values = tuple(whole(document.get(c), 0, LARGEST_VALUE) for c in COLUMNS)
        genes = document.get("genes")
        listed = genes if isinstance(genes, list) else [None]
        choices = tuple(whole(g, 0, LARGEST_CHOICE) for g in listed)
        if None in values or None in choices:
            raise SearchError(
                f"a plan found is {short(dict(document))}; give whole numbers for "
                f"{', '.join(COLUMNS)} and a list of them for genes"
            )
        return cls(
            tuple(v for v in values if v is not None), tuple(c for c in choices if c is not None)
        )


def merge(objectives: Sequence[str], *fronts: Iterable[Found]) -> tuple[Found, ...]:
    """Return the plans of all fronts that none of the others dominates, sorted by objectives.

    A plan dominates another if it is nowhere worse in ``objectives`` and somewhere better. Of plans
    equal in all objectives the smallest in the other measures, then in genes, stays. So the
    result depends on the set of plans alone: merging is associative and commutative.

    Examples
    --------
    >>> slow, quick = Found((9, 1, 0, 0), (0,)), Found((3, 2, 0, 0), (1,))
    >>> merge(["time", "energy"], [slow], [quick, Found((9, 2, 0, 0), (2,))]) == (quick, slow)
    True
    >>> merge(["time"], [slow], [quick]) == (quick,)
    True
    """
    columns = places(objectives)

    def key(found: Found) -> tuple[int, ...]:
        return tuple(found.values[c] for c in columns)

    plans = sorted({found for front in fronts for found in front}, key=lambda f: (key(f), f))
    unique = [next(equals) for _, equals in groupby(plans, key)]
    values = np.array([key(f) for f in unique], dtype=np.int64).reshape(len(unique), len(columns))
    return tuple(unique[k] for k in np.flatnonzero(undominated(values)))


def undominated(values: Values) -> NDArray[np.bool_]:
    """Return which rows no other row dominates, shape ``(plans,)``; equal rows keep each other."""
    kept = np.ones(len(values), dtype=np.bool_)
    for k, row in enumerate(values):
        if kept[k]:
            kept &= ~((row <= values).all(axis=1) & (row < values).any(axis=1))
    return kept


def front_sha256(front: Iterable[Found]) -> str:
    """Return the digest of a front: equal for equal plans with equal values."""
    digest = hashlib.sha256()
    for found in front:
        digest.update(repr((found.values, found.genes)).encode() + b"\0")
    return digest.hexdigest()
