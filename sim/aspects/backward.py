"""Backward: by which rule a convolution's gradients are made, and what is kept for them.

Subjects are convolutions whose gradients are computed. ``exact`` is back-propagation.
``filter:N`` is gradient filtering on patches of ``N x N`` errors (:mod:`kernels.filtered`): the
forward pass leaves patch sums of the input, and the two gradient kernels become products of coarse
maps, with passes before and after them. All of them are kernels of their own, so precision, batch
split, rescaling, placement and grouping treat them like any other. What the released latency
benchmark leaves out, spreading both gradients again, is charged.

The input itself is freed after the forward pass, unless another kernel keeps it: a ReLU before the
convolution masks its error by it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from cost_models.device import Device
from kernels.conv import Conv2d
from kernels.filtered import FilteredConv, largest_patch
from kernels.operators import Operator, Role
from sim.aspects.base import Aspect, StepContext
from sim.draft import Buffer, Draft, Item

EXACT = "exact"
FILTER = "filter"
PATCHES = (2, 4, 7)
"""Patches that are listed (those of the published tables); any up to the map is allowed."""


class Backward(Aspect):
    """Rule of each convolution's backward pass."""

    name = "backward"

    def subjects(self, draft: Draft, device: Device) -> list[str]:
        """Convolutions with a gradient, in order of the forward pass."""
        return gradient_layers(draft)

    def allowed(self, draft: Draft, subject: str, device: Device) -> tuple[str, ...]:
        """``exact``, and filters of the usual patches and of the largest that fits the map.

        Any whole number between is allowed, too.
        """
        op = draft.first(subject).op  # a forward kernel has its layer's name
        assert isinstance(op, Conv2d)
        most = largest_patch(op)
        sizes = sorted({size for size in (*PATCHES, most) if 2 <= size <= most})
        return (EXACT, *(f"{FILTER}:{size}" for size in sizes))

    def accepts(self, choice: str, allowed: tuple[str, ...]) -> bool:
        """Whether the choice is listed, or a filter of a patch between."""
        patch, most = patch_of(choice), patch_of(allowed[-1])
        return choice in allowed or (2 <= patch <= most and choice == f"{FILTER}:{patch}")

    def default(self, draft: Draft, subject: str, device: Device) -> str:
        """Back-propagation."""
        return EXACT

    def rewrite(self, draft: Draft, choices: Mapping[str, str], context: StepContext) -> Draft:
        """Replace the gradient kernels of every layer that is not exact."""
        made: dict[str, _Filtered] = {}
        for layer, choice in choices.items():
            op = draft.first(layer).op
            if choice != EXACT and isinstance(op, Conv2d):
                made[layer] = _Filtered(layer, FilteredConv(op, patch_of(choice)))
        if not made:
            return draft
        trained = {item.layer for item in draft.items if item.role is Role.WEIGHT_GRAD}
        out = draft.with_items(())
        for item in draft.items:
            rule = made.get(item.layer)
            wanted = rule is not None and isinstance(item.op, Conv2d)
            if rule is None or not wanted:
                out.items.append(item)
            elif item.role is Role.FORWARD:
                out.items.append(item)
                if item.layer in trained:
                    rule.save(out, item)
            else:
                rule.gradient(out, item)
        return out


def gradient_layers(draft: Draft) -> list[str]:
    """Return the convolutions that any gradient is computed of, in order of the forward pass."""
    gradients = (Role.INPUT_GRAD, Role.WEIGHT_GRAD)
    backward = {i.layer for i in draft.items if i.role in gradients}
    return [
        i.layer
        for i in draft.items
        if i.role is Role.FORWARD and isinstance(i.op, Conv2d) and i.layer in backward
    ]


def patch_of(choice: str) -> int:
    """Patch of a filter; 1 for any other choice.

    >>> patch_of("filter:4"), patch_of("exact")
    (4, 1)
    """
    name, _, size = choice.partition(":")
    return int(size) if name == FILTER and size.isascii() and size.isdigit() else 1


@dataclass(frozen=True, slots=True)
class _Filtered:
    """Adds the items of one filtered convolution to a draft."""

    layer: str
    spec: FilteredConv

    def _add(self, out: Draft, step: str, op: Operator, role: Role, read: str, write: str) -> str:
        """Append a pass of the layer, with a buffer for its result where there is none yet."""
        name = f"{self.layer}.{step}"
        if write not in out.buffers:
            out.buffers[write] = Buffer(op.output, 4)
        out.items.append(Item(name, name, self.layer, op, role, "fp32", (read,), (write,)))
        return write

    def save(self, out: Draft, forward: Item) -> None:
        """Sum the input over patches."""
        op = self.spec.saved
        self._add(out, op.kind, op, op.role, forward.reads[0], f"{self.layer}.patches")

    def gradient(self, out: Draft, item: Item) -> None:
        """Replace a gradient kernel."""
        if item.role is Role.INPUT_GRAD:
            self._input_grad(out, item)
        else:
            self._weight_grad(out, item)

    def _error(self, out: Draft, error: str) -> str:
        """The coarse error; made on first need."""
        coarse = f"{self.layer}.patch_error"
        if coarse not in out.buffers:
            op = self.spec.error
            self._add(out, op.kind, op, op.role, error, coarse)
        return coarse

    def _input_grad(self, out: Draft, item: Item) -> None:
        error, weight = item.reads
        coarse, taps, spread = self._error(out, error), self.spec.taps, self.spec.expand
        if taps is not None:
            weight = self._add(out, taps.kind, taps, taps.role, weight, f"{self.layer}.taps")
        op, made = self.spec.input_product, f"{self.layer}.patch_grad"
        out.buffers[made] = Buffer(op.inputs[0], 4)
        out.items.append(item._replace(op=op, reads=(coarse, weight), writes=(made,)))
        self._add(out, spread.kind, spread, spread.role, made, item.writes[0])

    def _weight_grad(self, out: Draft, item: Item) -> None:
        error, result = item.reads[1], item.writes[0]
        coarse, spread, bias = self._error(out, error), self.spec.spread, self.spec.bias
        op, made = self.spec.weight_product, result
        if spread is not None:
            made = f"{self.layer}.tap_grad"
            out.buffers[made] = Buffer(op.weights[0], 4)
        reads = (f"{self.layer}.patches", coarse)
        out.items.append(item._replace(op=op, reads=reads, writes=(made,)))
        if spread is not None:
            self._add(out, spread.kind, spread, spread.role, made, result)
        if bias is not None:
            self._add(out, bias.kind, bias, bias.role, error, item.writes[1])
