"""The register tile of all compiled INT8 convolutions: rows found by offsets, words of 32 bits.

A word holds a group of consecutive K: 4 bytes with VNNI or SDOT, 2 int16 elsewhere. The
left operand is never gathered into a matrix: word ``k`` of row ``i`` lies at ``bases[i] +
offsets[k]``, which serves windows of a map (forward, dX) and positions of a batch (dW) alike. The
right operand lies in panels ``[N / width][K][width]`` of words.

``vpdpbusd`` multiplies unsigned by signed bytes: the left operand has its sign bits flipped,
``a + 128``, and each sum starts from -128 times the sum of its column of B, so that
``sum (a + 128) b - 128 sum b`` is exact. Sums wrap modulo ``2^32`` and nothing saturates; as the
true result fits int32, so does what comes out. ``sdot`` (AArch64) multiplies signed by signed
bytes and needs no correction. Nor do pairs of int16: a pair of products is at most ``2 * 2^14``;
LLVM turns their sum into ``vpmaddwd`` on x86.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic
from numpy.typing import NDArray

from kernels.emit import (
    I8,
    I16,
    I32,
    I64,
    Values,
    array_data,
    fresh_or_held,
    load,
    splat,
    sum_over_steps,
    vector_at,
    vpdpbusd,
)
from kernels.gemm.backends import GemmError, cpu_has, lacking
from kernels.gemm.dotprod import sdot
from kernels.jit import compiled

TILE_ROWS = 6
_DEPTH = 256
"""Words of K per pass over a panel: 64 KiB of a wide one, well inside L2."""

_Dot = Callable[[ir.IRBuilder, ir.Value, ir.Value, ir.Value], ir.Value]

Words = NDArray[np.uint32]
Int32s = NDArray[np.int32]
Int64s = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class TileKind:
    """How one back-end reads its operands.

    Attributes
    ----------
    code
        Which tile :func:`product` takes.
    group
        Consecutive K in a word: 4 bytes, or 2 int16.
    width
        Columns of a panel.
    flip
        What the sign bits of a word of the left operand are flipped with.
    """

    code: int
    group: int
    width: int
    flip: int = 0


def _dot_signed(builder: ir.IRBuilder, total: ir.Value, a: ir.Value, b: ir.Value) -> ir.Value:
    bytes_in = ir.VectorType(I8, 4 * total.type.count)
    return sdot(builder, total, builder.bitcast(a, bytes_in), builder.bitcast(b, bytes_in))


def _dot_pairs(builder: ir.IRBuilder, total: ir.Value, a: ir.Value, b: ir.Value) -> ir.Value:
    """Even products plus odd ones: the form in which LLVM knows ``vpmaddwd``."""
    lanes = total.type.count
    pairs, wide = ir.VectorType(I16, 2 * lanes), ir.VectorType(I32, 2 * lanes)
    index = ir.VectorType(I32, lanes)
    left, right = (builder.sext(builder.bitcast(value, pairs), wide) for value in (a, b))
    products = builder.mul(left, right, flags=("nsw",))
    even, odd = (
        builder.shuffle_vector(
            products, products, ir.Constant(index, list(range(first, 2 * lanes, 2)))
        )
        for first in (0, 1)
    )
    return builder.add(total, builder.add(even, odd, flags=("nsw",)))


def _step(
    builder: ir.IRBuilder, rows: Values, offset: ir.Value, panel: ir.Value, here: ir.Value,
    totals: Values, dot: _Dot,
) -> Values:  # fmt: skip
    """The sums, row by row, after one more word: ``here`` in the panel, ``offset`` in a row."""
    kind = totals[0].type
    lanes, vectors = kind.count, len(totals) // len(rows)
    columns = [
        load(builder, panel, builder.add(here, I64(v * lanes)), kind, align=4)
        for v in range(vectors)
    ]
    added: Values = []
    for r, pointer in enumerate(rows):
        spread = splat(builder, builder.load(builder.gep(pointer, [offset])), lanes)
        added += [dot(builder, totals[r * vectors + v], spread, columns[v]) for v in range(vectors)]
    return added


def _emit_tile(vectors: int, lanes: int, dot: _Dot) -> Callable[..., ir.Value]:
    """What :func:`_tile` compiles to."""
    kind = ir.VectorType(I32, lanes)

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, args: Values) -> ir.Value:
        def at(number: int, place: ir.Value) -> ir.Value:
            return builder.gep(array_data(context, builder, signature, args, number), [place])

        def begun() -> Values:
            first = [load(builder, start, I64(v * lanes), kind, align=4) for v in range(vectors)]
            return first * TILE_ROWS

        def step_of(step: ir.Value, totals: Values) -> Values:
            offset = builder.load(builder.gep(offsets, [step]))
            here = builder.mul(step, I64(vectors * lanes))
            return _step(builder, rows, offset, panel, here, totals, dot)

        base_at, offset_at, steps, panel_at, start_at, fresh, sums_at = (
            args[i] for i in (2, 4, 5, 7, 9, 10, 12)
        )
        rows = [at(0, builder.load(at(1, builder.add(base_at, I64(r))))) for r in range(TILE_ROWS)]
        offsets, panel = at(3, offset_at), at(6, panel_at)
        start, held = at(8, start_at), at(11, sums_at)
        places = [
            vector_at(builder, held, I64(i * lanes), kind) for i in range(TILE_ROWS * vectors)
        ]
        starts = fresh_or_held(builder, fresh, begun, places)
        for value, place in zip(
            sum_over_steps(builder, starts, step_of, steps), places, strict=True
        ):
            builder.store(value, place, align=4)
        return context.get_dummy_value()

    return emit


def _tile(vectors: int, lanes: int, dot: _Dot) -> Callable[..., Any]:
    """Intrinsic that computes one tile: 6 rows by ``vectors * lanes`` columns.

    Called with ``(a, bases, base_at, offsets, offset_at, steps, panels, panel_at, starts, start_at,
    fresh, sums, sums_at)``: flat arrays, and places in them in elements. Sums begin with
    ``starts``, one per column, where ``fresh``, and with what ``sums`` holds otherwise.
    """
    emit = _emit_tile(vectors, lanes, dot)

    def tile(
        typing: Any, a: Any, bases: Any, base_at: Any, offsets: Any, offset_at: Any, steps: Any,
        panels: Any, panel_at: Any, starts: Any, start_at: Any, fresh: Any, sums: Any, sums_at: Any,
    ) -> Any:  # fmt: skip
        i64 = types.int64
        arrays = (a, bases, offsets, panels, starts, sums)
        kinds = (types.uint32, i64, i64, types.uint32, types.int32, types.int32)
        if any(array.dtype != kind for array, kind in zip(arrays, kinds, strict=True)):
            return None
        return types.void(
            a, bases, i64, offsets, i64, i64, panels, i64, starts, i64, i64, sums, i64
        ), emit  # fmt: skip

    return cast(Callable[..., Any], intrinsic(tile))


def _portable_shape() -> tuple[int, int]:
    """Vectors and lanes that fill, but do not spill, the registers of this CPU."""
    if cpu_has("avx512bw"):
        return 4, 16
    if cpu_has("avx2"):
        return 2, 8
    return 4, 4


_VECTORS, _LANES = _portable_shape()
_TILE_512 = _tile(4, 16, vpdpbusd)
_TILE_256 = _tile(2, 8, vpdpbusd)
_TILE_DOTPROD = _tile(4, 4, _dot_signed)
_TILE_PORTABLE = _tile(_VECTORS, _LANES, _dot_pairs)
_WIDTH = _VECTORS * _LANES

KINDS = {
    "vnni": TileKind(0, 4, 64, 0x80808080),
    "vnni256": TileKind(1, 4, 16, 0x80808080),
    "dotprod": TileKind(2, 4, 16),
    "portable": TileKind(3, 2, _WIDTH),
}
MAX_WIDTH = max(kind.width for kind in KINDS.values())


def tile_kind(backend: str) -> TileKind:
    """How ``backend`` reads its operands.

    Raises
    ------
    GemmError
        The back-end has no register tile.
    """
    if backend not in KINDS:
        raise GemmError(f"backend {backend!r} has no register tile; allowed: {', '.join(KINDS)}")
    return KINDS[backend]


@compiled
def _product_portable(
    a: Words, bases: Int64s, rows: int, offsets: Int64s, first: int, last: int,
    panels: Words, panel_at: int, starts: Int32s, start_at: int, sums: Int32s,
) -> None:  # fmt: skip
    for k in range(first, last, _DEPTH):
        steps = min(_DEPTH, last - k)
        for i in range(0, rows, TILE_ROWS):
            _TILE_PORTABLE(
                a, bases, i, offsets, k, steps, panels, panel_at + k * _WIDTH,
                starts, start_at, np.int64(k == first), sums, i * _WIDTH,
            )  # fmt: skip


@compiled
def _product_512(
    a: Words, bases: Int64s, rows: int, offsets: Int64s, first: int, last: int,
    panels: Words, panel_at: int, starts: Int32s, start_at: int, sums: Int32s,
) -> None:  # fmt: skip
    for k in range(first, last, _DEPTH):
        steps = min(_DEPTH, last - k)
        for i in range(0, rows, TILE_ROWS):
            _TILE_512(
                a, bases, i, offsets, k, steps, panels, panel_at + k * 64,
                starts, start_at, np.int64(k == first), sums, i * 64,
            )  # fmt: skip


@compiled
def _product_256(
    a: Words, bases: Int64s, rows: int, offsets: Int64s, first: int, last: int,
    panels: Words, panel_at: int, starts: Int32s, start_at: int, sums: Int32s,
) -> None:  # fmt: skip
    for k in range(first, last, _DEPTH):
        steps = min(_DEPTH, last - k)
        for i in range(0, rows, TILE_ROWS):
            _TILE_256(
                a, bases, i, offsets, k, steps, panels, panel_at + k * 16,
                starts, start_at, np.int64(k == first), sums, i * 16,
            )  # fmt: skip


@compiled
def _product_dotprod(
    a: Words, bases: Int64s, rows: int, offsets: Int64s, first: int, last: int,
    panels: Words, panel_at: int, starts: Int32s, start_at: int, sums: Int32s,
) -> None:  # fmt: skip
    for k in range(first, last, _DEPTH):
        steps = min(_DEPTH, last - k)
        for i in range(0, rows, TILE_ROWS):
            _TILE_DOTPROD(
                a, bases, i, offsets, k, steps, panels, panel_at + k * 16,
                starts, start_at, np.int64(k == first), sums, i * 16,
            )  # fmt: skip


# A tile that the CPU lacks must not be compiled: another stands in its place, never called.
# Numba's cache keeps code apart by CPU features, on which alone this choice depends.
_vnni = _product_512 if lacking("vnni") is None else _product_portable
_vnni256 = _product_256 if lacking("vnni256") is None else _product_portable
_dotprod = _product_dotprod if lacking("dotprod") is None else _product_portable


@compiled
def product(
    kind: int, a: Words, bases: Int64s, rows: int, offsets: Int64s, first: int, last: int,
    panels: Words, panel_at: int, starts: Int32s, start_at: int, sums: Int32s,
) -> None:  # fmt: skip
    """``sums[rows, width] = starts + a b``: rows by one panel, steps ``first`` to ``last``.

    Parameters
    ----------
    kind
        Code of the :class:`TileKind`.
    a
        Words of the left operand, flat.
    bases, offsets
        Word ``k`` of row ``i`` lies at ``bases[i] + offsets[k]``. ``bases`` is valid up to
        ``rows`` rounded up to whole tiles.
    panels, panel_at
        Words of the right operand, flat, and where step 0 of this panel lies.
    starts, start_at
        What the sums start from: one int32 per column.
    sums
        Filled, flat, up to ``rows`` rounded up to whole tiles.
    """
    if kind == 0:
        _vnni(a, bases, rows, offsets, first, last, panels, panel_at, starts, start_at, sums)
    elif kind == 1:
        _vnni256(a, bases, rows, offsets, first, last, panels, panel_at, starts, start_at, sums)
    elif kind == 2:
        _dotprod(a, bases, rows, offsets, first, last, panels, panel_at, starts, start_at, sums)
    else:
        _product_portable(
            a, bases, rows, offsets, first, last, panels, panel_at, starts, start_at, sums
        )
