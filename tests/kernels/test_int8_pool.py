"""INT8 pooling against loops over windows, written to be read."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.int8.arrays import ArrayError
from kernels.int8.pool import (
    AVERAGE_BITS,
    avg_pool_forward,
    avg_pool_input_grad,
    max_pool_forward,
    max_pool_input_grad,
    max_pool_overlaps,
)
from kernels.operators import OperatorError
from kernels.pool import AvgPool2d, GlobalAvgPool, MaxPool2d
from kernels.quantised import QTensor

quick = settings(max_examples=120, derandomize=True, deadline=None)


@st.composite
def layers(draw: st.DrawFn, kind: type[MaxPool2d] | type[AvgPool2d]) -> MaxPool2d | AvgPool2d:
    k = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    pad = draw(st.integers(0, k[0] // 2)), draw(st.integers(0, k[1] // 2))
    sizes = {"n": 3, "c": 5, "h": 9, "w": 9}
    drawn = {name: draw(st.integers(1, most)) for name, most in sizes.items()}
    stride, ceil = draw(st.integers(1, 4)), draw(st.booleans())
    drawn["h"], drawn["w"] = max(drawn["h"], k[0]), max(drawn["w"], k[1])
    return kind(**drawn, k=k, stride=stride, pad=pad, ceil_mode=ceil)


def windows(op: MaxPool2d | AvgPool2d) -> Iterator[tuple[int, int, list[tuple[int, int]], int]]:
    """Output row and column, its elements in row-major order, and PyTorch's divisor."""
    for row in range(op.h_out):
        for column in range(op.w_out):
            top, left = row * op.stride - op.pad_h, column * op.stride - op.pad_w
            inside = [
                (h, w)
                for h in range(top, top + op.k_h)
                for w in range(left, left + op.k_w)
                if 0 <= h < op.h and 0 <= w < op.w
            ]
            counted = [
                (h, w)
                for h in range(top, top + op.k_h)
                for w in range(left, left + op.k_w)
                if h < op.h + op.pad_h and w < op.w + op.pad_w
            ]
            yield row, column, inside, len(counted)


