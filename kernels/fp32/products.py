"""Matrix products along a walk: blocked for the caches, never a whole im2col in memory.

Each block of positions gathers its runs into working memory that stays in L2, meets the packed
weights panel by panel, and is written out once. dW gathers the same runs as panels, and reads the
error packed by tile rows. Each sum runs along K in one order, and where dW splits its positions
depends on shapes alone: no bit depends on the number of threads.
"""

from __future__ import annotations

import numpy as np

from kernels.arrays import Floats
from kernels.fp32.gather import Ints, gather, pack_across, pack_along, pack_error, scatter
from kernels.fp32.tiles import TILE, TILE_ROWS, WIDTH
from kernels.fp32.walks import Walk
from kernels.jit import compiled
from kernels.threads import over_rows
from kernels.workspace import float_scratch

_DEPTH = 256
"""K per pass: a panel of it is 32 KiB, and stays in L1."""
_BLOCK = 12 * TILE_ROWS
"""Positions per block: about 100 KiB of gathered values per pass."""
_ITEMS = 32
"""Pieces of work to aim for, so that a few threads share them evenly."""
_SPLIT = 1024
"""Positions of dW that are worth a sum of their own."""
_SERIAL_MACS = 1 << 20
"""Work below which handing it to other threads costs more than it saves (tens of us)."""
_SERIAL_FLOATS = 1 << 16
"""The same for copies."""


@compiled
def _multiply(
    a: Floats, a_at: int, a_stride: int, rows: int, panels: Floats, depth: int, k: int,
    steps: int, out: Floats, left: int, right: int,
) -> None:  # fmt: skip
    """Add ``steps`` products from ``k`` on to ``rows`` of ``out``, columns ``left`` to ``right``.

    ``a[a_at + row * a_stride:]`` begins at ``k``; ``out`` begins at column ``left``.
    """
    wide = right - left
    for column in range(left, right, WIDTH):
        panel = column * depth + k * WIDTH
        for i in range(0, rows, TILE_ROWS):
            TILE(
                a, a_at + i * a_stride, a_stride, 1, min(TILE_ROWS, rows - i) - 1,
                panels, panel, steps, np.int64(k == 0), out, i * wide + column - left, wide,
            )  # fmt: skip


@compiled
def _positions(
    x: Floats, plain: bool, numbers: Ints, taps: Ints, panels: Floats, depth: int, bias: Floats,
    out: Floats, gathered: Floats, sums: Floats, first: int, last: int, left: int, right: int,
) -> None:  # fmt: skip
    """Sums of positions ``first`` to ``last``; ``left`` and ``right`` are whole panels."""
    edge = min(right, numbers[13])
    for top in range(first, last, _BLOCK):
        bottom = min(top + _BLOCK, last)
        for k in range(0, depth, _DEPTH):
            steps = min(_DEPTH, depth - k)
            if plain:
                _multiply(
                    x, top * depth + k, depth, bottom - top, panels, depth, k, steps,
                    sums, left, right,
                )  # fmt: skip
            else:
                gather(x, numbers, taps, gathered, _DEPTH, top, bottom, k, k + steps)
                _multiply(
                    gathered, 0, _DEPTH, bottom - top, panels, depth, k, steps, sums, left, right
                )
        scatter(sums, right - left, numbers, bias, out, top, bottom, left, edge)


