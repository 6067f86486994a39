"""Convolutions and fully connected layers on a CPU core, tiled as in ``kernels/int8``.

Operands are packed first, since weights change in every step: the left one into a padded map of
words, the right one into panels (``kernels/int8/conv_tiled.py``). Then comes one product
(:mod:`cost_models.caches.products`), or for dX with a stride one for each phase. Tensors lie as
NHWC, weights as (c_out, k_h, k_w, c_in).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, gcd

from cost_models.caches.nest import Arena, Array, Axis, Loop, Nest, Ref
from cost_models.caches.passes import Pass, as_conv, passes, result_item
from cost_models.caches.products import BLOCK, PANEL, WORD, Product, cpu_product, right_array
from cost_models.cost import ITEM_BYTES, KernelCall
from kernels.conv import Conv2d
from kernels.linear import Linear
from kernels.operators import Role

SLACK = PANEL * WORD
"""Bytes by which a last panel or word, written whole, may pass the end of its tensor."""


@dataclass(frozen=True, slots=True)
class Packing:
    """Sizes that packing and product share: bytes of an element, elements of a word."""

    size: int
    group: int

    def words(self, elements: int) -> int:
        """Words that hold so many elements."""
        return ceil(elements / self.group)


def cpu_nests(call: KernelCall) -> list[Nest]:
    """Nests of a convolution (not a depthwise one) or fully connected layer on a CPU core."""
    assert isinstance(call.op, Conv2d | Linear)
    size = ITEM_BYTES[call.dtype]
    packing = Packing(size, WORD // size)
    if call.role is Role.WEIGHT_GRAD:
        return _weight_grad(call, as_conv(call.op), packing)
    return _windows(call, as_conv(call.op), packing)


def _windows(call: KernelCall, op: Conv2d, packing: Packing) -> list[Nest]:
    """Forward, or dX phase by phase: rows are positions, the depth is (tap, channels)."""
    arena, forward, size = Arena(), call.role is Role.FORWARD, packing.size
    seen, made = (op.inputs[0], op.output) if forward else (op.output, op.inputs[0])
    words, outs, item = packing.words(seen[1] // op.groups), made[1] // op.groups, result_item(call)
    tall, broad = (passes(op, call.role, vertical) for vertical in (True, False))
    height, width = max(p.reach for p in tall), max(p.reach for p in broad)
    source = arena.array("source", op.n * seen[1] * seen[2] * seen[3] * size + SLACK)
    mapped = arena.array("map", op.groups * op.n * height * width * words * WORD)
    weights = arena.array("weights", _weight_bytes(op, packing))
    result = arena.array("result", op.n * made[1] * made[2] * made[3] * item + PANEL * item)
    place, row = words * WORD, made[3] * made[1] * item
    image = height * width * place
    nests = [_pack_map(op, (source, mapped), seen, (height, width, place), size)]
    for high, wide in ((high, wide) for high in tall for wide in broad):
        depth = Axis((("k_h", high.taps), ("k_w", wide.taps), ("c", words)))
        right = right_array(arena, depth, outs, PANEL, op.groups)
        pack = _pack_forward if forward else _pack_turned
        nests.append(pack(op, weights, right, depth, packing))
        product = Product(
            batch=Axis((("n", op.n),)),
            rows=Axis((("h", high.count), ("w", wide.count))),
            depth=depth,
            columns=outs,
            left=mapped,
            left_strides={
                "group": op.n * image,
                "n": image,
                **_steps(high, wide, width * place, place),
                "c": WORD,
            },
            right=right,
            result=result,
            result_strides={
                "group": outs * item,
                "n": made[2] * row,
                "h": high.write_step * row,
                "w": wide.write_step * made[1] * item,
                "column": item,
            },
            item=item,
            accumulates=call.accumulates,
            groups=op.groups,
            result_offset=high.first * row + wide.first * made[1] * item,
        )
        nests.append(cpu_product(str(call.role), product))
    return nests


def _steps(high: Pass, wide: Pass, row: int, place: int) -> dict[str, int]:
    """Bytes in the map per position and tap of two passes."""
    return {
        "h": high.step * row,
        "w": wide.step * place,
        "k_h": high.tap_step * row,
        "k_w": wide.tap_step * place,
    }


def _weight_bytes(op: Conv2d, packing: Packing) -> int:
    """Weights with both channel axes filled up to whole words, and room for a last panel."""
    ins = packing.words(op.c_in // op.groups) * packing.group
    outs = packing.words(op.c_out // op.groups) * packing.group * op.groups
    return outs * op.k_h * op.k_w * ins * packing.size + SLACK


def _pack_map(
    op: Conv2d, arrays: tuple[Array, Array], shape: tuple[int, ...], layout: tuple[int, int, int],
    size: int,
) -> Nest:  # fmt: skip
    """Copy the channels of each place to the padded map; its padding is not written again."""
    (height, width, place), channels = layout, shape[1] // op.groups
    rows, columns = min(height, shape[2]), min(width, shape[3])
    axes = (Axis((("group", op.groups),)), Axis((("n", op.n), ("h", rows), ("w", columns))))
    pixel = shape[1] * size
    read = {"group": channels * size, "n": shape[2] * shape[3] * pixel, "h": shape[3] * pixel}
    image = height * width * place
    write = {"group": op.n * image, "n": image, "h": width * place, "w": place}
    refs = (
        Ref(arrays[0], {**read, "w": pixel}, channels * size, depth=2),
        Ref(arrays[1], write, place, depth=2, store=True),
    )
    return Nest("pack map", axes, (Loop(0), Loop(1)), refs)


def _pack_forward(op: Conv2d, weights: Array, right: Array, depth: Axis, packing: Packing) -> Nest:
    """Panels of output channels: a vector takes a word from each of 16 rows of weights."""
    outs = op.c_out // op.groups
    axes = (Axis((("group", op.groups),)), Axis((("column", outs),)), Axis((("word", depth.size),)))
    loops = (Loop(0), Loop(1, min(PANEL, outs)), Loop(2))
    row, panels = depth.size * WORD, ceil(outs / PANEL)
    write = {"group": panels * PANEL * row, "column": row, "word": PANEL * WORD}
    refs = (
        Ref(
            weights, {"group": outs * row, "column": row, "word": WORD}, WORD, 3, spread=(1, PANEL)
        ),
        Ref(right, write, PANEL * WORD, 3, store=True),
    )
    return Nest("pack panels", axes, loops, refs)


def _pack_turned(op: Conv2d, weights: Array, right: Array, depth: Axis, packing: Packing) -> Nest:
    """Panels of input channels for dX: a vector takes 16 channels of each of a word's outputs."""
    ins, outs = op.c_in // op.groups, op.c_out // op.groups
    axes = (Axis((("group", op.groups),)), Axis((("column", ins),)), depth)
    loops = (Loop(0), Loop(1, min(PANEL, ins)), Loop(2))
    filter_row = op.k_h * op.k_w * ins * packing.size
    apart = op.stride // gcd(op.stride, op.dilation)
    read = {
        "group": outs * filter_row,
        "column": packing.size,
        "k_h": min(apart, op.k_h) * op.k_w * ins * packing.size,
        "k_w": min(apart, op.k_w) * ins * packing.size,
        "c": packing.group * filter_row,
    }
    write = {"group": ceil(ins / PANEL) * depth.size * PANEL * WORD, "column": depth.size * WORD}
    taps = dict(depth.parts)
    write |= {"c": PANEL * WORD, "k_w": taps["c"] * PANEL * WORD}
    write["k_h"] = taps["k_w"] * write["k_w"]
    length = min(PANEL, ins) * packing.size
    refs = [
        Ref(weights, read, length, 3, offset=lane * filter_row) for lane in range(packing.group)
    ]
    return Nest("pack panels", axes, loops, (*refs, Ref(right, write, PANEL * WORD, 3, store=True)))


