"""FP32 kernels of a filtered backward pass: see :mod:`kernels.filtered`.

The coarse products are convolutions of :mod:`kernels.fp32.conv`; here are the passes around them.
Each result is one sum in a fixed order, so threads change no bit.
"""

from __future__ import annotations

import numpy as np

from kernels.arrays import Array, Floats, check_floats, float_target
from kernels.filtered import PatchExpand, PatchMean, PatchSum, TapBroadcast, TapSum
from kernels.jit import compiled
from kernels.operators import channels_last
from kernels.threads import over_rows, thread_count

_WORTHWHILE = 1 << 16
"""Elements below which other threads do not help (tens of us)."""


@compiled
def _gather(
    x: Floats, y: Floats, grid: tuple[int, int, int], mean: bool, first: int, last: int
) -> None:
    """Lines ``first`` to ``last`` of all samples' coarse rows."""
    patch, above, aside = grid
    height, width, channels = x.shape[1:]
    rows, columns = y.shape[1:3]
    for line in range(first, last):
        n, row = line // rows, line % rows
        top = row * patch - above
        for column in range(columns):
            left = column * patch - aside
            total = y[n, row, column]
            total[:] = np.float32(0)
            count = 0
            for i in range(max(top, 0), min(top + patch, height)):
                for j in range(max(left, 0), min(left + patch, width)):
                    source = x[n, i, j]
                    count += 1
                    for c in range(channels):
                        total[c] += source[c]
            if mean:
                for c in range(channels):
                    total[c] /= np.float32(max(count, 1))


def _gathered(
    x: Floats, op: PatchSum | PatchMean, mean: bool, out: Floats | None, threads: int | None
) -> Floats:
    check_floats("x", x, channels_last(op.fine))
    y = float_target(out, channels_last(op.coarse), x)
    count = thread_count(threads, shared=x.size > _WORTHWHILE)
    over_rows(lambda i, j: _gather(x, y, op.grid, mean, i, j), op.n * op.rows, 1, count)
    return y


def patch_sum(
    x: Floats, op: PatchSum, *, out: Floats | None = None, threads: int | None = None
) -> Floats:
    """Sum over each patch.

    Parameters
    ----------
    x
        (n, h, w, c) float32, C-contiguous.
    op
        The patches.
    out
        (n, rows, columns, c) float32 to write to; a new array by default.
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
    >>> op = PatchSum(n=1, c=1, h=3, w=3, patch=2, rows=2, columns=2, top=1, left=1)
    >>> patch_sum(np.ones((1, 3, 3, 1), np.float32), op)[0, :, :, 0]
    array([[1., 2.],
           [2., 4.]], dtype=float32)
    """
    return _gathered(x, op, False, out, threads)


def patch_mean(
    x: Floats, op: PatchMean, *, out: Floats | None = None, threads: int | None = None
) -> Floats:
    """Mean over the elements that each patch holds; arguments and errors as :func:`patch_sum`."""
    return _gathered(x, op, True, out, threads)


@compiled
def expand_samples(y: Array, x: Array, grid: tuple[int, int, int], first: int, last: int) -> None:
    """Samples ``first`` to ``last``; arrays of any type, the same for both."""
    patch, above, aside = grid
    height, width = x.shape[1:3]
    rows, columns = y.shape[1:3]
    for n in range(first, last):
        for i in range(height):
            row = (i + above) // patch
            for j in range(width):
                column = (j + aside) // patch
                if 0 <= row < rows and 0 <= column < columns:
                    x[n, i, j] = y[n, row, column]
                else:
                    x[n, i, j] = 0


def patch_expand(
    y: Floats, op: PatchExpand, *, out: Floats | None = None, threads: int | None = None
) -> Floats:
    """Copy each element over its patch.

    Parameters
    ----------
    y
        (n, rows, columns, c) float32, C-contiguous.
    op
        The patches.
    out
        (n, h, w, c) float32 to write to; a new array by default.
    threads
        As for :func:`patch_sum`.

    Raises
    ------
    ArrayError
        As :func:`patch_sum`.
    """
    check_floats("y", y, channels_last(op.coarse))
    x = float_target(out, channels_last(op.fine), y)
    count = thread_count(threads, shared=x.size > _WORTHWHILE)
    over_rows(lambda i, j: expand_samples(y, x, op.grid, i, j), op.n, 1, count)
    return x


def tap_sum(w: Floats, op: TapSum) -> Floats:
    """Sum of each kernel over its taps.

    Parameters
    ----------
    w
        (c_out, k_h, k_w, c_in / groups) float32, C-contiguous.
    op
        Its shape.

    Returns
    -------
    numpy.ndarray
        (c_out, 1, 1, c_in / groups) float32.

    Raises
    ------
    ArrayError
        As :func:`patch_sum`.
    """
    check_floats("w", w, channels_last(op.shape))
    total: Floats = w.sum(axis=(1, 2), keepdims=True, dtype=np.float32)
    return total


def tap_broadcast(g: Floats, op: TapBroadcast, *, out: Floats | None = None) -> Floats:
    """Give every tap of a kernel the same gradient.

    Parameters
    ----------
    g
        (c_out, 1, 1, c_in / groups) float32, C-contiguous.
    op
        Shape of the weight.
    out
        (c_out, k_h, k_w, c_in / groups) float32 to write to; a new array by default.

    Raises
    ------
    ArrayError
        As :func:`patch_sum`.
    """
    check_floats("g", g, channels_last(op.single))
    every = float_target(out, channels_last(op.shape), g)
    every[...] = g
    return every
