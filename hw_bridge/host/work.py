"""What the time of every row of a step depends on, counted; nothing measured goes in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import prod

from cost_models.cost import ITEM_BYTES
from cost_models.host.features import CACHED, Forms, Tiles, Work, work_of
from hw_bridge.host.forms import Tracker
from hw_bridge.host.rows import Kind, Row, StepRows
from sim.draft import Draft
from sim.numeric.calls import Call

_LATER = tuple(f"#{k}" for k in range(1, 4096))
"""Ends of the names of micro-batches that find code and weights in the caches."""


def row_works(draft: Draft, calls: Sequence[Call], steps: StepRows, tiles: Tiles) -> list[Work]:
    """Family and counts of each row of a step."""
    tracker = Tracker(draft)
    forms = tracker.run(calls)
    return [_work(row, draft, forms, tracker.width, tiles) for row in steps.rows]


def _work(
    row: Row, draft: Draft, forms: dict[str, Forms], width: dict[str, int], tiles: Tiles
) -> Work:
    if row.call is not None:
        item = row.call.item
        work = work_of(item.call, forms[item.name], tiles)
        if not item.has_macs:
            return work
        panel = work.counts.get("panel", 0)
        if item.name.endswith(_LATER):  # what the micro-batch before left in the cache is warm
            kept = CACHED // ITEM_BYTES[item.dtype]
            return replace(work, counts={**work.counts, "cold": max(0, panel - kept)})
        return replace(work, counts={**work.counts, "fresh": 1, "cold": panel})
    if row.kind in (Kind.CALL, Kind.RETURN):
        size = sum(_bytes(draft, width, name) for name in row.sends)
        return Work(row.kind.value, {"values": len(row.sends), "bytes": size})
    if row.kind is Kind.PREPARE:
        return Work(row.kind.value, {"operators": draft.subgraphs[row.group].operators})
    if row.kind is Kind.INPUT:
        return Work(row.kind.value, {"bytes": draft.buffers["input"].bytes})
    return Work(row.kind.value, {})


def _bytes(draft: Draft, width: dict[str, int], name: str) -> int:
    buffer = draft.buffers[name]
    return prod(buffer.shape) * width.get(name, buffer.item_bytes)