def _weight_grad(call: KernelCall, op: Conv2d, packing: Packing) -> list[Nest]:
    """DW: rows are (tap, input channel), the depth is samples in words, then error positions."""
    arena, item = Arena(), result_item(call)
    ins, outs, samples = op.c_in // op.groups, op.c_out // op.groups, packing.words(op.n)
    high, wide = (passes(op, Role.FORWARD, vertical)[0] for vertical in (True, False))
    height, width, place = high.reach, wide.reach, op.c_in * WORD
    padded = samples * packing.group
    x = arena.array("source", op.h * op.w * padded * op.c_in * packing.size + SLACK)
    e = arena.array("errors", op.h_out * op.w_out * padded * op.c_out * packing.size + SLACK)
    mapped = arena.array("map", samples * height * width * place + SLACK)
    depth = Axis((("n", samples), ("h", op.h_out), ("w", op.w_out)))
    right = right_array(arena, depth, outs, PANEL, op.groups)
    rows = Axis((("k_h", op.k_h), ("k_w", op.k_w), ("c", ins)))
    result = arena.array("result", op.c_out * rows.size * item + BLOCK * item)
    product = Product(
        batch=Axis(()),
        rows=rows,
        depth=depth,
        columns=outs,
        left=mapped,
        left_strides={
            "group": ins * WORD,
            "n": height * width * place,
            **_steps(high, wide, width * place, place),
            "c": WORD,
        },
        right=right,
        result=result,
        result_strides={
            "group": outs * rows.size * item,
            "k_h": op.k_w * ins * item,
            "k_w": ins * item,
            "c": item,
            "column": rows.size * item,
        },
        item=item,
        accumulates=call.accumulates,
        groups=op.groups,
    )
    return [
        _samples_to_map(op, (x, mapped), (height, width), packing),
        _samples_to_panels(op, (e, right), depth, packing),
        cpu_product(str(call.role), product),
    ]


