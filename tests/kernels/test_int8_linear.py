"""The INT8 linear layer equals its oracle on every back-end, integer for integer."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from conv_cases import assert_stored, draw_store, extremes, small

from kernels.arrays import ArrayError
from kernels.gemm import available_backends
from kernels.int8 import conv_oracle
from kernels.int8.linear import linear_forward, linear_input_grad, linear_weight_grad
from kernels.int8.stored import Store
from kernels.linear import Linear

CASES, ACCEPT_CASES = 160, 10_000
BACKENDS = available_backends()


def check(backend: str, count: int, seed: int) -> int:
    """Compare ``count`` drawn layers, all three roles; return how many were compared."""
    rng, compared = np.random.default_rng(seed), 0
    for number in range(count):
        most = 4608 if number % 16 == 0 else 200
        op = Linear(n=small(rng, 150), c_in=small(rng, most), c_out=small(rng, most // 2))
        x, w = extremes(rng, (op.n, op.c_in)), extremes(rng, (op.c_out, op.c_in))
        e = extremes(rng, (op.n, op.c_out))
        store, threads = draw_store(rng), int(rng.integers(1, 4))
        bias = rng.integers(-(2**20), 2**20, op.c_out).astype(np.int32)
        how = {"backend": backend, "threads": threads}
        note = (backend, op, store, threads)
        got = linear_forward(x, w, op, bias=bias, store=store, **how)
        assert_stored(got, conv_oracle.linear_forward(x, w, np.float64) + bias, store, note)
        got = linear_input_grad(e, w, op, store=store, **how)
        assert_stored(got, conv_oracle.linear_input_grad(e, w, np.float64), store, note)
        into = rng.integers(-99, 99, w.shape).astype(np.int32)
        want = conv_oracle.linear_weight_grad(x, e, np.float64) + into
        got = linear_weight_grad(x, e, op, into=into, **how)
        assert np.shares_memory(got.values, into)
        assert_stored(got, want, None, note)
        compared += 1
    return compared


@pytest.mark.parametrize("backend", BACKENDS)
def test_every_backend_equals_the_oracle(backend: str) -> None:
    check(backend, CASES, seed=41)


@pytest.mark.accept
@pytest.mark.parametrize("backend", BACKENDS)
def test_every_backend_equals_the_oracle_on_ten_thousand_cases(
    backend: str, record_property: Callable[[str, object], None]
) -> None:
    record_property("cases", check(backend, ACCEPT_CASES, seed=42))


def test_oracle_is_the_sum_of_products() -> None:
    rng = np.random.default_rng(2)
    x, w, e = (rng.integers(-128, 128, shape) for shape in ((4, 5), (3, 5), (4, 3)))
    y, dx, dw = np.zeros((4, 3), int), np.zeros((4, 5), int), np.zeros((3, 5), int)
    for n, o, c in np.ndindex(4, 3, 5):
        y[n, o] += x[n, c] * w[o, c]
        dx[n, c] += e[n, o] * w[o, c]
        dw[o, c] += e[n, o] * x[n, c]
    for number in (np.int64, np.float64):
        assert np.array_equal(conv_oracle.linear_forward(x, w, number), y)
        assert np.array_equal(conv_oracle.linear_input_grad(e, w, number), dx)
        assert np.array_equal(conv_oracle.linear_weight_grad(x, e, number), dw)


def test_out_is_filled() -> None:
    rng = np.random.default_rng(3)
    op = Linear(n=3, c_in=7, c_out=5)
    x, w = extremes(rng, (3, 7)), extremes(rng, (5, 7))
    out = np.empty((3, 5), np.int8)
    got = linear_forward(x, w, op, store=Store(7), out=out)
    assert np.shares_memory(got.values, out)
    assert_stored(got, conv_oracle.linear_forward(x, w), Store(7), op)


def test_bad_arguments_are_refused() -> None:
    op = Linear(n=3, c_in=7, c_out=5)
    x, w, e = (np.zeros(shape, np.int8) for shape in ((3, 7), (5, 7), (3, 5)))
    with pytest.raises(ArrayError, match=r"x has shape \(3, 5\); allowed: \(3, 7\)"):
        linear_forward(e, w, op)
    with pytest.raises(ArrayError, match="w is float32"):
        linear_input_grad(e, w.astype(np.float32), op)
    with pytest.raises(ArrayError, match="out is int32; allowed: an array of int8"):
        linear_forward(x, w, op, store=Store(1), out=np.empty((3, 5), np.int32))
    with pytest.raises(ArrayError, match=r"into has shape \(7, 5\); allowed: \(5, 7\)"):
        linear_weight_grad(x, e, op, into=np.zeros((7, 5), np.int32))
    with pytest.raises(ArrayError, match="e is not C-contiguous"):
        linear_weight_grad(x, np.asfortranarray(e), op)
