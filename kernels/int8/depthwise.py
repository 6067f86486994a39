"""Depthwise convolution: one filter per channel, 16 channels to a vector, no matrix product.

All three roles are sums of lane-by-lane products of two byte maps, each walked by offsets: over
taps (forward, dX) or over positions (dW). Maps are padded, and their channels rounded up to whole
vectors. Checks were made by the caller (:mod:`kernels.int8.conv`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic
from numpy.typing import NDArray

from kernels.conv import Conv2d
from kernels.emit import I8, I32, I64, Values, array_data, load, sum_over_steps, vector_at
from kernels.int8.conv_loops import BLOCK_ROWS, Four, find_rows, write_rows
from kernels.int8.conv_pack import gather_rows
from kernels.int8.conv_plan import MapPlan, Pass, forward_plan, input_grad_plan
from kernels.int8.epilogue import Counts, Recipe, amax_block, combined, requantise_block
from kernels.jit import compiled
from kernels.memory import copy
from kernels.threads import over_rows
from kernels.workspace import scratch

LANES = 16
_BLOCK_SUMS = 1 << 13
"""Sums of a block of positions: 32 KiB."""
_SERIAL_MACS = 1 << 19
"""Work below which other threads cost more than they save."""
_LONGEST = 1 << 16
"""Products in an int32 sum of dW, half of what int32 holds."""

Int8s = NDArray[np.int8]
Int32s = NDArray[np.int32]
Int64s = NDArray[np.int64]


def _products(vectors: int) -> Callable[..., Any]:
    """Intrinsic ``(a, at, a_offsets, b, bt, b_offsets, first, last, sums, to)``.

    ``sums[to + c] += sum over k of a[at + a_offsets[k] + c] * b[bt + b_offsets[k] + c]`` for
    ``16 * vectors`` channels ``c``.
    """
    sums_in, bytes_in = ir.VectorType(I32, LANES), ir.VectorType(I8, LANES)

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, args: Values) -> ir.Value:
        def at(number: int, place: ir.Value) -> ir.Value:
            return builder.gep(array_data(context, builder, signature, args, number), [place])

        def lanes(pointer: ir.Value, vector: int) -> ir.Value:
            values = load(builder, pointer, I64(vector * LANES), bytes_in, align=1)
            return builder.sext(values, sums_in)

        def step_of(step: ir.Value, totals: Values) -> Values:
            left = at(0, builder.add(args[1], builder.load(at(2, step))))
            right = at(3, builder.add(args[4], builder.load(at(5, step))))
            return [
                builder.add(total, builder.mul(lanes(left, v), lanes(right, v)))
                for v, total in enumerate(totals)
            ]

        target = at(8, args[9])
        places = [vector_at(builder, target, I64(v * LANES), sums_in) for v in range(vectors)]
        starts = [(builder.block, [builder.load(place, align=4) for place in places])]
        sums = sum_over_steps(builder, starts, step_of, args[7], first=args[6])
        for total, place in zip(sums, places, strict=True):
            builder.store(total, place, align=4)
        return context.get_dummy_value()

    def products(
        typing: Any, a: Any, at: Any, a_offsets: Any, b: Any, bt: Any, b_offsets: Any,
        first: Any, last: Any, sums: Any, to: Any,
    ) -> Any:  # fmt: skip
        n = types.int64
        arrays = (a, a_offsets, b, b_offsets, sums)
        kinds = (types.int8, n, types.int8, n, types.int32)
        if any(array.dtype != kind for array, kind in zip(arrays, kinds, strict=True)):
            return None
        return types.void(a, n, a_offsets, b, n, b_offsets, n, n, sums, n), emit

    return cast(Callable[..., Any], intrinsic(products))


_PRODUCTS_64, _PRODUCTS_16 = _products(4), _products(1)


@compiled
def _all_channels(
    a: Int8s, at: int, a_offsets: Int64s, b: Int8s, bt: int, b_offsets: Int64s, first: int,
    last: int, channels: int, sums: Int32s, to: int,
) -> None:  # fmt: skip
    wide = channels - channels % 64
    for c in range(0, wide, 64):
        _PRODUCTS_64(a, at + c, a_offsets, b, bt + c, b_offsets, first, last, sums, to + c)
    for c in range(wide, channels, LANES):
        _PRODUCTS_16(a, at + c, a_offsets, b, bt + c, b_offsets, first, last, sums, to + c)


@compiled
def _convolve(
    a: Int8s, offsets: Int64s, weights: Int8s, lines: Int64s, starts: Int32s, images: int,
    rows: tuple[int, int], reads: Four, writes: Four, channels: int, block: int, recipe: Recipe,
    wide: Int32s, narrow: Int8s, places: Int64s, sums: Int32s, small: Int8s, first: int, last: int,
) -> tuple[np.int64, np.int64, np.int64]:  # fmt: skip
    """Blocks ``first`` to ``last`` of positions; as ``convolve`` of the tiled convolution."""
    positions, width = images * rows[0] * rows[1], starts.size
    bases, targets = places[:BLOCK_ROWS], places[BLOCK_ROWS:]
    largest, saturated, lost = np.int64(0), np.int64(0), np.int64(0)
    for unit in range(first, last):
        top = unit * block
        count = min(block, positions - top)
        find_rows(top, count, rows, reads, writes, bases, targets)
        for r in range(count):
            copy(starts, 0, sums, r * width, width)
            _all_channels(
                a, bases[r], offsets, weights, 0, lines, 0, offsets.size, width, sums, r * width
            )
        largest = max(largest, amax_block(sums, count * width))
        if recipe[0]:
            clipped, zeroed = requantise_block(sums, count * width, recipe, small)
            saturated += clipped
            lost += zeroed
            write_rows(small, count, width, channels, targets, 0, narrow)
        else:
            write_rows(sums, count, width, channels, targets, 0, wide)
    return largest, saturated, lost


@compiled
def _weight_sums(
    a: Int8s, image: int, taps: Int64s, a_offsets: Int64s, e: Int8s, e_offsets: Int64s,
    channels: int, longest: int, sums: Int32s, total: NDArray[np.int64], first: int, last: int,
) -> None:  # fmt: skip
    """Add images ``first`` to ``last`` to ``total``, (taps, channels)."""
    positions = a_offsets.size
    for n in range(first, last):
        for begin in range(0, positions, longest):
            end = min(begin + longest, positions)
            for t in range(taps.size):
                sums[:] = np.int32(0)
                _all_channels(
                    a, n * image + taps[t], a_offsets, e, n * positions * channels, e_offsets,
                    begin, end, channels, sums, 0,
                )  # fmt: skip
                line = total[t]
                for c in range(channels):
                    line[c] += np.int64(sums[c])


def _round_up(channels: int) -> int:
    return -(-channels // LANES) * LANES


def _byte_map(name: str, tensor: Int8s, places: Int64s, threads: int) -> Int8s:
    """Padded map of bytes, channels rounded up to whole vectors."""
    rows, channels = len(tensor) * places.size, tensor.shape[3]
    width = _round_up(channels)
    values: Int8s = scratch(name, rows * width, np.int8)
    out, source, image = values.reshape(rows, width), tensor.reshape(-1), tensor[0].size
    over_rows(
        lambda first, last: gather_rows(
            source, channels, places, image, np.int8(0), out, first, last
        ),
        rows,
        1,
        threads,
    )
    return values


def _lines(weights: Int8s) -> Int8s:
    """(c, k_h, k_w, 1) as (taps, channels rounded up)."""
    channels = len(weights)
    lines = np.zeros((weights[0].size, _round_up(channels)), np.int8)
    lines[:, :channels] = weights.reshape(channels, -1).T
    return lines


def _run(
    plan: MapPlan, part: Pass, a: Int8s, lines: Int8s, bias: Int32s | None, images: int,
    channels: int, recipe: Recipe, out: NDArray[Any], threads: int,
) -> Counts:  # fmt: skip
    width = plan.words
    weights = np.ascontiguousarray(lines[list(part.taps)]).reshape(-1)
    steps = np.arange(len(part.taps), dtype=np.int64) * width
    offsets = part.offsets[::width].copy()
    starts = np.zeros(width, np.int32)
    if bias is not None:
        starts[:channels] = bias
    flat = out.reshape(-1)
    wide, narrow = np.empty(0, np.int32), np.empty(0, np.int8)
    if recipe[0]:
        narrow = flat
    else:
        wide = flat
    block = max(1, min(BLOCK_ROWS, _BLOCK_SUMS // width))
    positions = images * part.rows[0] * part.rows[1]
    found: list[Counts] = []

    def work(first: int, last: int) -> None:
        counts = _convolve(
            a, offsets, weights, steps, starts, images, part.rows, part.reads, part.writes,
            channels, block, recipe, wide, narrow, np.empty(2 * BLOCK_ROWS, np.int64),
            scratch("sums", block * width, np.int32), scratch("small", block * width, np.int8),
            first, last,
        )  # fmt: skip
        found.append((int(counts[0]), int(counts[1]), int(counts[2])))

    over_rows(work, -(-positions // block), 1, threads)
    return combined(found)


def _share(op: Conv2d, threads: int) -> int:
    work = op.n * op.h_out * op.w_out * op.c_out * op.k_h * op.k_w
    return threads if work > _SERIAL_MACS else 1


def _single(op: Conv2d) -> Conv2d:
    """The same with as many input channels as output ones: each input channel repeated."""
    return replace(op, c_in=op.c_out, groups=op.c_out)


def _repeated(x: Int8s, op: Conv2d) -> Int8s:
    return x if op.c_out == op.c_in else np.repeat(x, op.c_out // op.c_in, axis=3)


def forward(
    x: Int8s, w: Int8s, op: Conv2d, bias: Int32s | None, recipe: Recipe, out: NDArray[Any],
    threads: int,
) -> Counts:  # fmt: skip
    """Fill ``out``; largest accumulator, saturated and lost."""
    single, threads = _single(op), _share(op, threads)
    plan = forward_plan(single, _round_up(op.c_out))
    a = _byte_map("map", _repeated(x, op), plan.places, threads)
    return _run(plan, plan.passes[0], a, _lines(w), bias, op.n, op.c_out, recipe, out, threads)


def input_grad(
    e: Int8s, w: Int8s, op: Conv2d, recipe: Recipe, out: NDArray[Any], threads: int
) -> Counts:
    """Fill ``out``, (n, h, w, c_out), with dX of each repeated input channel."""
    single, threads = _single(op), _share(op, threads)
    plan = input_grad_plan(single, _round_up(op.c_out))
    if not plan.covered:
        out.fill(0)
    a, lines = _byte_map("map", e, plan.places, threads), _lines(w)
    return combined(
        [
            _run(plan, part, a, lines, None, op.n, op.c_out, recipe, out, threads)
            for part in plan.passes
        ]
    )


def weight_grad(
    x: Int8s, e: Int8s, op: Conv2d, fresh: bool, out: NDArray[Any], threads: int
) -> tuple[int, bool]:
    """Write dW to ``out``, or add it; the largest value then, and whether one left the type."""
    single, threads, width = _single(op), _share(op, threads), _round_up(op.c_out)
    plan = forward_plan(single, width)
    part = plan.passes[0]
    a = _byte_map("map", _repeated(x, op), plan.places, threads)
    positions = op.h_out * op.w_out
    errors = _byte_map("panels", e, np.arange(positions, dtype=np.int64) * op.c_out, threads)
    taps = part.offsets[::width].copy()
    down = np.arange(op.h_out)[:, None] * part.reads[1]
    a_offsets = (down + np.arange(op.w_out) * part.reads[2]).reshape(-1)
    e_offsets = np.arange(positions, dtype=np.int64) * width
    found: list[Int64s] = []

    def work(first: int, last: int) -> None:
        total = np.zeros((taps.size, width), np.int64)
        found.append(total)
        _weight_sums(
            a, part.reads[0], taps, a_offsets, errors, e_offsets, width, _LONGEST,
            np.empty(width, np.int32), total, first, last,
        )  # fmt: skip

    over_rows(work, op.n, 1, threads)
    grad = sum(found[1:], found[0])[:, : op.c_out].T.reshape(out.shape)
    if not fresh:
        grad = grad + out
    out[...] = grad
    return max(int(grad.max()), -int(grad.min())), not np.array_equal(out, grad)
