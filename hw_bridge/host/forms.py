"""What the numeric kernels will find in memory: FP32 tensors that are there as INT8, and copies.

The kernels hand INT8 on across a dequantise where they can; who needs FP32 first widens it. That
follows from the draft, and decides how much a row moves.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from cost_models.host.features import Forms
from hw_bridge.host.rows import CPU, DSP
from kernels.operators import Role
from sim.draft import Draft, Item
from sim.numeric.calls import Call

NARROW, WIDE = 1, 4
"""Bytes of an element of a tensor that is FP32 on the phone."""
_LAYOUT = frozenset({"transpose", "rotate180"})


class Tracker:
    """Follows the form of every FP32 tensor through the items of a step, in their order.

    Attributes
    ----------
    width
        Bytes of an element of each buffer as it is first stored.
    """

    def __init__(self, draft: Draft) -> None:
        self.draft = draft
        self.width: dict[str, int] = {}
        self._made: set[str] = set()
        self._here: tuple[dict[str, int], dict[str, int]] = ({}, {})

    def run(self, calls: Sequence[Call]) -> dict[str, Forms]:
        """Return the forms that each item meets, by its name."""
        return {call.item.name: self._item(call) for call in calls}

    def _item(self, call: Call) -> Forms:
        item, found = call.item, Forms()
        if item.op.kind in _LAYOUT or item.op.kind == "dequantise":
            return self._passed(item)
        if item.op.kind == "quantise" and self._form(item, item.reads[0]) == NARROW:
            found = Forms(handed_on=True)
        elif item.op.kind == "batch_norm" and item.role is not Role.UPDATE:
            found = self._norm(call)
        elif item.dtype == "fp32":
            found = Forms(widened=self._widen(item, item.reads))
        width = NARROW if found.between and item.role is not Role.WEIGHT_GRAD else None
        self._store(item, width)
        return found

    def _passed(self, item: Item) -> Forms:
        source, target = item.reads[0], item.writes[0]
        weight = source not in self._made and self.draft.buffers[source].resident
        width = NARROW if item.op.kind == "dequantise" else self._form(item, source)
        self._made.add(target)
        self._put(item, target, width)
        size = prod(self.draft.buffers[source].shape)
        return Forms(handed_on=True, copied=size * width if weight else 0)

    def _norm(self, call: Call) -> Forms:
        item = call.item
        count = 1 if item.role is Role.FORWARD else 2
        tensors, target = item.reads[:count], item.writes[0]
        inside = all(self._form(item, name) == NARROW for name in tensors)
        if inside and (item.role is Role.WEIGHT_GRAD or target in call.narrow):
            return Forms(between=True)
        return Forms(widened=self._widen(item, tensors))

    def _widen(self, item: Item, names: Sequence[str]) -> int:
        """Elements that the item widens, and keeps wide for those after it."""
        total = 0
        for name in dict.fromkeys(names):
            wide = self.draft.buffers[name].item_bytes == WIDE and name in self._made
            if wide and self._form(item, name) == NARROW:
                total += prod(self.draft.buffers[name].shape)
                self._here[_process(item)][name] = WIDE
        return total

    def _form(self, item: Item, name: str) -> int:
        """Bytes per element in the item's process; what the other has not changed it brings."""
        here, there = self._here[_process(item)], self._here[1 - _process(item)]
        default = self.draft.buffers[name].item_bytes
        return here.setdefault(name, there.get(name, default))

    def _put(self, item: Item, name: str, width: int) -> None:
        self._here[_process(item)][name] = width
        self.width.setdefault(name, width)

    def _store(self, item: Item, width: int | None) -> None:
        for name in item.writes:
            self._made.add(name)
            self._put(item, name, width or self.draft.buffers[name].item_bytes)


def _process(item: Item) -> int:
    return CPU if item.group < 0 else DSP
