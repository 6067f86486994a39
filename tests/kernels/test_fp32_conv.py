"""FP32 convolution and linear layer against float64, and the same bits for all threads."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import njit

from kernels.arrays import ArrayError
from kernels.conv import Conv2d
from kernels.fp32 import oracle
from kernels.fp32.conv import bias_grad, conv_forward, conv_input_grad, conv_weight_grad
from kernels.fp32.linear import linear_forward, linear_input_grad, linear_weight_grad
from kernels.fp32.tiles import tile
from kernels.linear import Linear
from kernels.operators import OperatorError

CASES = 160


def draw(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape, dtype=np.float32)


def convolution(rng: np.random.Generator) -> Conv2d:
    """Odd sizes, strides, dilations, groups; channels about the tile's width."""
    while True:
        groups = int(rng.choice([1, 1, 1, 2, 3, 5]))
        kind = rng.integers(5)
        c_in, c_out = (groups * int(np.exp(rng.uniform(0, np.log(70)))) for _ in range(2))
        if kind == 0:
            groups = c_out = c_in
        try:
            return Conv2d(
                n=int(rng.integers(1, 5)),
                c_in=c_in,
                h=int(rng.integers(1, 14)),
                w=int(rng.integers(1, 14)),
                c_out=c_out,
                k=(int(rng.integers(1, 5)), int(rng.integers(1, 5))),
                stride=int(rng.integers(1, 4)),
                pad=(int(rng.integers(0, 5)), int(rng.integers(0, 5))),
                dilation=int(rng.integers(1, 3)),
                groups=groups,
            )
        except OperatorError:
            continue


def operands(rng: np.random.Generator, op: Conv2d) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    x = draw(rng, op.n, op.h, op.w, op.c_in)
    w = draw(rng, op.c_out, op.k_h, op.k_w, op.c_in // op.groups)
    return x, w, draw(rng, op.n, op.h_out, op.w_out, op.c_out)


def near(got: np.ndarray, want: np.ndarray, depth: int) -> None:
    """Within what ``depth`` roundings of products of normal values may add up to."""
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=2e-6 * np.sqrt(depth) * 4)


