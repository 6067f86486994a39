"""What the time of a kernel of this project on a laptop's core depends on, counted.

The kernels that multiply work on register tiles: packed panels of ``width`` columns meet
``rows`` rows at a time, so a matrix of other sizes takes as long as the next whole tile. Counts
come from the plans that the kernels themselves walk along; nothing here was measured.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil, prod

from cost_models.cost import KernelCall
from kernels.conv import Conv2d
from kernels.fp32.walks import Walk, forward_walk, input_grad_walks
from kernels.int8.conv_plan import forward_plan, input_grad_plan, weight_grad_plan
from kernels.linear import Linear
from kernels.operators import Role
from kernels.pool import AvgPool2d, MaxPool2d

Counts = Mapping[str, float]
CACHED = 1 << 20
"""Bytes of a core's second-level cache: results beyond it go through to the next."""
PACKED = 16
"""Columns that INT8 panels are packed by at once; those left over go one by one."""
FP32_BLOCK = 96
"""Positions per block of the FP32 products (``kernels.fp32.products``)."""
FP32_DEPTH = 256
"""Products per pass over a tile."""
FP32_ITEMS = 32
"""Pieces of work that they aim for: few blocks are cut into more shares of columns."""


@dataclass(frozen=True, slots=True)
class Tiles:
    """Register tiles of a core: columns, rows and, for INT8, products per word."""

    int8_width: int = 64
    int8_rows: int = 6
    int8_group: int = 4
    fp32_width: int = 32
    fp32_rows: int = 8


@dataclass(frozen=True, slots=True)
class Work:
    """Family of a kernel, whose law applies, and its counts."""

    family: str
    counts: Counts


@dataclass(frozen=True, slots=True)
class Forms:
    """In which form an item finds and leaves FP32 tensors that INT8 kernels surround.

    Attributes
    ----------
    between
        Batch norm reads and writes INT8 and has no FP32 tensor in memory.
    handed_on
        The item only hands its operand on.
    widened
        Elements that it has to widen to FP32 first.
    copied
        Bytes of weights that it copies, since an update may change them meanwhile.
    """

    between: bool = False
    handed_on: bool = False
    widened: int = 0
    copied: int = 0


