"""GEMM on SDOT, the AArch64 instruction that adds 4 products of bytes to each int32 of a vector.

``sdot`` multiplies signed by signed bytes, so neither operand needs a correction. Sums wrap modulo
``2^32`` and nothing saturates; as the true result fits int32, so does what comes out.

B lies in panels ``[N / 16][K / 4][16][4]``, zero-padded to whole panels and to whole chunks of 16
of K. A tile of 6 rows and one panel fills the 32 vector registers: 24 sums, a chunk of each of 6
rows, of which ``sdot`` takes any four bytes by itself, and 2 vectors of B. 16 bytes of each row
and 256 of B are read for 96 instructions, so loads hide behind arithmetic.

Where compiled code may not use ``sdot``, the same tile spells it out in products and sums: slow,
and there so that all but the instruction is tested on every CPU. It is never chosen.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import numpy as np
from llvmlite import binding, ir
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
    sum_over_steps,
    vector_at,
)
from kernels.gemm.backends import cpu_has
from kernels.jit import compiled
from kernels.threads import over_rows

TILE_ROWS, WIDTH, CHUNK = 6, 16, 16
"""Rows and columns of a tile, and bytes of K that it reads at a time."""
BLOCK_ROWS = 16 * TILE_ROWS
DEPTH = 1024
"""K per pass over a panel: 16 KiB of it, half of the smallest L1, serve a block of rows."""
_BLOCK_MACS = 1 << 22
"""Work handed to a thread at a time: about 40 us on a large core."""
_SERIAL_BYTES = 1 << 19
"""Size of B up to which other threads do not help to pack it."""

_LANES, _VECTORS, _STEPS = 4, WIDTH // 4, CHUNK // 4
_BYTES, _INTS = ir.VectorType(I8, 4 * _LANES), ir.VectorType(I32, _LANES)
Dot = Callable[[ir.IRBuilder, ir.Value, ir.Value, ir.Value], ir.Value]

_PROBE = """
target triple = "{triple}"
declare i32 @llvm.vector.reduce.add.v16i32(<16 x i32>)
define i32 @probe(<16 x i8> %a, <16 x i8> %b) {{
  %x = sext <16 x i8> %a to <16 x i32>
  %y = sext <16 x i8> %b to <16 x i32>
  %p = mul nsw <16 x i32> %x, %y
  %s = call i32 @llvm.vector.reduce.add.v16i32(<16 x i32> %p)
  ret i32 %s
}}
"""
"""A sum of products that LLVM turns into ``sdot`` where it may use it."""


def compiles_sdot(triple: str, cpu: str, features: str) -> bool:
    """Whether LLVM may use ``sdot`` for a CPU, found by what it makes of a sum of products.

    The features that LLVM reads from Linux do not name dot products (``asimddp``); they come
    with the name of the CPU. An instruction that a CPU lacks, asked for by name, ends the process,
    so LLVM is asked in a way that cannot fail.

    Parameters
    ----------
    triple, cpu, features
        As LLVM names them; ``features`` like ``"+neon,+dotprod"``, empty for those of ``cpu``.

    Examples
    --------
    >>> compiles_sdot("x86_64-unknown-linux-gnu", "", "")
    False
    """
    if triple.split("-", 1)[0] not in ("aarch64", "arm64"):
        return False
    binding.initialize_all_targets()
    binding.initialize_all_asmprinters()
    target = binding.Target.from_triple(triple)
    machine = target.create_target_machine(cpu=cpu, features=features, opt=3)
    return "sdot" in machine.emit_assembly(binding.parse_assembly(_PROBE.format(triple=triple)))


def sdot(builder: ir.IRBuilder, total: ir.Value, a: ir.Value, b: ir.Value) -> ir.Value:
    """The instruction: ``total[i] + sum over j < 4 of a[4 i + j] b[4 i + j]``."""
    kind = ir.FunctionType(_INTS, [_INTS, _BYTES, _BYTES])
    name = "llvm.aarch64.neon.sdot.v4i32.v16i8"
    return builder.call(declare(builder.module, kind, name), [total, a, b])


def spelled_out(builder: ir.IRBuilder, total: ir.Value, a: ir.Value, b: ir.Value) -> ir.Value:
    """What :func:`sdot` computes, for CPUs without it."""
    wide = ir.VectorType(I32, 4 * _LANES)
    products = builder.mul(builder.sext(a, wide), builder.sext(b, wide))
    for j in range(4):
        index = ir.Constant(_INTS, list(range(j, 4 * _LANES, 4)))
        total = builder.add(total, builder.shuffle_vector(products, products, index))
    return total


def _chunk(
    builder: ir.IRBuilder, dot: Dot, rows: Values, panel: ir.Value, chunk: ir.Value, sums: Values
) -> Values:
    """The sums after one more chunk of K."""
    at = builder.mul(chunk, I64(CHUNK))
    fours = [load(builder, row, at, _INTS, align=1) for row in rows]
    here = builder.mul(chunk, I64(CHUNK * WIDTH))
    sums = list(sums)
    for step in range(_STEPS):
        spread = [
            builder.bitcast(
                builder.shuffle_vector(four, four, ir.Constant(_INTS, [step] * _LANES)), _BYTES
            )
            for four in fours
        ]
        for v in range(_VECTORS):
            offset = builder.add(here, I64(4 * _LANES * (step * _VECTORS + v)))
            column = load(builder, panel, offset, _BYTES, align=1)
            for r in range(TILE_ROWS):
                i = r * _VECTORS + v
                sums[i] = dot(builder, sums[i], column, spread[r])
    return sums


def emit_tile(
    builder: ir.IRBuilder, dot: Dot, a: ir.Value, stride: ir.Value, last: ir.Value,
    panel: ir.Value, chunks: ir.Value, fresh: ir.Value, out: ir.Value, out_stride: ir.Value,
) -> None:  # fmt: skip
    """Emit one tile, 6 rows by 16 columns, and leave ``builder`` after it.

    Parameters
    ----------
    builder
        Where to.
    dot
        How to add products of bytes: :func:`sdot` or :func:`spelled_out`.
    a, stride
        First byte of A, and bytes from row to row; each row is read for ``16 * chunks`` bytes.
    last
        Last row that exists, 0 to 5; rows after it repeat it, and store the same values again.
    panel
        First byte of the panel.
    chunks
        K in chunks of 16, 1 or more.
    fresh
        Sums start from 0 if not 0, from what ``out`` holds otherwise.
    out, out_stride
        First int32 of the result, and int32 from row to row.
    """
    index = rows_up_to(builder, TILE_ROWS, last)
    rows = [builder.gep(a, [builder.mul(i, stride)]) for i in index]
    places: Values = []
    for i in index:
        row = builder.gep(out, [builder.mul(i, out_stride)])
        places += [vector_at(builder, row, I64(v * _LANES), _INTS) for v in range(_VECTORS)]
    zeros = [ir.Constant(_INTS, [0] * _LANES)] * len(places)
    starts = fresh_or_held(builder, fresh, lambda: zeros, places)
    added = sum_over_steps(
        builder, starts, lambda chunk, sums: _chunk(builder, dot, rows, panel, chunk, sums), chunks
    )
    for value, place in zip(added, places, strict=True):
        builder.store(value, place, align=4)


def _typed(
    typing: Any, a: Any, a_at: Any, stride: Any, last: Any, panels: Any, panel_at: Any,
    chunks: Any, fresh: Any, out: Any, out_at: Any, out_stride: Any,
) -> Any:  # fmt: skip
    """:func:`emit_tile` for Numba: flat arrays, and places in them in elements."""
    i64 = types.int64
    kinds = ((a, types.int8), (panels, types.int8), (out, types.int32))
    if any(array.dtype != kind for array, kind in kinds):
        return None

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, args: Values) -> ir.Value:
        def at(number: int) -> ir.Value:
            data = array_data(context, builder, signature, args, number)
            return builder.gep(data, [args[number + 1]])

        emit_tile(
            builder, sdot if cpu_has("dotprod") else spelled_out,
            at(0), args[2], args[3], at(4), args[6], args[7], at(8), args[10],
        )  # fmt: skip
        return context.get_dummy_value()

    return types.void(a, i64, i64, i64, panels, i64, i64, i64, out, i64, i64), emit


_tile = cast(Callable[..., Any], intrinsic(_typed))


@compiled
def _fill_panels(
    b: NDArray[np.uint8], zeros: NDArray[np.uint8], panels: NDArray[np.uint32],
    first: int, last: int,
) -> None:  # fmt: skip
    """Fill steps ``first`` to ``last`` of ``panels[N / 16, K / 4, 16]``; ``zeros`` are 16."""
    depth, columns = b.shape
    for k in range(first, last):
        for p in range(panels.shape[0]):
            left, words = p * WIDTH, panels[p, k]
            right = min(left + WIDTH, columns)
            row0 = b[4 * k, left:right] if 4 * k < depth else zeros
            row1 = b[4 * k + 1, left:right] if 4 * k + 1 < depth else zeros
            row2 = b[4 * k + 2, left:right] if 4 * k + 2 < depth else zeros
            row3 = b[4 * k + 3, left:right] if 4 * k + 3 < depth else zeros
            for n in range(right - left):
                low = np.uint32(row0[n]) | np.uint32(np.uint32(row1[n]) << np.uint32(8))
                high = np.uint32(row2[n]) | np.uint32(np.uint32(row3[n]) << np.uint32(8))
                words[n] = np.uint32(low | np.uint32(high << np.uint32(16)))
            words[right - left :] = np.uint32(0)


def pack(b: NDArray[np.int8], threads: int) -> NDArray[np.int8]:
    """Panels of 16 columns, four of K side by side: ``(N / 16, K / 4, 16, 4)``.

    N is rounded up to 16, and K too, with zeros.
    """
    depth, columns = b.shape
    steps = _STEPS * -(-depth // CHUNK)
    panels = np.empty((-(-columns // WIDTH), steps, WIDTH), np.uint32)
    source, zeros = b.view(np.uint8), np.zeros(WIDTH, np.uint8)
    over_rows(
        lambda first, last: _fill_panels(source, zeros, panels, first, last),
        steps,
        1,
        threads if b.size > _SERIAL_BYTES else 1,
    )
    return panels.view(np.int8).reshape(*panels.shape, 4)


@compiled
def _rows(
    a: NDArray[np.int8], stride: int, panels: NDArray[np.int8], out: NDArray[np.int32],
    depth: int, columns: int, first: int, last: int,
) -> None:  # fmt: skip
    """Rows ``first`` to ``last``; flat arrays, ``stride`` bytes per row of A, K and N padded."""
    for top in range(first, last, BLOCK_ROWS):
        bottom = min(top + BLOCK_ROWS, last)
        for k in range(0, depth, DEPTH):
            chunks = min(DEPTH, depth - k) // CHUNK
            for n in range(0, columns, WIDTH):
                for i in range(top, bottom, TILE_ROWS):
                    _tile(
                        a, i * stride + k, stride, min(TILE_ROWS, bottom - i) - 1,
                        panels, n * depth + k * WIDTH, chunks, np.int64(k == 0),
                        out, i * columns + n, columns,
                    )  # fmt: skip


def multiply(
    a: NDArray[np.int8], packed: NDArray[Any], out: NDArray[np.int32], threads: int
) -> None:
    """Fill ``out`` with ``a @ b``; ``packed`` is what :func:`pack` made of ``b``."""
    rows, stride = a.shape
    depth, padded = 4 * packed.shape[1], WIDTH * packed.shape[0]
    panels, flat = packed.reshape(-1), a.reshape(-1)
    target = out if padded == out.shape[1] else np.empty((rows, padded), np.int32)
    # Chunks run over the end of a row when K is no multiple of 16. What they find there meets
    # the zeros that end B; the last rows, with less than a chunk behind them, are copied.
    whole = max(0, rows + 1 - -(-depth // stride))
    edge = np.zeros((rows - whole, depth), np.int8)
    edge[:, :stride] = a[whole:]

    def work(first: int, last: int) -> None:
        _rows(flat, stride, panels, target.reshape(-1), depth, padded, first, min(last, whole))
        if last > whole:
            _rows(
                edge.reshape(-1), depth, panels, target[whole:].reshape(-1), depth, padded,
                max(first - whole, 0), last - whole,
            )  # fmt: skip
        if target is not out:
            out[first:last] = target[first:last, : out.shape[1]]

    over_rows(work, rows, TILE_ROWS, threads, max(BLOCK_ROWS, _BLOCK_MACS // (depth * padded)))
