"""Logarithms, clips, and the fixed-point multiplies of gemmlowp, ruy and hexagon_nn."""

from __future__ import annotations

from fractions import Fraction
from math import floor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from int8_cases import compiled_loops

import kernels.rounding as fast
import kernels.rounding_oracle as oracle
from kernels.rounding import Rounding, RoundingError

INT32 = np.iinfo(np.int32)
quick = settings(max_examples=200, derandomize=True, deadline=None)
int32s = st.integers(INT32.min, INT32.max) | st.sampled_from(
    [INT32.min, INT32.min + 1, -1, 0, 1, INT32.max]
)
multipliers = st.integers(0, INT32.max) | st.sampled_from([2**30, INT32.max])


def array(*values: int) -> np.ndarray:
    return np.array(values, np.int32)


def test_ceil_log2_is_exact_around_every_power_of_two() -> None:
    assert [fast.ceil_log2(n) for n in (-3, 0, 1, 2, 3, 4, 5)] == [0, 0, 0, 1, 2, 2, 3]
    for k in range(2, 64):
        assert [fast.ceil_log2(2**k + d) for d in (-1, 0, 1)] == [k, k, k + 1]


def test_the_float32_logarithm_is_not_exact_where_niti_takes_it() -> None:
    n = 2**21 + 1
    assert np.ceil(np.log2(np.float32(n))) == 21
    assert fast.ceil_log2(n) == 22


def test_hexagon_ceil_log2_differs_at_zero_only() -> None:
    assert [fast.hexagon_ceil_log2(n) for n in range(6)] == [-1, 0, 1, 2, 2, 3]
    values = [*range(1, 3000), *(2**k + d for k in range(2, 32) for d in (-1, 0, 1))]
    assert all(fast.hexagon_ceil_log2(n) == fast.ceil_log2(n) for n in values)
    for n in (-1, 2**32):
        with pytest.raises(RoundingError, match=f"n is {n}; .* takes 0"):
            fast.hexagon_ceil_log2(n)


def test_clips_of_niti_and_hexagon() -> None:
    x = array(INT32.min, -129, -128, -127, 127, 128, INT32.max)
    assert fast.to_int8(x).tolist() == [-127, -127, -127, -127, 127, 127, 127]
    wide = fast.to_int8(x, fast.HEXAGON_CLIP)
    assert wide.dtype == np.int8
    assert wide.tolist() == [-128, -128, -128, -127, 127, 127, 127]


@quick
@given(int32s, int32s)
def test_doubling_high_mul(a: int, b: int) -> None:
    want = min(floor(Fraction(a * b, 2**31) + Fraction(1, 2)), INT32.max)
    assert oracle.doubling_high_mul(a, b) == want
    assert fast.doubling_high_mul(array(a), array(b)).tolist() == [want]


def test_doubling_high_mul_at_its_corners() -> None:
    half = 2**30  # times 1, 3, -1, -3: ties, which go up
    assert fast.doubling_high_mul(array(1, 3, -1, -3), array(half)).tolist() == [1, 2, 0, -1]
    lowest = array(INT32.min)
    assert fast.doubling_high_mul(lowest, lowest).tolist() == [INT32.max]


@quick
@given(int32s, st.integers(0, 31))
def test_half_away_is_gemmlowps_rounding_divide_by_pot(x: int, exponent: int) -> None:
    mask = (1 << exponent) - 1
    threshold = (mask >> 1) + (x < 0)
    want = (x >> exponent) + ((x & mask) > threshold)
    assert fast.half_away(array(x), exponent).tolist() == [want]


@quick
@given(int32s, multipliers, st.integers(0, 31), st.integers(-30, 31))
def test_gemmlowp_and_ruy_multiplies(x: int, multiplier: int, right: int, shift: int) -> None:
    two = oracle.half_away(oracle.doubling_high_mul(x, multiplier), right)
    assert oracle.gemmlowp_multiply(x, multiplier, right) == two
    assert fast.gemmlowp_multiply(array(x), multiplier, right).tolist() == [two]
    one = (x * multiplier + (1 << 30 + shift)) >> (31 + shift)
    assert oracle.ruy_multiply(x, multiplier, shift) == one
    assert fast.ruy_multiply(array(x), multiplier, shift).tolist() == [one]


def test_two_roundings_are_not_one() -> None:
    x, multiplier, shift = 5, 2**30, 1  # 5 / 4: 2.5 goes to 3, and 1.5 to 2
    assert fast.gemmlowp_multiply(array(x), multiplier, shift).tolist() == [2]
    assert fast.ruy_multiply(array(x), multiplier, shift).tolist() == [1]


@pytest.mark.parametrize("shift", range(1, fast.HEXAGON_MAX_SHIFT + 1))
def test_hexagon_requantise_is_half_up_and_a_clip(shift: int) -> None:
    rng = np.random.default_rng(shift)
    wide = rng.integers(INT32.min, INT32.max, 300, np.int32, endpoint=True)
    near = rng.integers(-140 << shift, 140 << shift, 300).clip(INT32.min, INT32.max)
    ties = ((np.arange(-130, 130) << shift) + (1 << shift - 1)).clip(INT32.min, INT32.max)
    x = np.concatenate([wide, near, ties, [INT32.min, INT32.max]]).astype(np.int32)
    q31 = [oracle.hexagon_requantise(int(value), shift) for value in x]
    closed = np.clip((x.astype(np.int64) + (1 << shift - 1)) >> shift, -128, 127)
    assert closed.tolist() == q31
    assert fast.hexagon_requantise(x, shift).tolist() == q31
    for stored in compiled_loops(x, shift, Rounding.HALF_UP, fast.HEXAGON_CLIP):
        assert stored.tolist() == q31


def test_above_shift_23_hexagon_nn_itself_overflows() -> None:
    x, shift = 2**31 - 1, 24
    assert oracle.half_up(x, shift) == 128
    assert oracle.hexagon_requantise(x, shift) == 0  # the zero point alone is 2^31
    with pytest.raises(RoundingError, match=r"shift is 24; allowed: 1 \.\. 23"):
        fast.hexagon_requantise(array(x), shift)


def test_what_enters_is_checked() -> None:
    x = array(5)
    cases = [
        (lambda: fast.doubling_high_mul(x, np.array([1])), "b has dtype int64; allowed: int32"),
        (lambda: fast.gemmlowp_multiply(x, -1, 0), r"multiplier is -1; allowed: 0 \.\. 2\^31"),
        (lambda: fast.gemmlowp_multiply(x, 1, 32), r"shift is 32; allowed: 0 \.\. 31"),
        (lambda: fast.ruy_multiply(x, 2**31, 0), r"multiplier is 2147483648; allowed"),
        (lambda: fast.ruy_multiply(x, 1, -31), r"shift is -31; allowed: -30 \.\. 31"),
        (lambda: fast.hexagon_requantise(x, 0), r"shift is 0; allowed: 1 \.\. 23"),
        (lambda: fast.hexagon_requantise(np.array([1]), 1), "x has dtype int64"),
    ]
    for action, message in cases:
        with pytest.raises(RoundingError, match=message):
            action()
