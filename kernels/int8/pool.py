"""INT8 pooling, channels last: maximum, average, and the average of a whole map.

A maximum keeps the exponent. An average is a sum times ``1 / count`` in fixed point: it is left
as INT32 accumulators at an exponent :data:`AVERAGE_BITS` lower, to be rescaled like those of a
convolution (:func:`kernels.int8.rescale.rescale`). So nothing is rounded to 0 on the way, small
errors neither, and a count that is a power of two only moves the exponent.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kernels.arrays import Array, check_array, int8_mantissa, target
from kernels.jit import compiled
from kernels.operators import channels_last
from kernels.pool import AvgPool2d, GlobalAvgPool, MaxPool2d, Window, as_average
from kernels.quantised import QTensor
from kernels.threads import over_rows, thread_count

AVERAGE_BITS = 23
"""An average is ``sum * round(2^23 / count)``: at most ``2^30 + 64 * count`` in magnitude."""
_WORTHWHILE = 1 << 15
"""Elements below which a block is not worth handing to another thread."""

Int8s = NDArray[np.int8]
Int32s = NDArray[np.int32]


@compiled
def _max_rows(x: Int8s, y: Int8s, window: Window, first: int, last: int) -> None:
    """Output rows ``first`` to ``last`` of all samples' rows, one after the other."""
    k_h, k_w, stride, pad_h, pad_w = window
    height, width, channels = x.shape[1:]
    rows, columns = y.shape[1:3]
    for row in range(first, last):
        n, top = row // rows, (row % rows) * stride - pad_h
        for column in range(columns):
            left = column * stride - pad_w
            target_row = y[n, row % rows, column]
            target_row[:] = np.int8(-128)
            for h in range(max(top, 0), min(top + k_h, height)):
                for w in range(max(left, 0), min(left + k_w, width)):
                    source = x[n, h, w]
                    for c in range(channels):
                        target_row[c] = max(target_row[c], source[c])


@compiled
def _route_rows(
    x: Int8s, e: Int8s, dx: Array, window: Window, scratch: Int8s, first: int, last: int
) -> None:
    """Samples ``first`` to ``last``: each error goes to the first maximum of its window."""
    k_h, k_w, stride, pad_h, pad_w = window
    height, width, channels = x.shape[1:]
    rows, columns = e.shape[1:3]
    kind = dx.dtype.type
    largest, wanted = scratch[0], scratch[1]
    for n in range(first, last):
        dx[n] = 0
        for row in range(rows):
            top = row * stride - pad_h
            for column in range(columns):
                left = column * stride - pad_w
                error = e[n, row, column]
                largest[:] = np.int8(-128)
                for h in range(max(top, 0), min(top + k_h, height)):
                    for w in range(max(left, 0), min(left + k_w, width)):
                        source = x[n, h, w]
                        for c in range(channels):
                            largest[c] = max(largest[c], source[c])
                wanted[:] = np.int8(-1)  # a mask: all bits, until the maximum is met
                for h in range(max(top, 0), min(top + k_h, height)):
                    for w in range(max(left, 0), min(left + k_w, width)):
                        source, result = x[n, h, w], dx[n, h, w]
                        for c in range(channels):
                            hit = np.int8(-np.int8(source[c] == largest[c]) & wanted[c])
                            result[c] = kind(result[c] + kind(np.int8(error[c] & hit)))
                            wanted[c] = np.int8(wanted[c] & ~hit)


