"""Compiled outer loops of the tiled convolution: a block of rows, one panel, and what follows.

The sums of a block (96 rows of one panel) never leave the caches: they are requantised, copied or
added to the gradient as soon as the last of K is in.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from kernels.gemm.tiles import TILE_ROWS, product
from kernels.int8.epilogue import Recipe, amax_block, requantise_block
from kernels.int8.shuffles import BLOCK, transpose_16
from kernels.jit import compiled
from kernels.memory import copy

BLOCK_ROWS = 96
"""Rows of a block: whole tiles, and whole blocks of a transpose."""

Int8s = NDArray[np.int8]
Int32s = NDArray[np.int32]
Int64s = NDArray[np.int64]
Words = NDArray[np.uint32]
Four = tuple[int, int, int, int]


@compiled
def column_sums(
    kind: int, flip: Words, places: Int64s, panels: Words, steps: int, width: int, chunk: int,
    zeros: Int32s, sums: Int32s, out: Int32s, first: int, last: int,
) -> None:  # fmt: skip
    """128 times the column sums of a panel over chunks of K: what an input of zeros gives.

    Units are panels times chunks; ``out`` is (units, width), ``places`` zeros, as many as
    the steps of a chunk.
    """
    chunks = -(-steps // chunk)
    for unit in range(first, last):
        top = unit % chunks * chunk
        count = min(chunk, steps - top)
        at = (unit // chunks * steps + top) * width
        product(kind, flip, places, TILE_ROWS, places, 0, count, panels, at, zeros, 0, sums)
        out[unit, :] = sums[:width]


@compiled
def find_rows(
    top: int, count: int, rows: tuple[int, int], reads: Four, writes: Four, bases: Int64s,
    targets: Int64s,
) -> None:  # fmt: skip
    """Places of positions ``top`` to ``top + count`` in the map and the result; the last again."""
    area, across = rows[0] * rows[1], rows[1]
    image, place = top // area, top % area
    y, x = place // across, place % across
    base = target = 0
    for r in range(BLOCK_ROWS):
        if r < count:
            base = image * reads[0] + y * reads[1] + x * reads[2] + reads[3]
            target = image * writes[0] + y * writes[1] + x * writes[2] + writes[3]
        bases[r], targets[r] = base, target
        x += 1
        if x == across:
            x, y = 0, y + 1
            if y == rows[0]:
                y, image = 0, image + 1


@compiled
def write_rows(
    values: NDArray[Any], count: int, width: int, size: int, targets: Int64s, left: int,
    out: NDArray[Any],
) -> None:  # fmt: skip
    """The first ``size`` of each ``width`` values, to the places of ``out`` from ``left`` on."""
    for r in range(count):
        copy(values, r * width, out, targets[r] + left, size)


@compiled
def convolve(
    kind: int, width: int, a: Words, panels: Words, starts: Int32s, offsets: Int64s,
    images: int, rows: tuple[int, int], reads: Four, writes: Four, columns: int, recipe: Recipe,
    wide: Int32s, narrow: Int8s, places: Int64s, sums: Int32s, small: Int8s, first: int, last: int,
) -> tuple[np.int64, np.int64, np.int64]:  # fmt: skip
    """Blocks ``first`` to ``last`` of positions by panels; amax, saturated and lost in them.

    Positions are images times ``rows``; ``reads`` and ``writes`` give their places in ``a`` (words)
    and the result (elements). The result is ``narrow`` if the recipe requantises, else ``wide``.
    """
    positions, steps = images * rows[0] * rows[1], offsets.size
    bases, targets = places[:BLOCK_ROWS], places[BLOCK_ROWS:]
    blocks = -(-positions // BLOCK_ROWS)
    largest, saturated, lost = np.int64(0), np.int64(0), np.int64(0)
    for unit in range(first, last):
        panel, top = unit // blocks, unit % blocks * BLOCK_ROWS
        left, count = panel * width, min(BLOCK_ROWS, positions - top)
        find_rows(top, count, rows, reads, writes, bases, targets)
        product(kind, a, bases, count, offsets, 0, steps, panels, left * steps, starts, left, sums)
        largest = max(largest, amax_block(sums, count * width))
        size = min(width, columns - left)
        if recipe[0]:
            clipped, zeroed = requantise_block(sums, count * width, recipe, small)
            saturated += clipped
            lost += zeroed
            write_rows(small, count, width, size, targets, left, narrow)
        else:
            write_rows(sums, count, width, size, targets, left, wide)
    return largest, saturated, lost


@compiled
def _add_rows(
    values: Int32s, count: int, size: int, left: int, top: int, out: NDArray[Any]
) -> tuple[np.int64, np.int64]:
    """Add rows of ``BLOCK_ROWS`` values to ``out``; the largest result, and bits that were lost."""
    largest, wrapped = np.int64(0), np.int64(0)
    for n in range(size):
        line, added = out[left + n, top : top + count], values[n * BLOCK_ROWS :]
        for i in range(count):
            total = np.int64(line[i]) + np.int64(added[i])
            line[i] = total
            wrapped |= np.int64(line[i]) ^ total
            largest = max(largest, abs(total))
    return largest, wrapped


@compiled
def weight_blocks(
    kind: int, width: int, a: Words, bases: Int64s, rows: int, offsets: Int64s, chunk: int,
    panels: Words, starts: Int32s, columns: int, fresh: bool, out: NDArray[Any],
    sums: Int32s, turned: Int32s, first: int, last: int,
) -> tuple[np.int64, np.int64]:  # fmt: skip
    """Blocks ``first`` to ``last`` of (tap, channel) rows by panels of output channels.

    ``out`` is (columns, rows): the transposed product is written to it where ``fresh``, or added.
    Chunks of K fit int32; ``starts`` has a row for each. Returns the largest magnitude of the end
    result, and 0 unless a sum left the type of ``out``.
    """
    steps, blocks = offsets.size, -(-rows // BLOCK_ROWS)
    largest, wrapped = np.int64(0), np.int64(0)
    for unit in range(first, last):
        panel, top = unit // blocks, unit % blocks * BLOCK_ROWS
        left, count = panel * width, min(BLOCK_ROWS, rows - top)
        for begin in range(0, steps, chunk):
            end = min(begin + chunk, steps)
            product(
                kind, a, bases[top:], count, offsets, begin, end, panels, left * steps,
                starts[begin // chunk], left, sums,
            )  # fmt: skip
            for r in range(0, count, BLOCK):
                for n in range(0, width, BLOCK):
                    transpose_16(sums, r * width + n, width, turned, n * BLOCK_ROWS + r, BLOCK_ROWS)
            size = min(width, columns - left)
            if fresh and begin == 0:
                for n in range(size):  # a loop: Numba's copy of slices is several times slower
                    line, values = out[left + n, top : top + count], turned[n * BLOCK_ROWS :]
                    for i in range(count):
                        line[i] = values[i]
                amax = amax_block(sums, count * width)
            else:
                amax, bits = _add_rows(turned, count, size, left, top, out)
                wrapped |= bits
            if end == steps:
                largest = max(largest, amax)
    return largest, wrapped
