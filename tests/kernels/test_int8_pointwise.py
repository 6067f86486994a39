"""ReLU, ReLU6 and dropout on INT8, against NumPy."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from math import floor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from int8_cases import (
    ACCEPT_CASES,
    CASES,
    Check,
    compare,
    int8s,
    out_of,
    shape_of,
    threads_of,
)

from kernels.arrays import ArrayError
from kernels.int8.draws import DrawError, draw_oracle
from kernels.int8.pointwise import (
    NO_BOUND,
    dropout,
    dropout_mask,
    relu6_bound,
    relu6_forward,
    relu6_input_grad,
    relu_forward,
    relu_input_grad,
)
from kernels.quantised import QTensor

quick = settings(max_examples=60, derandomize=True, deadline=None)
EVERY = np.arange(-128, 128).astype(np.int8)


def drawn(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(-128, 128, shape).astype(np.int8)


def check_relu(rng: np.random.Generator) -> None:
    x = int8s(rng, shape_of(rng))
    wanted, in_place = np.maximum(x, 0), rng.integers(3) == 0
    y = relu_forward(x, x if in_place else out_of(rng, x.shape, np.int8), threads_of(rng))
    assert y.dtype == np.int8
    assert y is x or not in_place
    assert np.array_equal(y, wanted)


def check_relu_grad(rng: np.random.Generator) -> None:
    shape = shape_of(rng)
    e, y, in_place = int8s(rng, shape), int8s(rng, shape), rng.integers(3) == 0
    bound = int(rng.choice([NO_BOUND, 127, rng.integers(1, 128)]))
    wanted = np.where((y > 0) & (y.astype(int) < bound), e, 0)
    out = e if in_place else out_of(rng, shape, np.int8)
    dx = relu_input_grad(e, y, out, threads_of(rng), bound=bound)
    assert dx.dtype == np.int8
    assert dx is e or not in_place
    assert np.array_equal(dx, wanted), bound


def check_relu6(rng: np.random.Generator) -> None:
    """Both ways; the bound is 6 in units of ``2^exponent``, rounded down."""
    shape = shape_of(rng)
    exponent = int(rng.integers(-7, 5) if rng.integers(8) else rng.integers(-126, 128))
    bound = floor(Fraction(6) / Fraction(2) ** exponent)
    x, e = int8s(rng, shape), int8s(rng, shape)
    wanted = np.array([min(max(v, 0), bound) for v in x.reshape(-1).tolist()]).reshape(shape)
    out = x if rng.integers(3) == 0 else out_of(rng, shape, np.int8)
    y = relu6_forward(QTensor(x, exponent), out, threads_of(rng))
    assert y.exponent == exponent
    assert y.mantissa.dtype == np.int8
    assert np.array_equal(y.mantissa, wanted), exponent
    inside = (wanted > 0) & (wanted < min(bound, 128))
    passed = np.where(inside, e, 0)
    out = e if rng.integers(3) == 0 else out_of(rng, shape, np.int8)
    assert np.array_equal(relu6_input_grad(e, y, out, threads_of(rng)), passed), exponent
    held = np.where(y.int8 < 100, passed, 0)
    assert np.array_equal(relu6_input_grad(e, y, threads=threads_of(rng), bound=100), held)


def check_dropout(rng: np.random.Generator) -> None:
    """A mask of all samples or of one, and a tensor through it."""
    shape = (*shape_of(rng, 6), int(rng.integers(1, 7)))
    key, shared = int(rng.integers(0, 2**64, dtype=np.uint64)), bool(rng.integers(2))
    mask = dropout_mask(shape, key, shared, threads_of(rng))
    drawn = np.array([draw_oracle(key, i) >> 63 for i in range(mask.size)], int)
    assert mask.dtype == np.int8
    assert np.array_equal(mask, drawn.reshape(shape[1:] if shared else shape)), key
    x = QTensor(int8s(rng, shape), int(rng.integers(-126, 127)))
    wanted = x.mantissa * drawn.reshape(mask.shape)
    y = dropout(x, mask, out_of(rng, shape, np.int8), threads_of(rng))
    assert y.exponent == x.exponent + 1
    assert y.mantissa.dtype == np.int8
    assert np.array_equal(y.mantissa, wanted)


CHECKS: dict[str, Check] = {
    "relu": check_relu,
    "relu_input_grad": check_relu_grad,
    "relu6": check_relu6,
    "dropout": check_dropout,
}


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("kernel", CHECKS)
def test_every_kernel_equals_its_oracle(kernel: str) -> None:
    assert compare(CHECKS[kernel], CASES, seed=55) == CASES


@pytest.mark.accept
@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("kernel", CHECKS)
def test_every_kernel_equals_its_oracle_on_ten_thousand_cases(
    kernel: str, record_property: Callable[[str, object], None]
) -> None:
    record_property("cases", compare(CHECKS[kernel], ACCEPT_CASES, seed=56))


@quick
@given(st.integers(1, 3000), st.integers(0, 9), st.integers(1, 3))
def test_relu_both_ways(size: int, seed: int, threads: int) -> None:
    x, e = drawn(seed, size), drawn(seed + 1, size)
    y = relu_forward(x, threads=threads)
    np.testing.assert_array_equal(y, np.maximum(x, 0))
    np.testing.assert_array_equal(relu_input_grad(e, y, threads=threads), np.where(x > 0, e, 0))


def test_relu_of_every_value_in_place_and_on_threads() -> None:
    x = np.tile(EVERY, 2000).reshape(2000, 2, 128)
    y = relu_forward(x, threads=3)
    np.testing.assert_array_equal(y, np.maximum(x, 0))
    e = x[::-1].copy()
    wanted = np.where(y > 0, e, 0)
    assert relu_input_grad(e, y, e, threads=3) is e
    np.testing.assert_array_equal(e, wanted)
    assert relu_forward(x, x) is x
    np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize("exponent", range(-9, 6))
def test_relu6_clips_at_the_bound_below_6(exponent: int) -> None:
    x = QTensor(EVERY, exponent)
    y = relu6_forward(x)
    bound = np.floor(6 * 2.0**-exponent) * 2.0**exponent
    assert bound <= 6 < bound + 2.0**exponent
    np.testing.assert_array_equal(y.dequantise(), np.clip(x.dequantise(), 0, bound))
    e = EVERY[::-1].copy()
    inside = (y.dequantise() > 0) & (y.dequantise() < bound)
    np.testing.assert_array_equal(relu6_input_grad(e, y), np.where(inside, e, 0))
    assert relu6_bound(exponent) == min(int(6 * 2.0**-exponent), 128)


@quick
@given(st.integers(0, 2**64 - 1), st.integers(1, 5), st.integers(1, 40), st.booleans())
def test_dropout_by_the_draws_of_the_key(key: int, n: int, features: int, shared: bool) -> None:
    shape = (n, features, 2)
    mask = dropout_mask(shape, key, shared)
    draws = [draw_oracle(key, i) >> 63 for i in range(mask.size)]
    assert mask.reshape(-1).tolist() == draws
    assert mask.shape == (shape[1:] if shared else shape)
    x = QTensor(drawn(1, *shape), -7)
    y = dropout(x, mask, threads=2)
    np.testing.assert_array_equal(y.dequantise(), 2 * x.dequantise() * mask)


def test_dropout_keeps_half_on_any_number_of_threads() -> None:
    mask = dropout_mask((500, 1000), 11, threads=1)
    np.testing.assert_array_equal(mask, dropout_mask((500, 1000), 11, threads=3))
    assert abs(mask.mean() - 0.5) < 4 * 0.5 / np.sqrt(mask.size)
    assert abs(mask.mean(axis=0) - 0.5).max() < 5 * 0.5 / np.sqrt(500)
    x = QTensor(drawn(2, 500, 1000), 3)
    for one_mask in (mask, mask[0].copy()):
        y = dropout(x, one_mask, threads=3)
        np.testing.assert_array_equal(y.mantissa, x.mantissa * one_mask)
        assert y.exponent == 4


def test_what_is_not_allowed() -> None:
    x = drawn(0, 4, 6)
    with pytest.raises(ArrayError, match="x is float64"):
        relu_forward(x.astype(float))
    with pytest.raises(ArrayError, match=r"y has shape \(6, 4\)"):
        relu_input_grad(x, x.reshape(6, 4))
    with pytest.raises(ArrayError, match="x is int32"):
        relu6_forward(QTensor(x.astype(np.int32), 0))
    with pytest.raises(ArrayError, match=r"mask has shape \(4,\); allowed: \(4, 6\) or \(6,\)"):
        dropout(QTensor(x, 0), np.ones(4, np.int8))
    with pytest.raises(DrawError, match="key is -1"):
        dropout_mask((2, 2), -1)
