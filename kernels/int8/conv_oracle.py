"""Convolution and the linear layer in exact integers, written to be read.

Each function adds up its definition tap by tap. Arrays are channels-last: activations and errors
``(n, h, w, c)``, convolution weights ``(c_out, k_h, k_w, c_in / groups)``; results are int64. With
``number=numpy.float64`` the products run on BLAS, which is much quicker and still exact: no sum
here comes near ``2^53``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kernels.conv import Conv2d

Ints = NDArray[np.integer[Any]]
Int64s = NDArray[np.int64]
Number = type[np.int64] | type[np.float64]


def _taps(op: Conv2d) -> Iterator[tuple[int, int, tuple[slice, slice, slice]]]:
    """Each kernel position, and where in the padded input its inputs lie: one per output."""
    for i in range(op.k_h):
        for j in range(op.k_w):
            top, left = i * op.dilation, j * op.dilation
            rows = slice(top, top + op.stride * (op.h_out - 1) + 1, op.stride)
            columns = slice(left, left + op.stride * (op.w_out - 1) + 1, op.stride)
            yield i, j, (slice(None), rows, columns)


def _groups(op: Conv2d) -> Iterator[tuple[slice, slice]]:
    """Input and output channels of each group."""
    ins, outs = op.c_in // op.groups, op.c_out // op.groups
    for g in range(op.groups):
        yield slice(g * ins, (g + 1) * ins), slice(g * outs, (g + 1) * outs)


def _padded(x: Ints, op: Conv2d, number: Number) -> NDArray[Any]:
    margins = ((0, 0), (op.pad_h, op.pad_h), (op.pad_w, op.pad_w), (0, 0))
    return np.pad(x.astype(number), margins)


def conv_forward(x: Ints, w: Ints, op: Conv2d, number: Number = np.int64) -> Int64s:
    """``y[n, i, j, o] = sum x[n, s i + d a - p, s j + d b - p, c] w[o, a, b, c]``: (n, h, w, c)."""
    padded, weights = _padded(x, op, number), w.astype(number)
    y: NDArray[Any] = np.zeros((op.n, op.h_out, op.w_out, op.c_out), number)
    for i, j, window in _taps(op):
        seen = padded[window]
        for ins, outs in _groups(op):
            y[..., outs] += seen[..., ins] @ weights[outs, i, j].T
    return y.astype(np.int64)


def conv_input_grad(e: Ints, w: Ints, op: Conv2d, number: Number = np.int64) -> Int64s:
    """dX: every output's error goes back to the inputs that it saw, times the weight: scatter."""
    errors, weights = e.astype(number), w.astype(number)
    sizes = op.h + 2 * op.pad_h, op.w + 2 * op.pad_w
    padded: NDArray[Any] = np.zeros((op.n, *sizes, op.c_in), number)
    for i, j, window in _taps(op):
        seen = padded[window]
        for ins, outs in _groups(op):
            seen[..., ins] += errors[..., outs] @ weights[outs, i, j]
    inner = padded[:, op.pad_h : op.pad_h + op.h, op.pad_w : op.pad_w + op.w]
    return inner.astype(np.int64)


def conv_weight_grad(x: Ints, e: Ints, op: Conv2d, number: Number = np.int64) -> Int64s:
    """dW: over samples and positions, the error times the input that the tap saw there."""
    padded = _padded(x, op, number)
    errors = e.astype(number).reshape(-1, op.c_out)
    grad: NDArray[Any] = np.zeros((op.c_out, op.k_h, op.k_w, op.c_in // op.groups), number)
    for i, j, window in _taps(op):
        seen = padded[window].reshape(-1, op.c_in)
        for ins, outs in _groups(op):
            grad[outs, i, j] = errors[:, outs].T @ seen[:, ins]
    return grad.astype(np.int64)


def linear_forward(x: Ints, w: Ints, number: Number = np.int64) -> Int64s:
    """``x w^T`` of (n, c_in) and (c_out, c_in): (n, c_out)."""
    return (x.astype(number) @ w.astype(number).T).astype(np.int64)


def linear_input_grad(e: Ints, w: Ints, number: Number = np.int64) -> Int64s:
    """``e w``: (n, c_in)."""
    return (e.astype(number) @ w.astype(number)).astype(np.int64)


def linear_weight_grad(x: Ints, e: Ints, number: Number = np.int64) -> Int64s:
    """``e^T x``: (c_out, c_in)."""
    return (e.astype(number).T @ x.astype(number)).astype(np.int64)
