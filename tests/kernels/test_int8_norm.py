"""Batch norm between INT8 borders: the bits of dequantise, FP32 batch norm and quantise."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from int8_cases import ACCEPT_CASES, CASES, compare, int8s, out_of, threads_of

from kernels.arrays import ArrayError
from kernels.fp32 import norm as fp32
from kernels.int8 import norm
from kernels.int8.border import dequantise, quantise
from kernels.norm import BatchNorm2d
from kernels.quantised import QTensor, QuantError
from kernels.rounding import HEXAGON_CLIP, NITI_CLIP


def op_of(rng: np.random.Generator) -> BatchNorm2d:
    """Odd sizes; now and then more rows than a chunk has, and enough for several threads."""
    if rng.integers(16) == 0:
        return BatchNorm2d(n=3, c=int(rng.integers(1, 40)), h=29, w=31)
    n, c, h, w = (int(size) for size in rng.integers(1, 9, 4))
    return BatchNorm2d(n=n, c=5 * c, h=h, w=w)


def channels(rng: np.random.Generator, op: BatchNorm2d) -> np.ndarray:
    """Of any sign and of very different magnitudes; zeros now and then."""
    values = rng.standard_normal(op.c) * 2.0 ** rng.integers(-20, 20, op.c)
    values[rng.random(op.c) < 0.1] = 0
    return values.astype(np.float32)


def tensor(rng: np.random.Generator, op: BatchNorm2d) -> QTensor:
    """Full-range int8; in a few channels one value only, so that their variance is 0."""
    mantissa = int8s(rng, (op.n, op.h, op.w, op.c))
    mantissa[..., rng.random(op.c) < 0.1] = rng.integers(-128, 128)
    return QTensor(mantissa, int(rng.integers(-30, 20)))


def same(got: QTensor, expected: QTensor) -> None:
    assert got.exponent == expected.exponent
    assert np.array_equal(got.mantissa, expected.mantissa)


def check(rng: np.random.Generator) -> None:
    op, clip = op_of(rng), [NITI_CLIP, HEXAGON_CLIP][rng.integers(2)]
    x, e, gamma, beta = tensor(rng, op), tensor(rng, op), channels(rng, op), channels(rng, op)
    wide_x, wide_e = dequantise(x), dequantise(e)
    kept, expected = fp32.RunningStatistics.fresh(op), fp32.RunningStatistics.fresh(op)

    out = out_of(rng, x.shape, np.int8)
    y, mean, inv_std = norm.norm_forward(
        x, gamma, beta, op, clip=clip, running=kept, out=out, threads=threads_of(rng)
    )
    wide_y, *moments = fp32.norm_forward(wide_x, gamma, beta, op, running=expected)
    same(y, quantise(wide_y, clip))
    assert out is None or y.mantissa is out
    assert np.array_equal([mean, inv_std], moments)
    assert np.array_equal([kept.mean, kept.var], [expected.mean, expected.var])

    sums = norm.norm_weight_grad(x, e, mean, inv_std, op, threads=threads_of(rng))
    assert np.array_equal(sums, fp32.norm_weight_grad(wide_x, wide_e, mean, inv_std, op))

    dx = norm.norm_input_grad(
        x, e, gamma, mean, inv_std, *sums, op, clip=clip, threads=threads_of(rng)
    )
    wide_dx = fp32.norm_input_grad(wide_x, wide_e, gamma, mean, inv_std, *sums, op)
    same(dx, quantise(wide_dx, clip))


def test_equals_fp32_between_borders() -> None:
    compare(check, CASES, seed=41)


@pytest.mark.accept
def test_equals_fp32_between_borders_on_many_cases(
    record_property: Callable[[str, object], None],
) -> None:
    record_property("cases", compare(check, ACCEPT_CASES, seed=41))


def test_diverged_values_are_refused() -> None:
    op = BatchNorm2d(n=2, c=3, h=4, w=4)
    x = QTensor(np.arange(96, dtype=np.int8).reshape(2, 4, 4, 3), 0)
    one = np.ones(3, np.float32)
    for value in (np.nan, np.inf):
        bad = np.array([1, value, 1], np.float32)
        with pytest.raises(QuantError, match="training has diverged"):
            norm.norm_forward(x, bad, one, op)
        for factors in ((bad, one, one, one, one), (one, bad, one, one, one)):
            with pytest.raises(QuantError, match="training has diverged"):
                norm.norm_input_grad(x, x, *factors, op)


def test_bad_arguments_are_refused() -> None:
    op = BatchNorm2d(n=2, c=3, h=4, w=4)
    x, one = QTensor(np.zeros((2, 4, 4, 3), np.int8), 0), np.ones(3, np.float32)
    wide = QTensor(np.zeros((2, 4, 4, 3), np.int32), 0)
    with pytest.raises(ArrayError, match="x is int32"):
        norm.norm_forward(wide, one, one, op)
    with pytest.raises(ArrayError, match="e has shape"):
        norm.norm_weight_grad(x, QTensor(x.mantissa[:1], 0), one, one, op)
    with pytest.raises(ArrayError, match="beta has shape"):
        norm.norm_forward(x, one, one[:2].copy(), op)
    with pytest.raises(ArrayError, match=r"eps is 0\.0"):
        norm.norm_forward(x, one, one, op, eps=0.0)
    with pytest.raises(QuantError, match="float32"):
        norm.norm_forward(QTensor(x.mantissa + np.int8(100), 126), one, one, op)
