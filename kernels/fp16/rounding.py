"""Compiled rounding to 16-bit formats, and the two ways of adding a product to a sum.

All of it computes in float64 and rounds once more, to ``p`` bits (11 or 8). That gives the bits of
one rounding of the exact result:

- Products of two values are exact in float64 (22 bits at most), and so is everything that both
  roundings keep.
- Unfused, the product is rounded to the format first. The sum of two values of the format, rounded
  to 53 bits and then to ``p``, is rounded right because ``53 >= 2 p + 2`` (Figueroa, "When is
  double rounding innocuous?", SIGNUM Newsletter 30(3), 1995).
- Fused, the exact ``a b + c`` can only be rounded wrong if 53 bits do not hold it and it lies next
  to the middle of two values. Where ``c`` is the larger part by so much, the result is near ``c``,
  which is a value and no middle. Where the product is, and it is a middle itself, float64 forgets
  on which side of it ``c`` lies: then the sum is moved by its last bit towards ``c``. Where
  the sum of float64 differs from the product it already lies on that side. In binary16 this cannot
  happen: a product that does not overflow is less than 2^40 times the least value, so 53 bits
  hold the sum.
"""

from __future__ import annotations

from math import copysign
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from kernels.arrays import Floats
from kernels.jit import compiled

Doubles = NDArray[np.float64]
_EXPONENT = 0x7FF0000000000000
"""Mask of a float64's exponent: what it leaves is the power of two at or below the size."""
_FINITE = 1e300
"""Above every product of two finite values of either format, below infinity."""


@njit(inline="always")
def rounded(x: float, widen: float, tiny: float, limit: float) -> Any:
    """Round a float64 to a format.

    Adding ``widen`` (1.5 x 2^lost bits) times the power of two below ``x`` leaves whole units of
    the format, and subtracting it gives them back; below ``tiny``, the least normal value, units
    stay what they are there. From ``limit`` on, the middle between the largest value and what would
    follow it, all is infinite.
    """
    power = np.int64(np.float64(x).view(np.int64) & _EXPONENT).view(np.float64)
    moved = (power if power > tiny else tiny) * widen
    value = copysign((x + moved) - moved, x)
    return value if abs(x) < limit else x * np.inf  # NaN stays NaN


@njit(inline="always")
def fused(a: float, b: float, c: float, widen: float, tiny: float, limit: float) -> Any:
    """``a b + c`` with one rounding."""
    product = a * b
    total = product + c
    bits = np.float64(total).view(np.int64)
    towards = 1 if (product < 0) == (c < 0) else -1
    moved = np.int64(bits + towards).view(np.float64)
    lost = (total == product) & (c != 0) & (abs(product) < _FINITE)
    return rounded(moved if lost else total, widen, tiny, limit)


@njit(inline="always")
def fused_binary16(a: float, b: float, c: float, widen: float, tiny: float, limit: float) -> Any:
    """:func:`fused` for binary16, where float64 never forgets ``c``."""
    return rounded(a * b + c, widen, tiny, limit)


@njit(inline="always")
def unfused(a: float, b: float, c: float, widen: float, tiny: float, limit: float) -> Any:
    """``a b`` rounded, then added to ``c`` and rounded again."""
    return rounded(c + rounded(a * b, widen, tiny, limit), widen, tiny, limit)


@compiled
def round_flat(x: Doubles, out: Floats, widen: float, tiny: float, limit: float) -> None:
    """Round every element of flat arrays."""
    for i in range(x.size):
        out[i] = rounded(x[i], widen, tiny, limit)


@compiled
def fused_flat(
    a: float, b: Doubles, c: Doubles, out: Floats, widen: float, tiny: float, limit: float
) -> None:
    """``a b + c`` of a scalar and two flat arrays, each with one rounding."""
    for i in range(b.size):
        out[i] = fused(a, b[i], c[i], widen, tiny, limit)
