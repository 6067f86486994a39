"""The register tile of the FP32 products: a few rows by two vectors of sums, added along K.

Each sum takes its products one after the other, in the order of K, by fused multiply-add where
the CPU has one: how work is cut into tiles, blocks and threads changes no bit. LLVM turns the
vectors into what the CPU has; the shape only decides how many sums fit its registers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from llvmlite import ir
from numba import types
from numba.core.registry import cpu_target
from numba.extending import intrinsic

from kernels.emit import (
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
)

VECTORS = 2
_F32 = ir.FloatType()


def _step(
    builder: ir.IRBuilder, rows: Values, along: ir.Value, panel: ir.Value, at: ir.Value,
    sums: Values, lanes: int,
) -> Values:  # fmt: skip
    """The sums, row by row, after one more K: ``along`` it in a row, ``at`` it in the panel."""
    kind = ir.VectorType(_F32, lanes)
    add = declare(builder.module, ir.FunctionType(kind, [kind] * 3), f"llvm.fmuladd.v{lanes}f32")
    columns = [
        load(builder, panel, builder.add(at, I64(v * lanes)), kind, align=4) for v in range(VECTORS)
    ]
    added: Values = []
    for r, row in enumerate(rows):
        spread = splat(builder, builder.load(builder.gep(row, [along])), lanes)
        for v, column in enumerate(columns):
            added.append(builder.call(add, [spread, column, sums[r * VECTORS + v]]))
    return added


def tile(tile_rows: int, lanes: int) -> Callable[..., None]:
    """Intrinsic that adds ``steps`` products to each sum of ``tile_rows`` by ``2 * lanes``.

    It is called from compiled code with ``(a, a_at, a_stride, k_stride, last, panel, panel_at,
    steps, fresh, out, out_at, out_stride)``: flat float32 arrays, and int64 offsets into them in
    elements. Row ``i`` of A at ``k`` is ``a[a_at + i * a_stride + k * k_stride]``; the panel holds
    ``2 * lanes`` columns of B for each ``k``. ``last`` is the last row that exists; rows after it
    repeat it, and store the same values again. ``steps`` is 1 or more. Sums start from 0 where
    ``fresh`` is not 0, from what ``out`` holds otherwise.
    """

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, args: Values) -> ir.Value:
        def data(number: int, place: ir.Value) -> ir.Value:
            return builder.gep(array_data(context, builder, signature, args, number), [place])

        def step_of(step: ir.Value, sums: Values) -> Values:
            along, at = builder.mul(step, k_stride), builder.mul(step, I64(VECTORS * lanes))
            return _step(builder, rows, along, panel, at, sums, lanes)

        kind = ir.VectorType(_F32, lanes)
        _, a_at, a_stride, k_stride, last, _, panel_at, steps, fresh, _, out_at, out_stride = args
        rows, places = [], []
        for i in rows_up_to(builder, tile_rows, last):
            rows.append(data(0, builder.add(a_at, builder.mul(i, a_stride))))
            row = data(9, builder.add(out_at, builder.mul(i, out_stride)))
            places += [vector_at(builder, row, I64(v * lanes), kind) for v in range(VECTORS)]
        panel = data(5, panel_at)
        zeros = [ir.Constant(kind, [0.0] * lanes)] * len(places)
        starts = fresh_or_held(builder, fresh, lambda: zeros, places)
        for total, place in zip(
            sum_over_steps(builder, starts, step_of, steps), places, strict=True
        ):
            builder.store(total, place, align=4)
        return context.get_dummy_value()

    def call(
        typing: Any, a: Any, a_at: Any, a_stride: Any, k_stride: Any, last: Any, panel: Any,
        panel_at: Any, steps: Any, fresh: Any, out: Any, out_at: Any, out_stride: Any,
    ) -> Any:  # fmt: skip
        i64 = types.int64
        return types.void(
            a, i64, i64, i64, i64, panel, i64, i64, i64, out, i64, i64
        ), emit  # fmt: skip

    return cast(Callable[..., None], intrinsic(call))


def _has_avx512() -> bool:
    features: str = cpu_target.target_context.codegen().magic_tuple()[2]
    return "+avx512f" in features.split(",")


TILE_ROWS, _LANES = (8, 16) if _has_avx512() else (6, 8)
"""16 sums of 16 lanes among 32 registers; 12 of 8 lanes where there are 16 (AVX2, or pairs of
NEON's 32)."""
WIDTH = VECTORS * _LANES
"""Columns of a panel."""
TILE = tile(TILE_ROWS, _LANES)
"""The tile for this CPU: ``TILE_ROWS`` by ``WIDTH``."""
