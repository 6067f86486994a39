"""Convolution on register tiles: no unfolded input, and with a Store no INT32 tensor, in memory.

Operands are packed into words once per call (weights change every step), then blocks of rows by
one panel of columns are computed, requantised or added up while they are in L1, and written.
Checks were made by the caller (:mod:`kernels.int8.conv`).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from kernels.conv import Conv2d
from kernels.gemm.tiles import TILE_ROWS, TileKind, tile_kind
from kernels.int8.conv_loops import BLOCK_ROWS, column_sums, convolve, weight_blocks
from kernels.int8.conv_pack import gather_rows, interleave, transpose_panels
from kernels.int8.conv_plan import (
    GradPlan,
    MapPlan,
    Pass,
    forward_plan,
    input_grad_plan,
    weight_grad_plan,
)
from kernels.int8.epilogue import Counts, Recipe, combined
from kernels.int8.shuffles import BLOCK
from kernels.threads import over_rows
from kernels.workspace import scratch

_SERIAL_MACS = 1 << 22
"""Work below which other threads cost more than they save."""
_SERIAL_BYTES = 1 << 17
"""The same for packing."""
_SUM_STEPS = 2048
"""Steps of K in one column sum, to share a deep panel out among threads."""
_SUMS_IN_CHUNK = 8
_CHUNK = _SUMS_IN_CHUNK * _SUM_STEPS
"""Steps of K in an int32 sum: at most 65536 products, half of what int32 holds."""

Int8s = NDArray[np.int8]
Int32s = NDArray[np.int32]
Int64s = NDArray[np.int64]
Words = NDArray[np.uint32]


def _threads(threads: int, work: int, serial: int) -> int:
    return threads if work > serial else 1


def _flat(tensor: Int8s, channel: int) -> Int8s:
    """The tensor from ``channel`` of its first place on: where a group begins."""
    return tensor.reshape(-1)[channel:]


def _make_map(
    tensor: Int8s, channel: int, channels: int, plan: MapPlan, kind: TileKind, threads: int
) -> Words:
    """The padded map of a group's channels, as words."""
    rows, length = len(tensor) * plan.places.size, plan.words * kind.group
    dtype = np.uint8 if kind.group == 4 else np.int16
    values = scratch("map", rows * length, dtype)
    out, flip = values.reshape(rows, length), dtype(kind.flip & 0xFF)
    source, image = _flat(tensor, channel), tensor[0].size
    over_rows(
        lambda first, last: gather_rows(
            source, channels, plan.places, image, flip, out, first, last
        ),
        rows,
        1,
        _threads(threads, values.nbytes, _SERIAL_BYTES),
    )
    return values.view(np.uint32)


