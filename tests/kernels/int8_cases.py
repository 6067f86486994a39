"""Drawn cases for the INT8 kernels without a GEMM, and the oracles that several of them share."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from conv_cases import extremes, small

from kernels.int8.epilogue import recipe, requantise_block
from kernels.int8.rescale import requantise
from kernels.int8.stored import Store
from kernels.profiles import DROPPED, RescaleRule, Small
from kernels.rounding import HEXAGON_CLIP, NITI_CLIP, Rounding, ceil_log2, shift_right

CASES, ACCEPT_CASES = 150, 10_000
RULES = [rule for rule in Rounding if rule is not Rounding.STOCHASTIC]
CLIPS = [NITI_CLIP, HEXAGON_CLIP, (-1, 5)]
Check = Callable[[np.random.Generator], None]


def compare(check: Check, cases: int, seed: int) -> int:
    """Check ``cases`` drawn cases; return how many were. A case that fails says which it was."""
    compared = 0
    for number in range(cases):
        try:
            check(np.random.default_rng([seed, number]))
        except Exception as error:
            error.add_note(f"case {number}: numpy.random.default_rng([{seed}, {number}])")
            raise
        compared += 1
    return compared


def threads_of(rng: np.random.Generator) -> int:
    return int(rng.integers(1, 4))


def size_of(rng: np.random.Generator, most: int = 400, chunk: int = 0) -> int:
    """1 to ``most``, small ones more often; now and then around one or two ``chunk``."""
    if chunk and rng.integers(32) == 0:
        return int(rng.integers(1, 3)) * chunk + int(rng.integers(-3, 4))
    return small(rng, most)


def shape_of(rng: np.random.Generator, most: int = 12) -> tuple[int, ...]:
    """One to four odd sizes."""
    return tuple(small(rng, most) for _ in range(rng.integers(1, 5)))


def int8s(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Full-range int8, nothing but the extremes, or few small values: many ties and zeros."""
    kind = rng.integers(4)
    if kind == 0:
        return rng.integers(-2, 3, shape).astype(np.int8)
    return (extremes(rng, shape) >> (rng.integers(0, 8) if kind == 1 else 0)).astype(np.int8)


def out_of(rng: np.random.Generator, shape: tuple[int, ...], dtype: type) -> np.ndarray | None:
    """Nothing, or an array of other values to write to."""
    return np.full(shape, 77, dtype) if rng.integers(2) else None


def accumulators(seed: int | np.random.Generator, size: int, dtype: type) -> np.ndarray:
    """Every magnitude alike likely, with the ends of the range and ties in front."""
    rng = np.random.default_rng(seed)
    info = np.iinfo(dtype)
    x = rng.integers(info.min, info.max, size, dtype, endpoint=True)
    x >>= rng.integers(0, info.bits - 1, size).astype(dtype)
    ends = [info.min, info.max, 0, 1, -1, 6, -6, 128, -128, 4096, -4096][:size]
    x[: len(ends)] = ends
    return x


def bounded(rng: np.random.Generator, size: int, amax: int, dtype: type) -> np.ndarray:
    """Accumulators whose largest magnitude is ``amax``, or 0 to 2 less."""
    least, most = max(-amax, np.iinfo(dtype).min), min(amax, np.iinfo(dtype).max)
    x = rng.integers(least, most, size, dtype, endpoint=True)
    x >>= rng.integers(0, max(amax.bit_length(), 1), size).astype(dtype)
    x[rng.integers(size)] = rng.choice(np.array([least, most], dtype))
    return x


def magnitude(acc: np.ndarray) -> int:
    return max(int(acc.max()), -int(acc.min()))


def requantised(acc: np.ndarray, store: Store) -> tuple[np.ndarray, int, int]:
    """The values, how many the clip changed, and how many became 0."""
    if store.shift >= 0:
        exact = shift_right(acc, store.shift, store.rounding)
    else:
        exact = np.clip(acc, -(2**31), 2**31).astype(np.int64) << -store.shift
    clipped = np.clip(exact, *store.clip)
    return clipped, int((clipped != exact).sum()), int(((exact == 0) & (acc != 0)).sum())


def compiled_loops(
    x: np.ndarray, shift: int, rule: Rounding, clip: tuple[int, int]
) -> list[np.ndarray]:
    """INT8 by the loops that kernels run: on accumulators in memory, and as they leave a product.

    Accumulators of int64 leave no product.
    """
    store = Store(shift, rule, clip)
    found = [requantise(x, store).values]
    if x.dtype == np.int32:
        found.append(np.empty(x.size, np.int8))
        requantise_block(x, x.size, recipe(store), found[-1])
    return found


def shift_in_words(amax: int, rule: RescaleRule) -> int:
    """The shift of a rule, as ``act_calc`` and ``grad_calc`` of NITI are written."""
    if rule.drop_unit and amax in (0, 1):
        return DROPPED
    shift = ceil_log2(amax) - rule.bits
    if shift > 1:
        return shift
    if shift == 1:
        return rule.one_becomes
    return shift if rule.small is Small.SCALE_UP and amax else 0


def rescaled(
    acc: np.ndarray, rule: RescaleRule, shift: int | None = None
) -> tuple[np.ndarray, int, int, int, int]:
    """Values, shift, what the exponent grows by, values saturated, values lost."""
    amax = magnitude(acc)
    if shift is None:
        shift = shift_in_words(amax, rule)
    if shift == 0 and rule.small is Small.CAST:
        values = (acc.astype(np.int64) + 128) % 256 - 128
        return values, 0, 0, int((values != acc).sum()), 0
    values, saturated, lost = requantised(acc, Store(shift, rule.rounding, rule.clip))
    dropped = shift == DROPPED and not values.any()
    return values, shift, 0 if dropped else shift, saturated, lost