def drawn_values(seed: int, *shape: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    few = rng.integers(-2, 3, shape)  # many ties
    return np.where(rng.random(shape) < 0.5, few, rng.integers(-128, 128, shape)).astype(np.int8)


@quick
@given(layers(MaxPool2d), st.integers(0, 99), st.integers(1, 3))
def test_max_pool_both_ways(op: MaxPool2d, seed: int, threads: int) -> None:
    x = drawn_values(seed, op.n, op.h, op.w, op.c)
    e = drawn_values(seed + 1, op.n, op.h_out, op.w_out, op.c)
    y, dx = np.zeros(e.shape, int), np.zeros(x.shape, int)
    for row, column, inside, _ in windows(op):
        for n in range(op.n):
            for c in range(op.c):
                values = [int(x[n, h, w, c]) for h, w in inside]
                y[n, row, column, c] = max(values)
                h, w = inside[values.index(max(values))]  # the first one
                dx[n, h, w, c] += e[n, row, column, c]
    np.testing.assert_array_equal(max_pool_forward(x, op, threads=threads), y)
    grad = max_pool_input_grad(x, e, op, threads=threads)
    np.testing.assert_array_equal(grad, dx)
    assert grad.dtype == (np.int32 if max_pool_overlaps(op) else np.int8)


@pytest.mark.parametrize(("h", "w"), [(8, 6), (9, 6), (7, 7)])
@pytest.mark.parametrize("c", [1, 33, 200])
def test_two_by_two_is_the_general_way(h: int, w: int, c: int) -> None:
    """Windows of 2 by 2 at stride 2 have a path of their own; padded by 0 rows they do not."""
    op = MaxPool2d(n=5, c=c, h=h, w=w, k=2, stride=2)
    x = drawn_values(c, 5, h, w, c)
    e = drawn_values(c + 1, 5, h // 2, w // 2, c)
    dx = np.zeros(x.shape, np.int8)
    for row, column, inside, _ in windows(op):
        stack = np.stack([x[:, h, w] for h, w in inside])
        first = stack.argmax(axis=0)
        for k, (i, j) in enumerate(inside):
            dx[:, i, j] = np.where(first == k, e[:, row, column], 0)
    out = np.full(x.shape, 99, np.int8)
    for threads in (1, 2):
        assert max_pool_input_grad(x, e, op, out, threads) is out
        np.testing.assert_array_equal(out, dx)


@quick
@given(layers(AvgPool2d), st.integers(0, 99), st.integers(-20, 5))
def test_average_pool_both_ways(op: AvgPool2d, seed: int, exponent: int) -> None:
    x = drawn_values(seed, op.n, op.h, op.w, op.c)
    e = drawn_values(seed + 1, op.n, op.h_out, op.w_out, op.c)
    y, dx = np.zeros(e.shape), np.zeros(x.shape)
    exact = True
    for row, column, inside, count in windows(op):
        for h, w in inside:
            y[:, row, column] += x[:, h, w] / count
            dx[:, h, w] += e[:, row, column] / count
        exact &= count & count - 1 == 0
    forward = avg_pool_forward(QTensor(x, exponent), op, threads=2)
    backward = avg_pool_input_grad(QTensor(e, exponent), op, threads=2)
    assert forward.exponent == exponent - AVERAGE_BITS
    scale = 2.0**exponent
    bound = 0 if exact else 128 * 16 * 2.0**-18 * scale
    np.testing.assert_allclose(forward.dequantise(), y * scale, rtol=0, atol=bound)
    np.testing.assert_allclose(backward.dequantise(), dx * scale, rtol=0, atol=bound)


@pytest.mark.parametrize(("h", "w"), [(4, 4), (7, 7), (1, 3), (56, 56)])
def test_global_average(h: int, w: int) -> None:
    op = GlobalAvgPool(n=2, c=3, h=h, w=w)
    x = drawn_values(1, 2, h, w, 3)
    mean = avg_pool_forward(QTensor(x, 0), op)
    assert mean.shape == (2, 1, 1, 3)
    sums = x.astype(int).sum(axis=(1, 2))
    for got, total in zip(mean.mantissa.reshape(-1).tolist(), sums.reshape(-1), strict=True):
        error = abs(Fraction(got, 2**AVERAGE_BITS) - Fraction(int(total), h * w))
        assert error <= abs(Fraction(int(total), 1 << 24))
    e = drawn_values(2, 2, 1, 1, 3)
    spread = avg_pool_input_grad(QTensor(e, -4), op)
    assert spread.shape == (2, h, w, 3)
    out = np.full(spread.shape, 7, np.int32)
    assert avg_pool_input_grad(QTensor(e, -4), op, out).mantissa is out
    np.testing.assert_array_equal(out, spread.mantissa)
    wanted = np.broadcast_to(e / (h * w) / 16, spread.shape)
    np.testing.assert_allclose(spread.dequantise(), wanted, rtol=h * w * 2.0**-23)


def test_the_smallest_errors_survive_an_average() -> None:
    op = GlobalAvgPool(n=1, c=1, h=7, w=7)
    one = QTensor(np.ones((1, 1, 1, 1), np.int8), 0)
    assert avg_pool_input_grad(one, op).mantissa.min() == round(2**23 / 49)


def test_sums_do_not_overflow_at_the_ends() -> None:
    op = AvgPool2d(n=1, c=1, h=6, w=6, k=4, stride=1, pad=2)
    least = np.full((1, 6, 6, 1), -128, np.int8)
    assert avg_pool_forward(QTensor(least, 0), op).mantissa.min() == -(2**30)
    errors = np.full((1, op.h_out, op.w_out, 1), -128, np.int8)
    assert avg_pool_input_grad(QTensor(errors, 0), op).dequantise().min() == -128


def test_arrays_not_allowed() -> None:
    op = MaxPool2d(n=1, c=2, h=4, w=4, k=2, stride=2)
    x, e = np.zeros((1, 4, 4, 2), np.int8), np.zeros((1, 2, 2, 2), np.int8)
    with pytest.raises(ArrayError, match=r"x has shape \(1, 2, 4, 4\).*channels come last"):
        max_pool_forward(x.reshape(1, 2, 4, 4), op)
    with pytest.raises(ArrayError, match="x is int16"):
        max_pool_forward(x.astype(np.int16), op)
    with pytest.raises(ArrayError, match="e has shape"):
        max_pool_input_grad(x, x, op)
    with pytest.raises(ArrayError, match="out is int32"):
        max_pool_input_grad(x, e, op, np.zeros(x.shape, np.int32))
    average = AvgPool2d(n=1, c=2, h=4, w=4, k=2, stride=2)
    with pytest.raises(ArrayError, match="e has shape"):
        avg_pool_input_grad(QTensor(x, 0), average)
    with pytest.raises(OperatorError, match="at most half"):
        MaxPool2d(n=1, c=2, h=4, w=4, k=2, stride=2, pad=2)
