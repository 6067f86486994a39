"""What the makespan is made of: the critical path, by category and by cost parameter.

The path is walked backwards from the task that ends last. What ended exactly when a task
started is what it had waited for; where nothing did, time passed idle.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from sim.taskgraph import CATEGORIES
from sim.timeline import Timeline

IDLE = -1
"""``Segment.task`` where nothing runs."""


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of the critical path: one task from start to end, or :data:`IDLE` time."""

    start_ns: int
    end_ns: int
    task: int

    @property
    def duration_ns(self) -> int:
        """Length in nanoseconds; 0 for tasks that take no time."""
        return self.end_ns - self.start_ns


class _Walk:
    """Answers, for a task on the path, what it had waited for; never a task that was visited."""

    def __init__(self, timeline: Timeline):
        graph = timeline.graph
        self.start: list[int] = timeline.start_ns.tolist()
        self.end: list[int] = timeline.end_ns.tolist()
        self.unit: list[int] = graph.unit.tolist()
        self._pred_ptr: list[int] = graph.pred_ptr.tolist()
        self._pred: list[int] = graph.pred.tolist()
        self._visited: set[int] = set()
        self._ended_at: dict[tuple[int, int], list[int]] = defaultdict(list)
        for task, end in enumerate(self.end):
            self._ended_at[self.unit[task], end].append(task)
        # Rising ends; among equal ones the lowest id last, so that popping finds it first.
        self._by_end: list[int] = np.lexsort((-np.arange(len(graph)), timeline.end_ns)).tolist()

    def visit(self, task: int) -> None:
        self._visited.add(task)

    def _open(self, tasks: list[int], end: int) -> Iterator[int]:
        return (task for task in tasks if self.end[task] == end and task not in self._visited)

    def constraint(self, task: int) -> int | None:
        """What ended as ``task`` started: a predecessor, else a task of its unit; lowest id.

        Of the tasks of its unit one that took time is preferred: it did hold a slot.
        """
        start = self.start[task]
        preds = self._pred[self._pred_ptr[task] : self._pred_ptr[task + 1]]
        pred = min(self._open(preds, start), default=None)
        if pred is not None:
            return pred
        released = self._open(self._ended_at.get((self.unit[task], start), []), start)
        return min(released, key=lambda other: (self.start[other] == start, other), default=None)

    def latest_before(self, instant: int) -> int | None:
        """The task that ended last, at ``instant`` or before; lowest id on ties.

        Called with ever smaller instants: what is dropped here is never needed again.
        """
        while self._by_end:
            task = self._by_end[-1]
            if self.end[task] <= instant and task not in self._visited:
                return task
            self._by_end.pop()
        return None


def critical_path(timeline: Timeline) -> list[Segment]:
    """Segments in order of time that cover ``[0, makespan]`` without gap or overlap.

    From the task that ends last (lowest id on ties) backwards: a predecessor that ended when
    the task started; else a task that released its unit then; else idle time back to the latest
    end of any task (an end at that very instant costs no idle time: a strict order or a task held
    back by one before it makes tasks wait for other units).

    Examples
    --------
    >>> from sim.engines import run
    >>> from sim.taskgraph import Unit, make_task_graph
    >>> graph = make_task_graph([Unit("cpu", 1)], [0, 0], compute_ns=[5, 7], release_ns=[2, 9])
    >>> [(s.start_ns, s.end_ns, s.task) for s in critical_path(run(graph))]
    [(0, 2, -1), (2, 7, 0), (7, 9, -1), (9, 16, 1)]
    """
    if not len(timeline.graph):
        return []
    walk = _Walk(timeline)
    segments: list[Segment] = []
    task: int | None = int(timeline.end_ns.argmax())
    while task is not None:
        walk.visit(task)
        start = walk.start[task]
        segments.append(Segment(start, walk.end[task], task))
        if start == 0:
            break
        task = walk.constraint(task)
        if task is None:
            task = walk.latest_before(start)
            idle_from = 0 if task is None else walk.end[task]
            if idle_from < start:
                segments.append(Segment(idle_from, start, IDLE))
    return segments[::-1]


def breakdown_ns(timeline: Timeline) -> dict[str, int]:
    """Nanoseconds of the critical path by category; every category is there, the sum is exact.

    A task counts under its own category, but what a ``compute`` task took beyond its lead and its
    computing (it waited for bytes) counts as ``memory``.
    """
    graph = timeline.graph
    total = dict.fromkeys(CATEGORIES, 0)
    for segment in critical_path(timeline):
        if segment.task == IDLE:
            total["idle"] += segment.duration_ns
            continue
        category = CATEGORIES[int(graph.category[segment.task])]
        lead, computing, beyond = _parts(timeline, segment)
        total[category] += lead + computing
        total["memory" if category == "compute" else category] += beyond
    return total


def parameter_shares(timeline: Timeline) -> dict[str, int]:
    """Nanoseconds of the critical path by the cost parameter that they rest on.

    The lead of a task goes to ``groups[:, 0]``, its computing to ``groups[:, 1]``, what it took
    beyond to ``groups[:, 2]``. Idle time rests on none: the sum is the makespan less
    ``breakdown_ns(timeline)["idle"]`` of idle segments. Parameters without time are left out.
    """
    graph = timeline.graph
    total: dict[str, int] = defaultdict(int)
    for segment in critical_path(timeline):
        if segment.task != IDLE:
            parts = _parts(timeline, segment)
            for group, part in zip(graph.groups[segment.task].tolist(), parts, strict=True):
                if part:
                    total[graph.parameters[group]] += part
    return dict(sorted(total.items()))


def _parts(timeline: Timeline, segment: Segment) -> tuple[int, int, int]:
    """Lead, computing and the rest; a measured task may have been faster than its costs."""
    graph = timeline.graph
    lead = min(segment.duration_ns, int(graph.lead_ns[segment.task]))
    computing = min(segment.duration_ns - lead, int(graph.compute_ns[segment.task]))
    return lead, computing, segment.duration_ns - lead - computing
