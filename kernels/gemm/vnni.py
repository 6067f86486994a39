"""GEMM on VNNI, the x86 instruction that adds 4 products of bytes to each int32 of a vector.

``vpdpbusd`` multiplies *unsigned* by signed bytes, so B is packed with its sign bits flipped,
``b + 128``, and ``C = sum a (b + 128) - 128 sum a``: each sum starts from -128 times the sum of
its row of A, and A is read as it is. Sums wrap modulo ``2^32`` and nothing saturates; as the
true result fits int32, so does what comes out.

B lies in panels ``[N / width][K / 4][width][4]``, zero-padded in K; added columns are cut off.
A tile of 6 rows and one panel stays in registers: 24 sums of 16 lanes (6 x 64) with 512-bit
vectors, 12 of 8 lanes (6 x 16) with 256-bit ones. A block of rows and ``_DEPTH`` of a panel
stay in L2.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any, cast

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic
from numpy.typing import NDArray

from kernels.emit import (
    I8,
    I32,
    I64,
    Values,
    array_data,
    declare,
    fresh_or_held,
    load,
    rows_up_to,
    splat,
    sum_over_steps,
    vector_at,
    vpdpbusd,
)
from kernels.jit import compiled
from kernels.threads import over_rows
from kernels.workspace import aligned

TILE_ROWS = 6
WIDTH_512, WIDTH_256 = 64, 16
_BLOCK_ROWS = 16 * TILE_ROWS
_BLOCK_MACS = 1 << 23
"""Work handed to a thread at a time: at least 40 us, and rows enough to pay for reading B."""
_DEPTH = 512
"""K per pass over a panel, in steps of 4: 128 KiB of a wide panel."""
_FLIP = np.uint32(0x80808080)
_SERIAL_BYTES = 1 << 20
"""Size of B up to which other threads do not help to pack it (50 us)."""


def _step(
    builder: ir.IRBuilder, rows: Values, panel: ir.Value, step: ir.Value, sums: Values, lanes: int,
    target: tuple[ir.Value, ir.Value],
) -> Values:  # fmt: skip
    """The sums, row by row, after four more of K."""
    bytes_in, vectors = ir.VectorType(I8, 4 * lanes), len(sums) // len(rows)
    here = builder.mul(step, I64(4 * vectors * lanes))
    columns = [
        load(builder, panel, builder.add(here, I64(4 * lanes * v)), bytes_in, align=1)
        for v in range(vectors)
    ]
    _prefetch_to_write(builder, step, *target)
    added: Values = []
    for r, row in enumerate(rows):
        four = load(builder, row, builder.mul(step, I64(4)), I32, align=1)
        spread = splat(builder, four, lanes)
        for v, column in enumerate(columns):
            added.append(vpdpbusd(builder, sums[r * vectors + v], column, spread))
    return added


def _tile(vectors: int, lanes: int) -> Callable[..., Any]:
    """Intrinsic that computes one tile: 6 rows by ``vectors * lanes`` columns.

    It is called with ``(a, a_at, a_stride, last, panels, panel_at, steps, start, start_at, fresh,
    out, out_at, out_stride)``: flat arrays, and offsets into them in elements. ``last`` is the
    last row that exists, 0 to 5; rows after it repeat it, and store the same values again.
    Sums start from ``start`` where ``fresh``, from what ``out`` holds otherwise.
    """

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, args: Values) -> ir.Value:
        def data(number: int, place: ir.Value) -> ir.Value:
            return builder.gep(array_data(context, builder, signature, args, number), [place])

        def begun() -> Values:
            found = [builder.load(data(7, builder.add(start_at, i))) for i in index]
            return [splat(builder, start, lanes) for start in found for _ in range(vectors)]

        def step_of(step: ir.Value, sums: Values) -> Values:
            return _step(builder, rows, panel, step, sums, lanes, target)

        kind = ir.VectorType(I32, lanes)
        _, a_at, a_stride, last, _, panel_at, steps, _, start_at, fresh, _, out_at, out_stride = (
            args
        )
        index = rows_up_to(builder, TILE_ROWS, last)
        rows = [data(0, builder.add(a_at, builder.mul(i, a_stride))) for i in index]
        places: Values = []
        for i in index:
            row = data(10, builder.add(out_at, builder.mul(i, out_stride)))
            places += [vector_at(builder, row, I64(v * lanes), kind) for v in range(vectors)]
        panel, target = data(4, panel_at), (data(10, out_at), out_stride)
        starts = fresh_or_held(builder, fresh, begun, places)
        for total, place in zip(
            sum_over_steps(builder, starts, step_of, steps), places, strict=True
        ):
            builder.store(total, place, align=4)
        return context.get_dummy_value()

    def tile(
        typing: Any, a: Any, a_at: Any, a_stride: Any, last: Any, panels: Any, panel_at: Any,
        steps: Any, start: Any, start_at: Any, fresh: Any, out: Any, out_at: Any, out_stride: Any,
    ) -> Any:  # fmt: skip
        i64 = types.int64
        return types.void(
            a, i64, i64, i64, panels, i64, i64, start, i64, i64, out, i64, i64
        ), emit  # fmt: skip

    return cast(Callable[..., Any], intrinsic(tile))


def _prefetch_to_write(
    builder: ir.IRBuilder, step: ir.Value, target: ir.Value, stride: ir.Value
) -> None:
    """Ask for the lines of ``out``, one per step, so that stores after the loop do not wait.

    32 steps walk 8 rows of 4 lines; what lies outside the tile is asked for in vain, at worst.
    """
    byte = I8.as_pointer()
    prefetch = declare(
        builder.module,
        ir.FunctionType(ir.VoidType(), [byte, I32, I32, I32]),
        "llvm.prefetch.p0",
    )
    row = builder.mul(builder.and_(step, I64(7)), stride)
    line = builder.shl(builder.and_(builder.lshr(step, I64(3)), I64(3)), I64(4))
    place = builder.gep(target, [builder.add(row, line)])
    builder.call(prefetch, [builder.bitcast(place, byte), I32(1), I32(3), I32(1)])


_TILE_512 = _tile(4, 16)
_TILE_256 = _tile(2, 8)


@compiled
def _fill_panels(b: NDArray[np.uint8], panels: NDArray[np.uint32], first: int, last: int) -> None:
    """Fill steps ``first`` to ``last`` of ``panels[N / width, K / 4, width]`` with ``b ^ 0x80``."""
    depth, columns = b.shape
    width = panels.shape[2]
    for k in range(first, last):
        for p in range(panels.shape[0]):
            left, words = p * width, panels[p, k]
            count = min(width, columns - left)
            if 4 * k + 4 <= depth:
                row0, row1 = b[4 * k, left : left + count], b[4 * k + 1, left : left + count]
                row2, row3 = b[4 * k + 2, left : left + count], b[4 * k + 3, left : left + count]
                for n in range(count):
                    low = np.uint32(row0[n]) | np.uint32(np.uint32(row1[n]) << np.uint32(8))
                    high = np.uint32(row2[n]) | np.uint32(np.uint32(row3[n]) << np.uint32(8))
                    words[n] = np.uint32(low | np.uint32(high << np.uint32(16))) ^ _FLIP
            else:
                for n in range(count):
                    word = np.uint32(0)
                    for row in range(depth - 1, 4 * k - 1, -1):
                        flipped = np.uint32(np.uint32(b[row, left + n]) ^ np.uint32(0x80))
                        word = np.uint32(np.uint32(word << np.uint32(8)) | flipped)
                    words[n] = word
            words[count:] = np.uint32(0)


@compiled
def _row_starts(
    a: NDArray[np.int8], stride: int, starts: NDArray[np.int32], first: int, last: int
) -> None:
    """-128 times the sum of each row of A."""
    for i in range(first, last):
        row = a[i * stride : (i + 1) * stride]
        total = np.int32(0)
        for k in range(row.size):
            total = np.int32(total + np.int32(row[k]))
        starts[i] = np.int32(total * np.int32(-128))


@compiled
def _rows_512(
    a: NDArray[np.int8], stride: int, panels: NDArray[np.uint8], starts: NDArray[np.int32],
    out: NDArray[np.int32], depth: int, columns: int, first: int, last: int,
) -> None:  # fmt: skip
    """Rows ``first`` to ``last``; flat arrays, ``stride`` bytes per row, ``depth`` steps of 4."""
    _row_starts(a, stride, starts, first, last)
    for top in range(first, last, _BLOCK_ROWS):
        bottom = min(top + _BLOCK_ROWS, last)
        for k in range(0, depth, _DEPTH):
            steps = min(_DEPTH, depth - k)
            for n in range(0, columns, WIDTH_512):
                panel = 4 * (n * depth + k * WIDTH_512)
                for i in range(top, bottom, TILE_ROWS):
                    _TILE_512(
                        a, i * stride + 4 * k, stride, min(TILE_ROWS, bottom - i) - 1,
                        panels, panel, steps, starts, i, np.int64(k == 0),
                        out, i * columns + n, columns,
                    )  # fmt: skip


@compiled
def _rows_256(
    a: NDArray[np.int8], stride: int, panels: NDArray[np.uint8], starts: NDArray[np.int32],
    out: NDArray[np.int32], depth: int, columns: int, first: int, last: int,
) -> None:  # fmt: skip
    """As ``_rows_512``, with the tile of half the vector length."""
    _row_starts(a, stride, starts, first, last)
    for top in range(first, last, _BLOCK_ROWS):
        bottom = min(top + _BLOCK_ROWS, last)
        for k in range(0, depth, _DEPTH):
            steps = min(_DEPTH, depth - k)
            for n in range(0, columns, WIDTH_256):
                panel = 4 * (n * depth + k * WIDTH_256)
                for i in range(top, bottom, TILE_ROWS):
                    _TILE_256(
                        a, i * stride + 4 * k, stride, min(TILE_ROWS, bottom - i) - 1,
                        panels, panel, steps, starts, i, np.int64(k == 0),
                        out, i * columns + n, columns,
                    )  # fmt: skip


def _pack(b: NDArray[np.int8], width: int, threads: int) -> NDArray[np.uint32]:
    depth, columns = b.shape
    steps = -(-depth // 4)
    shape = (-(-columns // width), steps, width)
    panels: NDArray[np.uint32] = aligned(prod(shape), np.uint32).reshape(shape)
    source = b.view(np.uint8)
    over_rows(
        lambda first, last: _fill_panels(source, panels, first, last),
        steps,
        1,
        threads if b.size > _SERIAL_BYTES else 1,
    )
    return panels


def pack_512(b: NDArray[np.int8], threads: int) -> NDArray[np.uint32]:
    """Panels of 64 columns, a word for four of K: ``(N / 64, K / 4, 64)``, rounded up."""
    return _pack(b, WIDTH_512, threads)


def pack_256(b: NDArray[np.int8], threads: int) -> NDArray[np.uint32]:
    """Panels of 16 columns: ``(N / 16, K / 4, 16)``, rounded up."""
    return _pack(b, WIDTH_256, threads)


def _multiply(
    kernel: Callable[..., None],
    a: NDArray[np.int8],
    packed: NDArray[Any],
    out: NDArray[np.int32],
    threads: int,
) -> None:
    rows, columns = out.shape
    count, depth, width = packed.shape
    stride = a.shape[1]
    padded = count * width
    target = out if padded == columns else np.empty((rows, padded), np.int32)
    starts = np.empty(rows, np.int32)
    panels = packed.reshape(-1).view(np.uint8)
    # Four bytes at a time run over the end of a row when K is no multiple of 4. What they find
    # there meets the zeros that end B; only the last row has nothing behind it.
    whole = rows if stride == 4 * depth else rows - 1

    def work(first: int, last: int) -> None:
        kernel(
            a.reshape(-1), stride, panels, starts, target.reshape(-1), depth, padded,
            first, min(last, whole),
        )  # fmt: skip
        if last > whole:
            edge = np.zeros(4 * depth, np.int8)
            edge[:stride] = a[-1]
            kernel(edge, 4 * depth, panels, starts[-1:], target[-1], depth, padded, 0, 1)
        if target is not out:
            out[first:last] = target[first:last, :columns]

    least = max(_BLOCK_ROWS, _BLOCK_MACS // (4 * depth * padded))
    over_rows(work, rows, TILE_ROWS, threads, least)


def multiply_512(
    a: NDArray[np.int8], packed: NDArray[Any], out: NDArray[np.int32], threads: int
) -> None:
    """Fill ``out`` with ``a @ b``; ``packed`` is what :func:`pack_512` made of ``b``."""
    _multiply(_rows_512, a, packed, out, threads)


def multiply_256(
    a: NDArray[np.int8], packed: NDArray[Any], out: NDArray[np.int32], threads: int
) -> None:
    """As :func:`multiply_512`, for panels of :func:`pack_256`."""
    _multiply(_rows_256, a, packed, out, threads)