def _panels(w: Floats, walk: Walk, swapped: bool, threads: int) -> Floats:
    """B of a walk, packed: (columns / WIDTH, depth, WIDTH), flat, in kept working memory."""
    count, row, inner = -(-walk.columns // WIDTH), w[0].size, w.shape[3]
    panels = float_scratch("panels", count * walk.depth * WIDTH)
    flat, window, columns, rows = w.reshape(-1), walk.window, walk.columns, walk.channels
    many = threads if panels.size > _SERIAL_FLOATS else 1

    def across(first: int, last: int) -> None:
        pack_across(flat, row, inner, walk.first_out, columns, window, panels, first, last)

    def along(first: int, last: int) -> None:
        pack_along(flat, row, inner, walk.first_in, columns, window, panels, rows, first, last)

    if swapped:
        over_rows(along, rows, 1, many)
    else:
        over_rows(across, count, 1, many)
    return panels


def correlate(
    x: Floats, w: Floats, walk: Walk, bias: Floats | None, out: Floats, threads: int,
    swapped: bool = False,
) -> None:  # fmt: skip
    """Write the walk's positions of ``out``: sums of ``x`` times the weights of its group.

    Parameters
    ----------
    x
        (n, h, w, c) float32: the source of the walk.
    w
        (c_out, k_h, k_w, c_in / groups) float32: all weights of the convolution.
    walk
        One group of it, or of a phase of its dX.
    bias
        (c_out,) float32, added last, or None.
    out
        (n, h, w, c) float32: the target of the walk.
    threads
        Threads to use.
    swapped
        False: columns are output channels (forward); True: input channels (dX).
    """
    panels = _panels(w, walk, swapped, threads)
    numbers, depth, plain = walk.numbers(), walk.depth, walk.is_plain
    added = np.empty(0, np.float32)
    if bias is not None:
        added = bias[walk.first_out : walk.first_out + walk.columns]
    source, written = x.reshape(-1), out.reshape(-1)
    positions = x.shape[0] * walk.grid[0] * walk.grid[1]
    blocks, padded = -(-positions // _BLOCK), -(-walk.columns // WIDTH) * WIDTH
    shares = max(1, min(padded // WIDTH, _ITEMS // blocks))
    wide = -(-padded // (WIDTH * shares)) * WIDTH
    shares = -(-padded // wide)

    def work(first: int, last: int) -> None:
        gathered = float_scratch("gathered", _BLOCK * _DEPTH)
        sums = float_scratch("sums", _BLOCK * wide)
        for item in range(first, last):
            top, left = item // shares * _BLOCK, item % shares * wide
            _positions(
                source, plain, numbers, walk.taps, panels, depth, added, written, gathered, sums,
                top, min(top + _BLOCK, positions), left, min(left + wide, padded),
            )  # fmt: skip

    small = positions * depth * padded < _SERIAL_MACS
    over_rows(work, blocks * shares, 1, 1 if small else threads)


@compiled
def _window_panel(
    x: Floats, numbers: Ints, taps: Ints, depth: int, packed: Floats, positions: int,
    first: int, last: int, column: int, gathered: Floats, sums: Floats,
) -> None:  # fmt: skip
    """dW of one panel of window columns, summed over positions ``first`` to ``last``."""
    wide = min(WIDTH, depth - column)
    gathered[:] = np.float32(0)
    for top in range(first, last, _DEPTH):
        bottom = min(top + _DEPTH, last)
        gather(x, numbers, taps, gathered, WIDTH, top, bottom, column, column + wide)
        for i in range(0, numbers[13], TILE_ROWS):
            TILE(
                packed, i * positions + top * TILE_ROWS, 1, TILE_ROWS, TILE_ROWS - 1,
                gathered, 0, bottom - top, np.int64(top == first), sums, i * WIDTH, WIDTH,
            )  # fmt: skip


@compiled
def _store_panel(sums: Floats, out: Floats, at: int, depth: int, columns: int, column: int) -> None:
    wide = min(WIDTH, depth - column)
    for i in range(columns):
        for j in range(wide):
            out[at + i * depth + column + j] = sums[i * WIDTH + j]


@compiled
def _add_parts(parts: Floats, out: Floats, at: int, size: int, first: int, last: int) -> None:
    """Sum of the parts, in their order, for elements ``first`` to ``last``."""
    out[at + first : at + last] = parts[first:last]
    for part in range(size, parts.size, size):
        for i in range(first, last):
            out[at + i] += parts[part + i]


def correlate_errors(x: Floats, e: Floats, walk: Walk, out: Floats, threads: int) -> None:
    """Write the group's rows of dW: for each window column, its sum with the error.

    Parameters
    ----------
    x
        (n, h, w, c_in) float32: the source of the forward walk.
    e
        (n, h_out, w_out, c_out) float32: its target's gradient.
    walk
        The forward walk of one group.
    out
        (c_out, k_h, k_w, c_in / groups) float32.
    threads
        Threads to use.
    """
    numbers, depth, columns = walk.numbers(), walk.depth, walk.columns
    pixel = walk.target[2]
    positions = e.size // pixel
    tiles = -(-columns // TILE_ROWS)
    packed = float_scratch("error", tiles * TILE_ROWS * positions)
    source, error, written = x.reshape(-1), e.reshape(-1), out.reshape(-1)
    over_rows(
        lambda first, last: pack_error(error, pixel, walk.first_out, columns, packed, first, last),
        positions,
        1,
        threads if packed.size > _SERIAL_FLOATS else 1,
    )
    count = -(-depth // WIDTH)
    splits = max(1, min(positions // _SPLIT, -(-_ITEMS // count)))
    share = -(-positions // splits)
    size, at = columns * depth, walk.first_out * depth
    parts = written if splits == 1 else float_scratch("parts", splits * size)

    def work(first: int, last: int) -> None:
        gathered = float_scratch("panel", _DEPTH * WIDTH)
        sums = float_scratch("sums", tiles * TILE_ROWS * WIDTH)
        for item in range(first, last):
            split, column = item // count, item % count * WIDTH
            top = split * share
            _window_panel(
                source, numbers, walk.taps, depth, packed, positions,
                top, min(top + share, positions), column, gathered, sums,
            )  # fmt: skip
            place = at if splits == 1 else split * size
            _store_panel(sums, parts, place, depth, columns, column)

    small = positions * depth * columns < _SERIAL_MACS
    over_rows(work, splits * count, 1, 1 if small else threads)
    if splits > 1:
        over_rows(
            lambda first, last: _add_parts(parts, written, at, size, first, last),
            size,
            1,
            threads if splits * size > _SERIAL_FLOATS else 1,
        )
