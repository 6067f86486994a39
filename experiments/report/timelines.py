"""Timelines as the page draws them: small columns of integers, what plans share stored once."""

from __future__ import annotations

from typing import Any

import numpy as np

from sim.critical import IDLE, critical_path
from sim.expected import Expectation
from sim.taskgraph import I64
from sim.timeline import Timeline

KIND = ("name", "unit", "category", "lead_ns", "alone_ns", "ddr_bytes")


class Texts:
    """Texts by number, each stored once."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def number(self, text: str) -> int:
        """Return the number of a text, a new one if it is new."""
        return self._numbers.setdefault(text, len(self._numbers))

    def document(self) -> list[str]:
        """All texts, in order of their numbers."""
        return list(self._numbers)


class TaskKinds:
    """Tasks of several timelines: those with equal name, unit and costs are one kind."""

    def __init__(self) -> None:
        self._names = Texts()
        self._units = Texts()
        self._kinds: dict[tuple[int, ...], int] = {}

    def timeline(self, expectation: Expectation) -> dict[str, Any]:
        """Return the likeliest step of a mixture for JSON.

        ``kind``, ``start`` (each after the one before), ``stretch`` (beyond what the task takes
        alone) and ``slots`` (a mask) are columns over its tasks by rising start; times in ns.
        ``critical`` numbers the tasks of the critical path.
        """
        likeliest = max(range(len(expectation.weights)), key=lambda k: (expectation.weights[k], -k))
        timeline = expectation.timelines[likeliest]
        graph = timeline.graph
        alone = alone_ns(timeline)
        order = np.lexsort((np.arange(len(graph)), timeline.start_ns))
        kinds = self._numbers(timeline, alone)
        place = np.empty(len(graph), np.int64)
        place[order] = np.arange(len(graph))
        path = [place[one.task] for one in critical_path(timeline) if one.task != IDLE]
        took = timeline.end_ns - timeline.start_ns
        return {
            "units": [[self._units.number(unit.name), unit.slots] for unit in graph.units],
            "ddr_rate": graph.ddr_rate,
            "makespan_ns": timeline.makespan_ns,
            "weight": expectation.weights[likeliest],
            "whole": expectation.whole,
            "kind": [kinds[task] for task in order.tolist()],
            "start": np.diff(timeline.start_ns[order], prepend=0).tolist(),
            "stretch": (took - alone)[order].tolist(),
            "slots": timeline.slot_mask[order].tolist(),
            "critical": sorted(int(one) for one in path),
        }

    def _numbers(self, timeline: Timeline, alone: I64) -> list[int]:
        graph = timeline.graph
        units = [self._units.number(unit.name) for unit in graph.units]
        columns = zip(
            (self._names.number(name) for name in graph.names),
            (units[unit] for unit in graph.unit.tolist()),
            graph.category.tolist(),
            graph.lead_ns.tolist(),
            alone.tolist(),
            graph.ddr_bytes.tolist(),
            strict=True,
        )
        return [self._kinds.setdefault(kind, len(self._kinds)) for kind in columns]

    def document(self) -> dict[str, Any]:
        """Return names, units and kinds (one column per field) for JSON."""
        columns = {field: [kind[k] for kind in self._kinds] for k, field in enumerate(KIND)}
        return {
            "names": self._names.document(),
            "units": self._units.document(),
            "kinds": columns,
        }


def alone_ns(timeline: Timeline) -> I64:
    """Return how long each task would take with all the bandwidth it can use, nanoseconds.

    The contract of :mod:`sim.taskgraph`: lead, then computing beside a transfer at its cap.
    """
    graph = timeline.graph
    moving = -(-graph.ddr_bytes * 1000 // graph.rate_cap)
    return np.asarray(graph.lead_ns + np.maximum(graph.compute_ns, moving), dtype=np.int64)
