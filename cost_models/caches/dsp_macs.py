"""Convolutions and fully connected layers on the DSP, on tensors in the D32 layout.

Filters come packed: their re-packing is a cost of its own (``cost_models/dsp.py``). A fully
connected layer is a convolution of one tap over its samples, dW one over its input features.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil

from cost_models.caches.nest import Arena, Array, Axis, Nest
from cost_models.caches.passes import Pass, passes, result_item
from cost_models.caches.products import (
    DSP_TILE,
    SLICE,
    WORD,
    Product,
    dsp_product,
    right_array,
    span,
)
from cost_models.cost import KernelCall
from cost_models.dsp import SHALLOW_DEPTH
from cost_models.vtcm import DEPTH_ALIGN, conv_slice_bytes, round_up
from kernels.conv import Conv2d
from kernels.linear import Linear
from kernels.operators import Role

MARGIN = 4
"""Rows above and below, and columns to the left, of a D32 tensor."""


def holds_slice(op: Conv2d, role: Role, scratchpad_bytes: int) -> bool:
    """Whether a slice of the filter operand fits the scratchpad."""
    return conv_slice_bytes(op, role) <= scratchpad_bytes


@dataclass(frozen=True, slots=True)
class D32:
    """Bytes of a tensor (n, c, h, w) in the D32 layout: (n, h + 8, c / 32, w + 4, 32)."""

    n: int
    c: int
    h: int
    w: int
    item: int = 1
    margin: int = MARGIN

    @property
    def column(self) -> int:
        """Bytes from one column to the next."""
        return DEPTH_ALIGN * self.item

    @property
    def slice(self) -> int:
        """Bytes from one slice of 32 channels to the next."""
        return (round_up(self.w, 4) + self.margin) * self.column

    @property
    def row(self) -> int:
        """Bytes from one row to the next."""
        return ceil(self.c / DEPTH_ALIGN) * self.slice

    @property
    def image(self) -> int:
        """Bytes from one sample to the next."""
        return (self.h + 2 * self.margin) * self.row

    def start(self, pad_h: int, pad_w: int) -> int:
        """Bytes to the first place that a window with this padding sees."""
        rows, columns = max(0, self.margin - pad_h), max(0, self.margin - pad_w)
        return rows * self.row + columns * self.column


def _as_row(op: Linear, role: Role) -> Conv2d:
    """A role of a fully connected layer as a forward convolution along one row of places."""
    rows, depth, columns = {
        Role.FORWARD: (op.n, op.c_in, op.c_out),
        Role.INPUT_GRAD: (op.n, op.c_out, op.c_in),
        Role.WEIGHT_GRAD: (op.c_in, op.n, op.c_out),
    }[role]
    return Conv2d(n=1, c_in=depth, h=1, w=rows, c_out=columns, k=1)


def dsp_nests(call: KernelCall, scratchpad_bytes: int) -> list[Nest]:
    """Nests of a convolution (not a depthwise one) or fully connected layer on the DSP."""
    arena, margin, op = Arena(), MARGIN, call.op
    held = isinstance(op, Conv2d) and holds_slice(op, call.role, scratchpad_bytes)
    if isinstance(op, Linear):
        op, margin = _as_row(op, call.role), 0
        call = call._replace(op=op, role=Role.FORWARD)
    assert isinstance(op, Conv2d)
    if call.role is Role.WEIGHT_GRAD:
        return [dsp_product(f"{call.role}", _dsp_weight_grad(call, op, arena, margin), held)]
    forward = call.role is Role.FORWARD
    source, target = (op.inputs[0], op.output) if forward else (op.output, op.inputs[0])
    ins, outs = source[1] // op.groups, target[1] // op.groups
    item = result_item(call)
    x = D32(op.n, ins, source[2], source[3], margin=margin)
    y = D32(op.n, outs, target[2], target[3], item, margin)
    shallow = forward and margin and ins <= SHALLOW_DEPTH
    words = (("slice_in", 1), ("word", 1)) if shallow else (
        ("slice_in", ceil(ins / DEPTH_ALIGN)), ("word", DEPTH_ALIGN // WORD)
    )  # fmt: skip
    products = []
    for high in passes(op, call.role, True):
        for wide in passes(op, call.role, False):
            depth = Axis((("k_h", high.taps), ("k_w", wide.taps), *words))
            products.append(_dsp_pass(call, op, (x, y), (high, wide), depth, outs))
    spans = [span(axes(made), made.left_strides, WORD) + made.left_offset for made in products]
    ends = [
        span(axes(made), made.result_strides, SLICE * item) + made.result_offset
        + (ceil(outs / SLICE) - 1) * y.slice
        for made in products
    ]  # fmt: skip
    left = arena.array("source", max(op.groups * op.n * x.image, *spans, 0))
    result = arena.array("result", max(op.groups * op.n * y.image, *ends, 0))
    nests = []
    for made in products:
        right = right_array(arena, made.depth, outs, SLICE, op.groups)
        whole = replace(made, left=left, right=right, result=result)
        nests.append(dsp_product(f"{call.role}", whole, held))
    return nests


def axes(made: Product) -> tuple[Axis, ...]:
    """All axes of a product."""
    return made.batch, made.rows, made.depth, Axis((("group", made.groups),))


_NOWHERE = Array("unplaced", 0, 0)


def _dsp_pass(
    call: KernelCall, op: Conv2d, layouts: tuple[D32, D32], along: tuple[Pass, Pass], depth: Axis,
    columns: int,
) -> Product:  # fmt: skip
    """One pass of the forward convolution or dX; arrays are not placed yet."""
    (x, y), (high, wide) = layouts, along
    pads = (op.pad_h, op.pad_w) if call.role is Role.FORWARD else (high.taps - 1, wide.taps - 1)
    across = round_up(wide.count, DSP_TILE) if x.margin else wide.count
    written = y.start(0, 0) + high.first * y.row + wide.first * y.column
    return Product(
        batch=Axis((("n", op.n),)),
        rows=Axis((("h", high.count), ("w", across))),
        depth=depth,
        columns=columns,
        left=_NOWHERE,
        left_strides={
            "group": op.n * x.image,
            "n": x.image,
            "h": high.step * x.row,
            "w": wide.step * x.column,
            "k_h": high.tap_step * x.row,
            "k_w": wide.tap_step * x.column,
            "slice_in": x.slice,
            "word": WORD,
        },
        right=_NOWHERE,
        result=_NOWHERE,
        result_strides={
            "group": op.n * y.image,
            "n": y.image,
            "h": high.write_step * y.row,
            "w": wide.write_step * y.column,
            "column": y.slice // SLICE,
        },
        item=y.item,
        accumulates=call.accumulates,
        groups=op.groups,
        left_offset=x.start(*pads),
        result_offset=written,
    )


def _dsp_weight_grad(call: KernelCall, op: Conv2d, arena: Arena, margin: int) -> Product:
    """DW: the error is the filter, samples are its depth, input channels are the batch."""
    ins, outs, item = op.c_in // op.groups, op.c_out // op.groups, result_item(call)
    x = D32(ins, op.n, op.h, op.w, margin=margin)
    y = D32(ins, outs, op.k_h, op.k_w, item, margin)
    batch, rows = Axis((("c_in", ins),)), Axis((("k_h", op.k_h), ("k_w", op.k_w)))
    slices = ceil(op.n / DEPTH_ALIGN)
    depth = Axis((("h", op.h_out), ("w", op.w_out), ("slice_in", slices), ("word", 8)))
    read = {
        "group": ins * x.image,
        "c_in": x.image,
        "k_h": op.dilation * x.row,
        "k_w": op.dilation * x.column,
        "h": op.stride * x.row,
        "w": op.stride * x.column,
        "slice_in": x.slice,
        "word": WORD,
    }
    write = {
        "group": ins * y.image,
        "c_in": y.image,
        "k_h": y.row,
        "k_w": y.column,
        "column": y.slice // SLICE,
    }
    group, start = Axis((("group", op.groups),)), x.start(op.pad_h, op.pad_w)
    seen = start + span((batch, rows, depth, group), read, WORD)
    right = right_array(arena, depth, outs, SLICE, op.groups)
    end = y.start(0, 0) + span((batch, rows, group), write, SLICE * item)
    end += (ceil(outs / SLICE) - 1) * y.slice
    return Product(
        batch=batch,
        rows=rows,
        depth=depth,
        columns=outs,
        left=arena.array("source", max(op.groups * ins * x.image, seen)),
        left_strides=read,
        right=right,
        result=arena.array("result", max(op.groups * ins * y.image, end)),
        result_strides=write,
        item=item,
        accumulates=call.accumulates,
        groups=op.groups,
        left_offset=start,
        result_offset=y.start(0, 0),
    )
