"""The compiled loops of :mod:`kernels.int8.rescale`, and the numbers they run by.

The loops use the accumulator's width only: magnitudes are unsigned, where ``2^31`` (``2^63``)
fits, or values are cut where the clip changes them anyway. The plain twin is
:mod:`kernels.rounding`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from kernels.arrays import Array
from kernels.int8.draws import draw
from kernels.int8.stored import Store
from kernels.jit import compiled
from kernels.rounding import Rounding

_BEYOND = 1 << 8
"""A magnitude that no INT8 clip keeps: larger ones may be replaced by it."""
_CUT = 130
"""A shifted magnitude that every clip changes, whatever the rounding adds to it."""
_NEAREST, _FLOOR, _PSTO = range(3)
_FLOOR_SHIFTS = {4: 23, 8: 31}
"""Largest shift, by bytes of an accumulator, for which ``130 * 2^shift`` leaves room to round."""
_Number = int | np.integer[Any]
Counts = tuple[_Number, _Number, _Number]
"""Largest magnitude, values saturated, values lost."""


@compiled
def amax_of(x: Array, zero: Array) -> Any:
    """Largest magnitude; ``zero`` is an array of the unsigned type of the same width."""
    unsigned, signed = zero.dtype.type, x.dtype.type
    bits = signed(8 * x.itemsize - 1)
    largest = unsigned(0)
    for i in range(x.size):
        sign = signed(x[i] >> bits)
        largest = max(largest, unsigned(unsigned(x[i] ^ sign) - unsigned(sign)))
    return largest


@compiled
def _floor(x: Array, y: NDArray[np.int8], plan: Array, low: _Number, high: _Number) -> Counts:
    """Right shift of values cut to ``plan[0]``, what comes out being clipped in any case.

    Signed, so without the detour by magnitudes: twice as fast as :func:`_nearest`. ``plan`` is
    (cut, right shift, what is added to values from 0 on, to values below 0).
    """
    unsigned, signed = plan.dtype.type, x.dtype.type
    cut, right, above, below = (
        signed(plan[0]),
        signed(plan[1]),
        signed(plan[2]),
        signed(plan[3]),
    )
    low, high = signed(low), signed(high)
    most = least = signed(0)
    saturated = lost = unsigned(0)
    for i in range(x.size):
        most, least = max(most, x[i]), min(least, x[i])
        kept = signed(min(max(x[i], signed(-cut)), cut))
        value = signed(signed(kept + (below if kept < 0 else above)) >> right)
        clipped = signed(min(max(value, low), high))
        saturated = unsigned(saturated + unsigned(clipped != value))
        lost = unsigned(lost + unsigned((value == 0) & (x[i] != 0)))
        y[i] = np.int8(clipped)
    return max(unsigned(most), unsigned(unsigned(0) - unsigned(least))), saturated, lost


@compiled
def _nearest(x: Array, y: NDArray[np.int8], plan: Array, low: _Number, high: _Number) -> Counts:
    """Any shift: something below one unit is added before the bits of the magnitude drop.

    ``plan`` is (cap, right shift, what is added, 1 where the last bit kept is added too, left
    shift, what is added to values below 0).
    """
    unsigned, signed = plan.dtype.type, x.dtype.type
    bits = signed(8 * x.itemsize - 1)
    cap, right, above, even, left, below = plan
    largest = unsigned(0)
    saturated = lost = unsigned(0)
    for i in range(x.size):
        sign = signed(x[i] >> bits)
        magnitude = unsigned(unsigned(x[i] ^ sign) - unsigned(sign))
        largest = max(largest, magnitude)
        kept = min(magnitude, cap)
        nudge = unsigned((below if sign else above) + unsigned((kept >> right) & even))
        shifted = unsigned(unsigned(kept + nudge) >> right) << left
        short = np.int32(unsigned(min(unsigned(shifted), unsigned(_BEYOND))))
        value = np.int32(np.int32(short ^ np.int32(sign)) - np.int32(sign))
        clipped = min(max(value, low), high)
        saturated = unsigned(saturated + unsigned(clipped != value))
        lost = unsigned(lost + unsigned((value == 0) & (magnitude != 0)))
        y[i] = np.int8(clipped)
    return largest, saturated, lost


@compiled
def _psto(x: Array, y: NDArray[np.int8], plan: Array, low: _Number, high: _Number) -> Counts:
    """NITI's ``PstoShift`` by 1 bit or more; ``plan[1]`` is the shift."""
    unsigned, signed = plan.dtype.type, x.dtype.type
    low, high = signed(low), signed(high)
    right = plan[1]
    half = unsigned(right >> unsigned(1))
    odd = unsigned(right & unsigned(1))
    rest_mask = unsigned(unsigned(unsigned(1) << right) - unsigned(1))
    low_mask = unsigned(unsigned(unsigned(1) << half) - unsigned(1))
    largest = unsigned(0)
    saturated = lost = unsigned(0)
    for i in range(x.size):
        bits = unsigned(x[i])
        magnitude = bits if x[i] >= 0 else unsigned(unsigned(0) - bits)
        largest = max(largest, magnitude)
        rest = unsigned(magnitude & rest_mask)
        draws = unsigned(unsigned(rest & low_mask) << odd)
        up = unsigned(unsigned(rest >> half) > draws)
        shifted = signed(unsigned(unsigned(magnitude >> right) + up))
        value = shifted if x[i] >= 0 else signed(-shifted)
        clipped = signed(min(max(value, low), high))
        saturated = unsigned(saturated + unsigned(clipped != value))
        lost = unsigned(lost + unsigned((value == 0) & (magnitude != 0)))
        y[i] = np.int8(clipped)
    return largest, saturated, lost


