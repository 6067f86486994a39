"""Between FP32 and INT8: the compiled twins of the plain rule, and exact arithmetic."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest
from int8_cases import (
    ACCEPT_CASES,
    CASES,
    Check,
    compare,
    int8s,
    out_of,
    shape_of,
    size_of,
    threads_of,
)

from kernels.arrays import ArrayError
from kernels.int8.border import dequantise, float_amax, quantise
from kernels.quantised import QTensor, QuantError, quantise_input_v2
from kernels.rounding import HEXAGON_CLIP, NITI_CLIP

LEAST, LARGEST = np.float32(2.0**-149), np.finfo(np.float32).max
SMALL = np.float32(2.0**-119)
"""Below it the exponent of the plain rule would leave its range."""


def floats(rng: np.random.Generator, size: int) -> np.ndarray:
    """Any float32; of one magnitude; halves of an INT8 unit, which are ties; zeros now and then."""
    kind = rng.integers(4)
    if kind == 0:  # every exponent alike likely, subnormals and both zeros included
        bits = (
            rng.integers(0, 0x7F800000, size, np.uint32) | rng.integers(0, 2, size, np.uint32) << 31
        )
        x = bits.astype(np.uint32).view(np.float32)
    elif kind == 1:
        x = (rng.normal(size=size) * 2.0 ** rng.integers(-149, 125)).astype(np.float32)
    else:
        halves = rng.integers(-258, 259, size).astype(np.float64) / 2
        x = np.ldexp(halves, rng.integers(-149, 120)).astype(np.float32)
    x[rng.random(size) < rng.choice([0, 0.2, 1], p=[0.7, 0.25, 0.05])] = 0
    return x


def plainly(x: np.ndarray, clip: tuple[int, int]) -> tuple[np.ndarray, int]:
    """The plain rule; below its range, at the least exponent."""
    amax = abs(x).max()
    if amax == 0 or amax > SMALL / 2:
        q = quantise_input_v2(x)
        return np.clip(q.mantissa, *clip), q.exponent
    return np.clip(np.rint(np.ldexp(x.astype(np.float64), 126)), *clip), -126


def check_quantise(rng: np.random.Generator) -> None:
    x = floats(rng, size_of(rng))
    clip, out = [NITI_CLIP, HEXAGON_CLIP][rng.integers(2)], out_of(rng, x.shape, np.int8)
    got = quantise(x, clip, out, threads_of(rng))
    mantissa, exponent = plainly(x, clip)
    assert got.exponent == exponent
    assert np.array_equal(got.int8, mantissa)
    assert out is None or got.mantissa is out


def check_float_amax(rng: np.random.Generator) -> None:
    x = floats(rng, size_of(rng))
    assert float_amax(x, threads_of(rng)) == max(abs(v) for v in x.tolist())


def check_dequantise(rng: np.random.Generator) -> None:
    if rng.integers(2):
        q = QTensor(int8s(rng, shape_of(rng)), int(rng.integers(-126, 121)))
    else:
        wide = rng.integers(-(2**24), 2**24 + 1, shape_of(rng)) >> rng.integers(0, 24)
        q = QTensor(wide.astype(np.int32), int(rng.integers(-126, 104)))
    out = out_of(rng, q.shape, np.float32)
    got = dequantise(q, out, threads_of(rng))
    assert got.dtype == np.float32
    assert np.array_equal(got.astype(np.float64), q.dequantise())
    assert out is None or got is out


CHECKS: dict[str, Check] = {
    "quantise": check_quantise,
    "float_amax": check_float_amax,
    "dequantise": check_dequantise,
}


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("kernel", CHECKS)
def test_every_kernel_equals_its_oracle(kernel: str) -> None:
    assert compare(CHECKS[kernel], CASES, seed=71) == CASES


@pytest.mark.accept
@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("kernel", CHECKS)
def test_every_kernel_equals_its_oracle_on_ten_thousand_cases(
    kernel: str, record_property: Callable[[str, object], None]
) -> None:
    record_property("cases", compare(CHECKS[kernel], ACCEPT_CASES, seed=72))


def test_the_rule_in_fractions() -> None:
    """Nearest multiple of ``2^e``, ties to even: Python's ``round`` of a fraction."""
    rng = np.random.default_rng(73)
    for _ in range(200):
        x = floats(rng, 20)
        got = quantise(x, HEXAGON_CLIP)
        unit, amax = Fraction(2) ** got.exponent, Fraction(float(abs(x).max()))
        assert amax <= 128 * unit
        assert amax > 64 * unit or amax == 0 or got.exponent == -126
        wanted = [min(max(round(Fraction(v) / unit), -128), 127) for v in x.tolist()]
        assert got.mantissa.tolist() == wanted


