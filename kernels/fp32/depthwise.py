"""Convolution where each channel has one filter of its own: direct, along the channels.

Called by :mod:`kernels.fp32.conv`, which has checked the arrays. Weights are taken as
(k_h, k_w, c), so that each tap is one multiply-add over a run of channels.
"""

from __future__ import annotations

import numpy as np

from kernels.arrays import Floats
from kernels.conv import Conv2d
from kernels.jit import compiled
from kernels.threads import over_rows
from kernels.workspace import float_scratch

_SERIAL_MACS = 1 << 18
"""Work below which other threads do not help (tens of us)."""


@compiled
def _forward_rows(
    x: Floats, w: Floats, y: Floats, stride: int, pad_h: int, pad_w: int, dilation: int,
    first: int, last: int,
) -> None:  # fmt: skip
    """Rows ``first`` to ``last`` of all samples' output rows; ``y`` holds zeros or the bias."""
    for line in range(first, last):
        sample, row = line // y.shape[1], line % y.shape[1]
        for p in range(w.shape[0]):
            i = row * stride + p * dilation - pad_h
            if i < 0 or i >= x.shape[1]:
                continue
            for column in range(y.shape[2]):
                for q in range(w.shape[1]):
                    j = column * stride + q * dilation - pad_w
                    if j >= 0 and j < x.shape[2]:
                        for c in range(w.shape[2]):
                            y[sample, row, column, c] += x[sample, i, j, c] * w[p, q, c]


@compiled
def _input_grad_rows(
    e: Floats, w: Floats, dx: Floats, stride: int, pad_h: int, pad_w: int, dilation: int,
    first: int, last: int,
) -> None:  # fmt: skip
    """Rows ``first`` to ``last`` of all samples' input rows; ``dx`` holds zeros."""
    for line in range(first, last):
        sample, i = line // dx.shape[1], line % dx.shape[1]
        for p in range(w.shape[0]):
            far = i + pad_h - p * dilation
            row = far // stride
            if row * stride != far or row < 0 or row >= e.shape[1]:
                continue
            for column in range(e.shape[2]):
                for q in range(w.shape[1]):
                    j = column * stride + q * dilation - pad_w
                    if j >= 0 and j < dx.shape[2]:
                        for c in range(w.shape[2]):
                            dx[sample, i, j, c] += e[sample, row, column, c] * w[p, q, c]


@compiled
def _weight_grad_samples(
    x: Floats, e: Floats, parts: Floats, stride: int, pad_h: int, pad_w: int, dilation: int,
    first: int, last: int,
) -> None:  # fmt: skip
    """dW of each sample ``first`` to ``last``: ``parts[n, k_h, k_w, c]``."""
    for sample in range(first, last):
        parts[sample] = np.float32(0)
        for row in range(e.shape[1]):
            for p in range(parts.shape[1]):
                i = row * stride + p * dilation - pad_h
                if i < 0 or i >= x.shape[1]:
                    continue
                for column in range(e.shape[2]):
                    for q in range(parts.shape[2]):
                        j = column * stride + q * dilation - pad_w
                        if j >= 0 and j < x.shape[2]:
                            for c in range(parts.shape[3]):
                                product = x[sample, i, j, c] * e[sample, row, column, c]
                                parts[sample, p, q, c] += product


def _by_taps(w: Floats) -> Floats:
    return np.ascontiguousarray(w[:, :, :, 0].transpose(1, 2, 0))


def _threads(op: Conv2d, threads: int) -> int:
    return 1 if op.n * op.h_out * op.w_out * op.c_out * op.k_h * op.k_w < _SERIAL_MACS else threads


def forward(
    x: Floats, w: Floats, bias: Floats | None, op: Conv2d, out: Floats, threads: int
) -> None:
    """Fill ``out``, (n, h_out, w_out, c); arguments as in :func:`kernels.fp32.conv.conv_forward`.

    The bias is what each sum starts from.
    """
    taps = _by_taps(w)

    def work(first: int, last: int) -> None:
        out.reshape(-1, op.w_out, op.c_out)[first:last] = np.float32(0) if bias is None else bias
        _forward_rows(x, taps, out, op.stride, op.pad_h, op.pad_w, op.dilation, first, last)

    over_rows(work, op.n * op.h_out, 1, _threads(op, threads))


def input_grad(e: Floats, w: Floats, op: Conv2d, out: Floats, threads: int) -> None:
    """Fill ``out``, (n, h, w, c), with dX."""
    taps = _by_taps(w)

    def work(first: int, last: int) -> None:
        out.reshape(-1, op.w, op.c_in)[first:last] = np.float32(0)
        _input_grad_rows(e, taps, out, op.stride, op.pad_h, op.pad_w, op.dilation, first, last)

    over_rows(work, op.n * op.h, 1, _threads(op, threads))


def weight_grad(x: Floats, e: Floats, op: Conv2d, out: Floats, threads: int) -> None:
    """Fill ``out``, (c, k_h, k_w, 1), with dW: sums of the samples, in their order."""
    shape = (op.n, op.k_h, op.k_w, op.c_in)
    parts = float_scratch("parts", int(np.prod(shape))).reshape(shape)

    def work(first: int, last: int) -> None:
        _weight_grad_samples(x, e, parts, op.stride, op.pad_h, op.pad_w, op.dilation, first, last)

    over_rows(work, op.n, 1, _threads(op, threads))
    out[:, :, :, 0] = parts.sum(axis=0, dtype=np.float64).transpose(2, 0, 1)
