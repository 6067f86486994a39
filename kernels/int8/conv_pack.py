"""Compiled loops that bring INT8 tensors into the words of :mod:`kernels.gemm.tiles`.

A word is a group of 4 bytes, or 2 int16. It groups either neighbours in memory (channels:
``gather_rows``, ``transpose_panels``) or values a stride apart (samples, or output channels:
``interleave``). Padding is written as zeros of the operand: 0x80 where sign bits are flipped.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.extending import intrinsic
from numpy.typing import NDArray

from kernels.jit import compiled

BLOCK = 16
"""Rows and columns that are transposed in registers."""

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
def _word4(a: np.int8, b: np.int8, c: np.int8, d: np.int8) -> np.uint32:
    low = np.uint32(np.uint32(np.uint8(a)) | np.uint32(np.uint32(np.uint8(b)) << np.uint32(8)))
    high = np.uint32(np.uint32(np.uint8(c)) | np.uint32(np.uint32(np.uint8(d)) << np.uint32(8)))
    return np.uint32(low | np.uint32(high << np.uint32(16)))


@compiled
def _word2(a: np.int8, b: np.int8) -> np.uint32:
    low = np.uint32(np.uint32(np.int32(a)) & np.uint32(0xFFFF))
    return np.uint32(low | np.uint32(np.uint32(np.int32(b)) << np.uint32(16)))


@compiled
def interleave(
    source: Int8s, zeros: Int8s, places: Int64s, lane: int, lanes: int, group: int, flip: np.uint32,
    columns: int, width: int, steps: tuple[int, int, int], out: Words, first: int, last: int,
) -> None:  # fmt: skip
    """Words of ``group`` rows of bytes that lie ``lane`` apart, column by column, in panels.

    Unit ``u`` has outer index ``o = u // P`` and inner ``i = u % P`` over the ``P`` ``places``. Its
    rows start at ``(o * group + b) * lane + places[i]`` for ``b < group``; where ``places[i]`` is
    -1, or ``o * group + b`` reaches ``lanes``, it is ``zeros``. It becomes step
    ``o * steps[0] + i * steps[1]`` of each of the panels, of ``steps[2]`` steps by ``width``
    columns; columns beyond ``columns`` are 0. All words are flipped with ``flip``.
    """
    count = places.size
    for unit in range(first, last):
        outer, inner = unit // count, unit % count
        place, number = places[inner], outer * group
        step = outer * steps[0] + inner * steps[1]
        for left in range(0, columns, width):
            line = out[(left // width * steps[2] + step) * width :][:width]
            size = min(width, columns - left)
            at = number * lane + place + left
            inside = place >= 0
            a = source[at : at + size] if inside and number < lanes else zeros[:size]
            at += lane
            b = source[at : at + size] if inside and number + 1 < lanes else zeros[:size]
            if group == 2:
                for n in range(size):
                    line[n] = _word2(a[n], b[n])
            else:
                at += lane
                c = source[at : at + size] if inside and number + 2 < lanes else zeros[:size]
                at += lane
                d = source[at : at + size] if inside and number + 3 < lanes else zeros[:size]
                for n in range(size):
                    line[n] = np.uint32(_word4(a[n], b[n], c[n], d[n]) ^ flip)
            line[size:] = np.uint32(0)


def _transpose() -> Callable[..., Any]:
    """Intrinsic ``(source, at, stride, target, at, stride)``: 16 x 16 words, in 64 shuffles."""
    i32, i64 = ir.IntType(32), ir.IntType(64)
    kind = ir.VectorType(i32, BLOCK)
    index = ir.VectorType(i32, BLOCK)

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, args: list[ir.Value]) -> ir.Value:
        def line(array: int, number: int) -> ir.Value:
            data = context.make_array(signature.args[array])(context, builder, args[array]).data
            at = builder.add(args[array + 1], builder.mul(i64(number), args[array + 2]))
            return builder.bitcast(builder.gep(data, [at]), kind.as_pointer())

        rows = [builder.load(line(0, r), align=4) for r in range(BLOCK)]
        distance = 1
        while distance < BLOCK:
            for r in range(BLOCK):
                if r & distance:
                    continue
                lanes = range(BLOCK)
                low = [n if not n & distance else BLOCK + n - distance for n in lanes]
                high = [n + distance if not n & distance else BLOCK + n for n in lanes]
                pair = rows[r], rows[r + distance]
                rows[r] = builder.shuffle_vector(*pair, ir.Constant(index, low))
                rows[r + distance] = builder.shuffle_vector(*pair, ir.Constant(index, high))
            distance *= 2
        for r, value in enumerate(rows):
            builder.store(value, line(3, r), align=4)
        return context.get_dummy_value()

    def transpose(
        typing: Any, source: Any, at: Any, stride: Any, target: Any, to: Any, step: Any
    ) -> Any:
        i64 = types.int64
        return types.void(source, i64, i64, target, i64, i64), emit

    return cast(Callable[..., Any], intrinsic(transpose))


transpose_16 = _transpose()


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
