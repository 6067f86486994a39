"""Precision: which format layers compute in, and what an INT8 layer brings with it.

Subjects are layers; choices are ``fp32`` and ``int8``, or on a microcontroller ``fp32``, ``fp16``
and ``bf16``: being choices of one aspect, they exclude each other. Where a tensor crosses from one
to the other, a quantise, dequantise or convert appears on that edge, once per tensor. An INT8
convolution's gradients bring the layout work that the released engine does: dX reads its weights
transposed and rotated by 180 degrees, dW reads the transposed activation and the transposed error
(``NITI_DSPConv_Int8_Grad.cpp``, Mandheling-DSP-Training). Batch norm stays FP32, as there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import chain, permutations

from cost_models.cost import DType
from cost_models.device import Device
from kernels.conv import Conv2d
from kernels.layout import LayoutTranspose, WeightRotate180
from kernels.operators import Operator, Role
from kernels.precision import Convert, Dequantise, Quantise
from sim.aspects.base import Aspect, StepContext
from sim.draft import Buffer, Draft, Item

FLOAT_ONLY = frozenset(
    {"batch_norm", "tucker_save", "tucker_restore", "subspace_save", "subspace_restore"}
)
"""Kinds without an integer form: a layer that has one computes in FP32."""
PACKED = frozenset({"sign_mask"})
"""Kinds whose result has a size of its own, whatever the layer computes in."""
HALF: tuple[DType, ...] = ("fp16", "bf16")
"""Formats of 16 bits, which microcontroller clusters have kernels for and phones here have not."""
BYTES: dict[DType, int] = {"fp32": 4, "int8": 1, "fp16": 2, "bf16": 2}


class Precision(Aspect):
    """Data type of each layer."""

    name = "precision"
    numeric = True

    def subjects(self, draft: Draft, device: Device) -> list[str]:
        """Layers, in order."""
        return list(dict.fromkeys(item.layer for item in draft.items))

    def allowed(self, draft: Draft, subject: str, device: Device) -> tuple[str, ...]:
        """``int8`` wherever the layer has an integer form; 16-bit floats on a microcontroller."""
        kinds = {item.op.kind for item in draft.items if item.layer == subject}
        if kinds & FLOAT_ONLY:
            return ("fp32",)
        return ("fp32", *HALF) if device.mcu is not None else ("fp32", "int8")

    def default(self, draft: Draft, subject: str, device: Device) -> str:
        """FP32."""
        return "fp32"

    def variants(
        self, draft: Draft, device: Device, palette: Sequence[str] | None, *, mixed: bool
    ) -> list[dict[str, str]]:
        """All layers in each format; ``mixed``: any two layers in any two formats, somewhere.

        Two layers differ in some bit of their numbers, so a pattern for each bit is enough.
        """
        layers = self.subjects(draft, device)
        offered = {layer: self.allowed(draft, layer, device)[::-1] for layer in layers}
        either = [layer for layer in layers if len(offered[layer]) > 1]
        formats = tuple(dict.fromkeys(chain.from_iterable(offered[layer] for layer in either)))
        found = [dict.fromkeys(either, one) for one in formats]
        if mixed:
            found += [
                {layer: pair[k >> bit & 1] for k, layer in enumerate(either)}
                for bit in range(max(len(either) - 1, 0).bit_length())
                for pair in permutations(formats, 2)
            ]
        return found

    def rewrite(self, draft: Draft, choices: Mapping[str, str], context: StepContext) -> Draft:
        """Set data types, add conversions on edges and INT8 layout work."""
        typed = []
        for item in draft.items:
            chosen = next((d for d in BYTES if d == choices.get(item.layer)), item.dtype)
            typed.append(item if chosen == item.dtype else item._replace(dtype=chosen))
        return _Rewriter(draft.with_items(typed)).run()


class _Rewriter:
    """Walks the items once, adding conversions and layout items before their first use."""

    def __init__(self, draft: Draft) -> None:
        self.draft = draft
        self.buffers = draft.buffers
        self.out: list[Item] = []
        self.dtype: dict[str, DType] = {}
        for item in draft.items:
            for name in (*item.reads, *item.writes):
                self._type_of_weight(name, item)
        self.made: set[str] = set()

    def _type_of_weight(self, name: str, item: Item) -> None:
        if self.buffers[name].resident and name not in self.dtype:
            self._set(name, item.dtype)

    def _set(self, name: str, dtype: DType) -> None:
        self.dtype[name] = dtype
        self.buffers[name] = replace(self.buffers[name], item_bytes=BYTES[dtype])

    def run(self) -> Draft:
        for item in self.draft.items:
            reads = tuple(self._convert(name, item) for name in item.reads)
            item = item._replace(reads=reads)
            if item.dtype == "int8" and isinstance(item.op, Conv2d):
                item = self._with_layout(item, item.op)
            self.out.append(item)
            for name in item.writes:
                if item.op.kind in PACKED:
                    self.dtype[name] = item.dtype
                else:
                    self._set(name, item.dtype)
        return self.draft.with_items(self.out)

    def _convert(self, name: str, item: Item) -> str:
        """Return the buffer to read instead of ``name``, converting it on first need."""
        have = self.dtype.get(name, "fp32")
        if have == item.dtype or name in LABEL_LIKE:
            return name
        converted = f"{name}@{item.dtype}"
        if converted not in self.made:
            shape = self.buffers[name].shape
            op: Operator = Convert(shape)
            step, dtype = f"convert_{item.dtype}", item.dtype
            if "int8" in (have, item.dtype):
                op = Quantise(shape) if item.dtype == "int8" else Dequantise(shape)
                step, dtype = ("quantise" if item.dtype == "int8" else "dequantise"), "int8"
            self._insert(f"{name}.{step}", item.layer, op, dtype, (name,), converted, item.dtype)
        return converted

    def _insert(
        self,
        name: str,
        layer: str,
        op: Operator,
        dtype: DType,
        reads: tuple[str, ...],
        result: str,
        result_type: DType,
    ) -> None:
        self.made.add(result)
        self.dtype[result] = result_type
        self.buffers[result] = Buffer(op.output, BYTES[result_type])
        self.out.append(Item(name, name, layer, op, Role.FORWARD, dtype, reads, (result,)))

    def _with_layout(self, item: Item, op: Conv2d) -> Item:
        if item.role is Role.INPUT_GRAD:
            weight = item.reads[1]
            turned = self._swap_channels(item, op, weight)
            if op.k_h * op.k_w > 1:
                rotated = f"{weight}@rotated"
                rotate = WeightRotate180(self.buffers[turned].shape)
                name = f"{item.name}.rotate_w"
                self._insert(name, item.layer, rotate, "int8", (turned,), rotated, "int8")
                turned = rotated
            return item._replace(reads=tuple(turned if n == weight else n for n in item.reads))
        if item.role is Role.WEIGHT_GRAD:
            sides = zip(item.reads, ("transpose_x", "transpose_e"), strict=True)
            reads = (self._transpose(item, name, (1, 0, 2, 3), side) for name, side in sides)
            return item._replace(reads=tuple(reads))
        return item

    def _swap_channels(self, item: Item, op: Conv2d, weight: str) -> str:
        """Return the weight with its channel axes swapped, group by group.

        Where a group has one channel on either side (depthwise) the bytes are already in order.
        """
        outputs, inputs = op.c_out // op.groups, op.c_in // op.groups
        if min(outputs, inputs) == 1:
            return weight
        if op.groups == 1:
            return self._transpose(item, weight, (1, 0, 2, 3), "transpose_w")
        grouped = LayoutTranspose((op.groups, outputs, inputs, op.k_h, op.k_w), (0, 2, 1, 3, 4))
        name, turned = f"{item.name}.transpose_w", f"{weight}@tw"
        self._insert(name, item.layer, grouped, "int8", (weight,), turned, "int8")
        shape = (op.c_in, outputs, op.k_h, op.k_w)
        self.buffers[turned] = Buffer(shape, BYTES["int8"])
        return turned

    def _transpose(self, item: Item, name: str, perm: tuple[int, ...], step: str) -> str:
        turned = f"{name}@t{step[-1]}"
        if turned not in self.made:
            op = LayoutTranspose(self.buffers[name].shape, perm)
            self._insert(f"{item.name}.{step}", item.layer, op, "int8", (name,), turned, "int8")
        return turned


LABEL_LIKE = frozenset({"label"})
"""Integer class indices: read as they are by either precision."""