def _samples_to_map(
    op: Conv2d, arrays: tuple[Array, Array], layout: tuple[int, int], packing: Packing
) -> Nest:
    """Words of samples of each input element: 16 channels of each sample at a time."""
    (height, width), pixel = layout, op.c_in * packing.size
    rows, columns = min(height, op.h), min(width, op.w)
    step = min(PANEL, op.c_in)
    axes = (
        Axis((("n", packing.words(op.n)), ("h", rows), ("w", columns))),
        Axis((("c", op.c_in),)),
    )
    image, place = op.h * op.w * pixel, op.c_in * WORD
    read = {"n": packing.group * image, "h": op.w * pixel, "w": pixel, "c": packing.size}
    write = {"n": height * width * place, "h": width * place, "w": place, "c": WORD}
    refs = [
        Ref(arrays[0], read, step * packing.size, 2, offset=lane * image)
        for lane in range(packing.group)
    ]
    made = Ref(arrays[1], write, step * WORD, 2, store=True)
    return Nest("pack map", axes, (Loop(0), Loop(1, step)), (*refs, made))


def _samples_to_panels(
    op: Conv2d, arrays: tuple[Array, Array], depth: Axis, packing: Packing
) -> Nest:
    """Panels of output channels whose words are samples of an error position."""
    outs, pixel = op.c_out // op.groups, op.c_out * packing.size
    step, image = min(PANEL, outs), op.h_out * op.w_out * pixel
    axes = (Axis((("group", op.groups),)), Axis((("column", outs),)), depth)
    read = {
        "group": outs * packing.size,
        "column": packing.size,
        "n": packing.group * image,
        "h": op.w_out * pixel,
        "w": pixel,
    }
    place = PANEL * WORD
    write = {
        "group": ceil(outs / PANEL) * depth.size * place,
        "column": depth.size * WORD,
        "n": op.h_out * op.w_out * place,
        "h": op.w_out * place,
        "w": place,
    }
    refs = [
        Ref(arrays[0], read, step * packing.size, 3, offset=lane * image)
        for lane in range(packing.group)
    ]
    made = Ref(arrays[1], write, place, 3, store=True)
    return Nest("pack panels", axes, (Loop(0), Loop(1, step), Loop(2)), (*refs, made))
