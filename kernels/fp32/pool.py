"""FP32 pooling of :mod:`kernels.pool`, channels-last.

Padding never wins a maximum. An average counts it (PyTorch's default ``count_include_pad``), but
not what ``ceil_mode`` hangs over the padded edge.
"""

from __future__ import annotations

import numpy as np

from kernels.arrays import Floats, check_floats, float_target
from kernels.jit import compiled
from kernels.operators import channels_last
from kernels.pool import AvgPool2d, GlobalAvgPool, MaxPool2d, Window, as_average
from kernels.threads import over_rows, thread_count

_SERIAL_FLOATS = 1 << 16
"""Elements below which other threads do not help (tens of us)."""


def _threads(op: MaxPool2d | AvgPool2d, threads: int | None) -> int:
    return thread_count(threads, shared=op.n * op.h * op.w * op.c > _SERIAL_FLOATS)


@compiled
def _largest(x: Floats, sample: int, top: int, left: int, k_h: int, k_w: int, best: Floats) -> None:
    """Maximum of one window per channel: NaN where the window holds one; ``x`` is (n, h, w, c)."""
    best[:] = np.float32(-np.inf)
    for i in range(max(top, 0), min(top + k_h, x.shape[1])):
        for j in range(max(left, 0), min(left + k_w, x.shape[2])):
            for c in range(best.size):
                a, b = best[c], x[sample, i, j, c]
                best[c] = a if a >= b or a != a else b


@compiled
def _max_rows(x: Floats, y: Floats, window: Window, first: int, last: int) -> None:
    """Rows ``first`` to ``last`` of all samples' output rows."""
    k_h, k_w, stride, pad_h, pad_w = window
    for line in range(first, last):
        sample, row = line // y.shape[1], line % y.shape[1]
        for column in range(y.shape[2]):
            top, left = row * stride - pad_h, column * stride - pad_w
            _largest(x, sample, top, left, k_h, k_w, y[sample, row, column])


@compiled
def _route_samples(
    x: Floats, e: Floats, dx: Floats, work: Floats, window: Window, first: int, last: int
) -> None:
    """Samples ``first`` to ``last`` of dX; ``work`` is (2, c)."""
    k_h, k_w, stride, pad_h, pad_w = window
    best, waiting = work[0], work[1]
    for sample in range(first, last):
        dx[sample] = np.float32(0)
        for row in range(e.shape[1]):
            for column in range(e.shape[2]):
                top, left = row * stride - pad_h, column * stride - pad_w
                _largest(x, sample, top, left, k_h, k_w, best)
                waiting[:] = e[sample, row, column]
                for i in range(max(top, 0), min(top + k_h, x.shape[1])):
                    for j in range(max(left, 0), min(left + k_w, x.shape[2])):
                        for c in range(best.size):
                            hit, rest = x[sample, i, j, c] == best[c], waiting[c]
                            dx[sample, i, j, c] += rest if hit else np.float32(0)
                            waiting[c] = np.float32(0) if hit else rest


@compiled
def _route_two(x: Floats, e: Floats, dx: Floats, first: int, last: int) -> None:
    """As ``_route_samples`` for whole, separate windows of two by two: all four at once."""
    zero, channels = np.float32(0), x.shape[3]
    for sample in range(first, last):
        for row in range(e.shape[1]):
            for column in range(e.shape[2]):
                error = e[sample, row, column]
                upper = x[sample, 2 * row, 2 * column : 2 * column + 2]
                lower = x[sample, 2 * row + 1, 2 * column : 2 * column + 2]
                to_upper = dx[sample, 2 * row, 2 * column : 2 * column + 2]
                to_lower = dx[sample, 2 * row + 1, 2 * column : 2 * column + 2]
                for j in range(channels):
                    a, b, c, d = upper[0, j], upper[1, j], lower[0, j], lower[1, j]
                    given = error[j]
                    in_a = (a >= b) & (a >= c) & (a >= d)
                    in_b = (b > a) & (b >= c) & (b >= d)
                    in_c = (c > a) & (c > b) & (c >= d)
                    in_d = (d > a) & (d > b) & (d > c)
                    to_upper[0, j] = given if in_a else zero
                    to_upper[1, j] = given if in_b else zero
                    to_lower[0, j] = given if in_c else zero
                    to_lower[1, j] = given if in_d else zero
        dx[sample, 2 * e.shape[1] :] = zero
        dx[sample, :, 2 * e.shape[2] :] = zero


def max_pool_forward(
    x: Floats, op: MaxPool2d, *, out: Floats | None = None, threads: int | None = None
) -> Floats:
    """Maximum of each window.

    Parameters
    ----------
    x
        (n, h, w, c) float32, C-contiguous.
    op
        The pooling.
    out
        (n, h_out, w_out, c) float32 to write to; a new array by default.
    threads
        Threads at most; default: every core of this process. The bits are the same for each.

    Returns
    -------
    numpy.ndarray
        ``out``.

    Raises
    ------
    ArrayError
        An array of another dtype, shape or order, or fewer than 1 thread.

    Examples
    --------
    >>> op = MaxPool2d(n=1, c=1, h=2, w=2, k=2, stride=2)
    >>> max_pool_forward(np.array([1, 4, 3, 2], np.float32).reshape(1, 2, 2, 1), op).item()
    4.0
    """
    check_floats("x", x, channels_last(op.inputs[0]))
    y, window = float_target(out, channels_last(op.output), x), op.window
    over_rows(
        lambda first, last: _max_rows(x, y, window, first, last),
        op.n * op.h_out,
        1,
        _threads(op, threads),
    )
    return y