@compiled
def shift_block(
    loop: int, x: Array, y: NDArray[np.int8], plan: Array, low: _Number, high: _Number
) -> Counts:
    """Requantise ``x`` to ``y`` by what :func:`plan_of` made of a store."""
    if loop == _FLOOR:
        return _floor(x, y, plan, low, high)
    if loop == _PSTO:
        return _psto(x, y, plan, low, high)
    return _nearest(x, y, plan, low, high)


@compiled
def stochastic_block(
    x: Array,
    y: NDArray[np.int8],
    first: int,
    key: np.uint64,
    shift: int,
    low: _Number,
    high: _Number,
) -> Counts:
    """NITI's ``StoShift`` by 1 bit or more; ``first`` is the number of ``x[0]`` in the tensor."""
    one, right = np.uint64(1), np.uint64(shift)
    drawn = np.uint64(64 - shift)
    mask = np.uint64((one << right) - one)
    largest = saturated = lost = np.uint64(0)
    for i in range(x.size):
        sign = np.int64(x[i]) >> np.int64(63)
        magnitude = np.uint64(np.int64(x[i]) ^ sign) - np.uint64(sign)
        largest = max(largest, magnitude)
        up = np.uint64((magnitude & mask) > (draw(key, first + i) >> drawn))
        short = np.int64(np.uint64(min(np.uint64((magnitude >> right) + up), np.uint64(_BEYOND))))
        value = (short ^ sign) - sign
        clipped = min(max(value, low), high)
        saturated += np.uint64(clipped != value)
        lost += np.uint64((value == 0) & (magnitude != 0))
        y[i] = np.int8(clipped)
    return largest, saturated, lost


def plan_of(store: Store, dtype: np.dtype[Any]) -> tuple[int, Array]:
    """The loop for :func:`shift_block` and its numbers, of the accumulators' width."""
    unsigned = dtype.name.replace("int", "uint")
    shift, rule = store.shift, store.rounding
    if rule is Rounding.PSTO and shift > 0:
        return _PSTO, np.array([0, shift], unsigned)
    half = 1 << max(shift, 0) >> 1
    below_half = max(half - 1, 0)
    if rule is not Rounding.HALF_EVEN and 0 < shift <= _FLOOR_SHIFTS[dtype.itemsize]:
        above, below = {
            Rounding.TRUNC: (0, 2 * half - 1),
            Rounding.HALF_AWAY: (half, below_half),
            Rounding.HALF_UP: (half, half),
        }[rule]
        return _FLOOR, np.array([_CUT << shift, shift, above, below], unsigned)
    above, below, even = {
        Rounding.TRUNC: (0, 0, 0),
        Rounding.HALF_AWAY: (half, half, 0),
        Rounding.HALF_UP: (half, below_half, 0),
        Rounding.HALF_EVEN: (below_half, below_half, int(shift > 0)),
        Rounding.PSTO: (0, 0, 0),
    }[rule]
    cap = _BEYOND if shift < 0 else 2 ** (8 * dtype.itemsize - 1)
    left = min(-shift, 8) if shift < 0 else 0
    return _NEAREST, np.array([cap, max(shift, 0), above, even, left, below], unsigned)
