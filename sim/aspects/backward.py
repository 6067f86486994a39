"""Backward: by which rule a convolution's gradients are made, and what is kept for them.

Subjects are convolutions whose gradients are computed. ``exact`` is back-propagation.
``filter:N`` is gradient filtering on patches of ``N x N`` errors (:mod:`kernels.filtered`): the
forward pass leaves patch sums of the input, and the two gradient kernels become products of coarse
maps, with passes before and after them. What the released latency benchmark leaves out, spreading
both gradients again, is charged. ``svd:K`` and ``hosvd:N:C:H:W`` keep the input in factors of these
ranks and restore it for an exact rule (:mod:`kernels.tucker`); such a layer computes in FP32.
``asi:N:C:H:W`` does so with factors that one subspace iteration makes of the last step's. They live
from step to step, like an optimiser's state.
A ReLU is a subject, too: with ``mask`` it keeps a bit per element in the place of its output
(:mod:`kernels.signs`), and no gradient changes.

All passes are kernels of their own, so precision, batch split, rescaling, placement and grouping
treat them like any other. The input itself is freed after the forward pass, unless another kernel
keeps it: a ReLU before the convolution masks its error by it, unless it keeps bits.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from cost_models.device import Device
from kernels.conv import Conv2d
from kernels.filtered import FilteredConv, largest_patch
from kernels.operators import Operator, Role
from kernels.signs import MaskedGrad, SignMask
from kernels.tucker import Ranks, SubspaceRestore, SubspaceSave, TuckerRestore, TuckerSave
from sim.aspects.base import Aspect, StepContext
from sim.draft import NEXT, Buffer, Draft, Item

EXACT, FILTER, SVD, HOSVD, ASI, MASK = "exact", "filter", "svd", "hosvd", "asi", "mask"
BASES = ".bases"
"""Ends the name of the buffer that holds the bases of a layer from step to step."""
NUMBER = re.compile("0|[1-9][0-9]{0,17}")
"""A whole number as it is printed. Longer ones are of no map, and Python refuses to read them."""
PATCHES = (2, 4, 7)
"""Patches that are listed (those of the published tables); any up to the map is allowed."""


class Backward(Aspect):
    """Rule of each convolution's backward pass."""

    name = "backward"
    numeric = True

    def subjects(self, draft: Draft, device: Device) -> list[str]:
        """Convolutions and ReLUs with a gradient, in order of the forward pass."""
        return gradient_layers(draft, ("conv2d", "relu"))

    def allowed(self, draft: Draft, subject: str, device: Device) -> tuple[str, ...]:
        """``exact``; filters of the usual patches and of the largest that fits the map; full ranks.

        Any whole number up to the largest listed is allowed. Factors are for trained layers. A
        microcontroller cluster has no kernels but the exact ones.
        """
        if device.mcu is not None:
            return (EXACT,)
        op = draft.first(subject).op  # a forward kernel has its layer's name
        if not isinstance(op, Conv2d):
            return (EXACT, MASK)
        most = largest_patch(op)
        sizes = sorted({size for size in (*PATCHES, most) if 2 <= size <= most})
        filters = tuple(f"{FILTER}:{size}" for size in sizes)
        if subject not in trained_layers(draft):
            return (EXACT, *filters)
        whole = ":".join(map(str, op.inputs[0]))
        return (EXACT, *filters, f"{SVD}:{op.n}", f"{HOSVD}:{whole}", f"{ASI}:{whole}")

    def accepts(self, choice: str, allowed: tuple[str, ...]) -> bool:
        """Whether the choice is listed, or has smaller numbers than one that is."""
        kind, *numbers = choice.split(":")
        given = _numbers(numbers)
        if choice in allowed or given is None:
            return choice in allowed
        least = _least(kind)
        limits = [_numbers(each.split(":")[1:]) for each in allowed if each.startswith(f"{kind}:")]
        return any(
            limit is not None
            and len(limit) == len(given)
            and all(least <= one <= most for one, most in zip(given, limit, strict=True))
            for limit in limits
        )

    def wording(self, allowed: tuple[str, ...]) -> str:
        """The allowed choices with the ranges of their numbers."""
        largest = {choice.partition(":")[0]: choice for choice in allowed}
        return ", ".join(_range_words(choice) for choice in largest.values())

    def default(self, draft: Draft, subject: str, device: Device) -> str:
        """Back-propagation."""
        return EXACT

    def variants(
        self, draft: Draft, device: Device, palette: Sequence[str] | None, *, mixed: bool
    ) -> list[dict[str, str]]:
        """Each kind of rule (the word before a colon) wherever it is allowed.

        A rule brings kernels of its own to its layer and none to an edge.
        """
        kinds: dict[str, dict[str, str]] = {}
        for subject in self.subjects(draft, device):
            allowed = self.allowed(draft, subject, device)
            for choice in allowed if palette is None else palette:
                if self.accepts(choice, allowed):
                    kinds.setdefault(choice.partition(":")[0], {}).setdefault(subject, choice)
        return [*kinds.values()]

    def rewrite(self, draft: Draft, choices: Mapping[str, str], context: StepContext) -> Draft:
        """Replace the gradient kernels of every layer that is not exact."""
        made: dict[str, _Rule] = {}
        for layer, choice in choices.items():
            op = draft.first(layer).op
            if choice != EXACT:
                made[layer] = _rule(layer, choice, op)
        if not made:
            return draft
        trained = trained_layers(draft)
        out = draft.with_items(())
        for item in draft.items:
            rule = made.get(item.layer)
            if rule is None or item.op != draft.first(item.layer).op:  # an update, a sum of errors
                out.items.append(item)
            elif item.role is Role.FORWARD:
                out.items.append(item)
                if item.layer in trained or isinstance(rule, _Masked):
                    rule.save(out, item)
            else:
                rule.gradient(out, item)
        return out


