"""Prediction intervals from held-out errors, without assuming their distribution.

Rows of one group (a network, a clock) share their error, so groups and not rows are exchangeable.
Each group weighs the same, its rows share that weight, and the interval is the
``level (1 + 1 / G)`` quantile of the pooled absolute log errors (Dunn, Wasserman and Ramdas,
*Distribution-free prediction sets for two-layer hierarchical models*, 2022, pooling of CDFs).
At 90 % that takes 9 groups; with fewer there is only the range that was seen.

The guarantee of that paper is for groups on which nothing was fitted. Errors here are of leaving
one group out at a time, so every group took part in the other fits: the level is then approximate,
and tests hold how often it is kept on drawn rows and on the committed ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cost_models.errors import CalibrationError
from cost_models.fitting.table import FloatArray

LEVEL = 0.9


@dataclass(frozen=True, slots=True)
class Interval:
    """Where a measurement lies: ``predicted * low .. predicted * high``.

    ``kind`` is ``conformal`` at ``level``, or ``range``: the central 90 % of what ``groups`` groups
    happened to show, which promises nothing.
    """

    kind: Literal["conformal", "range"]
    low: float
    high: float
    groups: int
    level: float | None


def groups_needed(level: float = LEVEL) -> int:
    """Return how many groups an interval of this level takes.

    >>> groups_needed(0.9)
    9
    """
    return ceil(round(level / (1 - level), 9))


def interval_of(
    groups: NDArray[np.str_], predicted: FloatArray, measured: FloatArray, level: float = LEVEL
) -> Interval:
    """Return the interval that held-out predictions of whole groups give.

    Rows without a prediction (NaN) do not count.

    Raises
    ------
    CalibrationError
        No row has one.
    """
    known = np.isfinite(predicted)
    if not known.any():
        raise CalibrationError(
            f"none of {len(known)} held-out rows has a prediction; measure more groups"
        )
    errors = np.log(measured[known] / predicted[known])
    names, inverse, sizes = np.unique(groups[known], return_inverse=True, return_counts=True)
    count = len(names)
    weights = 1.0 / (count * sizes[inverse])
    if count < groups_needed(level):
        order = np.argsort(errors, kind="stable")
        ends = np.searchsorted(np.cumsum(weights[order]), [(1 - level) / 2, (1 + level) / 2])
        low, high = (float(np.exp(errors[order[min(end, len(order) - 1)]])) for end in ends)
        return Interval("range", min(low, 1.0), max(high, 1.0), count, None)
    order = np.argsort(np.abs(errors), kind="stable")
    reached = np.cumsum(weights[order])
    wanted = level * (1 + 1 / count)
    index = min(int(np.searchsorted(reached, wanted - 1e-12)), len(order) - 1)
    factor = float(np.exp(np.abs(errors)[order[index]]))
    return Interval("conformal", 1 / factor, factor, count, level)
