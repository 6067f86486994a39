"""Compiled loops that bring INT8 tensors into the words of :mod:`kernels.gemm.tiles`.

A word is a group of 4 bytes, or 2 int16. It groups either neighbours in memory (channels:
``gather_rows``, ``transpose_panels``) or values a stride apart (samples, or output channels:
``interleave``). Padding is written as zeros of the operand: 0x80 where sign bits are flipped.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from kernels.int8.shuffles import BLOCK, interleave_2, interleave_4, transpose_16
from kernels.jit import compiled

Int8s = NDArray[np.int8]
Int64s = NDArray[np.int64]
Words = NDArray[np.uint32]


@compiled
def gather_rows(
    source: Int8s, channels: int, places: Int64s, image: int, flip: Any, out: NDArray[Any],
    first: int, last: int,
) -> None:  # fmt: skip
    """Rows ``first`` to ``last`` of a padded map: ``channels`` bytes each, widened or flipped.

    Row ``r`` is place ``r % P`` of image ``r // P``; ``places`` says where in the image (of
    ``image`` bytes) it comes from, -1 for padding. ``out`` is (rows, row length), uint8 or int16.
    """
    count = places.size
    for row in range(first, last):
        place, line = places[row % count], out[row]
        if place < 0:
            line[:] = flip
        else:
            at = (row // count) * image + place
            values = source[at : at + channels]
            for c in range(channels):
                line[c] = values[c] ^ flip
            line[channels:] = flip


@compiled
def _line(
    source: Int8s, at: int, lane: int, lanes: int, group: int, flip: np.uint32, size: int,
    out: Words, to: int,
) -> None:  # fmt: skip
    """``size`` words of ``lanes <= group`` rows of bytes from ``at`` on; missing rows are 0."""
    whole = size // BLOCK * BLOCK if lanes == group else 0
    for n in range(0, whole, BLOCK):
        if group == 4:
            interleave_4(source, at + n, lane, flip, out, to + n)
        else:
            interleave_2(source, at + n, lane, flip, out, to + n)
    bits = np.uint32(32 // group)
    mask = np.uint32((np.uint32(1) << bits) - np.uint32(1))
    for n in range(whole, size):
        word = np.uint32(0)
        for r in range(lanes):
            value = np.uint32(np.uint32(np.int32(source[at + r * lane + n])) & mask)
            word = np.uint32(word | np.uint32(value << np.uint32(np.uint32(r) * bits)))
        out[to + n] = np.uint32(word ^ flip)


@compiled
def interleave(
    source: Int8s, places: Int64s, lane: int, lanes: int, group: int, flip: np.uint32,
    columns: int, width: int, steps: tuple[int, int, int], out: Words, first: int, last: int,
) -> None:  # fmt: skip
    """Words of ``group`` rows of bytes that lie ``lane`` apart, column by column, in panels.

    Unit ``u`` has outer index ``o = u // P`` and inner ``i = u % P`` over the ``P`` ``places``. Its
    rows start at ``(o * group + b) * lane + places[i]`` for ``b < group``; where ``places[i]`` is
    -1, or ``o * group + b`` reaches ``lanes``, a row is zeros. It becomes step
    ``o * steps[0] + i * steps[1]`` of each of the panels, of ``steps[2]`` steps by ``width``
    columns; columns beyond ``columns`` are 0. All words are flipped with ``flip``.
    """
    outer, inner = first // places.size, first % places.size
    for _ in range(first, last):
        place, number = places[inner], outer * group
        step = outer * steps[0] + inner * steps[1]
        rows = 0 if place < 0 else min(group, lanes - number)
        for left in range(0, columns, width):
            to, size = (left // width * steps[2] + step) * width, min(width, columns - left)
            at = number * lane + place + left
            _line(source, at, lane, rows, group, flip, size, out, to)
            for n in range(to + size, to + width):
                out[n] = np.uint32(0)
        inner += 1
        if inner == places.size:
            outer, inner = outer + 1, 0


@compiled
def transpose_panels(
    source: Words, columns: int, depth: int, width: int, out: Words, first: int, last: int
) -> None:
    """Panels from ``source``, (columns, depth) words: each a (depth, width) transpose.

    Units are panels times blocks of 16 steps; columns beyond ``columns`` are 0.
    """
    blocks = -(-depth // BLOCK)
    for unit in range(first, last):
        panel, top = unit // blocks, unit % blocks * BLOCK
        left, base = panel * width, panel * width * depth
        size, tall = min(width, columns - left), min(BLOCK, depth - top)
        whole = size // BLOCK * BLOCK if tall == BLOCK else 0
        for n in range(0, whole, BLOCK):
            transpose_16(
                source, (left + n) * depth + top, depth, out, base + top * width + n, width
            )
        for k in range(top, top + tall):
            line = out[base + k * width :][:width]
            for n in range(whole, size):
                line[n] = source[(left + n) * depth + k]
            line[size:] = np.uint32(0)
