"""INT8 pooling against loops over windows, written to be read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from fractions import Fraction
from math import floor

import numpy as np
import pytest
from conv_cases import small
from hypothesis import given, settings
from hypothesis import strategies as st
from int8_cases import ACCEPT_CASES, CASES, Check, compare, int8s, out_of, threads_of

from kernels.arrays import ArrayError
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
from kernels.rounding import ceil_log2

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


def max_oracle(x: np.ndarray, e: np.ndarray, op: MaxPool2d) -> tuple[np.ndarray, np.ndarray]:
    """Outputs, and errors added at the first maximum of each window; every window once."""
    y, dx = np.zeros(e.shape, int), np.zeros(x.shape, int)
    samples, channels = np.ix_(range(op.n), range(op.c))
    for row, column, inside, _ in windows(op):
        h, w = np.array(inside).T
        values = x[:, h, w]  # (n, elements of the window, c)
        first = values.argmax(axis=1)
        y[:, row, column] = values.max(axis=1)
        dx[samples, h[first], w[first], channels] += e[:, row, column]
    return y, dx


def average_oracle(
    x: np.ndarray, e: np.ndarray, op: AvgPool2d
) -> tuple[np.ndarray, np.ndarray, int]:
    """Accumulators of both directions, and the fraction bits of the errors'."""
    y, dx = np.zeros(e.shape, int), np.zeros(x.shape, int)
    drop = ceil_log2(-(-op.k_h // op.stride) * -(-op.k_w // op.stride))  # windows at an element
    half = Fraction(1, 2)
    for row, column, inside, count in windows(op):
        h, w = np.array(inside).T
        scale = floor(Fraction(2**AVERAGE_BITS, count) + half)
        y[:, row, column] = x[:, h, w].sum(axis=1, dtype=int) * scale
        shared = floor(Fraction(scale, 2**drop) + half)
        dx[:, h, w] += (e[:, row, column].astype(int) * shared)[:, None]
    return y, dx, AVERAGE_BITS - drop


def draw_pool(
    rng: np.random.Generator, kind: type[MaxPool2d] | type[AvgPool2d]
) -> MaxPool2d | AvgPool2d:
    """Windows that share elements, that leave some out, partial ones; 2 by 2 at stride 2 often."""
    if rng.integers(4) == 0:
        h, w = (int(side) for side in rng.integers(2, 10, 2))
        return kind(n=small(rng, 3), c=small(rng, 70), h=h, w=w, k=2, stride=2)
    k = small(rng, 5), small(rng, 5)
    pad = int(rng.integers(k[0] // 2 + 1)), int(rng.integers(k[1] // 2 + 1))
    return kind(
        n=small(rng, 3), c=small(rng, 20), h=max(small(rng, 10), k[0]), w=max(small(rng, 10), k[1]),
        k=k, stride=int(rng.integers(1, 5)), pad=pad, ceil_mode=bool(rng.integers(2)),
    )  # fmt: skip


def tensors(rng: np.random.Generator, op: MaxPool2d | AvgPool2d) -> tuple[np.ndarray, np.ndarray]:
    """Input and error."""
    return int8s(rng, (op.n, op.h, op.w, op.c)), int8s(rng, (op.n, op.h_out, op.w_out, op.c))


def check_max(rng: np.random.Generator) -> None:
    op = draw_pool(rng, MaxPool2d)
    x, e = tensors(rng, op)
    y, dx = max_oracle(x, e, op)
    got = max_pool_forward(x, op, out_of(rng, y.shape, np.int8), threads_of(rng))
    assert got.dtype == np.int8
    assert np.array_equal(got, y), op
    dtype = np.int32 if max_pool_overlaps(op) else np.int8
    out = out_of(rng, x.shape, dtype)
    got = max_pool_input_grad(x, e, op, out, threads_of(rng))
    assert got.dtype == dtype, op
    assert out is None or got is out
    assert np.array_equal(got, dx), op


def check_average(rng: np.random.Generator) -> None:
    op = draw_pool(rng, AvgPool2d)
    x, e = tensors(rng, op)
    assert_average(rng, op, op, x, e)


def check_global_average(rng: np.random.Generator) -> None:
    op = GlobalAvgPool(n=small(rng, 3), c=small(rng, 40), h=small(rng, 20), w=small(rng, 20))
    window = AvgPool2d(n=op.n, c=op.c, h=op.h, w=op.w, k=(op.h, op.w), stride=20)
    x, e = int8s(rng, (op.n, op.h, op.w, op.c)), int8s(rng, (op.n, 1, 1, op.c))
    assert_average(rng, op, window, x, e)


def assert_average(
    rng: np.random.Generator,
    op: AvgPool2d | GlobalAvgPool,
    window: AvgPool2d,
    x: np.ndarray,
    e: np.ndarray,
) -> None:
    """Both directions of ``op``, which is the same as ``window``."""
    exponent = int(rng.integers(-100, 100))
    y, dx, bits = average_oracle(x, e, window)
    out = out_of(rng, y.shape, np.int32)
    got = avg_pool_forward(QTensor(x, exponent), op, out, threads_of(rng))
    assert out is None or got.mantissa is out
    assert got.exponent == exponent - AVERAGE_BITS
    assert got.mantissa.dtype == np.int32
    assert np.array_equal(got.mantissa, y), op
    got = avg_pool_input_grad(
        QTensor(e, exponent), op, out_of(rng, dx.shape, np.int32), threads_of(rng)
    )
    assert got.exponent == exponent - bits, op
    assert got.mantissa.dtype == np.int32
    assert np.array_equal(got.mantissa, dx), op


CHECKS: dict[str, Check] = {
    "max_pool": check_max,
    "avg_pool": check_average,
    "global_avg_pool": check_global_average,
}


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("kernel", CHECKS)
def test_both_ways_equal_the_oracle(kernel: str) -> None:
    assert compare(CHECKS[kernel], CASES, seed=53) == CASES


@pytest.mark.accept
@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("kernel", CHECKS)
def test_both_ways_equal_the_oracle_on_ten_thousand_cases(
    kernel: str, record_property: Callable[[str, object], None]
) -> None:
    record_property("cases", compare(CHECKS[kernel], ACCEPT_CASES, seed=54))


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
    for by_oracle, by_loops in zip(max_oracle(x, e, op), (y, dx), strict=True):
        np.testing.assert_array_equal(by_oracle, by_loops)
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
    with pytest.raises(ArrayError, match=r"x has shape \(1, 2, 4, 4\).*channels last"):
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
