"""The static evaluator: times of tasks in a given order, without contention.

Without contention a duration is fixed: ``lead + max(compute, ceil(bytes * 1000 / cap))``. In
strict order each unit starts its tasks in a known sequence, so one pass over a topological order
gives every start: the latest of the task's release, the ends of its predecessors, the start before
it on its unit, and the first instant when its slots and its VTCM are free. Since starts on a
unit only grow, a slot is no more than the time at which it is free again.

:func:`static_makespan` allocates nothing and holds no lock: policy search calls it within
``prange``, one :class:`StaticTables` per thread. :class:`StaticEvaluator` is the convenient form.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sim.engines.jit import Rows, compiled, inlined, record
from sim.engines.order import EngineError, Order, checked_order
from sim.taskgraph import I64, TaskGraph

STATIC_TASK = record(
    *("unit", "slots", "vtcm_bytes", "duration_ns", "release_ns", "pred_begin", "pred_end")
)
STATIC_UNIT = record("slot_begin", "slot_end", "vtcm_bytes", "start_ns", "floor_ns")
STATIC_SLOT = record("free_ns", "vtcm_bytes")
STATIC_ROW = record("start_ns", "end_ns")


class StaticTables(NamedTuple):
    """What an evaluation needs and where it writes; int64 records, and ``pred`` as in TaskGraph.

    ``task`` is only read. ``unit.start_ns`` (of the unit's last task), ``unit.floor_ns``, ``slot``
    and ``row`` are scratch: one set per thread. The slots of a unit lie at
    ``slot_begin:slot_end``, sorted by the time when they are free; none is free before
    ``floor_ns``, the end of the last task that took all of them.
    """

    task: Rows
    pred: I64
    unit: Rows
    slot: Rows
    row: Rows


def static_tables(graph: TaskGraph) -> StaticTables:
    """Tables of ``graph``, with scratch of its own."""
    task = np.empty(len(graph), STATIC_TASK)
    for name in ("unit", "slots", "vtcm_bytes", "release_ns"):
        task[name] = getattr(graph, name)
    transfer = -(-graph.ddr_bytes * 1000 // graph.rate_cap)
    task["duration_ns"] = graph.lead_ns + np.maximum(graph.compute_ns, transfer)
    task["pred_begin"], task["pred_end"] = graph.pred_ptr[:-1], graph.pred_ptr[1:]
    slots = np.cumsum([0, *(unit.slots for unit in graph.units)])
    unit = np.zeros(len(graph.units), STATIC_UNIT)
    unit["slot_begin"], unit["slot_end"] = slots[:-1], slots[1:]
    unit["vtcm_bytes"] = [each.vtcm_bytes for each in graph.units]
    slot, row = np.zeros(slots[-1], STATIC_SLOT), np.zeros(len(graph), STATIC_ROW)
    return StaticTables(task, graph.pred, unit, slot, row)


@inlined
def _reset(tables: StaticTables) -> None:
    for i in range(len(tables.row)):
        tables.row[i].end_ns = -1
    for i in range(len(tables.slot)):
        tables.slot[i].free_ns = 0
        tables.slot[i].vtcm_bytes = 0
    for i in range(len(tables.unit)):
        tables.unit[i].start_ns = 0
        tables.unit[i].floor_ns = 0


@inlined
def _vtcm_fits_at(slot: Rows, first: int, end: int, start: int, spare: int) -> int:
    """First instant from ``start`` on when slots ``first:end`` hold ``spare`` bytes or less.

    Goes from the slot that is freed last to sooner ones; the first that is one too many must end.
    """
    for i in range(end - 1, first - 1, -1):
        if slot[i].free_ns <= start:
            break
        spare -= slot[i].vtcm_bytes
        if spare < 0:
            start = slot[i].free_ns
            break
    return start


@inlined
def _take(slot: Rows, begin: int, end: int, need: int, until: int, vtcm: int) -> None:
    """Replace the ``need`` slots free soonest by ones free at ``until``; keeps them sorted."""
    i = begin + need
    while i < end and slot[i].free_ns < until:
        slot[i - need].free_ns = slot[i].free_ns
        slot[i - need].vtcm_bytes = slot[i].vtcm_bytes
        i += 1
    for j in range(i - need, i):
        slot[j].free_ns = until
        slot[j].vtcm_bytes = 0
    slot[i - 1].vtcm_bytes = vtcm  # once per task


@compiled
def static_makespan(order: I64, tables: StaticTables) -> int:
    """Makespan (ns) of the tasks started in ``order``; rows are left in ``tables.row``.

    Returns ``-1 - position`` when ``order`` breaks off at that position: the task comes twice,
    or before a predecessor. Task ids must lie in ``0..n - 1`` (not checked).
    """
    _reset(tables)
    makespan = 0
    for position in range(len(order)):
        i = order[position]
        unit = tables.task[i].unit
        start = max(tables.task[i].release_ns, tables.unit[unit].start_ns)
        valid = tables.row[i].end_ns < 0
        for index in range(tables.task[i].pred_begin, tables.task[i].pred_end):
            ended = tables.row[tables.pred[index]].end_ns
            valid &= ended >= 0
            start = max(start, ended)
        if not valid:
            return -1 - position
        begin, end = tables.unit[unit].slot_begin, tables.unit[unit].slot_end
        need, vtcm = tables.task[i].slots, tables.task[i].vtcm_bytes
        start = max(start, tables.unit[unit].floor_ns, tables.slot[begin + need - 1].free_ns)
        if begin + need == end:  # all slots: nothing else runs, nor holds VTCM, until it ends
            until = start + tables.task[i].duration_ns
            tables.unit[unit].floor_ns = until
        else:
            if vtcm > 0:
                spare = tables.unit[unit].vtcm_bytes - vtcm
                start = _vtcm_fits_at(tables.slot, begin + need, end, start, spare)
            until = start + tables.task[i].duration_ns
            _take(tables.slot, begin, end, need, until, vtcm)
        tables.row[i].start_ns = start
        tables.row[i].end_ns = until
        tables.unit[unit].start_ns = start
        makespan = max(makespan, until)
    return makespan


class StaticEvaluator:
    """Evaluates many orders of one graph; owns its tables.

    Not for use by several threads at once: give each its own.

    Examples
    --------
    >>> from sim.taskgraph import Unit, make_task_graph
    >>> graph = make_task_graph([Unit("cpu", 1)], [0, 0], compute_ns=[5, 7])
    >>> StaticEvaluator(graph).makespan([1, 0])
    12
    """

    def __init__(self, graph: TaskGraph):
        self._graph = graph
        self.tables = static_tables(graph)

    def makespan(self, order: Order) -> int:
        """Makespan in ns; raises :class:`EngineError` for an order that is not topological."""
        return self._evaluate(checked_order(self._graph, order))

    def times(self, order: Order) -> tuple[I64, I64]:
        """Start and end of each task in ns, as copies; raises as :meth:`makespan`."""
        self.makespan(order)
        return self.tables.row["start_ns"].copy(), self.tables.row["end_ns"].copy()

    def _evaluate(self, order: I64) -> int:
        makespan = int(static_makespan(order, self.tables))
        if makespan < 0:
            position = -1 - makespan
            name = self._graph.names[int(order[position])]
            raise EngineError(
                f"order has task {name!r} at position {position}, before one of its predecessors; "
                "allowed: a topological order. Sort the order by dependencies."
            )
        return makespan
