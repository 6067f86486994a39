"""INT8 kernels of a filtered backward pass: see :mod:`kernels.filtered`.

Sums are left as INT32 accumulators, exact, to be rescaled by the rule of their role, as those of a
pooling are: patch sums of the input by that of activations, means of errors and tap sums by that
of errors. A mean is a sum times ``1 / count`` in fixed point (:mod:`kernels.int8.pool`). Copies
over patches and taps keep mantissas and exponent. The coarse products between them are
convolutions of :mod:`kernels.int8.conv`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kernels.arrays import check_array, int8_mantissa, target
from kernels.filtered import PatchExpand, PatchMean, PatchSum, TapBroadcast, TapSum
from kernels.fp32.filtered import expand_samples
from kernels.int8.pool import AVERAGE_BITS
from kernels.jit import compiled
from kernels.operators import channels_last
from kernels.quantised import QTensor
from kernels.threads import over_rows, thread_count

_WORTHWHILE = 1 << 16
"""Elements below which other threads do not help (tens of us)."""

Int8s = NDArray[np.int8]
Int32s = NDArray[np.int32]


@compiled
def _gather(
    x: Int8s, y: Int32s, scale: Int32s, grid: tuple[int, int, int], first: int, last: int
) -> None:
    """Lines ``first`` to ``last`` of all samples' coarse rows: sums times their multipliers."""
    patch, above, aside = grid
    height, width, channels = x.shape[1:]
    rows, columns = y.shape[1:3]
    for line in range(first, last):
        n, row = line // rows, line % rows
        top = row * patch - above
        for column in range(columns):
            left = column * patch - aside
            total = y[n, row, column]
            total[:] = np.int32(0)
            for i in range(max(top, 0), min(top + patch, height)):
                for j in range(max(left, 0), min(left + patch, width)):
                    source = x[n, i, j]
                    for c in range(channels):
                        total[c] = np.int32(total[c] + np.int32(source[c]))
            for c in range(channels):
                total[c] = np.int32(total[c] * scale[row, column])


def mean_multipliers(op: PatchMean) -> Int32s:
    """``round(2^23 / count)`` of each patch, (rows, columns) int32; 0 where it holds nothing."""
    counts = []
    for places, start, size in ((op.rows, op.top, op.h), (op.columns, op.left, op.w)):
        first = np.arange(places) * op.patch - start
        counts.append(np.clip(first + op.patch, 0, size) - np.clip(first, 0, size))
    count = np.outer(counts[0], counts[1])
    scale = ((2 << AVERAGE_BITS) + count) // np.maximum(2 * count, 1)
    return np.where(count > 0, scale, 0).astype(np.int32)


def _gathered(
    x: QTensor, op: PatchSum | PatchMean, scale: Int32s, out: Int32s | None, threads: int | None
) -> Int32s:
    source = int8_mantissa("x", x, channels_last(op.fine))
    y = target(out, channels_last(op.coarse), np.int32)
    count = thread_count(threads, shared=source.size > _WORTHWHILE)
    over_rows(lambda i, j: _gather(source, y, scale, op.grid, i, j), op.n * op.rows, 1, count)
    return y


def patch_sum(
    x: QTensor, op: PatchSum, out: Int32s | None = None, threads: int | None = None
) -> QTensor:
    """Sum over each patch, exactly.

    Parameters
    ----------
    x
        (n, h, w, c) int8.
    op
        The patches.
    out
        (n, rows, columns, c) int32 to write to; a new array by default.
    threads
        Threads at most; default: every core of this process. The bits do not depend on it.

    Returns
    -------
    QTensor
        int32 accumulators at the exponent of ``x``. Rescale them.

    Raises
    ------
    ArrayError
        An array of another dtype, shape or order, or fewer than 1 thread.
    """
    ones = np.ones((op.rows, op.columns), np.int32)
    return QTensor(_gathered(x, op, ones, out, threads), x.exponent)


def patch_mean(
    x: QTensor, op: PatchMean, out: Int32s | None = None, threads: int | None = None
) -> QTensor:
    """Mean over the elements that each patch holds, as accumulators of :data:`AVERAGE_BITS` more.

    Exact where the count is a power of two, else within ``count / 2^24``, relatively. Arguments
    as :func:`patch_sum`.

    Raises
    ------
    ArrayError, QuantError
        As :func:`patch_sum`; an exponent that would leave -126 .. 127.
    """
    sums = _gathered(x, op, mean_multipliers(op), out, threads)
    return QTensor(sums, x.exponent - AVERAGE_BITS)


def patch_expand(
    y: QTensor, op: PatchExpand, out: Int8s | None = None, threads: int | None = None
) -> QTensor:
    """Copy each element over its patch.

    Parameters
    ----------
    y
        (n, rows, columns, c) int8.
    op, threads
        As for :func:`patch_sum`.
    out
        (n, h, w, c) int8 to write to; a new array by default.

    Raises
    ------
    ArrayError
        As :func:`patch_sum`.
    """
    source = int8_mantissa("y", y, channels_last(op.coarse))
    x = target(out, channels_last(op.fine), np.int8, source)
    count = thread_count(threads, shared=x.size > _WORTHWHILE)
    over_rows(lambda i, j: expand_samples(source, x, op.grid, i, j), op.n, 1, count)
    return QTensor(x, y.exponent)


def tap_sum(w: QTensor, op: TapSum) -> QTensor:
    """Sum of each kernel over its taps, exactly: (c_out, 1, 1, c_in / groups) int32 accumulators.

    Parameters
    ----------
    w
        (c_out, k_h, k_w, c_in / groups) int8.
    op
        Its shape.

    Raises
    ------
    ArrayError
        As :func:`patch_sum`.
    """
    weights = int8_mantissa("w", w, channels_last(op.shape))
    return QTensor(weights.sum(axis=(1, 2), keepdims=True, dtype=np.int32), w.exponent)


def tap_broadcast(g: QTensor, op: TapBroadcast, out: Int8s | None = None) -> QTensor:
    """Give every tap of a kernel the same gradient.

    Parameters
    ----------
    g
        (c_out, 1, 1, c_in / groups) int8.
    op
        Shape of the weight.
    out
        (c_out, k_h, k_w, c_in / groups) int8 to write to; a new array by default.

    Raises
    ------
    ArrayError
        As :func:`patch_sum`.
    """
    check_array("g", g.mantissa, np.int8, shape=channels_last(op.single))
    every = target(out, channels_last(op.shape), np.int8, g.mantissa)
    every[...] = g.mantissa
    return QTensor(every, g.exponent)
