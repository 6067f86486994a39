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
from cost_models.dsp import result_shape
from kernels.operators import Operator, Role, Shape
from kernels.precision import Requantise, RescaleScan
from sim.aspects.base import Aspect, StepContext
from sim.draft import Buffer, Draft, Item
from sim.plugins import PluginError
from sim.rescaling import parse_rule, rule_patterns


class Rescale(Aspect):
    """Rescale rule of each INT8 kernel with MACs."""

    name = "rescale"
    numeric = True
    uses_modes = True

    def subjects(self, draft: Draft, device: Device) -> list[str]:
        """Kernels with MACs, in order, once each; a rule has no effect on those in FP32."""
        return list(dict.fromkeys(i.subject for i in draft.items if i.has_macs))

    def allowed(self, draft: Draft, subject: str, device: Device) -> tuple[str, ...]:
        """Rules, with their parameters as patterns."""
        return rule_patterns()

    def accepts(self, choice: str, allowed: tuple[str, ...]) -> bool:
        """Whether the choice parses as a rule.

        Raises
        ------
        PluginError
            It is a rule that a plug-in brings, and cannot be used.
        """
        try:
            parse_rule(choice)
        except PluginError:
            raise
        except ValueError:
            return False
        return True

    def default(self, draft: Draft, subject: str, device: Device) -> str:
        """Rescale in every step, as the published integer algorithms do."""
        return "every"

    def matters(self, draft: Draft, subject: str, choice: str) -> bool:
        """Whether the kernel is an INT8 one."""
        return draft.first(subject).dtype == "int8"

    def rewrite(self, draft: Draft, choices: Mapping[str, str], context: StepContext) -> Draft:
        """Give each INT8 kernel its mode, with scan and requantise where the mode needs them."""
        last: dict[str, str] = {}
        count: dict[str, int] = {}
        for item in draft.items:
            if item.has_macs and item.dtype == "int8":
                last[item.subject] = item.name
                count[item.subject] = count.get(item.subject, 0) + 1
        out = draft.with_items(())
        for item in draft.items:
            if item.subject not in count:
                out.items.append(item)
                continue
            mode = context.modes.get(item.subject, "dynamic")
            meets = item.role is Role.WEIGHT_GRAD and count[item.subject] > 1
            if mode != "dynamic" and not meets:
                out.items.append(item._replace(rescaling=mode))
                continue
            result = item.writes[0]
            accumulator = f"{item.subject}.acc"
            shape = _written_shape(item, draft.buffers[result].shape)
            out.buffers[accumulator] = Buffer(shape, ITEM_BYTES["int32"])
            reads = tuple(accumulator if name == result else name for name in item.reads)
            wide: Rescaling = "none" if meets and mode != "dynamic" else "dynamic"
            out.items.append(
                item._replace(reads=reads, writes=(accumulator, *item.writes[1:]), rescaling=wide)
            )
            if item.name == last[item.subject]:
                _finish(out, item, accumulator, result, scan=mode == "dynamic")
        return out


def _written_shape(item: Item, shape: Shape) -> Shape:
    """Shape in which the kernel lays out its result, and in which the passes after it find it.

    A split forward or dX is concatenated: its batch is that of the whole.
    """
    if item.role is Role.WEIGHT_GRAD:
        return result_shape(item.op, item.role)
    return shape


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
