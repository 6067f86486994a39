"""Conservation: what must be true of every timeline, whoever made it.

:func:`check` runs on every timeline that is reported. Each rule is a function that looks for
one thing which a wrong engine, a wrong lowering or a wrong measurement would break, and says which
task broke it. Some rules follow from others for a correct engine; they are computed independently
on purpose. Rules on costs hold where an engine laid the tasks out from them: everywhere but in a
``measured`` timeline, whose tasks may be faster than their prediction.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sim.memory import peak_bytes
from sim.taskgraph import I64, TaskGraph
from sim.timeline import Timeline

_DDR_INTERVALS = 256
"""Most instants from which the bandwidth bound is checked; later starts are thinned evenly."""


class ConservationError(ValueError):
    """A timeline that cannot be; the message begins with the name of the rule."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What the rules need beyond the timeline.

    ``contention`` says whether streams shared ``ddr_rate``; ``memory_budget_bytes`` of None
    means no budget.
    """

    contention: bool = True
    memory_budget_bytes: int | None = None


Rule = Callable[[Timeline, Limits], str | None]
"""Says what is wrong, or returns None."""


def check(
    timeline: Timeline, contention: bool = True, memory_budget_bytes: int | None = None
) -> None:
    """Verify all :data:`RULES` (for a measured timeline without :data:`COST_RULES`).

    Parameters
    ----------
    timeline
        What to verify.
    contention
        Whether the streams shared ``ddr_rate`` (as given to the engine); if not, their sum
        has no bound.
    memory_budget_bytes
        Largest allowed ``sim.memory.peak_bytes``; None: any.

    Raises
    ------
    ConservationError
        Names the first broken rule, the task and its values.

    Examples
    --------
    >>> from sim.engines import run
    >>> from sim.taskgraph import Unit, make_task_graph
    >>> check(run(make_task_graph([Unit("cpu", 1)], [0, 0], compute_ns=[5, 7])))
    """
    limits = Limits(contention, memory_budget_bytes)
    for name, rule in RULES.items():
        if timeline.source != "measured" or name not in COST_RULES:
            wrong = rule(timeline, limits)
            if wrong:
                raise ConservationError(f"{name}: {wrong}")


def _task(graph: TaskGraph, task: int) -> str:
    return f"task {task} ({graph.names[task]!r})"


def _first(bad: NDArray[np.bool_]) -> int | None:
    found = np.flatnonzero(bad)
    return int(found[0]) if len(found) else None


def _rows(timeline: Timeline, _: Limits) -> str | None:
    n = len(timeline.graph)
    for name in ("start_ns", "end_ns", "slot_mask"):
        column = getattr(timeline, name)
        if column.dtype != np.int64 or column.shape != (n,):
            have = f"{column.dtype}{list(column.shape)}"
            return f"{name} is {have}, not int64[{n}]: one row per task"
    return None


def _times(timeline: Timeline, _: Limits) -> str | None:
    start, end = timeline.start_ns, timeline.end_ns
    bad = _first((start < 0) | (end < start))
    if bad is None:
        return None
    return f"{_task(timeline.graph, bad)} runs from {start[bad]} to {end[bad]} ns"


def _release(timeline: Timeline, _: Limits) -> str | None:
    bad = _first(timeline.start_ns < timeline.graph.release_ns)
    if bad is None:
        return None
    start, release = timeline.start_ns[bad], timeline.graph.release_ns[bad]
    return f"{_task(timeline.graph, bad)} starts at {start} ns, before its release at {release} ns"


def _dependencies(timeline: Timeline, _: Limits) -> str | None:
    graph = timeline.graph
    task = np.repeat(np.arange(len(graph)), np.diff(graph.pred_ptr))
    bad = _first(timeline.start_ns[task] < timeline.end_ns[graph.pred])
    if bad is None:
        return None
    who, pred = int(task[bad]), int(graph.pred[bad])
    return (
        f"{_task(graph, who)} starts at {timeline.start_ns[who]} ns, before its predecessor "
        f"{_task(graph, pred)} ends at {timeline.end_ns[pred]} ns"
    )


def _tensors(timeline: Timeline, _: Limits) -> str | None:
    """A user that does not depend on the producer is a dependency that lowering forgot."""
    graph = timeline.graph
    tensor = np.repeat(np.arange(len(graph.tensor_bytes)), np.diff(graph.tensor_user_ptr))
    producer, user = graph.tensor_producer[tensor], graph.tensor_users
    made = np.flatnonzero((producer >= 0) & (producer != user))
    producer, user = producer[made], user[made]
    bad = _first(timeline.start_ns[user] < timeline.end_ns[producer])
    if bad is None:
        return None
    return (
        f"{_task(graph, int(user[bad]))} uses tensor {tensor[made[bad]]} from "
        f"{timeline.start_ns[user[bad]]} ns, before its producer "
        f"{_task(graph, int(producer[bad]))} ends at {timeline.end_ns[producer[bad]]} ns"
    )


def _slot_count(timeline: Timeline, _: Limits) -> str | None:
    graph = timeline.graph
    for task, mask in enumerate(timeline.slot_mask.tolist()):
        unit = graph.units[int(graph.unit[task])]
        if mask < 0 or mask >> unit.slots or mask.bit_count() != int(graph.slots[task]):
            return (
                f"{_task(graph, task)} holds slot mask {mask:#b} of unit {unit.name!r} with "
                f"{unit.slots} slots; it needs {graph.slots[task]} of them"
            )
    return None


def _slot_owner(timeline: Timeline, _: Limits) -> str | None:
    graph, start, end = timeline.graph, timeline.start_ns, timeline.end_ns
    in_time = np.lexsort((end, start))
    for index, unit in enumerate(graph.units):
        on_unit = in_time[graph.unit[in_time] == index]
        for slot in range(unit.slots):
            held = on_unit[(timeline.slot_mask[on_unit] >> slot) & 1 == 1]
            bad = _first(start[held[1:]] < end[held[:-1]])
            if bad is not None:
                first, second = int(held[bad]), int(held[bad + 1])
                return (
                    f"{_task(graph, second)} takes slot {slot} of unit {unit.name!r} at "
                    f"{start[second]} ns; {_task(graph, first)} holds it until {end[first]} ns"
                )
    return None


def _vtcm(timeline: Timeline, _: Limits) -> str | None:
    """Tasks of no duration hold nothing for any time; the graph bounds what each asks for."""
    graph = timeline.graph
    lasts = timeline.end_ns > timeline.start_ns
    for index, unit in enumerate(graph.units):
        held = np.flatnonzero((graph.unit == index) & lasts & (graph.vtcm_bytes > 0))
        change = np.concatenate([graph.vtcm_bytes[held], -graph.vtcm_bytes[held]])
        when = np.concatenate([timeline.start_ns[held], timeline.end_ns[held]])
        in_time = np.lexsort((change, when))  # at one instant, what is freed comes first
        used = np.cumsum(change[in_time])
        bad = _first(used > unit.vtcm_bytes)
        if bad is not None:
            task = int(held[in_time[bad] % len(held)])
            return (
                f"{_task(graph, task)} brings VTCM of unit {unit.name!r} to {used[bad]} bytes at "
                f"{when[in_time[bad]]} ns; it has {unit.vtcm_bytes}"
            )
    return None


def shortest_durations(graph: TaskGraph, contention: bool) -> I64:
    """Least duration of each task when it has DDR to itself; ns, shape ``(n,)``."""
    rate = np.minimum(graph.rate_cap, graph.ddr_rate) if contention else graph.rate_cap
    transfer = -(-graph.ddr_bytes * 1000 // rate)
    return graph.lead_ns + np.maximum(graph.compute_ns, transfer)


def _durations(timeline: Timeline, limits: Limits) -> str | None:
    least = shortest_durations(timeline.graph, limits.contention)
    duration = timeline.end_ns - timeline.start_ns
    bad = _first(duration < least)
    if bad is None:
        return None
    return f"{_task(timeline.graph, bad)} took {duration[bad]} ns; its costs need {least[bad]} ns"


def _ddr(timeline: Timeline, limits: Limits) -> str | None:
    """Streams that lie wholly within an interval cannot move more than DDR can in it."""
    graph = timeline.graph
    if not limits.contention:
        return None
    streams = np.flatnonzero(graph.ddr_bytes > 0)
    streams = streams[np.argsort(timeline.end_ns[streams], kind="stable")]
    begin, end = (timeline.start_ns + graph.lead_ns)[streams], timeline.end_ns[streams]
    size, instants = graph.ddr_bytes[streams], np.unique(begin)
    instants = instants[:: -(-len(instants) // _DDR_INTERVALS) or 1]
    inside = begin >= instants[:, None]
    # Floats find what is near the bound or above it, unbounded integers decide.
    moved = np.cumsum(inside * size.astype(np.float64), axis=1) * (1e3 / graph.ddr_rate)
    near = inside & (moved >= (end - instants[:, None]) * (1 - 1e-9))
    for row, last in np.argwhere(near).tolist():
        instant = int(instants[row])
        total = sum(size[: last + 1][inside[row, : last + 1]].tolist())
        if total * 1000 > (int(end[last]) - instant) * graph.ddr_rate:
            return (
                f"{_task(graph, int(streams[last]))} ends at {end[last]} ns, when "
                f"streams begun at {instant} ns or later have moved {total} bytes; "
                f"{graph.ddr_rate} bytes/us allow less"
            )
    return None


def _critical_path(timeline: Timeline, limits: Limits) -> str | None:
    graph = timeline.graph
    least = shortest_durations(graph, limits.contention).tolist()
    ends = graph.release_ns.tolist()
    pointers, preds = graph.pred_ptr.tolist(), graph.pred.tolist()
    for task in range(len(graph)):
        before = (ends[pred] for pred in preds[pointers[task] : pointers[task + 1]])
        ends[task] = max(ends[task], *before, 0) + least[task]
    longest = max(ends, default=0)
    if timeline.makespan_ns >= longest:
        return None
    last = _task(graph, ends.index(longest))
    return f"makespan is {timeline.makespan_ns} ns; the path to {last} takes {longest} ns"


def _unit_work(timeline: Timeline, limits: Limits) -> str | None:
    graph = timeline.graph
    least = shortest_durations(graph, limits.contention).tolist()
    works = [0] * len(graph.units)
    for task, unit_index in enumerate(graph.unit.tolist()):
        works[unit_index] += least[task] * int(graph.slots[task])
    for unit, work in zip(graph.units, works, strict=True):
        if work > unit.slots * timeline.makespan_ns:
            return (
                f"makespan is {timeline.makespan_ns} ns; unit {unit.name!r} with {unit.slots} "
                f"slots has {work} slot-ns of work"
            )
    return None


def _makespan(timeline: Timeline, _: Limits) -> str | None:
    graph = timeline.graph
    costs = graph.lead_ns + graph.compute_ns + graph.ddr_bytes
    if timeline.makespan_ns > 0 or not costs.any():
        return None
    task = int(costs.argmax())
    return f"makespan is {timeline.makespan_ns} ns although {_task(graph, task)} has costs"


def _energy_parts(timeline: Timeline) -> Iterator[int]:
    """Every part again in Python's unbounded integers, from the rows' definition."""
    graph = timeline.graph
    columns = (timeline.start_ns, timeline.end_ns, graph.power_mw, graph.ddr_bytes)
    for start, end, power, moved in zip(*(column.tolist() for column in columns), strict=True):
        yield power * (end - start) + graph.pj_per_byte * moved
    for row in graph.static_power:
        yield row.power_mw * timeline.makespan_ns


def _energy(timeline: Timeline, _: Limits) -> str | None:
    parts = sum(_energy_parts(timeline))
    if timeline.energy_pj == parts:
        return None
    return f"total is {timeline.energy_pj} pJ; its parts add up to {parts} pJ"


def _memory(timeline: Timeline, limits: Limits) -> str | None:
    if limits.memory_budget_bytes is None:
        return None
    peak = peak_bytes(timeline)
    if peak <= limits.memory_budget_bytes:
        return None
    return f"peak is {peak} bytes; the budget is {limits.memory_budget_bytes} bytes"


RULES: dict[str, Rule] = {
    "rows": _rows,
    "times": _times,
    "release": _release,
    "dependencies": _dependencies,
    "tensors": _tensors,
    "slot_count": _slot_count,
    "slot_owner": _slot_owner,
    "vtcm": _vtcm,
    "durations": _durations,
    "ddr": _ddr,
    "critical_path": _critical_path,
    "unit_work": _unit_work,
    "makespan": _makespan,
    "energy": _energy,
    "memory": _memory,
}
"""Every rule by its name, in the order in which :func:`check` runs them."""

COST_RULES = frozenset({"release", "durations", "ddr", "critical_path", "unit_work"})
"""Rules that a measured timeline need not follow."""
