"""ReLU, ReLU6 and dropout on INT8, against NumPy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.int8.arrays import ArrayError
from kernels.int8.draws import DrawError, draw_oracle
from kernels.int8.pointwise import (
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