def check(op: Conv2d, rng: np.random.Generator, threads: tuple[int, ...]) -> None:
    x, w, e = operands(rng, op)
    bias = draw(rng, op.c_out)
    taps = op.k_h * op.k_w
    want = (
        (oracle.conv_forward(x, w, op) + bias, taps * op.c_in // op.groups),
        (oracle.conv_input_grad(e, w, op), taps * op.c_out // op.groups),
        (oracle.conv_weight_grad(x, e, op), op.n * op.h_out * op.w_out),
    )
    seen = []
    for count in threads:
        got = (
            conv_forward(x, w, op, bias=bias, threads=count),
            conv_input_grad(e, w, op, threads=count),
            conv_weight_grad(x, e, op, threads=count),
        )
        for result, (value, depth) in zip(got, want, strict=True):
            near(result, value, depth)
        seen.append(b"".join(result.tobytes() for result in got))
    assert len(set(seen)) == 1, op


def test_a_seeded_sweep_equals_float64() -> None:
    rng = np.random.default_rng(20)
    for _ in range(CASES):
        check(convolution(rng), rng, (1,))


@pytest.mark.parametrize(
    "op",
    [
        Conv2d(n=3, c_in=3, h=32, w=32, c_out=40, k=3, pad=1),
        Conv2d(n=2, c_in=70, h=17, w=19, c_out=45, k=3, pad=1, stride=2),
        Conv2d(n=3, c_in=64, h=15, w=15, c_out=96, k=1, stride=2),
        Conv2d(n=9, c_in=300, h=7, w=7, c_out=33, k=1),
        Conv2d(n=1, c_in=3, h=67, w=67, c_out=64, k=11, stride=4, pad=2),
        Conv2d(n=2, c_in=24, h=20, w=20, c_out=48, k=3, pad=2, dilation=2, groups=4),
        Conv2d(n=3, c_in=96, h=14, w=14, c_out=96, k=3, pad=1, stride=2, groups=96),
        Conv2d(n=2, c_in=40, h=14, w=14, c_out=40, k=5, pad=2, groups=40),
        Conv2d(n=4, c_in=6, h=9, w=9, c_out=12, k=3, pad=1, groups=6),
        Conv2d(n=64, c_in=8, h=16, w=16, c_out=8, k=3, pad=1),
    ],
    ids=str,
)
def test_layers_equal_float64_with_the_same_bits_for_1_2_and_3_threads(op: Conv2d) -> None:
    check(op, np.random.default_rng(op.c_in), (1, 2, 3, 2))


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_drawn_convolutions_are_adjoint(seed: int) -> None:
    """``<conv(x), e> == <x, dX(e)> == <w, dW(x, e)>``: a gradient of a linear map is its adjoint.

    Small integers make every product and sum exact.
    """
    rng = np.random.default_rng(seed)
    op = convolution(rng)
    x, w, e = (np.rint(2 * a).astype(np.float32) for a in operands(rng, op))
    y = conv_forward(x, w, op).astype(np.float64)
    dx, dw = conv_input_grad(e, w, op), conv_weight_grad(x, e, op)
    assert np.sum(y * e) == np.sum(dx.astype(np.float64) * x) == np.sum(dw.astype(np.float64) * w)


def test_gradients_are_the_slopes_of_the_forward_pass() -> None:
    rng = np.random.default_rng(3)
    op = Conv2d(n=2, c_in=2, h=5, w=4, c_out=3, k=3, stride=2, pad=1)
    x, w, e = operands(rng, op)
    for grad, values in ((conv_input_grad(e, w, op), x), (conv_weight_grad(x, e, op), w)):
        for at in np.ndindex(values.shape):
            kept, ends = values[at], []
            for step in (1, -1):
                values[at] = kept + step
                ends.append(np.sum(oracle.conv_forward(x, w, op) * e))
            values[at] = kept
            assert grad[at] == pytest.approx((ends[0] - ends[1]) / 2, abs=2e-5)


def test_bias_grad_sums_everything_but_channels() -> None:
    e = draw(np.random.default_rng(1), 5, 33, 31, 7)
    want = e.astype(np.float64).sum(axis=(0, 1, 2)).astype(np.float32)
    for threads in (1, 2, 3):
        np.testing.assert_allclose(bias_grad(e, threads=threads), want, rtol=1e-6)
        assert np.array_equal(bias_grad(e, threads=threads), bias_grad(e, threads=1))


@pytest.mark.parametrize(("n", "c_in", "c_out"), [(1, 1, 1), (7, 33, 10), (64, 512, 100)])
def test_linear_equals_float64(n: int, c_in: int, c_out: int) -> None:
    rng, op = np.random.default_rng(n), Linear(n=n, c_in=c_in, c_out=c_out)
    x, w, e, bias = (
        draw(rng, n, c_in),
        draw(rng, c_out, c_in),
        draw(rng, n, c_out),
        draw(rng, c_out),
    )
    wide = [a.astype(np.float64) for a in (x, w, e)]
    for threads in (1, 2, 3):
        got = linear_forward(x, w, op, bias=bias, threads=threads)
        near(got, wide[0] @ wide[1].T + bias, c_in)
        near(linear_input_grad(e, w, op, threads=threads), wide[2] @ wide[1], c_out)
        near(linear_weight_grad(x, e, op, threads=threads), wide[2].T @ wide[0], n)


def test_out_is_written_and_returned() -> None:
    rng = np.random.default_rng(5)
    op = Conv2d(n=2, c_in=3, h=6, w=6, c_out=4, k=1, stride=3)
    x, w, e = operands(rng, op)
    for call, shape in (
        (lambda out: conv_forward(x, w, op, out=out), e.shape),
        (lambda out: conv_input_grad(e, w, op, out=out), x.shape),
        (lambda out: conv_weight_grad(x, e, op, out=out), w.shape),
    ):
        out = np.full(shape, np.nan, np.float32)
        assert call(out) is out
        assert np.array_equal(out, call(None))


@pytest.mark.parametrize("rows", [(6, 8), (8, 16), (3, 4)])
def test_the_tile_of_any_cpu_adds_up_its_products(rows: tuple[int, int]) -> None:
    tile_rows, lanes = rows
    emit, width, rng = tile(tile_rows, lanes), 2 * lanes, np.random.default_rng(0)

    @njit
    def call(a, panel, k_stride, a_stride, last, fresh, out):  # type: ignore[no-untyped-def]
        emit(a, 0, a_stride, k_stride, last, panel, 0, 19, fresh, out, 0, width)

    a, panel = draw(rng, tile_rows, 19), draw(rng, 19, width)
    start, product = draw(rng, tile_rows, width), a.astype(np.float64) @ panel
    for fresh in (0, 1):
        for last in (0, tile_rows - 1):
            out = start.copy()
            call(a.ravel(), panel.ravel(), 1, 19, last, fresh, out.ravel())
            near(out[: last + 1], (product + start * (1 - fresh))[: last + 1], 19)
            assert np.array_equal(out[last + 1 :], start[last + 1 :])
    out = np.empty_like(start)
    call(
        np.ascontiguousarray(a.T).ravel(),
        panel.ravel(),
        tile_rows,
        1,
        tile_rows - 1,
        1,
        out.ravel(),
    )
    near(out, product, 19)


def test_wrong_arrays_are_refused_by_name() -> None:
    op = Conv2d(n=2, c_in=3, h=6, w=6, c_out=4, k=3)
    x, w, e = operands(np.random.default_rng(0), op)
    bad = [
        (lambda: conv_forward(x.astype(np.float64), w, op), "x is float64"),
        (lambda: conv_forward(x, w[:, :2], op), r"w has shape \(4, 2, 3, 3\)"),
        (lambda: conv_forward(x.transpose(0, 2, 1, 3), w, op), "x is not C-contiguous"),
        (lambda: conv_forward(x, w, op, bias=x[0, 0, 0]), "bias has shape"),
        (lambda: conv_forward(x, w, op, threads=0), "threads is 0"),
        (lambda: conv_input_grad(x, w, op), "e has shape"),
        (lambda: conv_weight_grad(x, e, op, out=e), "out has shape"),
        (lambda: bias_grad(e[:0]), "e has shape|x has shape"),
    ]
    for call, message in bad:
        with pytest.raises(ArrayError, match=message):
            call()
    same = Conv2d(n=2, c_in=3, h=6, w=6, c_out=3, k=1)
    weights = np.zeros((3, 1, 1, 3), np.float32)
    with pytest.raises(ArrayError, match="shares memory"):
        conv_forward(x, weights, same, out=x)
    frozen = np.empty_like(x)
    frozen.flags.writeable = False
    with pytest.raises(ArrayError, match="read-only"):
        conv_forward(x, weights, same, out=frozen)