def _interleave(
    name: str, tensor: Int8s, channel: int, columns: int, width: int, places: Int64s,
    kind: TileKind, flip: int, inner_first: bool, threads: int,
) -> Words:  # fmt: skip
    """Panels whose words take a value from each of a group of entries of the first axis.

    Steps go through the groups and, within a group, through ``places``; or the other way around.
    """
    group = kind.group
    outer, inner = -(-len(tensor) // group), places.size
    steps = outer * inner
    order = (inner, 1, steps) if inner_first else (1, outer, steps)
    words: Words = scratch(name, -(-columns // width) * steps * width, np.uint32)
    source, lane, turned = _flat(tensor, channel), tensor[0].size, np.uint32(flip)
    over_rows(
        lambda first, last: interleave(
            source, places, lane, len(tensor), group, turned, columns, width, order, words,
            first, last,
        ),
        steps,
        1,
        _threads(threads, words.nbytes, _SERIAL_BYTES),
    )  # fmt: skip
    return words


def _forward_panels(weights: Int8s, kind: TileKind, threads: int) -> Words:
    """Panels of output channels from (c_out, k_h, k_w, c): K is (tap, channel)."""
    columns, channels = len(weights), weights.shape[3]
    lacking = -channels % kind.group
    if lacking:
        weights = np.pad(weights, ((0, 0), (0, 0), (0, 0), (0, lacking)))
    if kind.group == 2:
        source = weights.astype(np.int16).reshape(-1).view(np.uint32)
    else:
        source = weights.reshape(-1).view(np.uint32)
    depth = source.size // columns
    panels = -(-columns // kind.width)
    words: Words = scratch("panels", panels * depth * kind.width, np.uint32)
    over_rows(
        lambda first, last: transpose_panels(
            source, columns, depth, kind.width, words, first, last
        ),
        panels * -(-depth // BLOCK),
        1,
        _threads(threads, words.nbytes, _SERIAL_BYTES),
    )
    return words


def _column_starts(panels: Words, steps: int, columns: int, kind: TileKind, threads: int) -> Int32s:
    """What sums start from, (chunks, columns of whole panels): -128 times the column sums."""
    count = -(-columns // kind.width)
    chunks = -(-steps // _CHUNK)
    if not kind.flip:
        return np.zeros((chunks, count * kind.width), np.int32)
    parts = -(-steps // _SUM_STEPS)
    sums = np.empty((count * parts, kind.width), np.int32)
    flip = np.array([kind.flip], np.uint32)
    places = np.zeros(max(TILE_ROWS, min(steps, _SUM_STEPS)), np.int64)
    zeros = np.zeros(kind.width, np.int32)
    over_rows(
        lambda first, last: column_sums(
            kind.code, flip, places, panels, steps, kind.width, _SUM_STEPS, zeros,
            np.empty(TILE_ROWS * kind.width, np.int32), sums, first, last,
        ),
        len(sums),
        1,
        _threads(threads, panels.nbytes, 8 * _SERIAL_BYTES),
    )  # fmt: skip
    by_part = sums.reshape(count, parts, kind.width)
    chunked = np.add.reduceat(by_part, np.arange(0, parts, _SUMS_IN_CHUNK), axis=1, dtype=np.int32)
    return np.ascontiguousarray(-chunked.transpose(1, 0, 2)).reshape(chunks, -1)


def _run_pass(
    part: Pass, words: Words, panels: Words, starts: Int32s, images: int, columns: int,
    channel: int, recipe: Recipe, out: NDArray[Any], kind: TileKind, threads: int,
) -> Counts:  # fmt: skip
    """Compute the positions of ``part`` into ``out``, from ``channel`` of the result on."""
    flat = out.reshape(-1)[channel:]
    wide, narrow = np.empty(0, np.int32), np.empty(0, np.int8)
    if recipe[0]:
        narrow = flat
    else:
        wide = flat
    positions = images * part.rows[0] * part.rows[1]
    found: list[Counts] = []

    def work(first: int, last: int) -> None:
        size = BLOCK_ROWS * kind.width
        counts = convolve(
            kind.code, kind.width, words, panels, starts, part.offsets, images, part.rows,
            part.reads, part.writes, columns, recipe, wide, narrow,
            np.empty(2 * BLOCK_ROWS, np.int64), scratch("sums", size, np.int32),
            scratch("small", size, np.int8), first, last,
        )  # fmt: skip
        found.append((int(counts[0]), int(counts[1]), int(counts[2])))

    over_rows(
        work,
        -(-positions // BLOCK_ROWS) * -(-columns // kind.width),
        1,
        _threads(threads, positions * part.offsets.size * kind.group * columns, _SERIAL_MACS),
    )
    return combined(found)


def forward(
    x: Int8s, w: Int8s, op: Conv2d, bias: Int32s | None, recipe: Recipe, out: NDArray[Any],
    backend: str, threads: int,
) -> Counts:  # fmt: skip
    """Fill ``out``; largest accumulator, saturated and lost."""
    kind = tile_kind(backend)
    ins, outs = op.c_in // op.groups, op.c_out // op.groups
    plan = forward_plan(op, -(-ins // kind.group))
    found = []
    for g in range(op.groups):
        words = _make_map(x, g * ins, ins, plan, kind, threads)
        panels = _forward_panels(w[g * outs : (g + 1) * outs], kind, threads)
        starts = _column_starts(panels, plan.passes[0].offsets.size, outs, kind, threads)[0]
        if bias is not None:
            starts[:outs] += bias[g * outs : (g + 1) * outs]
        found.append(
            _run_pass(
                plan.passes[0], words, panels, starts, op.n, outs, g * outs, recipe, out, kind,
                threads,
            )
        )  # fmt: skip
    return combined(found)


def input_grad(
    e: Int8s, w: Int8s, op: Conv2d, recipe: Recipe, out: NDArray[Any], backend: str, threads: int
) -> Counts:
    """Fill ``out`` with dX; largest accumulator, saturated and lost."""
    kind = tile_kind(backend)
    ins, outs = op.c_in // op.groups, op.c_out // op.groups
    plan = input_grad_plan(op, -(-outs // kind.group))
    if not plan.covered:
        out.fill(0)
    found = []
    for g in range(op.groups):
        words = _make_map(e, g * outs, outs, plan, kind, threads)
        weights = w[g * outs : (g + 1) * outs]
        for part in plan.passes:
            taps = np.array(part.taps, np.int64) * ins
            panels = _interleave(
                "panels", weights, 0, ins, kind.width, taps, kind, 0, False, threads
            )
            starts = _column_starts(panels, part.offsets.size, ins, kind, threads)[0]
            found.append(
                _run_pass(
                    part, words, panels, starts, op.n, ins, g * ins, recipe, out, kind, threads
                )
            )
    return combined(found)


def weight_grad(
    x: Int8s, e: Int8s, op: Conv2d, fresh: bool, out: NDArray[Any], backend: str, threads: int
) -> tuple[int, bool]:
    """Write dW to ``out``, or add it; the largest value then, and whether one left the type."""
    kind = tile_kind(backend)
    plan = weight_grad_plan(op, kind.group, BLOCK_ROWS)
    ins, outs = op.c_in // op.groups, op.c_out // op.groups
    found: list[tuple[int, int]] = []
    for g in range(op.groups):
        words = _interleave(
            "map", x, g * ins, ins, plan.words, plan.places, kind, kind.flip, True, threads
        )
        panels = _interleave(
            "panels", e, g * outs, outs, kind.width, plan.positions, kind, 0, True, threads
        )
        target = out[g * outs : (g + 1) * outs].reshape(outs, -1)
        found += _run_weights(plan, words, panels, target, fresh, kind, threads)
    return int(max(amax for amax, _ in found)), any(wrapped for _, wrapped in found)


def _run_weights(
    plan: GradPlan, words: Words, panels: Words, out: NDArray[Any], fresh: bool, kind: TileKind,
    threads: int,
) -> list[tuple[int, int]]:  # fmt: skip
    """dW of a group into ``out``, (c_out, taps and channels): what each thread found."""
    outs, rows = out.shape
    steps = plan.offsets.size
    starts = _column_starts(panels, steps, outs, kind, threads)
    found: list[tuple[int, int]] = []

    def work(first: int, last: int) -> None:
        size = BLOCK_ROWS * kind.width
        amax, wrapped = weight_blocks(
            kind.code, kind.width, words, plan.bases, rows, plan.offsets, _CHUNK, panels,
            starts, outs, fresh, out, scratch("sums", size, np.int32),
            scratch("turned", size, np.int32), first, last,
        )  # fmt: skip
        found.append((int(amax), int(wrapped)))

    over_rows(
        work,
        -(-rows // BLOCK_ROWS) * -(-outs // kind.width),
        1,
        _threads(threads, rows * steps * kind.group * outs, _SERIAL_MACS),
    )
    return found