@compiled
def _route_two(x: Int8s, e: Int8s, dx: Int8s, scratch: Int8s, first: int, last: int) -> None:
    """As :func:`_route_rows` for whole windows of 2 by 2 at stride 2.

    First the place of each maximum, then the errors: with all nine rows in one loop LLVM no
    longer vectorises.
    """
    rows, columns, channels = e.shape[1:]
    place = scratch[0]
    for n in range(first, last):
        if x.shape[1] != 2 * rows or x.shape[2] != 2 * columns:
            dx[n] = 0  # a last row or column outside every window
        for row in range(rows):
            for column in range(columns):
                h, w = 2 * row, 2 * column
                error = e[n, row, column]
                a, b, c, d = x[n, h, w], x[n, h, w + 1], x[n, h + 1, w], x[n, h + 1, w + 1]
                for i in range(channels):
                    largest = max(max(a[i], b[i]), max(c[i], d[i]))
                    in_c = np.int8(2) if c[i] == largest else np.int8(3)
                    in_b = np.int8(1) if b[i] == largest else in_c
                    place[i] = np.int8(0) if a[i] == largest else in_b
                for k in range(4):
                    result = dx[n, h + k // 2, w + k % 2]
                    for i in range(channels):
                        result[i] = error[i] if place[i] == k else np.int8(0)


def max_pool_forward(
    x: Int8s, op: MaxPool2d, out: Int8s | None = None, threads: int | None = None
) -> Int8s:
    """Maximum of each window; padding never wins. The exponent stays.

    Parameters
    ----------
    x
        (n, h, w, c) int8.
    op
        The layer.
    out
        (n, h_out, w_out, c) int8 to write to; a new array by default.
    threads
        Threads at most; default: every core of this process.

    Returns
    -------
    numpy.ndarray
        (n, h_out, w_out, c) int8.

    Raises
    ------
    ArrayError
        Another dtype, shape or memory order.

    Examples
    --------
    >>> x = np.array([[3, -1], [7, 7]], np.int8).reshape(1, 2, 2, 1)
    >>> max_pool_forward(x, MaxPool2d(n=1, c=1, h=2, w=2, k=2, stride=2)).item()
    7
    """
    check_array("x", x, np.int8, shape=channels_last(op.inputs[0]))
    y = target(out, channels_last(op.output), np.int8)
    window = op.window
    least = max(1, _WORTHWHILE // (op.k_h * op.k_w * op.w_out * op.c))
    over_rows(
        lambda first, last: _max_rows(x, y, window, first, last),
        op.n * op.h_out,
        1,
        thread_count(threads),
        least,
    )
    return y


def max_pool_overlaps(op: MaxPool2d) -> bool:
    """Whether windows share elements, so that errors are added and INT32 is needed."""
    return op.stride < max(op.k_h, op.k_w)


def max_pool_input_grad(
    x: Int8s,
    e: Int8s,
    op: MaxPool2d,
    out: Array | None = None,
    threads: int | None = None,
) -> Array:
    """Send each error to the maximum of its window, the first in row-major order.

    The maximum is found again in the saved input, as MNN's ``PoolGrad`` does.

    Parameters
    ----------
    x
        (n, h, w, c) int8, the input of the forward pass.
    e
        (n, h_out, w_out, c) int8, the errors.
    op, out, threads
        As for :func:`max_pool_forward`; ``out`` has the shape of ``x``.

    Returns
    -------
    numpy.ndarray
        (n, h, w, c) at the exponent of ``e``: int8 where windows do not share elements, else
        int32 sums, to be rescaled (:func:`max_pool_overlaps`).

    Raises
    ------
    ArrayError
        Another dtype, shape or memory order.
    """
    check_array("x", x, np.int8, shape=channels_last(op.inputs[0]))
    check_array("e", e, np.int8, shape=channels_last(op.output))
    overlap = max_pool_overlaps(op)
    dx = target(out, x.shape, np.int32 if overlap else np.int8)
    window = op.window

    def block(first: int, last: int) -> None:
        scratch = np.empty((2, op.c), np.int8)
        if op.is_two_by_two:
            _route_two(x, e, dx, scratch, first, last)
        else:
            _route_rows(x, e, dx, window, scratch, first, last)

    over_rows(block, op.n, 1, thread_count(threads), max(1, _WORTHWHILE // x[0].size))
    return dx


def average_multipliers(op: AvgPool2d) -> Int32s:
    """``round(2^23 / count)`` of each window, (h_out, w_out) int32.

    ``count`` is PyTorch's with ``count_include_pad``: padding counts, what ceil mode adds
    beyond it does not. The relative error is at most ``count / 2^24``.
    """
    counts = []
    for places, k, pad, size in (
        (op.h_out, op.k_h, op.pad_h, op.h),
        (op.w_out, op.k_w, op.pad_w, op.w),
    ):
        start = np.arange(places) * op.stride - pad
        counts.append(np.minimum(start + k, size + pad) - start)
    count = np.outer(counts[0], counts[1])
    return (((2 << AVERAGE_BITS) + count) // (2 * count)).astype(np.int32)


@compiled
def _average_rows(
    x: Int8s, y: Int32s, scale: Int32s, window: Window, first: int, last: int
) -> None:
    k_h, k_w, stride, pad_h, pad_w = window
    height, width, channels = x.shape[1:]
    rows, columns = y.shape[1:3]
    for position in range(first, last):
        n, row = position // rows, position % rows
        top = row * stride - pad_h
        for column in range(columns):
            left = column * stride - pad_w
            total = y[n, row, column]
            total[:] = np.int32(0)
            for h in range(max(top, 0), min(top + k_h, height)):
                for w in range(max(left, 0), min(left + k_w, width)):
                    source = x[n, h, w]
                    for c in range(channels):
                        total[c] = np.int32(total[c] + np.int32(source[c]))
            for c in range(channels):
                total[c] = np.int32(total[c] * scale[row, column])


@compiled
def _spread_rows(
    e: Int8s, dx: Int32s, scale: Int32s, window: Window, first: int, last: int
) -> None:
    """Samples ``first`` to ``last``: each error times its multiplier, over its window."""
    k_h, k_w, stride, pad_h, pad_w = window
    height, width, channels = dx.shape[1:]
    rows, columns = e.shape[1:3]
    for n in range(first, last):
        dx[n] = np.int32(0)
        for row in range(rows):
            top = row * stride - pad_h
            for column in range(columns):
                left = column * stride - pad_w
                error, by = e[n, row, column], scale[row, column]
                for h in range(max(top, 0), min(top + k_h, height)):
                    for w in range(max(left, 0), min(left + k_w, width)):
                        result = dx[n, h, w]
                        for c in range(channels):
                            result[c] = np.int32(result[c] + np.int32(np.int32(error[c]) * by))


def _spread_scale(op: AvgPool2d) -> tuple[Int32s, int]:
    """Multipliers for the errors, with fewer bits where windows share elements: sums fit INT32."""
    overlap = -(-op.k_h // op.stride) * -(-op.k_w // op.stride)
    drop = (overlap - 1).bit_length()
    scale = average_multipliers(op)
    return ((scale + (1 << drop >> 1)) >> drop).astype(np.int32), AVERAGE_BITS - drop


def avg_pool_forward(
    x: QTensor,
    op: AvgPool2d | GlobalAvgPool,
    out: Int32s | None = None,
    threads: int | None = None,
) -> QTensor:
    """Mean of each window, as accumulators at an exponent :data:`AVERAGE_BITS` lower.

    Parameters
    ----------
    x
        (n, h, w, c) int8.
    op
        The layer.
    out
        int32 of the result's shape to write to; a new array by default.
    threads
        Threads at most; default: every core of this process.

    Returns
    -------
    QTensor
        (n, h_out, w_out, c) int32, within ``count / 2^24`` of the mean, relatively; exact for
        a count that is a power of two. Rescale it.

    Raises
    ------
    ArrayError, QuantError
        Another dtype or shape; an exponent that would leave -126 .. 127.

    Examples
    --------
    >>> x = QTensor(np.array([3, 4], np.int8).reshape(1, 1, 2, 1), -7)
    >>> avg_pool_forward(x, GlobalAvgPool(n=1, c=1, h=1, w=2)).dequantise().item() * 2**7
    3.5
    """
    op = as_average(op)
    source = int8_mantissa("x", x, channels_last(op.inputs[0]))
    y = target(out, channels_last(op.output), np.int32)
    scale, window = average_multipliers(op), op.window
    least = max(1, _WORTHWHILE // (op.k_h * op.k_w * op.w_out * op.c))
    over_rows(
        lambda first, last: _average_rows(source, y, scale, window, first, last),
        op.n * op.h_out,
        1,
        thread_count(threads),
        least,
    )
    return QTensor(y, x.exponent - AVERAGE_BITS)


def avg_pool_input_grad(
    e: QTensor,
    op: AvgPool2d | GlobalAvgPool,
    out: Int32s | None = None,
    threads: int | None = None,
) -> QTensor:
    """Spread each error evenly over its window, as accumulators.

    Parameters
    ----------
    e
        (n, h_out, w_out, c) int8.
    op, out, threads
        As for :func:`avg_pool_forward`.

    Returns
    -------
    QTensor
        (n, h, w, c) int32, as precise as :func:`avg_pool_forward` (where windows share
        elements, one bit less for each doubling of the windows over an element). Rescale it.

    Raises
    ------
    ArrayError, QuantError
        As :func:`avg_pool_forward`.
    """
    op = as_average(op)
    errors = int8_mantissa("e", e, channels_last(op.output))
    dx = target(out, channels_last(op.inputs[0]), np.int32)
    (scale, bits), window = _spread_scale(op), op.window
    over_rows(
        lambda first, last: _spread_rows(errors, dx, scale, window, first, last),
        op.n,
        1,
        thread_count(threads),
        max(1, _WORTHWHILE // dx[0].size),
    )
    return QTensor(dx, e.exponent - bits)
