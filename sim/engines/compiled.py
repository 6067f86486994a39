"""The compiled engine: the contract of ``sim.taskgraph`` as a Numba event loop over arrays.

It gives the rows of ``sim.engines.simpy_engine`` exactly. What differs is only bookkeeping: a
task has at most one pending event (release, stream start or task end), so the event heap never
exceeds the number of tasks; running streams (at most one per slot) are kept apart, sorted by
(cap, task id), and their ends are found by looking at all of them. Everything is int64; nothing is
allocated within the loop.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sim.engines.jit import Rows, compiled, inlined, record
from sim.engines.order import Order, checked_order, dead_lock, ranks_in_units
from sim.taskgraph import I64, TaskGraph
from sim.timeline import Timeline

_STREAM_START, _TASK_END, _RELEASE = 0, 1, 2
_TASK_BITS = 40
_TASK_MASK = (1 << _TASK_BITS) - 1
_NEVER = np.iinfo(np.int64).max

_TASK = record(
    # Read. The rank is the priority, or in strict order the place among its unit's tasks.
    *("unit", "slots", "vtcm_bytes", "lead_ns", "compute_ns", "rate_cap", "release_ns"),
    *("rank", "succ_begin", "succ_end"),
    # Written.
    *("waiting_for", "remaining", "rate", "since_ns", "stream_end_ns"),
    *("start_ns", "end_ns", "slot_mask"),
)
_UNIT = record("ready_base", "ready", "started", "free_mask", "free_slots", "free_vtcm")
_EVENT = record("when_ns", "code")
_TALLY = record("events", "streams", "streams_changed", "started", "ended")


class State(NamedTuple):
    """All of a run. A scalar that changes lives in an array: a tuple's own cannot."""

    task: Rows
    unit: Rows
    event: Rows
    """Heap of pending events, by (when, code); the code is kind and task id."""
    ready: I64
    """Heaps of ready tasks, one after the other; ``unit.ready_base`` says where."""
    stream: I64
    """Running streams, sorted by (cap, task id)."""
    succ: I64
    dispatch: I64
    """Tasks in the sequence of their starts."""
    tally: Rows
    """One record: how many events and streams there are, how many tasks started and ended."""


@inlined
def _sooner(event: Rows, one: int, when_ns: int, code: int) -> bool:
    """Whether the event at index ``one`` comes before (when, code)."""
    sooner: bool = event[one].when_ns < when_ns
    return sooner or (event[one].when_ns == when_ns and event[one].code < code)


@inlined
def _before(task: Rows, one: int, other: int) -> bool:
    """Whether task ``one`` comes before task ``other`` by (rank, id)."""
    before: bool = task[one].rank < task[other].rank
    return before or (task[one].rank == task[other].rank and one < other)


@inlined
def _push_event(event: Rows, size: int, when_ns: int, code: int) -> int:
    """Add (when, code) to a heap of ``size`` events, smaller first; returns the new size."""
    child = size
    while child > 0:
        parent = (child - 1) >> 1
        if _sooner(event, parent, when_ns, code):
            break
        event[child].when_ns, event[child].code = event[parent].when_ns, event[parent].code
        child = parent
    event[child].when_ns, event[child].code = when_ns, code
    return size + 1


@inlined
def _pop_event(event: Rows, size: int) -> int:
    """Remove the first event (read it at index 0 beforehand); returns the new size."""
    size -= 1
    when_ns, code = event[size].when_ns, event[size].code
    parent = 0
    while 2 * parent + 1 < size:
        child = 2 * parent + 1
        if child + 1 < size and _sooner(event, child + 1, event[child].when_ns, event[child].code):
            child += 1
        if not _sooner(event, child, when_ns, code):
            break
        event[parent].when_ns, event[parent].code = event[child].when_ns, event[child].code
        parent = child
    event[parent].when_ns, event[parent].code = when_ns, code
    return size


@inlined
def _push_ready(heap: I64, base: int, size: int, task: Rows, new: int) -> int:
    """Add task ``new`` to the heap ``heap[base:base + size]``; returns the new size."""
    child = size
    while child > 0:
        parent = (child - 1) >> 1
        if _before(task, heap[base + parent], new):
            break
        heap[base + child] = heap[base + parent]
        child = parent
    heap[base + child] = new
    return size + 1


@inlined
def _pop_ready(heap: I64, base: int, size: int, task: Rows) -> int:
    """Remove the first task (read it at ``heap[base]`` beforehand); returns the new size."""
    size -= 1
    last = heap[base + size]
    parent = 0
    while 2 * parent + 1 < size:
        child = 2 * parent + 1
        if child + 1 < size and _before(task, heap[base + child + 1], heap[base + child]):
            child += 1
        if not _before(task, heap[base + child], last):
            break
        heap[base + parent] = heap[base + child]
        parent = child
    heap[base + parent] = last
    return size


