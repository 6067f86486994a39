"""Convolution by unfolding: each window copied to a row, and one matrix product.

The way of the back-ends that are matrix products themselves (``blas``, ``reference``), a few
samples at a time. Checks were made by the caller (:mod:`kernels.int8.conv`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from kernels.conv import Conv2d
from kernels.gemm import MAX_K, gemm_s8s8s32

_UNFOLDED_BYTES = 1 << 25
"""Unfolded windows held at a time."""

Int8s = NDArray[np.int8]
Int32s = NDArray[np.int32]


def _samples(op: Conv2d, most_rows: int) -> Iterator[slice]:
    """Runs of samples whose windows fit the memory, and whose positions ``most_rows``."""
    positions = op.h_out * op.w_out
    rows = min(most_rows, _UNFOLDED_BYTES // (op.k_h * op.k_w * op.c_in))
    step = max(1, rows // positions)
    for first in range(0, op.n, step):
        yield slice(first, first + step)


def _unfold(padded: Int8s, k: tuple[int, int], stride: int, dilation: int) -> Int8s:
    """Windows of a padded input: a view ``(n, h_out, w_out, k_h, k_w, c)``."""
    reach = [(size - 1) * dilation + 1 for size in k]
    seen = sliding_window_view(padded, reach, axis=(1, 2))
    windows: Int8s = seen[:, ::stride, ::stride, :, ::dilation, ::dilation]
    return windows.transpose(0, 1, 2, 4, 5, 3)


def _pad(x: Int8s, op: Conv2d) -> Int8s:
    return np.pad(x, ((0, 0), (op.pad_h, op.pad_h), (op.pad_w, op.pad_w), (0, 0)))


def _product(windows: Int8s, weights: Int8s, backend: str, threads: int) -> Int32s:
    """``(n, h, w, k_h, k_w, c)`` by ``(c_out, k_h, k_w, c)``: (n, h, w, c_out)."""
    *places, k_h, k_w, channels = windows.shape
    rows = np.ascontiguousarray(windows).reshape(-1, k_h * k_w * channels)
    columns = np.ascontiguousarray(weights.reshape(len(weights), -1).T)
    return gemm_s8s8s32(rows, columns, None, backend, threads).reshape(*places, -1)


def forward(x: Int8s, w: Int8s, op: Conv2d, backend: str, threads: int) -> Int32s:
    """Accumulators (n, h_out, w_out, c_out)."""
    acc = np.empty((op.n, op.h_out, op.w_out, op.c_out), np.int32)
    ins, outs = op.c_in // op.groups, op.c_out // op.groups
    for part in _samples(op, MAX_K):
        windows = _unfold(_pad(x[part], op), (op.k_h, op.k_w), op.stride, op.dilation)
        windows = windows[:, : op.h_out, : op.w_out]
        for g in range(op.groups):
            seen, made = windows[..., g * ins : (g + 1) * ins], slice(g * outs, (g + 1) * outs)
            acc[part, ..., made] = _product(seen, w[made], backend, threads)
    return acc


def _spread(e: Int8s, op: Conv2d) -> Int8s:
    """Errors ``stride`` apart among zeros, so that dX is a convolution of stride 1 over them.

    Place ``s o + d (k - 1) - p`` of ``h + d (k - 1)`` holds the error of output ``o``.
    """
    sizes, places, kept = [], [], []
    for size, k, pad, count in (
        (op.h, op.k_h, op.pad_h, op.h_out),
        (op.w, op.k_w, op.pad_w, op.w_out),
    ):
        sizes.append(size + op.dilation * (k - 1))
        place = op.stride * np.arange(count) + op.dilation * (k - 1) - pad
        inside = (place >= 0) & (place < sizes[-1])
        places.append(place[inside])
        kept.append(np.flatnonzero(inside))
    spread = np.zeros((len(e), *sizes, e.shape[3]), np.int8)
    spread[:, places[0][:, None], places[1]] = e[:, kept[0][:, None], kept[1]]
    return spread


def input_grad(e: Int8s, w: Int8s, op: Conv2d, backend: str, threads: int) -> Int32s:
    """Accumulators (n, h, w, c_in): the errors' convolution with turned, swapped weights."""
    acc = np.empty((op.n, op.h, op.w, op.c_in), np.int32)
    ins, outs = op.c_in // op.groups, op.c_out // op.groups
    turned = w[:, ::-1, ::-1]
    for part in _samples(op, MAX_K):
        windows = _unfold(_spread(e[part], op), (op.k_h, op.k_w), 1, op.dilation)
        for g in range(op.groups):
            seen = slice(g * outs, (g + 1) * outs)
            swapped = turned[seen].transpose(3, 1, 2, 0)
            acc[part, ..., g * ins : (g + 1) * ins] = _product(
                windows[..., seen], swapped, backend, threads
            )
    return acc


def weight_grad(
    x: Int8s, e: Int8s, op: Conv2d, fresh: bool, out: NDArray[Any], backend: str, threads: int
) -> tuple[int, bool]:
    """Write dW to ``out``, or add it; the largest value then, and whether one left the type."""
    total = np.zeros(out.shape, np.int64) if fresh else out.astype(np.int64)
    ins, outs = op.c_in // op.groups, op.c_out // op.groups
    for part in _samples(op, MAX_K):
        windows = _unfold(_pad(x[part], op), (op.k_h, op.k_w), op.stride, op.dilation)
        windows = windows[:, : op.h_out, : op.w_out]
        for g in range(op.groups):
            made = slice(g * outs, (g + 1) * outs)
            rows = np.ascontiguousarray(windows[..., g * ins : (g + 1) * ins])
            rows = rows.reshape(-1, op.k_h * op.k_w * ins)
            errors = np.ascontiguousarray(e[part, ..., made].reshape(-1, outs).T)
            for first in range(0, len(rows), MAX_K):  # one sample may be longer than int32 holds
                short = slice(first, first + MAX_K)
                some = np.ascontiguousarray(errors[:, short])
                grad = gemm_s8s8s32(some, rows[short], None, backend, threads)
                total[made] += grad.reshape(outs, op.k_h, op.k_w, ins)
    out[...] = total
    return max(int(total.max()), -int(total.min())), not np.array_equal(out, total)