def test_ties_go_to_even_and_the_clip_holds() -> None:
    x = np.array([64, 0.5, 1.5, -0.5, -1.5, 2.5, 126.5, 127.5, -127.5, 128, -128], np.float32)
    got = quantise(x)
    assert (got.mantissa.tolist(), got.exponent) == (
        [64, 0, 2, 0, -2, 2, 126, 127, -127, 127, -127],
        0,
    )
    assert quantise(x, HEXAGON_CLIP).mantissa.tolist()[-3:] == [-128, 127, -128]


@pytest.mark.parametrize(
    ("largest", "exponent", "mantissa"),
    [
        (0.0, -7, 0),
        (1.0, -7, 127),
        (np.nextafter(np.float32(1), np.float32(2)), -6, 64),
        (LARGEST, 121, 127),
        (2.0**127, 120, 127),
        (SMALL, -126, 127),
        (SMALL / 2, -126, 64),
        (LEAST, -126, 0),
        (2.0**-127, -126, 0),
        (1.5 * 2.0**-126, -126, 2),
        (-(2.0**-126), -126, -1),
    ],
)
def test_ends_of_the_exponents(largest: float, exponent: int, mantissa: int) -> None:
    x = np.array([-0.0, largest], np.float32)
    got = quantise(x)
    assert (got.mantissa.tolist(), got.exponent) == ([0, mantissa], exponent)
    assert float_amax(x) == abs(float(np.float32(largest)))


def test_threads_of_their_own_accord_change_no_bit() -> None:
    x = np.random.default_rng(74).normal(size=(3, 70_001)).astype(np.float32)
    x[2, 69_999] = 2 * abs(x).max()
    one = quantise(x, threads=1)
    for threads in (2, 3, None):
        other = quantise(x, threads=threads)
        assert other.exponent == one.exponent
        assert np.array_equal(other.int8, one.int8)
        assert float_amax(x, threads) == x[2, 69_999]
        assert np.array_equal(dequantise(one, threads=threads), one.dequantise())


@pytest.mark.parametrize("wrong", [np.nan, -np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [0, 7, 199_999])
def test_what_is_no_number_is_refused(wrong: float, place: int) -> None:
    x = np.ones(200_000, np.float32)
    x[place] = wrong
    for call in (quantise, float_amax):
        with pytest.raises(QuantError, match="x holds NaN or infinity"):
            call(x)


@pytest.mark.parametrize(
    ("x", "words"),
    [
        (np.ones(3), "x is float64 of shape"),
        (np.ones((0, 3), np.float32), "one value or more"),
        (np.ones((4, 4), np.float32).T[1:], "use numpy.ascontiguousarray"),
    ],
)
def test_floats_not_allowed(x: np.ndarray, words: str) -> None:
    for call in (quantise, float_amax):
        with pytest.raises(QuantError, match=words):
            call(x)


def test_targets_not_allowed() -> None:
    x, q = np.ones((4, 6), np.float32), QTensor(np.ones((4, 6), np.int8), 0)
    for out, words in (
        (np.empty((4, 5), np.int8), r"out has shape \(4, 5\); allowed: \(4, 6\)"),
        (np.empty((4, 6), np.int32), "out is int32; allowed: an array of int8"),
        (np.empty((6, 4), np.int8).T, "out is not C-contiguous"),
    ):
        with pytest.raises(ArrayError, match=words):
            quantise(x, out=out)
    with pytest.raises(ArrayError, match="out is float64; allowed: an array of float32"):
        dequantise(q, np.empty((4, 6)))


def test_a_value_above_float32_is_refused() -> None:
    least, most = np.array([-128], np.int8), np.array([127, -127], np.int8)
    assert dequantise(QTensor(most, 121)).tolist() == [127 * 2.0**121, -127 * 2.0**121]
    assert dequantise(QTensor(np.zeros(2, np.int8), 127)).tolist() == [0, 0]
    with pytest.raises(QuantError, match=r"q reaches 128 \* 2\^121; allowed: values below 2\^128"):
        dequantise(QTensor(least, 121))
    with pytest.raises(QuantError, match=r"q reaches 16777216 \* 2\^104"):
        dequantise(QTensor(np.array([1 << 24], np.int32), 104))
