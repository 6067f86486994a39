"""Convolution and pooling in float64, written to be read: what the fast kernels must come near.

Each walks over the windows of :mod:`kernels.conv` and :mod:`kernels.pool` one tap at a time, on a
padded copy of the input. Arrays are channels-last, as everywhere here.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kernels.conv import Conv2d
from kernels.pool import AvgPool2d, MaxPool2d

Doubles = NDArray[np.float64]
_Window = tuple[slice, slice]


def _padded(x: NDArray[Any], op: Conv2d | AvgPool2d | MaxPool2d, fill: float = 0.0) -> Doubles:
    """``x`` with ``fill`` around it, enough below and to the right for a last partial window."""
    more = op.k_h + op.k_w + op.stride
    rows, columns = (op.pad_h, op.pad_h + more), (op.pad_w, op.pad_w + more)
    return np.pad(x.astype(np.float64), ((0, 0), rows, columns, (0, 0)), constant_values=fill)


def _windows(
    op: Conv2d | AvgPool2d | MaxPool2d, dilation: int
) -> Iterator[tuple[int, int, _Window]]:
    """Each tap (p, q), and where all windows read it in the padded input."""
    for p in range(op.k_h):
        for q in range(op.k_w):
            top, left = p * dilation, q * dilation
            rows = slice(top, top + op.stride * (op.output[2] - 1) + 1, op.stride)
            columns = slice(left, left + op.stride * (op.output[3] - 1) + 1, op.stride)
            yield p, q, (rows, columns)


def _groups(op: Conv2d) -> Iterator[tuple[slice, slice]]:
    """Input and output channels of each group."""
    c_in, c_out = op.c_in // op.groups, op.c_out // op.groups
    for g in range(op.groups):
        yield slice(g * c_in, (g + 1) * c_in), slice(g * c_out, (g + 1) * c_out)


def conv_forward(x: NDArray[Any], w: NDArray[Any], op: Conv2d) -> Doubles:
    """(n, h_out, w_out, c_out) float64 of (n, h, w, c_in) and (c_out, k_h, k_w, c_in / groups)."""
    padded, weights = _padded(x, op), w.astype(np.float64)
    y = np.zeros((op.n, op.h_out, op.w_out, op.c_out))
    for p, q, (rows, columns) in _windows(op, op.dilation):
        for c_in, c_out in _groups(op):
            seen = padded[:, rows, columns, c_in]
            y[..., c_out] += seen @ weights[c_out, p, q].T
    return y


def conv_input_grad(e: NDArray[Any], w: NDArray[Any], op: Conv2d) -> Doubles:
    """(n, h, w, c_in) float64: each error spread over what its window read."""
    error, weights = e.astype(np.float64), w.astype(np.float64)
    dx = _padded(np.zeros((op.n, op.h, op.w, op.c_in)), op)
    for p, q, (rows, columns) in _windows(op, op.dilation):
        for c_in, c_out in _groups(op):
            dx[:, rows, columns, c_in] += error[..., c_out] @ weights[c_out, p, q]
    return dx[:, op.pad_h : op.pad_h + op.h, op.pad_w : op.pad_w + op.w]


def conv_weight_grad(x: NDArray[Any], e: NDArray[Any], op: Conv2d) -> Doubles:
    """(c_out, k_h, k_w, c_in / groups) float64: errors times what their windows read."""
    padded, error = _padded(x, op), e.astype(np.float64)
    dw = np.zeros((op.c_out, op.k_h, op.k_w, op.c_in // op.groups))
    for p, q, (rows, columns) in _windows(op, op.dilation):
        for c_in, c_out in _groups(op):
            seen = padded[:, rows, columns, c_in]
            dw[c_out, p, q] = np.einsum("nijo,nijc->oc", error[..., c_out], seen)
    return dw


def max_pool_forward(x: NDArray[Any], op: MaxPool2d) -> Doubles:
    """(n, h_out, w_out, c) float64: padding never wins."""
    padded = _padded(x, op, -np.inf)
    y: Doubles = np.max([padded[:, r, c] for _, _, (r, c) in _windows(op, 1)], axis=0)
    return y


def max_pool_input_grad(x: NDArray[Any], e: NDArray[Any], op: MaxPool2d) -> Doubles:
    """(n, h, w, c) float64: each error goes to the first maximum, window rows first."""
    padded = _padded(x, op, -np.inf)
    dx, y = np.zeros_like(padded), max_pool_forward(x, op)
    waiting = np.ones(y.shape, bool)
    for _, _, (rows, columns) in _windows(op, 1):
        first = waiting & (padded[:, rows, columns] == y)
        dx[:, rows, columns] += np.where(first, e, 0.0)
        waiting &= ~first
    return dx[:, op.pad_h : op.pad_h + op.h, op.pad_w : op.pad_w + op.w]


def window_sizes(op: AvgPool2d) -> Doubles:
    """(h_out, w_out, 1): by how much each window's sum is divided.

    Padding counts, as PyTorch's default ``count_include_pad`` has it; what ``ceil_mode`` hangs
    over the padded edge does not.
    """
    rows = np.arange(op.h_out) * op.stride
    columns = np.arange(op.w_out) * op.stride
    high = np.minimum(rows + op.k_h, op.h + 2 * op.pad_h) - rows
    wide = np.minimum(columns + op.k_w, op.w + 2 * op.pad_w) - columns
    return np.multiply.outer(high, wide)[..., None].astype(np.float64)


def avg_pool_forward(x: NDArray[Any], op: AvgPool2d) -> Doubles:
    """(n, h_out, w_out, c) float64."""
    padded = _padded(x, op)
    total: Doubles = np.sum([padded[:, r, c] for _, _, (r, c) in _windows(op, 1)], axis=0)
    return total / window_sizes(op)


def avg_pool_input_grad(e: NDArray[Any], op: AvgPool2d) -> Doubles:
    """(n, h, w, c) float64: each error spread evenly over its window."""
    dx, share = _padded(np.zeros((op.n, op.h, op.w, op.c)), op), e / window_sizes(op)
    for _, _, (rows, columns) in _windows(op, 1):
        dx[:, rows, columns] += share
    return dx[:, op.pad_h : op.pad_h + op.h, op.pad_w : op.pad_w + op.w]
