"""What leaves a product: compiled loops from INT32 accumulators to INT8, with their counts.

Two loops hold all rounding rules, so that each is one branchless formula in 32 bits that LLVM
vectorises. On magnitudes, the dropped bits of ``|x|`` are cut in two and compared, as NITI's psto
does; with nothing below the cut that is half_away (cut below the highest bit) or trunc (above it).
On two's complement, the dropped bits are compared with a half, where half_even first adds the
parity of the floor. The rules are those of :mod:`kernels.rounding`, which is the oracle.

Widths are stated everywhere: Numba types ``int32 + int32`` as int64.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kernels.int8.shifts import shl_unsigned, shr_signed, shr_unsigned
from kernels.int8.stored import Store
from kernels.jit import compiled
from kernels.rounding import Rounding

Int8s = NDArray[np.int8]
Int32s = NDArray[np.int32]
Recipe = tuple[int, int, int, int, int, int, int]
"""Loop, shift, three numbers of the loop, least and largest value: a Store for compiled code."""
Counts = tuple[int, int, int]
"""Largest accumulator, saturated and lost values."""
_AS_IS, _MAGNITUDE, _FLOOR, _LEFT = range(4)
_ENOUGH_LEFT = 8
"""A left shift that saturates every value but 0; a longer one does nothing else."""


def recipe(store: Store | None) -> Recipe:
    """The numbers of ``store`` for :func:`requantise_block`; loop 0 without one."""
    if store is None:
        return _AS_IS, 0, 0, 0, 0, 0, 0
    shift = store.shift
    if shift <= 0:
        return _LEFT, min(-shift, _ENOUGH_LEFT), 0, 0, 0, *store.clip
    half, low_bits = 1 << shift - 1, shift // 2
    loop, first, second, third = {
        Rounding.TRUNC: (_MAGNITUDE, shift, 0, 0),
        Rounding.HALF_AWAY: (_MAGNITUDE, shift - 1, 0, 0),
        Rounding.PSTO: (_MAGNITUDE, low_bits, (1 << low_bits) - 1, shift % 2),
        Rounding.HALF_UP: (_FLOOR, 0, half - 1, 0),
        Rounding.HALF_EVEN: (_FLOOR, 1, half, 0),
    }[store.rounding]
    return loop, shift, first, second, third, *store.clip


def combined(found: list[Counts]) -> Counts:
    """Largest accumulator, saturated and lost of all parts."""
    return (
        max((counts[0] for counts in found), default=0),
        sum(counts[1] for counts in found),
        sum(counts[2] for counts in found),
    )


@compiled
def _magnitude(x: np.int32) -> np.uint32:
    """``|x|``, 2^31 for -2^31."""
    return np.uint32(x) if x >= 0 else np.uint32(np.uint32(0) - np.uint32(x))


@compiled
def amax_block(values: Int32s, count: int) -> np.int64:
    """Largest magnitude of the first ``count`` values."""
    largest = np.uint32(0)
    for i in range(count):
        largest = max(largest, _magnitude(values[i]))
    return np.int64(largest)


@compiled
def _by_magnitude(
    values: Int32s, count: int, recipe: Recipe, out: Int8s
) -> tuple[np.int64, np.int64]:
    """``|x| >> shift``, one more where the upper dropped bits exceed the lower ones."""
    shift, cut = np.uint32(recipe[1]), np.uint32(recipe[2])
    dropped = np.uint32((np.uint32(1) << shift) - np.uint32(1))
    below, double = np.uint32(recipe[3]), np.uint32(recipe[4])
    low, high = np.int32(recipe[5]), np.int32(recipe[6])
    saturated, lost = np.int32(0), np.int32(0)
    for i in range(count):
        x = values[i]
        magnitude = _magnitude(x)
        rest = np.uint32(magnitude & dropped)
        up = shr_unsigned(rest, cut) > shl_unsigned(np.uint32(rest & below), double)
        kept = np.int32(np.uint32(shr_unsigned(magnitude, shift) + np.uint32(up)))
        rounded = kept if x >= 0 else np.int32(-kept)
        clipped = min(max(rounded, low), high)
        saturated = np.int32(saturated + np.int32(clipped != rounded))
        lost = np.int32(lost + np.int32((rounded == 0) & (x != 0)))
        out[i] = np.int8(clipped)
    return np.int64(saturated), np.int64(lost)


@compiled
def _by_floor(values: Int32s, count: int, recipe: Recipe, out: Int8s) -> tuple[np.int64, np.int64]:
    """``x >> shift``, one more where the dropped bits, plus parity if asked, exceed a limit."""
    shift = np.uint32(recipe[1])
    dropped = np.uint32((np.uint32(1) << shift) - np.uint32(1))
    parity, limit = np.uint32(recipe[2]), np.uint32(recipe[3])
    low, high = np.int32(recipe[5]), np.int32(recipe[6])
    saturated, lost = np.int32(0), np.int32(0)
    for i in range(count):
        x = values[i]
        floor = shr_signed(x, shift)
        rest = np.uint32(np.uint32(x) & dropped)
        up = np.uint32(rest + np.uint32(np.uint32(floor) & parity)) > limit
        rounded = np.int32(floor + np.int32(up))
        clipped = min(max(rounded, low), high)
        saturated = np.int32(saturated + np.int32(clipped != rounded))
        lost = np.int32(lost + np.int32((rounded == 0) & (x != 0)))
        out[i] = np.int8(clipped)
    return np.int64(saturated), np.int64(lost)


@compiled
def _to_the_left(values: Int32s, count: int, recipe: Recipe, out: Int8s) -> np.int64:
    """``x << shift``; beyond 1024 a value stays beyond every clip, and is clipped first."""
    shift = np.uint32(recipe[1])
    low, high = np.int32(recipe[5]), np.int32(recipe[6])
    saturated = np.int32(0)
    for i in range(count):
        near = min(max(values[i], np.int32(-1024)), np.int32(1024))
        shifted = np.int32(shl_unsigned(np.uint32(near), shift))
        clipped = min(max(shifted, low), high)
        saturated = np.int32(saturated + np.int32(clipped != shifted))
        out[i] = np.int8(clipped)
    return np.int64(saturated)


@compiled
def requantise_block(
    values: Int32s, count: int, recipe: Recipe, out: Int8s
) -> tuple[np.int64, np.int64]:
    """Store the first ``count`` values (below 2^31) as int8; how many were clipped, and lost."""
    if recipe[0] == _MAGNITUDE:
        return _by_magnitude(values, count, recipe, out)
    if recipe[0] == _FLOOR:
        return _by_floor(values, count, recipe, out)
    return _to_the_left(values, count, recipe, out), np.int64(0)
