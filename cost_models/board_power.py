"""Power of a whole board against the clock of its busy cores, fitted to a published sweep.

``P = a + b f + c f^3``: what is always on, what switches at a fixed voltage, and what switches
while the voltage rises with the clock. The table ``measured/exynos5422_power.csv`` has the wall
power of a board with four busy Cortex-A15 at 16 clocks.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

import numpy as np

from cost_models.errors import DescriptionError

TABLE: Final = Path(__file__).parent / "measured" / "exynos5422_power.csv"
TERMS: Final = (0, 1, 3)
"""Powers of the clock, in GHz."""


class BoardPowerError(DescriptionError):
    """A sweep cannot be fitted; the message says what it lacks."""


@dataclass(frozen=True, slots=True)
class PowerPoint:
    """Wall power (mW) of a board with all big cores busy at a clock (MHz)."""

    mhz: int
    board_mw: int


@dataclass(frozen=True, slots=True)
class BoardPower:
    """``a + b f + c f^3`` in watts, ``f`` in GHz.

    Examples
    --------
    >>> round(BoardPower(4.9, 0.6, 0.77).watts(2000), 2)
    12.26
    """

    a: float
    b: float
    c: float

    def watts(self, mhz: float) -> float:
        """Power at a clock, W."""
        ghz = mhz / 1000
        return self.a + self.b * ghz + self.c * ghz**3


def fit_board_power(points: Sequence[PowerPoint]) -> BoardPower:
    """Least squares over a sweep.

    Raises
    ------
    BoardPowerError
        Fewer than four clocks: three coefficients would meet three exactly.
    """
    if len({point.mhz for point in points}) < len(TERMS) + 1:
        raise BoardPowerError(
            f"sweep has {len({point.mhz for point in points})} clocks; a fit of {len(TERMS)} "
            f"coefficients needs {len(TERMS) + 1} or more: add points"
        )
    ghz = np.array([point.mhz for point in points]) / 1000
    columns = np.stack([ghz**power for power in TERMS], axis=1)
    watts = np.array([point.board_mw for point in points]) / 1000
    a, b, c = (float(value) for value in np.linalg.lstsq(columns, watts, rcond=None)[0])
    return BoardPower(a, b, c)


def left_out(points: Sequence[PowerPoint]) -> tuple[float, ...]:
    """Power of each point in W as predicted by a fit to all others; errors as the fit's."""
    fits = (fit_board_power([*points[:k], *points[k + 1 :]]) for k in range(len(points)))
    return tuple(fit.watts(point.mhz) for fit, point in zip(fits, points, strict=True))


@cache
def published_sweep() -> tuple[PowerPoint, ...]:
    """The published sweep of an Exynos 5422 board, by rising clock."""
    with TABLE.open(encoding="utf-8", newline="") as file:
        rows = [PowerPoint(int(row["mhz"]), int(row["board_mw"])) for row in csv.DictReader(file)]
    return tuple(sorted(rows, key=lambda point: point.mhz))
