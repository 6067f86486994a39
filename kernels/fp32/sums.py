"""Sums per channel over all other axes, in an order that shapes alone decide.

Rows of a channels-last array are added in float64 within fixed chunks, and the chunks in their
order: as many threads as there are give the same bits.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from kernels.arrays import Floats, check_floats
from kernels.jit import compiled
from kernels.threads import over_rows, thread_count

Doubles = NDArray[np.float64]

CHUNK = 512
"""Rows that are added up before they meet others."""
SERIAL_FLOATS = 1 << 16
"""Elements below which other threads do not help (tens of us)."""


def in_chunks(
    kernel: Callable[[int, int, Doubles], None], rows: int, kinds: int, channels: int, threads: int
) -> Doubles:
    """Sum over rows of ``kinds`` quantities per channel.

    Parameters
    ----------
    kernel
        ``kernel(first, last, part)`` adds rows ``first`` to ``last`` to ``part``, (kinds,
        channels) zeros.
    rows, kinds, channels
        Sizes.
    threads
        Threads to use.

    Returns
    -------
    numpy.ndarray
        (kinds, channels) float64.
    """
    chunks = -(-rows // CHUNK)
    parts = np.zeros((chunks, kinds, channels))

    def work(first: int, last: int) -> None:
        for chunk in range(first, last):
            kernel(chunk * CHUNK, min((chunk + 1) * CHUNK, rows), parts[chunk])

    over_rows(work, chunks, 1, threads if rows * channels > SERIAL_FLOATS else 1)
    total: Doubles = np.zeros((kinds, channels))
    for part in parts:
        total += part
    return total


@compiled
def _add_rows(x: Floats, first: int, last: int, part: Doubles) -> None:
    total = part[0]
    for i in range(first, last):
        row = x[i]
        for j in range(row.size):
            total[j] += np.float64(row[j])


def channel_sums(x: Floats, *, threads: int | None = None) -> Floats:
    """Sum over all axes but the last.

    Parameters
    ----------
    x
        (..., c) float32, C-contiguous.
    threads
        Threads at most; default: every core of this process.

    Returns
    -------
    numpy.ndarray
        (c,) float32, rounded once from float64.

    Raises
    ------
    ArrayError
        An array of another dtype or order, an empty one, or fewer than 1 thread.

    Examples
    --------
    >>> channel_sums(np.ones((2, 3, 2), np.float32))
    array([6., 6.], dtype=float32)
    """
    check_floats("x", x)
    count = thread_count(threads)
    rows = x.reshape(-1, x.shape[-1])
    total = in_chunks(
        lambda first, last, part: _add_rows(rows, first, last, part),
        rows=rows.shape[0],
        kinds=1,
        channels=rows.shape[1],
        threads=count,
    )
    sums: Floats = total[0].astype(np.float32)
    return sums
