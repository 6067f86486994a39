"""Pieces of LLVM code that compiled kernels share, for what LLVM does not find by itself.

They are put together in functions that Numba calls to emit an intrinsic
(:func:`numba.extending.intrinsic`): an array stands for its first element, a place in it counts
elements, and nothing is checked.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba.core import cgutils

I8, I16, I32, I64 = (ir.IntType(bits) for bits in (8, 16, 32, 64))
_ZERO = I64(0)
Values = list[ir.Value]
Starts = list[tuple[ir.Block, Values]]
"""Blocks from which a loop is entered, each with the sums that it starts from."""
declare: Callable[..., ir.Value] = cgutils.get_or_insert_function
"""``(module, type, name)``: a function of LLVM's."""


def array_data(
    context: Any, builder: ir.IRBuilder, signature: Any, args: Values, number: int
) -> ir.Value:
    """First element of the array that argument ``number`` is."""
    return context.make_array(signature.args[number])(context, builder, args[number]).data


def vector_at(builder: ir.IRBuilder, base: ir.Value, place: ir.Value, kind: ir.Type) -> ir.Value:
    """Pointer to what begins ``place`` elements after ``base``, taken as a ``kind``."""
    return builder.bitcast(builder.gep(base, [place]), kind.as_pointer())


def load(
    builder: ir.IRBuilder, base: ir.Value, place: ir.Value, kind: ir.Type, align: int
) -> ir.Value:
    """Read a ``kind`` that begins ``place`` elements after ``base``, on ``align`` bytes."""
    return builder.load(vector_at(builder, base, place, kind), align=align)


def splat(builder: ir.IRBuilder, value: ir.Value, lanes: int) -> ir.Value:
    """Fill a vector with one value."""
    vector, index = ir.VectorType(value.type, lanes), ir.VectorType(I32, lanes)
    first = builder.insert_element(ir.Constant(vector, ir.Undefined), value, I32(0))
    return builder.shuffle_vector(first, first, ir.Constant(index, [0] * lanes))


def vpdpbusd(
    builder: ir.IRBuilder, total: ir.Value, unsigned: ir.Value, signed: ir.Value
) -> ir.Value:
    """VNNI's instruction: each int32 of ``total`` plus 4 products of unsigned by signed bytes."""
    sums_in, lanes = total.type, total.type.count
    bytes_in = ir.VectorType(I8, 4 * lanes)
    kind = ir.FunctionType(sums_in, [sums_in, bytes_in, bytes_in])
    dot = declare(builder.module, kind, f"llvm.x86.avx512.vpdpbusd.{32 * lanes}")
    operands = [builder.bitcast(value, bytes_in) for value in (unsigned, signed)]
    return builder.call(dot, [total, *operands])


def rows_up_to(builder: ir.IRBuilder, count: int, last: ir.Value) -> Values:
    """Give ``0 .. count - 1``, with ``last`` instead of what is larger: rows that do not exist."""
    return [
        builder.select(builder.icmp_signed("<", I64(r), last), I64(r), last) for r in range(count)
    ]


def fresh_or_held(
    builder: ir.IRBuilder, fresh: ir.Value, begin: Callable[[], Values], held: Values
) -> Starts:
    """Start sums from ``begin()`` where ``fresh`` is not 0, from the vectors at ``held`` if it is.

    Leaves ``builder`` nowhere: :func:`sum_over_steps` goes on from both.
    """
    begun, resumed = builder.append_basic_block("begin"), builder.append_basic_block("resume")
    builder.cbranch(builder.icmp_signed("!=", fresh, _ZERO), begun, resumed)
    builder.position_at_end(begun)
    first = begin()
    builder.position_at_end(resumed)
    return [(begun, first), (resumed, [builder.load(place, align=4) for place in held])]


def sum_over_steps(
    builder: ir.IRBuilder,
    starts: Starts,
    body: Callable[[ir.Value, Values], Values],
    end: ir.Value,
    first: ir.Value = _ZERO,
) -> Values:
    """Loop over ``first <= step < end``, one step at least: the sums, ``builder`` after the loop.

    ``body(step, sums)`` emits one step, without branches, and gives the sums after it.
    """
    loop, done = builder.append_basic_block("step"), builder.append_basic_block("done")
    for block, _ in starts:
        with builder.goto_block(block):
            builder.branch(loop)
    builder.position_at_end(loop)
    step = builder.phi(I64)
    sums = [builder.phi(value.type) for value in starts[0][1]]
    added = body(step, sums)
    following = builder.add(step, I64(1))
    for block, begun, values in (
        *((block, first, values) for block, values in starts),
        (loop, following, added),
    ):
        step.add_incoming(begun, block)
        for total, value in zip(sums, values, strict=True):
            total.add_incoming(value, block)
    builder.cbranch(builder.icmp_signed("<", following, end), loop, done)
    builder.position_at_end(done)
    return added
