"""The register tile of the FP32 products: a few rows by two vectors of sums, added along K.

Each sum takes its products one after the other, in the order of K, by fused multiply-add where
the CPU has one: how work is cut into tiles, blocks and threads changes no bit. LLVM turns the
vectors into what the CPU has; the shape only decides how many sums fit its registers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.core import cgutils
from numba.core.registry import cpu_target
from numba.extending import intrinsic

VECTORS = 2
_F32, _I64 = ir.FloatType(), ir.IntType(64)
_Values = list[ir.Value]
_declare: Callable[..., ir.Value] = cgutils.get_or_insert_function


def _sums(
    builder: ir.IRBuilder,
    rows: _Values,
    k_stride: ir.Value,
    panel: ir.Value,
    steps: ir.Value,
    starts: list[tuple[ir.Block, _Values]],
    lanes: int,
) -> _Values:
    """The loop over K: returns the sums, row by row, and leaves ``builder`` after it.

    ``starts`` are the blocks that branch here, each with the sums that it starts from.
    """
    kind = ir.VectorType(_F32, lanes)
    add = _declare(builder.module, ir.FunctionType(kind, [kind] * 3), f"llvm.fmuladd.v{lanes}f32")
    loop, done = builder.append_basic_block("step"), builder.append_basic_block("done")
    for block, _ in starts:
        with builder.goto_block(block):
            builder.branch(loop)
    builder.position_at_end(loop)
    step = builder.phi(_I64)
    sums = [builder.phi(kind) for _ in starts[0][1]]
    for block, values in starts:
        step.add_incoming(_I64(0), block)
        for total, value in zip(sums, values, strict=True):
            total.add_incoming(value, block)
    columns = []
    for v in range(VECTORS):
        at = builder.add(builder.mul(step, _I64(VECTORS * lanes)), _I64(v * lanes))
        place = builder.bitcast(builder.gep(panel, [at]), kind.as_pointer())
        columns.append(builder.load(place, align=4))
    along, added = builder.mul(step, k_stride), []
    for r, row in enumerate(rows):
        value = builder.load(builder.gep(row, [along]))
        first = builder.insert_element(ir.Constant(kind, ir.Undefined), value, _I64(0))
        zeros = ir.Constant(ir.VectorType(ir.IntType(32), lanes), [0] * lanes)
        spread = builder.shuffle_vector(first, first, zeros)
        for v in range(VECTORS):
            added.append(builder.call(add, [spread, columns[v], sums[r * VECTORS + v]]))
    for total, value in zip(sums, added, strict=True):
        total.add_incoming(value, loop)
    following = builder.add(step, _I64(1))
    step.add_incoming(following, loop)
    builder.cbranch(builder.icmp_signed("<", following, steps), loop, done)
    builder.position_at_end(done)
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

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, args: _Values) -> ir.Value:
        def data(index: int) -> ir.Value:
            return context.make_array(signature.args[index])(context, builder, args[index]).data

        kind = ir.VectorType(_F32, lanes)
        _, a_at, a_stride, k_stride, last, _, panel_at, steps, fresh, _, out_at, out_stride = args
        rows, places = [], []
        for r in range(tile_rows):
            i = builder.select(builder.icmp_signed("<", _I64(r), last), _I64(r), last)
            rows.append(builder.gep(data(0), [builder.add(a_at, builder.mul(i, a_stride))]))
            row = builder.gep(data(9), [builder.add(out_at, builder.mul(i, out_stride))])
            for v in range(VECTORS):
                place = builder.gep(row, [_I64(v * lanes)])
                places.append(builder.bitcast(place, kind.as_pointer()))
        panel = builder.gep(data(5), [panel_at])
        begin, resume = builder.append_basic_block("begin"), builder.append_basic_block("resume")
        builder.cbranch(builder.icmp_signed("!=", fresh, _I64(0)), begin, resume)
        zero = ir.Constant(kind, [0.0] * lanes)
        builder.position_at_end(resume)
        resumed = [builder.load(place, align=4) for place in places]
        starts = [(begin, [zero] * len(places)), (resume, resumed)]
        sums = _sums(builder, rows, k_stride, panel, steps, starts, lanes)
        for total, place in zip(sums, places, strict=True):
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
