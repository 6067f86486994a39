"""Compiled copies between maps and the packed forms that the register tile reads.

``numbers`` and ``taps`` are those of a :class:`kernels.fp32.walks.Walk`; arrays are flat.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kernels.arrays import Floats
from kernels.fp32.tiles import TILE_ROWS, WIDTH
from kernels.jit import compiled
from kernels.memory import clear, copy

Ints = NDArray[np.int64]


_STRIP = 64
"""Values of a row of weights that are turned into a column of a panel at a time: 8 KiB of it."""


@compiled
def gather(
    x: Floats, numbers: Ints, taps: Ints, out: Floats, stride: int,
    first: int, last: int, from_k: int, to_k: int,
) -> None:  # fmt: skip
    """Values that positions ``first`` to ``last`` multiply, at ``from_k <= k < to_k``.

    Position ``i`` goes to ``out[(i - first) * stride:]``.
    """
    height, width, pixel, channel, channels, step, span, grid_h, grid_w = numbers[:9]
    run = span * channels
    from_t, to_t = from_k // run, (to_k - 1) // run + 1
    line = first // grid_w
    column, sample = first - line * grid_w, line // grid_h
    row = line - sample * grid_h
    to = -from_k
    for _ in range(first, last):
        for t in range(from_t, to_t):
            begin, end = max(from_k, t * run), min(to_k, t * run + run)
            y, left = row * step + taps[t, 0], column * step + taps[t, 1]
            if y < 0 or y >= height or left >= width or left + span <= 0:
                clear(out, to + begin, end - begin)
                continue
            inside = min(end, max(begin, t * run + max(0, -left) * channels))
            after = max(inside, min(end, t * run + min(span, width - left) * channels))
            if begin < inside:
                clear(out, to + begin, inside - begin)
            of = ((sample * height + y) * width + left) * pixel + channel - t * run
            copy(x, of + inside, out, to + inside, after - inside)
            if after < end:
                clear(out, to + after, end - after)
        to += stride
        column += 1
        if column == grid_w:
            column, row = 0, row + 1
            if row == grid_h:
                row, sample = 0, sample + 1


@compiled
def scatter(
    sums: Floats, stride: int, numbers: Ints, bias: Floats, out: Floats,
    first: int, last: int, left: int, right: int,
) -> None:  # fmt: skip
    """Write columns ``left`` to ``right`` of positions ``first`` to ``last`` where they belong.

    ``sums[(i - first) * stride:]`` begins with column ``left`` of position ``i``; ``bias`` holds
    one value per column of the group, or nothing.
    """
    grid_h, grid_w, height, width, pixel, channel = numbers[7:13]
    step, top, side = numbers[14:17]
    added = bias[left:right]
    for position in range(first, last):
        line = position // grid_w
        column = position - line * grid_w
        sample = line // grid_h
        row = (line - sample * grid_h) * step + top
        place = (sample * height + row) * width + column * step + side
        to, of = place * pixel + channel + left, (position - first) * stride
        copy(sums, of, out, to, right - left)
        if added.size > 0:
            written = out[to : to + right - left]
            for j in range(added.size):
                written[j] += added[j]


@compiled
def pack_across(
    w: Floats, row: int, channels: int, first_row: int, columns: int, window: Ints,
    panels: Floats, first: int, last: int,
) -> None:  # fmt: skip
    """Panels ``first`` to ``last`` whose columns are rows of ``w``, from ``first_row`` on.

    ``panels[p, t * channels + i, j] = w[first_row + p * WIDTH + j, window[t] * channels + i]``,
    where rows are ``row`` long; columns past the end are zeros.
    """
    for p in range(first, last):
        count = min(WIDTH, columns - p * WIDTH)
        for t in range(window.size):
            to = (p * window.size + t) * channels * WIDTH
            for strip in range(0, channels, _STRIP):
                high = min(_STRIP, channels - strip)
                block = panels[to + strip * WIDTH : to + (strip + high) * WIDTH]
                block = block.reshape(high, WIDTH)
                for j in range(WIDTH):
                    if j < count:
                        of = (first_row + p * WIDTH + j) * row + window[t] * channels + strip
                        source = w[of : of + high]
                        for i in range(high):
                            block[i, j] = source[i]
                    else:
                        for i in range(high):
                            block[i, j] = np.float32(0)


@compiled
def pack_along(
    w: Floats, row: int, channels: int, first_row: int, columns: int, window: Ints,
    panels: Floats, rows: int, first: int, last: int,
) -> None:  # fmt: skip
    """Rows ``first`` to ``last`` of all panels whose columns are channels of ``w``.

    ``panels[p, t * rows + i, j] = w[first_row + i, window[t] * channels + p * WIDTH + j]``,
    where rows are ``row`` long; columns past the end are zeros.
    """
    for i in range(first, last):
        for t in range(window.size):
            of = (first_row + i) * row + window[t] * channels
            for column in range(0, columns, WIDTH):
                to = (column * window.size + t * WIDTH) * rows + i * WIDTH
                count = min(WIDTH, columns - column)
                copy(w, of + column, panels, to, count)
                if count < WIDTH:
                    clear(panels, to + count, WIDTH - count)


@compiled
def pack_error(
    e: Floats, pixel: int, channel: int, columns: int, out: Floats, first: int, last: int
) -> None:
    """The error by tile rows: ``out[i, position, r]`` is column ``i * TILE_ROWS + r`` of it.

    ``e`` has ``pixel`` channels per position; ``columns`` of them, from ``channel``, are taken.
    Tile rows past the end are zeros. Positions ``first`` to ``last``.
    """
    positions = e.size // pixel
    for i in range(0, columns, TILE_ROWS):
        count = min(TILE_ROWS, columns - i)
        for position in range(first, last):
            to, of = i * positions + position * TILE_ROWS, position * pixel + channel + i
            if count == TILE_ROWS:
                copy(e, of, out, to, TILE_ROWS)
            else:
                clear(out, to, TILE_ROWS)
                copy(e, of, out, to, count)
