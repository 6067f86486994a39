"""Moves of data that LLVM does not find by itself: shuffles of whole vectors.

Intrinsics for compiled code, on flat arrays and places in elements. Nothing is checked: callers
stay inside their arrays.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from kernels.emit import I8, I16, I32, I64, Values, array_data, load, splat, vector_at

BLOCK = 16
"""Columns of a move; rows too, of a transpose."""

_Emit = Callable[[Any, ir.IRBuilder, Any, Values], ir.Value]


def _shuffled(builder: ir.IRBuilder, a: ir.Value, b: ir.Value, lanes: list[int]) -> ir.Value:
    index = ir.Constant(ir.VectorType(I32, len(lanes)), lanes)
    return builder.shuffle_vector(a, b, index)


def _emit_transpose(context: Any, builder: ir.IRBuilder, signature: Any, args: Values) -> ir.Value:
    kind = ir.VectorType(I32, BLOCK)
    source, at, stride, target, to, step = args
    del source, target
    rows = []
    for r in range(BLOCK):
        place = builder.add(at, builder.mul(I64(r), stride))
        base = array_data(context, builder, signature, args, 0)
        rows.append(load(builder, base, place, kind, align=4))
    distance = 1
    while distance < BLOCK:
        for r in (r for r in range(BLOCK) if not r & distance):
            lanes = range(BLOCK)
            low = [n if not n & distance else BLOCK + n - distance for n in lanes]
            high = [n + distance if not n & distance else BLOCK + n for n in lanes]
            pair = rows[r], rows[r + distance]
            rows[r] = _shuffled(builder, *pair, low)
            rows[r + distance] = _shuffled(builder, *pair, high)
        distance *= 2
    for r, row in enumerate(rows):
        place = builder.add(to, builder.mul(I64(r), step))
        base = array_data(context, builder, signature, args, 3)
        builder.store(row, vector_at(builder, base, place, kind), align=4)
    return context.get_dummy_value()


def _transpose(
    typing: Any, source: Any, at: Any, stride: Any, target: Any, to: Any, step: Any
) -> Any:
    i64 = types.int64
    return types.void(source, i64, i64, target, i64, i64), _emit_transpose


transpose_16 = cast(Callable[..., Any], intrinsic(_transpose))
"""``(source, at, stride, target, to, step)``: transpose 16 x 16 words of 32 bits."""


def _zipped(builder: ir.IRBuilder, a: ir.Value, b: ir.Value) -> ir.Value:
    count = a.type.count
    return _shuffled(builder, a, b, [n // 2 + n % 2 * count for n in range(2 * count)])


def _emit_interleave(group: int) -> _Emit:
    """Words of 16 columns of ``group`` rows: bytes zipped twice, or int16 pairs zipped once."""

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, args: Values) -> ir.Value:
        _, at, lane, flip, _, to = args
        base = array_data(context, builder, signature, args, 0)
        bytes_in = ir.VectorType(I8, BLOCK)
        rows = [
            load(builder, base, builder.add(at, builder.mul(I64(r), lane)), bytes_in, align=1)
            for r in range(group)
        ]
        if group == 4:
            halves = [_zipped(builder, rows[r], rows[r + 1]) for r in (0, 2)]
            pairs = [builder.bitcast(half, ir.VectorType(I16, BLOCK)) for half in halves]
        else:
            pairs = [builder.sext(row, ir.VectorType(I16, BLOCK)) for row in rows]
        kind = ir.VectorType(I32, BLOCK)
        words = builder.bitcast(_zipped(builder, *pairs), kind)
        flips = splat(builder, flip, BLOCK)
        target = vector_at(builder, array_data(context, builder, signature, args, 4), to, kind)
        builder.store(builder.xor(words, flips), target, align=4)
        return context.get_dummy_value()

    return emit


def _interleave(group: int) -> Callable[..., Any]:
    def interleave(
        typing: Any, source: Any, at: Any, lane: Any, flip: Any, target: Any, to: Any
    ) -> Any:
        i64 = types.int64
        kind = types.void(source, i64, i64, types.uint32, target, i64)
        return kind, _emit_interleave(group)

    return cast(Callable[..., Any], intrinsic(interleave))


interleave_4 = _interleave(4)
"""``(source, at, lane, flip, target, to)``: 16 words from 4 rows of bytes, ``lane`` apart."""
interleave_2 = _interleave(2)
"""The same from 2 rows, widened to int16."""
