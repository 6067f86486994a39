"""Moves of data that LLVM does not find by itself: shuffles of whole vectors, and a plain copy.

Intrinsics for compiled code, on flat arrays and places in elements. Nothing is checked: callers
stay inside their arrays.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

BLOCK = 16
"""Columns of a move; rows too, of a transpose."""

_I8, _I16, _I32, _I64 = (ir.IntType(bits) for bits in (8, 16, 32, 64))
_INDEX = ir.IntType(32)
_Values = list[ir.Value]
_memcpy: Callable[..., None] = cgutils.raw_memcpy
_Emit = Callable[[Any, ir.IRBuilder, Any, _Values], ir.Value]


def _data(context: Any, builder: ir.IRBuilder, signature: Any, args: _Values, n: int) -> ir.Value:
    return context.make_array(signature.args[n])(context, builder, args[n]).data


def _at(builder: ir.IRBuilder, base: ir.Value, place: ir.Value, kind: ir.Type) -> ir.Value:
    return builder.bitcast(builder.gep(base, [place]), kind.as_pointer())


def _shuffled(builder: ir.IRBuilder, a: ir.Value, b: ir.Value, lanes: list[int]) -> ir.Value:
    index = ir.Constant(ir.VectorType(_INDEX, len(lanes)), lanes)
    return builder.shuffle_vector(a, b, index)


def _emit_transpose(context: Any, builder: ir.IRBuilder, signature: Any, args: _Values) -> ir.Value:
    kind = ir.VectorType(_I32, BLOCK)
    source, at, stride, target, to, step = args
    del source, target
    rows = []
    for r in range(BLOCK):
        place = builder.add(at, builder.mul(_I64(r), stride))
        base = _data(context, builder, signature, args, 0)
        rows.append(builder.load(_at(builder, base, place, kind), align=4))
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
        place = builder.add(to, builder.mul(_I64(r), step))
        base = _data(context, builder, signature, args, 3)
        builder.store(row, _at(builder, base, place, kind), align=4)
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

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, args: _Values) -> ir.Value:
        _, at, lane, flip, _, to = args
        base = _data(context, builder, signature, args, 0)
        bytes_in = ir.VectorType(_I8, BLOCK)
        rows = [
            builder.load(
                _at(builder, base, builder.add(at, builder.mul(_I64(r), lane)), bytes_in), align=1
            )
            for r in range(group)
        ]
        if group == 4:
            halves = [_zipped(builder, rows[r], rows[r + 1]) for r in (0, 2)]
            pairs = [builder.bitcast(half, ir.VectorType(_I16, BLOCK)) for half in halves]
        else:
            pairs = [builder.sext(row, ir.VectorType(_I16, BLOCK)) for row in rows]
        kind = ir.VectorType(_I32, BLOCK)
        words = builder.bitcast(_zipped(builder, *pairs), kind)
        first = builder.insert_element(ir.Constant(kind, ir.Undefined), flip, _INDEX(0))
        flips = _shuffled(builder, first, first, [0] * BLOCK)
        target = _at(builder, _data(context, builder, signature, args, 4), to, kind)
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


def _copy(typing: Any, source: Any, at: Any, target: Any, to: Any, count: Any) -> Any:
    if source.dtype != target.dtype:
        return None

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, args: _Values) -> ir.Value:
        size = context.get_abi_sizeof(context.get_value_type(source.dtype))
        places = [
            builder.gep(_data(context, builder, signature, args, n), [args[n + 1]]) for n in (0, 2)
        ]
        _memcpy(builder, places[1], places[0], args[4], size)
        return context.get_dummy_value()

    i64 = types.int64
    return types.void(source, i64, target, i64, i64), emit


copy = cast(Callable[..., Any], intrinsic(_copy))
"""``(source, at, target, to, count)``: copy values of one type, without the cost of slices."""