def max_pool_input_grad(
    x: Floats, e: Floats, op: MaxPool2d, *, out: Floats | None = None, threads: int | None = None
) -> Floats:
    """Each error, added where its window's first maximum is, in row-major order.

    The maximum is found again in the saved input. A window of NaNs passes its error to none.

    Parameters
    ----------
    x
        (n, h, w, c) float32: the input of the forward pass, C-contiguous.
    e
        (n, h_out, w_out, c) float32: gradient of the output, C-contiguous.
    op
        The pooling.
    out
        (n, h, w, c) float32 to write to; a new array by default.
    threads
        As in :func:`max_pool_forward`; at most one per sample works.

    Returns
    -------
    numpy.ndarray
        ``out``.

    Raises
    ------
    ArrayError
        As :func:`max_pool_forward`.
    """
    check_floats("x", x, channels_last(op.inputs[0]))
    check_floats("e", e, channels_last(op.output))
    dx, window = float_target(out, channels_last(op.inputs[0]), x, e), op.window

    def work(first: int, last: int) -> None:
        if op.is_two_by_two:
            _route_two(x, e, dx, first, last)
            return
        _route_samples(x, e, dx, np.empty((2, op.c), np.float32), window, first, last)

    over_rows(work, op.n, 1, _threads(op, threads))
    return dx


@compiled
def _covered(at: int, k: int, size: int, pad: int) -> int:
    """Pixels of a window from ``at`` on that lie in the padded input."""
    return min(at + k, size + pad) - at


@compiled
def _average_rows(x: Floats, y: Floats, window: Window, first: int, last: int) -> None:
    """Rows ``first`` to ``last`` of all samples' output rows."""
    k_h, k_w, stride, pad_h, pad_w = window
    for line in range(first, last):
        sample, row = line // y.shape[1], line % y.shape[1]
        top = row * stride - pad_h
        high = _covered(top, k_h, x.shape[1], pad_h)
        for column in range(y.shape[2]):
            left = column * stride - pad_w
            total = y[sample, row, column]
            total[:] = np.float32(0)
            for i in range(max(top, 0), min(top + k_h, x.shape[1])):
                for j in range(max(left, 0), min(left + k_w, x.shape[2])):
                    for c in range(total.size):
                        total[c] += x[sample, i, j, c]
            count = np.float32(high * _covered(left, k_w, x.shape[2], pad_w))
            for c in range(total.size):
                total[c] /= count


@compiled
def _spread_rows(e: Floats, dx: Floats, window: Window, first: int, last: int) -> None:
    """Rows ``first`` to ``last`` of all samples' input rows."""
    k_h, k_w, stride, pad_h, pad_w = window
    for line in range(first, last):
        sample, i = line // dx.shape[1], line % dx.shape[1]
        dx[sample, i] = np.float32(0)
        for row in range(max(0, (i + pad_h - k_h) // stride), e.shape[1]):
            top = row * stride - pad_h
            if top > i or top + k_h <= i:
                continue
            high = _covered(top, k_h, dx.shape[1], pad_h)
            for column in range(e.shape[2]):
                left = column * stride - pad_w
                count = np.float32(high * _covered(left, k_w, dx.shape[2], pad_w))
                for j in range(max(left, 0), min(left + k_w, dx.shape[2])):
                    for c in range(dx.shape[3]):
                        dx[sample, i, j, c] += e[sample, row, column, c] / count


def avg_pool_forward(
    x: Floats,
    op: AvgPool2d | GlobalAvgPool,
    *,
    out: Floats | None = None,
    threads: int | None = None,
) -> Floats:
    """Mean of each window, or of each whole map.

    Parameters
    ----------
    x
        (n, h, w, c) float32, C-contiguous.
    op
        The pooling.
    out
        (n, h_out, w_out, c) float32 to write to, (n, 1, 1, c) for a whole map; a new array by
        default.
    threads
        As in :func:`max_pool_forward`.

    Returns
    -------
    numpy.ndarray
        ``out``.

    Raises
    ------
    ArrayError
        As :func:`max_pool_forward`.
    """
    pool = as_average(op)
    check_floats("x", x, channels_last(pool.inputs[0]))
    y, window = float_target(out, channels_last(pool.output), x), pool.window
    over_rows(
        lambda first, last: _average_rows(x, y, window, first, last),
        pool.n * pool.h_out,
        1,
        _threads(pool, threads),
    )
    return y


def avg_pool_input_grad(
    e: Floats,
    op: AvgPool2d | GlobalAvgPool,
    *,
    out: Floats | None = None,
    threads: int | None = None,
) -> Floats:
    """Each error, spread evenly over its window.

    Parameters
    ----------
    e
        (n, h_out, w_out, c) float32: gradient of the output, C-contiguous.
    op
        The pooling.
    out
        (n, h, w, c) float32 to write to; a new array by default.
    threads
        As in :func:`max_pool_forward`.

    Returns
    -------
    numpy.ndarray
        ``out``.

    Raises
    ------
    ArrayError
        As :func:`max_pool_forward`.
    """
    pool = as_average(op)
    check_floats("e", e, channels_last(pool.output))
    dx, window = float_target(out, channels_last(pool.inputs[0]), e), pool.window
    over_rows(
        lambda first, last: _spread_rows(e, dx, window, first, last),
        pool.n * pool.h,
        1,
        _threads(pool, threads),
    )
    return dx