@inlined
def _post(state: State, when: int, kind: int, task: int) -> None:
    code = (kind << _TASK_BITS) | task
    state.tally[0].events = _push_event(state.event, state.tally[0].events, when, code)


@inlined
def _make_ready(state: State, task: int, now: int) -> None:
    """All predecessors have ended: queue the task, or post its release."""
    if state.task[task].release_ns > now:
        _post(state, state.task[task].release_ns, _RELEASE, task)
    else:
        unit = state.task[task].unit
        base, size = state.unit[unit].ready_base, state.unit[unit].ready
        state.unit[unit].ready = _push_ready(state.ready, base, size, state.task, task)


@inlined
def _start_stream(state: State, task: int, now: int) -> None:
    place = state.tally[0].streams
    cap = state.task[task].rate_cap
    while place > 0:
        other = state.stream[place - 1]
        other_cap = state.task[other].rate_cap
        if other_cap < cap or (other_cap == cap and other < task):
            break
        state.stream[place] = other
        place -= 1
    state.stream[place] = task
    state.task[task].since_ns = now
    state.task[task].stream_end_ns = _NEVER
    state.tally[0].streams += 1
    state.tally[0].streams_changed = 1


@inlined
def _end_streams(state: State, now: int) -> None:
    """Take out the streams that end now; their tasks end when computing has ended as well."""
    kept = 0
    streams = state.tally[0].streams
    for place in range(streams):
        task = state.stream[place]
        if state.task[task].stream_end_ns == now:
            led = state.task[task].start_ns + state.task[task].lead_ns
            _post(state, max(now, led + state.task[task].compute_ns), _TASK_END, task)
        else:
            state.stream[kept] = task
            kept += 1
    if kept < streams:
        state.tally[0].streams = kept
        state.tally[0].streams_changed = 1


@inlined
def _end_task(state: State, task: int, now: int) -> None:
    state.task[task].end_ns = now
    state.tally[0].ended += 1
    unit = state.task[task].unit
    state.unit[unit].free_mask |= state.task[task].slot_mask
    state.unit[unit].free_slots += state.task[task].slots
    state.unit[unit].free_vtcm += state.task[task].vtcm_bytes
    for index in range(state.task[task].succ_begin, state.task[task].succ_end):
        later = state.succ[index]
        state.task[later].waiting_for -= 1
        if state.task[later].waiting_for == 0:
            _make_ready(state, later, now)


@inlined
def _drain(state: State, now: int) -> None:
    """All events at ``now``: stream ends, then stream starts, task ends and releases."""
    _end_streams(state, now)
    while state.tally[0].events > 0 and state.event[0].when_ns == now:
        kind = state.event[0].code >> _TASK_BITS
        task = state.event[0].code & _TASK_MASK
        state.tally[0].events = _pop_event(state.event, state.tally[0].events)
        if kind == _STREAM_START:
            _start_stream(state, task, now)
        elif kind == _TASK_END:
            _end_task(state, task, now)
        else:
            _make_ready(state, task, now)


@inlined
def _start_task(state: State, task: int, now: int) -> None:
    unit = state.task[task].unit
    free = state.unit[unit].free_mask
    taken = np.int64(0)
    for _ in range(state.task[task].slots):
        lowest = free & -free
        free ^= lowest
        taken |= lowest
    state.unit[unit].free_mask = free
    state.unit[unit].free_slots -= state.task[task].slots
    state.unit[unit].free_vtcm -= state.task[task].vtcm_bytes
    state.unit[unit].started += 1
    state.task[task].slot_mask = taken
    state.task[task].start_ns = now
    state.dispatch[state.tally[0].started] = task
    state.tally[0].started += 1
    led = now + state.task[task].lead_ns
    if state.task[task].remaining > 0:
        _post(state, led, _STREAM_START, task)
    else:
        _post(state, led + state.task[task].compute_ns, _TASK_END, task)


@inlined
def _dispatch(state: State, strict: bool, now: int) -> None:
    for unit in range(len(state.unit)):
        base = state.unit[unit].ready_base
        while state.unit[unit].ready > 0:
            task = state.ready[base]
            if strict and state.task[task].rank != state.unit[unit].started:
                break
            if state.task[task].slots > state.unit[unit].free_slots:
                break
            if state.task[task].vtcm_bytes > state.unit[unit].free_vtcm:
                break
            size = state.unit[unit].ready
            state.unit[unit].ready = _pop_ready(state.ready, base, size, state.task)
            _start_task(state, task, now)