def gradient_layers(draft: Draft, kinds: Collection[str] = ("conv2d",)) -> list[str]:
    """Return the layers of some kinds that a gradient is computed of, in forward order."""
    gradients = (Role.INPUT_GRAD, Role.WEIGHT_GRAD)
    backward = {i.layer for i in draft.items if i.role in gradients}
    return [
        i.layer
        for i in draft.items
        if i.role is Role.FORWARD and i.op.kind in kinds and i.layer in backward
    ]


def trained_layers(draft: Draft) -> set[str]:
    """Return the layers with a weight gradient."""
    return {item.layer for item in draft.items if item.role is Role.WEIGHT_GRAD}


def patch_of(choice: str) -> int:
    """Patch of a filter; 1 for any other choice.

    >>> patch_of("filter:4"), patch_of("exact")
    (4, 1)
    """
    name, _, size = choice.partition(":")
    return int(size) if name == FILTER else 1


def _numbers(texts: list[str]) -> list[int] | None:
    """Whole numbers as they are printed; None for anything else."""
    plain = all(NUMBER.fullmatch(text) for text in texts)
    return [int(text) for text in texts] if texts and plain else None


def _least(kind: str) -> int:
    """Smallest number that a kind of rule takes."""
    return 2 if kind == FILTER else 1


def _range_words(largest: str) -> str:
    """A kind of rule with the range of each of its numbers.

    >>> _range_words("filter:4"), _range_words("svd:1"), _range_words("mask")
    ('filter:2 to filter:4', 'svd:1', 'mask')
    >>> _range_words("asi:4:64:8:8")
    'asi:N:C:H:W with N 1 to 4, C 1 to 64, H 1 to 8, W 1 to 8'
    """
    kind, *most = largest.split(":")
    least = _least(kind)
    if len(most) == 4:
        ranges = (f"{axis} {least} to {size}" for axis, size in zip("NCHW", most, strict=True))
        return f"{kind}:N:C:H:W with {', '.join(ranges)}"
    return f"{kind}:{least} to {largest}" if most and most[0] != str(least) else largest


class _Rule(Protocol):
    """Adds the items of one convolution to a draft."""

    def save(self, out: Draft, forward: Item) -> None:
        """Add what follows the forward kernel of a trained layer."""

    def gradient(self, out: Draft, item: Item) -> None:
        """Add what stands for a gradient kernel."""


def _rule(layer: str, choice: str, op: Operator) -> _Rule:
    if not isinstance(op, Conv2d):
        return _Masked(layer, op)
    kind, *numbers = choice.split(":")
    if kind == FILTER:
        return _Filtered(layer, FilteredConv(op, patch_of(choice)))
    given = [int(number) for number in numbers]
    if kind == SVD:
        given += _sizes(op)[1:]
    ranks = given[0], given[1], given[2], given[3]
    return _Iterated(layer, op, ranks) if kind == ASI else _Factored(layer, op, ranks)


def _sizes(op: Conv2d) -> tuple[int, int, int, int]:
    return op.n, op.c_in, op.h, op.w


def _add(out: Draft, layer: str, op: Operator, role: Role, read: str, write: str) -> str:
    """Append a pass that reads and writes one buffer each."""
    return _append(out, layer, op, role, (read,), (write,))


