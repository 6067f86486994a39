"""Timelines as a Chrome trace, to be opened in Perfetto (ui.perfetto.dev) or chrome://tracing.

One thread row per slot of each unit, one for the critical path; counters for DDR bandwidth and
memory; arrows along dependencies that cross units. Steps lie one after the other. Events follow
the "Trace Event Format" (Google, 2016): ``ts`` and ``dur`` are microseconds; the exact
nanoseconds are in ``args``.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sim.critical import IDLE, Segment, critical_path
from sim.files import write_atomic
from sim.memory import memory_profile
from sim.taskgraph import CATEGORIES, I64
from sim.timeline import Timeline

TraceEvent = dict[str, Any]
_PID = 1
_CRITICAL_TID = 0
# Names of the colours that Chrome's viewer reserves; other viewers ignore them.
_COLOURS = {
    "compute": "thread_state_running",
    "memory": "thread_state_iowait",
    "rescale": "rail_animation",
    "rpc": "rail_response",
    "prepare": "rail_load",
    "cpu": "good",
    "idle": "grey",
}


def chrome_trace(timelines: Sequence[Timeline], title: str = "mandheling") -> dict[str, Any]:
    """Trace of steps laid one after the other.

    Parameters
    ----------
    timelines
        Steps in order; each begins where the one before ended.
    title
        Name of the process row.

    Returns
    -------
    dict
        JSON-ready, with ``traceEvents``. A slice ``X`` has the task, exact ``start_ns`` and
        ``duration_ns``, category, DDR bytes, energy (pJ), cost parameters and whether it is
        critical in its ``args``; a task of several slots has one slice on each, and energy and
        bytes only on the first, so that sums over slices are the timeline's. The DDR counter is
        the sum of each transfer's mean rate, in MB/s: its area is right, but where rates changed
        within a transfer it may show more than ``ddr_rate`` for a while. ``otherData`` has the
        totals.
    """
    rows = _thread_rows(timelines)
    events = list(_metadata(rows, title))
    offset, flow = 0, 0
    for step, timeline in enumerate(timelines):
        path = critical_path(timeline)
        critical = {segment.task for segment in path}
        events += _slices(timeline, step, offset, rows, critical)
        events += _critical_slices(timeline, step, offset, path)
        events += _counters(timeline, offset)
        flows = list(_flows(timeline, offset, rows, flow))
        events += flows
        flow += len(flows) // 2
        offset += timeline.makespan_ns
    return {
        "traceEvents": events,
        "displayTimeUnit": "ns",
        "otherData": {
            "title": title,
            "steps": len(timelines),
            "makespan_ns": offset,
            "energy_pj": sum(timeline.energy_pj for timeline in timelines),
        },
    }


def write_trace(
    path: str | os.PathLike[str], timelines: Sequence[Timeline], title: str = "mandheling"
) -> None:
    """Write :func:`chrome_trace` as JSON, whole or not at all (:func:`.write_atomic`)."""
    text = json.dumps(chrome_trace(timelines, title), separators=(",", ":"), allow_nan=False)
    write_atomic(Path(path), text)


def _us(time_ns: int) -> float:
    return time_ns / 1000


def _thread_rows(timelines: Sequence[Timeline]) -> dict[tuple[str, int], int]:
    """Thread id of each (unit name, slot), over all steps; 0 is the critical path."""
    rows: dict[tuple[str, int], int] = {}
    for timeline in timelines:
        for unit in timeline.graph.units:
            for slot in range(unit.slots):
                rows.setdefault((unit.name, slot), len(rows) + 1)
    return rows


def _metadata(rows: dict[tuple[str, int], int], title: str) -> Iterator[TraceEvent]:
    yield {"ph": "M", "pid": _PID, "name": "process_name", "args": {"name": title}}
    names = {_CRITICAL_TID: "critical path"}
    names |= {tid: f"{unit} {slot}" for (unit, slot), tid in rows.items()}
    for tid, name in names.items():
        thread = {"ph": "M", "pid": _PID, "tid": tid}
        yield thread | {"name": "thread_name", "args": {"name": name}}
        yield thread | {"name": "thread_sort_index", "args": {"sort_index": tid}}


def _held_slots(mask: int) -> list[int]:
    return [slot for slot in range(mask.bit_length()) if mask >> slot & 1]


def _slice(tid: int, name: str, offset: int, segment: Segment, args: dict[str, Any]) -> TraceEvent:
    return {
        "ph": "X",
        "pid": _PID,
        "tid": tid,
        "name": name,
        "ts": _us(offset + segment.start_ns),
        "dur": _us(segment.duration_ns),
        "cat": args["category"],
        "cname": _COLOURS[args["category"]],
        "args": {
            "start_ns": offset + segment.start_ns,
            "duration_ns": segment.duration_ns,
            **args,
        },
    }


def _slices(
    timeline: Timeline,
    step: int,
    offset: int,
    rows: dict[tuple[str, int], int],
    critical: set[int],
) -> Iterator[TraceEvent]:
    graph = timeline.graph
    energy = timeline.task_energy_pj
    for task, name in enumerate(graph.names):
        segment = Segment(int(timeline.start_ns[task]), int(timeline.end_ns[task]), task)
        unit = graph.units[int(graph.unit[task])].name
        args: dict[str, Any] = {
            "step": step,
            "task": task,
            "category": CATEGORIES[int(graph.category[task])],
            "critical": task in critical,
        }
        first, *others = _held_slots(int(timeline.slot_mask[task]))
        costs = {
            "ddr_bytes": int(graph.ddr_bytes[task]),
            "energy_pj": int(energy[task]),
            "parameters": [graph.parameters[i] for i in graph.groups[task].tolist()],
        }
        yield _slice(rows[unit, first], name, offset, segment, args | costs)
        for slot in others:
            yield _slice(rows[unit, slot], name, offset, segment, args | {"first_slot": first})


def _critical_slices(
    timeline: Timeline, step: int, offset: int, path: list[Segment]
) -> Iterator[TraceEvent]:
    graph = timeline.graph
    for segment in path:
        idle = segment.task == IDLE
        name = "idle" if idle else graph.names[segment.task]
        category = "idle" if idle else CATEGORIES[int(graph.category[segment.task])]
        args = {"step": step, "task": segment.task, "category": category, "critical": True}
        yield _slice(_CRITICAL_TID, name, offset, segment, args)


def _ddr_profile(timeline: Timeline) -> tuple[I64, I64]:
    """Times and the sum of the mean rates of the transfers under way (bytes per us)."""
    graph = timeline.graph
    moves = np.flatnonzero((graph.ddr_bytes > 0) & (timeline.end_ns > timeline.start_ns))
    end = timeline.end_ns[moves]
    # A measured task may be over before its modelled lead: then it moved bytes all the time.
    led = timeline.start_ns[moves] + graph.lead_ns[moves]
    begin = np.where(led < end, led, timeline.start_ns[moves])
    rate = graph.ddr_bytes[moves] * 1000 // (end - begin)
    times, index = np.unique(np.concatenate([begin, end]), return_inverse=True)
    change = np.zeros(len(times), np.int64)
    np.add.at(change, index, np.concatenate([rate, -rate]))
    return times, np.cumsum(change)


def _counters(timeline: Timeline, offset: int) -> Iterator[TraceEvent]:
    for name, unit, (times, values) in (
        ("DDR bandwidth", "MB/s", _ddr_profile(timeline)),
        ("memory", "bytes", memory_profile(timeline)),
    ):
        counter = {"ph": "C", "pid": _PID, "name": name}
        for time, value in zip(times.tolist(), values.tolist(), strict=True):
            yield counter | {"ts": _us(offset + time), "args": {unit: value}}


def _flows(
    timeline: Timeline, offset: int, rows: dict[tuple[str, int], int], first_id: int
) -> Iterator[TraceEvent]:
    """A pair of events for each dependency that crosses units, in task order."""
    graph = timeline.graph
    units = [graph.units[i].name for i in graph.unit.tolist()]
    task = np.repeat(np.arange(len(graph)), np.diff(graph.pred_ptr))
    flow = first_id
    for pred, succ in zip(graph.pred.tolist(), task.tolist(), strict=True):
        if units[pred] == units[succ]:
            continue
        # An arrow leaves from within a slice: its last nanosecond, not the instant after it.
        start, end = int(timeline.start_ns[pred]), int(timeline.end_ns[pred])
        times = {pred: max(start, end - 1), succ: int(timeline.start_ns[succ])}
        for phase, at in (("s", pred), ("f", succ)):
            slot = _held_slots(int(timeline.slot_mask[at]))[0]
            yield {
                "ph": phase,
                "pid": _PID,
                "tid": rows[units[at], slot],
                "id": flow,
                "name": "dependency",
                "cat": "dependency",
                "ts": _us(offset + times[at]),
                "args": {"task": at},
                **({"bp": "e"} if phase == "f" else {}),
            }
        flow += 1