@inlined
def _share(state: State, ddr_rate: int, contention: bool, now: int) -> None:
    """Max-min fair rates; a stream whose rate changed gets a new end."""
    left = ddr_rate
    streams = state.tally[0].streams
    for place in range(streams):
        task = state.stream[place]
        rate = state.task[task].rate_cap
        if contention:
            if rate * (streams - place) > left:  # spares the division where the cap binds
                rate = max(1, left // (streams - place))
            left -= rate
        old = state.task[task].rate
        if rate != old:
            moved = old * (now - state.task[task].since_ns) // 1000
            remaining = state.task[task].remaining - moved
            state.task[task].remaining = remaining
            state.task[task].since_ns = now
            state.task[task].rate = rate
            state.task[task].stream_end_ns = now + (remaining * 1000 + rate - 1) // rate
    state.tally[0].streams_changed = 0


@inlined
def _next_instant(state: State) -> int:
    soonest = _NEVER
    if state.tally[0].events > 0:
        soonest = state.event[0].when_ns
    for place in range(state.tally[0].streams):
        soonest = min(soonest, state.task[state.stream[place]].stream_end_ns)
    return soonest


@compiled
def simulate(state: State, ddr_rate: int, contention: bool, strict: bool) -> int:
    """Run to the end, leaving the rows in ``state.task``; returns how many tasks ended."""
    for task in range(len(state.task)):
        if state.task[task].waiting_for == 0:
            _make_ready(state, task, 0)
    now = 0
    while now != _NEVER:
        while True:
            _drain(state, now)
            _dispatch(state, strict, now)
            if state.tally[0].events == 0 or state.event[0].when_ns != now:
                break
        if state.tally[0].streams_changed == 1:
            _share(state, ddr_rate, contention, now)
        now = _next_instant(state)
    ended: int = state.tally[0].ended
    return ended


@compiled
def link(task: Rows, pred_ptr: I64, pred: I64, succ: I64) -> None:
    """Turn predecessors round: fills ``succ``, ``succ_begin``, ``succ_end``, ``waiting_for``."""
    n = len(task)
    for index in range(len(pred)):
        task[pred[index]].succ_end += 1
    begin = 0
    for i in range(n):
        count = task[i].succ_end
        task[i].succ_begin = begin
        task[i].succ_end = begin
        begin += count
    for i in range(n):
        task[i].waiting_for = pred_ptr[i + 1] - pred_ptr[i]
        for index in range(pred_ptr[i], pred_ptr[i + 1]):
            earlier = pred[index]
            succ[task[earlier].succ_end] = i
            task[earlier].succ_end += 1


def empty_state(tasks: int, dependencies: int, units: int, slots: int) -> State:
    """Arrays of a run with that many tasks or fewer; each has to be filled in."""
    return State(
        task=np.zeros(tasks, _TASK),
        unit=np.zeros(units, _UNIT),
        event=np.empty(tasks, _EVENT),
        ready=np.empty(tasks, np.int64),
        stream=np.empty(slots, np.int64),
        succ=np.empty(dependencies, np.int64),
        dispatch=np.empty(tasks, np.int64),
        tally=np.zeros(1, _TALLY),
    )


def _initial(graph: TaskGraph, rank: I64) -> State:
    slots = [unit.slots for unit in graph.units]
    state = empty_state(len(graph), len(graph.pred), len(slots), sum(slots))
    task, unit = state.task, state.unit
    for name in ("unit", "slots", "vtcm_bytes", "lead_ns", "compute_ns", "rate_cap", "release_ns"):
        task[name] = getattr(graph, name)
    task["rank"] = rank
    task["remaining"] = graph.ddr_bytes
    task["start_ns"] = task["end_ns"] = -1
    link(task, graph.pred_ptr, graph.pred, state.succ)
    unit["free_slots"] = slots
    unit["free_vtcm"] = [each.vtcm_bytes for each in graph.units]
    unit["free_mask"] = (1 << unit["free_slots"]) - 1
    unit["ready_base"][1:] = np.cumsum(np.bincount(graph.unit, minlength=len(unit)))[:-1]
    return state


def run(graph: TaskGraph, contention: bool, order: Order | None) -> Timeline:
    """Rows of ``graph``; see :func:`sim.engines.run`."""
    strict = order is not None
    rank = graph.priority if order is None else ranks_in_units(graph, checked_order(graph, order))
    state = _initial(graph, rank)
    ended = simulate(state, graph.ddr_rate, contention, strict)
    start_ns, end_ns, mask = (state.task[i].copy() for i in ("start_ns", "end_ns", "slot_mask"))
    if ended < len(graph):
        raise dead_lock(graph, end_ns)
    return Timeline(graph, start_ns, end_ns, mask, dispatch=state.dispatch)
