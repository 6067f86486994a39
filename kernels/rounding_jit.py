"""The rounding rules as compiled scalars, to be called inside other compiled kernels.

Same names and results as :mod:`kernels.rounding`; see there. Values are int64 (an int32 widens
exactly), ``shift`` is 0 to 62 and is not checked: whoever enters compiled code has checked it.
LLVM inlines and vectorises them. Widths are stated where Numba would choose: ``int32 + int32``
is an int64 to it. Importing this module imports Numba.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from kernels.jit import compiled

Int = int | np.integer[Any]
"""What a caller may hand over: compiled code sees an int32 or an int64."""


@compiled
def _below_half(shift: Int) -> np.int64:
    return ((np.int64(1) << np.int64(shift)) - np.int64(1)) >> np.int64(1)


@compiled
def _rest(x: Int, shift: Int) -> np.int64:
    return np.int64(x) & ((np.int64(1) << np.int64(shift)) - np.int64(1))


@compiled
def trunc(x: Int, shift: Int) -> np.int64:
    """Shift toward zero."""
    floor = np.int64(x) >> np.int64(shift)
    return floor + np.int64((x < 0) and _rest(x, shift) > 0)


@compiled
def half_up(x: Int, shift: Int) -> np.int64:
    """Nearest; ties toward +infinity."""
    return (np.int64(x) >> np.int64(shift)) + np.int64(_rest(x, shift) > _below_half(shift))


@compiled
def half_away(x: Int, shift: Int) -> np.int64:
    """Nearest; ties away from zero."""
    floor = np.int64(x) >> np.int64(shift)
    return floor + np.int64(_rest(x, shift) > _below_half(shift) + np.int64(x < 0))


@compiled
def half_even(x: Int, shift: Int) -> np.int64:
    """Nearest; ties to the even neighbour."""
    floor = np.int64(x) >> np.int64(shift)
    even = np.int64(1) - (floor & np.int64(1))
    return floor + np.int64(_rest(x, shift) > _below_half(shift) + even)


@compiled
def _low_bits_of_magnitude(x: Int, shift: Int) -> np.int64:
    rest = _rest(x, shift)
    if x < 0 and rest > 0:
        return (np.int64(1) << np.int64(shift)) - rest
    return rest


@compiled
def stochastic(x: Int, shift: Int, draw: Int) -> np.int64:
    """NITI's ``StoShift``: ``draw`` is uniform over ``0 .. 2^shift - 1``."""
    up = np.int64(_low_bits_of_magnitude(x, shift) > draw)
    return trunc(x, shift) + (-up if x < 0 else up)


@compiled
def psto(x: Int, shift: Int) -> np.int64:
    """NITI's ``PstoShift``."""
    rest = _low_bits_of_magnitude(x, shift)
    low_bits = np.int64(shift) >> np.int64(1)
    upper = rest >> low_bits
    lower = _rest(rest, low_bits) << (np.int64(shift) & np.int64(1))
    up = np.int64(upper > lower)
    return trunc(x, shift) + (-up if x < 0 else up)


@compiled
def doubling_high_mul(a: Int, b: Int) -> np.int64:
    """Gemmlowp's ``SaturatingRoundingDoublingHighMul`` of two int32 values."""
    product = np.int64(a) * np.int64(b)
    nudge = np.int64(1) << np.int64(30)
    nudged = product + (nudge if product >= 0 else np.int64(1) - nudge)
    high, largest = trunc(nudged, 31), np.int64(2147483647)
    return high if high < largest else largest


@compiled
def hexagon_requantise(x: Int, shift: Int) -> np.int64:
    """hexagon_nn's INT32 to INT8, in -128 .. 127."""
    value, least, largest = half_up(x, shift), np.int64(-128), np.int64(127)
    if value < least:
        return least
    return value if value < largest else largest
