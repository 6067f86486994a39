"""Rescale: by which rule each INT8 result finds its shift.

Subjects are INT8 kernels with MACs; the choice is a rule of :mod:`sim.rescaling`. The rule and its
state give this step's mode. ``dynamic``: the kernel writes INT32, a scan finds max|acc|, a
requantise writes INT8. ``fused`` and ``inline``: the store requantises with a shift known before;
only a split dW still needs the requantise, since its micro-batches meet in INT32.
"""

from __future__ import annotations

from collections.abc import Mapping

from cost_models.cost import ITEM_BYTES, Rescaling
from cost_models.device import Device
from kernels.operators import Operator, Role
from kernels.precision import Requantise, RescaleScan
from sim.aspects.base import Aspect, StepContext
from sim.draft import Buffer, Draft, Item
from sim.rescaling import RULE_PATTERNS, parse_rule


class Rescale(Aspect):
    """Rescale rule of each INT8 kernel with MACs."""

    name = "rescale"

    def subjects(self, draft: Draft, device: Device) -> list[str]:
        """INT8 kernels with MACs, in order, once each."""
        found = (i.subject for i in draft.items if i.has_macs and i.dtype == "int8")
        return list(dict.fromkeys(found))

    def allowed(self, draft: Draft, subject: str, device: Device) -> tuple[str, ...]:
        """Rules, with their parameters as patterns."""
        return RULE_PATTERNS

    def accepts(self, choice: str, allowed: tuple[str, ...]) -> bool:
        """Whether the choice parses as a rule."""
        try:
            parse_rule(choice)
        except ValueError:
            return False
        return True

    def default(self, draft: Draft, subject: str, device: Device) -> str:
        """Rescale in every step, as the published integer algorithms do."""
        return "every"

    def rewrite(self, draft: Draft, choices: Mapping[str, str], context: StepContext) -> Draft:
        """Give each INT8 kernel its mode, with scan and requantise where the mode needs them."""
        last = {item.subject: item.name for item in draft.items if item.subject in choices}
        count: dict[str, int] = {}
        for item in draft.items:
            if item.subject in choices:
                count[item.subject] = count.get(item.subject, 0) + 1
        out = draft.with_items(())
        for item in draft.items:
            if item.subject not in choices:
                out.items.append(item)
                continue
            mode = context.modes.get(item.subject, "dynamic")
            meets = item.role is Role.WEIGHT_GRAD and count[item.subject] > 1
            if mode != "dynamic" and not meets:
                out.items.append(item._replace(rescaling=mode))
                continue
            result = item.writes[0]
            accumulator = f"{item.subject}.acc"
            out.buffers[accumulator] = Buffer(draft.buffers[result].shape, ITEM_BYTES["int32"])
            reads = tuple(accumulator if name == result else name for name in item.reads)
            wide: Rescaling = "none" if meets and mode != "dynamic" else "dynamic"
            out.items.append(
                item._replace(reads=reads, writes=(accumulator, *item.writes[1:]), rescaling=wide)
            )
            if item.name == last[item.subject]:
                _finish(out, item, accumulator, result, scan=mode == "dynamic")
        return out


def _finish(out: Draft, item: Item, accumulator: str, result: str, *, scan: bool) -> None:
    """Append the scan (if any) and the requantise that turn the accumulator into the result."""
    shape, subject = out.buffers[accumulator].shape, item.subject

    def append(step: str, op: Operator, reads: tuple[str, ...], write: str) -> None:
        name = f"{subject}.{step}"
        extra = Item(name, name, item.layer, op, Role.FORWARD, "int8", reads, (write,))
        out.items.append(extra._replace(follows=subject))

    reads: tuple[str, ...] = (accumulator,)
    if scan:
        shift = f"{subject}.shift"
        out.buffers[shift] = Buffer((1,), ITEM_BYTES["int32"])
        append("scan", RescaleScan(shape), reads, shift)
        reads = (accumulator, shift)
    append("requantise", Requantise(shape), reads, result)