def work_of(call: KernelCall, forms: Forms, tiles: Tiles) -> Work:
    """Family and counts of a kernel call.

    Counts are numbers of the named things: ``macs`` of whole tiles, ``map`` and ``panel``
    elements that are packed, ``odd`` ones among them that are packed one by one, ``runs`` of
    neighbours gathered, ``wide`` and ``narrow`` results, those ``far`` beyond the cache,
    ``added`` to what is there, ``elements`` of pointwise kernels, ``widened`` elements and
    ``bytes`` copied.
    """
    op, role = call.op, call.role
    if forms.handed_on:
        return Work("handed_on", {"bytes": forms.copied})
    counts: dict[str, float] = {"widened": forms.widened}
    if isinstance(op, Conv2d | Linear) and role is not Role.UPDATE:
        conv = _as_conv(op)
        kind = "depthwise" if conv.depthwise else "product"
        if conv.depthwise:
            counts |= _depthwise(conv)
        else:
            counts |= (_int8 if call.dtype == "int8" else _fp32)(conv, role, tiles)
        if call.dtype == "int8":
            counts |= _results(call)
        written = call.op.work(role).writes
        wide = call.dtype == "fp32" or counts["wide"] > 0
        counts["far"] = max(0, written - CACHED // 4) if wide else 0
        counts["added"] = written if call.accumulates else 0
        return Work(f"{kind}.{role.value}.{call.dtype}", counts)
    work = op.work(role)
    if role is Role.UPDATE:
        return Work(f"update.{call.dtype}", {"elements": work.writes, "tensors": len(op.weights)})
    counts["elements"] = work.elements
    if isinstance(op, MaxPool2d | AvgPool2d):
        counts["runs"] = op.n * op.h_out * op.w_out * op.k_h * op.k_w
    suffix = ".between" if forms.between else ""
    return Work(f"{op.kind}.{role.value}.{call.dtype}{suffix}", counts)


def _as_conv(op: Conv2d | Linear) -> Conv2d:
    if isinstance(op, Conv2d):
        return op
    return Conv2d(n=op.n, c_in=op.c_in, h=1, w=1, c_out=op.c_out, k=1)


def _up(value: int, step: int) -> int:
    return -(-value // step) * step


def _results(call: KernelCall) -> Counts:
    """Sums that leave as INT32, or values as INT8."""
    written = call.op.work(call.role).writes
    wide = call.rescaling in ("dynamic", "none") or call.role is Role.WEIGHT_GRAD
    return {"wide": written * wide, "narrow": written * (not wide)}


def _depthwise(op: Conv2d) -> Counts:
    inputs, outputs = prod(op.inputs[0]), prod(op.output)
    return {"macs": outputs * op.k_h * op.k_w, "map": inputs, "elements": outputs}


def _int8(op: Conv2d, role: Role, tiles: Tiles) -> Counts:
    """Counts of the tiled INT8 convolution (``kernels.int8.conv_tiled``)."""
    ins, outs = op.c_in // op.groups, op.c_out // op.groups
    width, rows, group = tiles.int8_width, tiles.int8_rows, tiles.int8_group
    if role is Role.WEIGHT_GRAD:
        grad = weight_grad_plan(op, group, 0)
        steps, columns = grad.offsets.size, _up(outs, width)
        return {
            "macs": op.groups * _up(op.k_h * op.k_w * ins, rows) * steps * group * columns,
            "map": op.groups * grad.places.size * grad.words * _up(op.n, group),
            "panel": op.groups * steps * group * (outs - outs % PACKED),
            "odd": op.groups * steps * group * (outs % PACKED),
            "tiles": op.groups * _tiles(op.k_h * op.k_w * ins, rows, columns, width),
        }
    forward = role is Role.FORWARD
    inner, written = (ins, outs) if forward else (outs, ins)
    columns = _up(written, width)
    plan = (forward_plan if forward else input_grad_plan)(op, ceil(inner / group))
    macs = depth = made = 0
    for one in plan.passes:
        positions = op.n * one.rows[0] * one.rows[1]
        macs += _up(positions, rows) * one.offsets.size * group * columns
        depth += one.offsets.size * group
        made += _tiles(positions, rows, columns, width)
    words = op.n * plan.places.size * plan.words
    return {
        "macs": op.groups * macs,
        "map": op.groups * words * group,
        "panel": op.groups * depth * (written - written % PACKED),
        "odd": op.groups * depth * (written % PACKED),
        "tiles": op.groups * made,
    }


def _tiles(count: int, rows: int, columns: int, width: int) -> int:
    """Register tiles that cover a result of whole panels."""
    return ceil(count / rows) * columns // width


def _fp32(op: Conv2d, role: Role, tiles: Tiles) -> Counts:
    """Counts of the FP32 products (``kernels.fp32.products``)."""
    if role is Role.WEIGHT_GRAD:
        return _fp32_grad(op, forward_walk(op, 0), tiles)
    walks = [forward_walk(op, 0)] if role is Role.FORWARD else list(input_grad_walks(op, 0))
    macs = panel = gathered = runs = made = 0
    for walk in walks:
        positions = op.n * walk.grid[0] * walk.grid[1]
        columns = _up(walk.columns, tiles.fp32_width)
        macs += _up(positions, tiles.fp32_rows) * walk.depth * columns
        panel += walk.depth * columns
        deep = ceil(walk.depth / FP32_DEPTH)
        made += deep * _tiles(positions, tiles.fp32_rows, columns, tiles.fp32_width)
        if not walk.is_plain:
            blocks = ceil(positions / FP32_BLOCK)
            shares = max(1, min(columns // tiles.fp32_width, FP32_ITEMS // blocks))
            gathered += positions * walk.depth * shares
            runs += positions * len(walk.taps) * shares
    return {
        "macs": op.groups * macs,
        "map": op.groups * gathered,
        "runs": op.groups * runs,
        "panel": op.groups * panel,
        "tiles": op.groups * made,
        "elements": prod(op.output if role is Role.FORWARD else op.inputs[0]),
    }


def _fp32_grad(op: Conv2d, walk: Walk, tiles: Tiles) -> Counts:
    positions = op.n * walk.grid[0] * walk.grid[1]
    depth, columns = _up(walk.depth, tiles.fp32_width), _up(walk.columns, tiles.fp32_rows)
    return {
        "macs": op.groups * positions * depth * columns,
        "map": op.groups * positions * walk.depth,
        "runs": op.groups * positions * (len(walk.taps) + depth // tiles.fp32_width - 1),
        "panel": op.groups * positions * columns,
        "tiles": op.groups
        * ceil(positions / FP32_DEPTH)
        * _tiles(columns, tiles.fp32_rows, depth, tiles.fp32_width),
        "elements": op.groups * walk.columns * walk.depth,
    }