def _append(
    out: Draft,
    layer: str,
    op: Operator,
    role: Role,
    reads: tuple[str, ...],
    writes: tuple[str, ...],
) -> str:
    """Append a pass of a layer, with a buffer for its first result where there is none yet."""
    name, result = f"{layer}.{op.kind}", writes[0]
    if result not in out.buffers:
        out.buffers[result] = Buffer(op.output, 4)
    out.items.append(Item(name, name, layer, op, role, "fp32", reads, writes))
    return result


def _restored(
    out: Draft, item: Item, op: TuckerRestore | SubspaceRestore, reads: tuple[str, ...]
) -> Item:
    """Append what restores an input, and return the weight gradient that reads it."""
    restored = _append(out, item.layer, op, op.role, reads, (f"{item.layer}.restored",))
    return item._replace(reads=(restored, *item.reads[1:]))


@dataclass(frozen=True, slots=True)
class _Masked:
    """A ReLU that keeps bits."""

    layer: str
    op: Operator

    def save(self, out: Draft, forward: Item) -> None:
        """Keep a bit per element of the output."""
        op, signs = SignMask(self.op.output), f"{self.layer}.signs"
        out.buffers[signs] = Buffer(op.output, 1)
        _add(out, self.layer, op, op.role, forward.writes[0], signs)

    def gradient(self, out: Draft, item: Item) -> None:
        """Mask the error by the bits."""
        reads = (item.reads[0], f"{self.layer}.signs")
        out.items.append(item._replace(op=MaskedGrad(self.op.output), reads=reads))


@dataclass(frozen=True, slots=True)
class _Factored:
    """A convolution that keeps its input in factors."""

    layer: str
    op: Conv2d
    ranks: Ranks

    def save(self, out: Draft, forward: Item) -> None:
        """Decompose the input."""
        op = TuckerSave(*_sizes(self.op), self.ranks)
        _add(out, self.layer, op, op.role, forward.reads[0], f"{self.layer}.factors")

    def gradient(self, out: Draft, item: Item) -> None:
        """Restore the input for the weight gradient; the input gradient reads none."""
        if item.role is Role.WEIGHT_GRAD:
            op = TuckerRestore(*_sizes(self.op), self.ranks)
            item = _restored(out, item, op, (f"{self.layer}.factors",))
        out.items.append(item)


@dataclass(frozen=True, slots=True)
class _Iterated:
    """A convolution that keeps its input in a core, and bases of it from step to step."""

    layer: str
    op: Conv2d
    ranks: Ranks

    def save(self, out: Draft, forward: Item) -> None:
        """Turn the bases and make the core."""
        op, bases = SubspaceSave(*_sizes(self.op), self.ranks), self.layer + BASES
        out.buffers[bases] = Buffer((op.bases,), 4, resident=True)
        out.buffers[bases + NEXT] = Buffer((op.bases,), 4)
        reads, writes = (forward.reads[0], bases), (f"{self.layer}.core", bases + NEXT)
        _append(out, self.layer, op, op.role, reads, writes)

    def gradient(self, out: Draft, item: Item) -> None:
        """Restore the input for the weight gradient; the input gradient reads none."""
        if item.role is Role.WEIGHT_GRAD:
            op = SubspaceRestore(*_sizes(self.op), self.ranks)
            item = _restored(out, item, op, (f"{self.layer}.core", self.layer + BASES + NEXT))
        out.items.append(item)


@dataclass(frozen=True, slots=True)
class _Filtered:
    """A convolution with filtered gradients."""

    layer: str
    spec: FilteredConv

    def save(self, out: Draft, forward: Item) -> None:
        """Sum the input over patches."""
        op = self.spec.saved
        _add(out, self.layer, op, op.role, forward.reads[0], f"{self.layer}.patches")

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
            _add(out, self.layer, op, op.role, error, coarse)
        return coarse

    def _input_grad(self, out: Draft, item: Item) -> None:
        error, weight = item.reads
        coarse, taps, spread = self._error(out, error), self.spec.taps, self.spec.expand
        if taps is not None:
            weight = _add(out, self.layer, taps, taps.role, weight, f"{self.layer}.taps")
        op, made = self.spec.input_product, f"{self.layer}.patch_grad"
        out.buffers[made] = Buffer(op.inputs[0], 4)
        out.items.append(item._replace(op=op, reads=(coarse, weight), writes=(made,)))
        _add(out, self.layer, spread, spread.role, made, item.writes[0])

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
            _add(out, self.layer, spread, spread.role, made, result)
        if bias is not None:
            _add(out, self.layer, bias, bias.role, error, item.writes[1])
