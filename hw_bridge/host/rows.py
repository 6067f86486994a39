"""The rows of a step as the two processes run them: who runs which, and what must cross.

The rows are those of the task graph that the simulator times. Two things differ from a phone:

* CPU and GPU kernels of every kind run on the one CPU process, all DSP kernels on the accelerator
  process: the units have one slot each.
* The CPU process makes the calls itself, so the row ``X.call`` holds the CPU.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum

import numpy as np

from cost_models.cost import Rescaling
from sim.autodiff import LABEL
from sim.draft import NEXT, Draft
from sim.lowering import Lowering
from sim.model import INPUT
from sim.numeric.calls import Call
from sim.reuse import CacheStep
from sim.taskgraph import MAX_SLOTS, TaskGraph, Unit

CPU, DSP, RPC = 0, 1, 2
"""Units of a host task graph; the first two are processes."""
UNITS = (Unit("cpu", 1), Unit("dsp", 1), Unit("rpc", MAX_SLOTS))
DDR_RATE = 1 << 20
"""Bytes per microsecond of a unit that no stream uses: costs here are times."""


class Kind(Enum):
    """What a row does."""

    ITEM = "item"
    INPUT = "input.prepare"
    PREPARE = "prepare"
    CALL = "call"
    REPACK = "repack"
    RETURN = "return"


@dataclass(frozen=True, slots=True)
class Row:
    """One row: what it does, in which process, and what it needs there.

    Attributes
    ----------
    call
        Kernel of an item.
    group
        Subgraph of a service row, and of an item on the DSP; -1 outside of any.
    process
        :data:`CPU` or :data:`DSP`: who runs it. Returns are sent by the accelerator.
    sends
        Buffers that a call or a return brings to the other process.
    position
        Place of an item in the program of its subgraph; -1 for one that is no part of it (a scan
        or a requantise, which comes and goes with the step's modes).
    """

    kind: Kind
    call: Call | None
    group: int
    process: int
    sends: tuple[str, ...] = ()
    position: int = -1


@dataclass(frozen=True, slots=True, eq=False)
class StepRows:
    """Rows of a step, and their order.

    Attributes
    ----------
    graph
        Host task graph: names and dependencies of the rows, without costs.
    rows
        One for each task.
    preds
        Of each row: those of the graph, and the micro-batch before it of one kernel.
    users
        Of each row: rows that have it in ``preds``.
    """

    graph: TaskGraph
    rows: tuple[Row, ...]
    preds: tuple[tuple[int, ...], ...]
    users: tuple[tuple[int, ...], ...]

    def uses(self, process: int) -> dict[str, int]:
        """How many rows of a process touch each buffer."""
        counts: dict[str, int] = {}
        for row in self.rows:
            if row.process == process:
                names = row.sends
                if row.call is not None:
                    names = tuple({*row.call.item.reads, *row.call.item.writes})
                for name in names:
                    counts[name] = counts.get(name, 0) + 1
        return counts


def step_rows(draft: Draft, calls: Sequence[Call], tasks: TaskGraph) -> StepRows:
    """Match the tasks of a step with the items that they compute.

    Parameters
    ----------
    draft, calls
        Items of the step, and their kernels in the same order.
    tasks
        What lowering made of the draft.
    """
    by_name = {call.item.name: call for call in calls}
    groups = {sub.name: number for number, sub in enumerate(draft.subgraphs)}
    sends = crossing(draft)
    positions = _positions(draft)
    rows = tuple(_row(name, by_name, groups, sends, positions) for name in tasks.names)
    pointers, pred = tasks.pred_ptr.tolist(), tasks.pred.tolist()
    preds = [set(pred[pointers[i] : pointers[i + 1]]) for i in range(len(rows))]
    newest: dict[str, int] = {}
    for index, row in enumerate(rows):
        if row.call is not None and "#" in row.call.item.name:
            subject = row.call.item.subject
            if subject in newest:
                preds[index].add(newest[subject])
            newest[subject] = index
    users: list[list[int]] = [[] for _ in rows]
    for index, mine in enumerate(preds):
        for one in mine:
            users[one].append(index)
    return StepRows(
        host_graph(tasks, rows),
        rows,
        tuple(tuple(sorted(mine)) for mine in preds),
        tuple(map(tuple, users)),
    )


def rows_of(
    ready: Lowering,
    modes: Mapping[str, Rescaling],
    misses: tuple[bool, ...],
    calls: Sequence[Call],
) -> StepRows:
    """Rows of the step with these modes, in which these subgraphs are not prepared yet."""
    tasks = ready.expected_tasks(modes, CacheStep(misses, ()))
    return step_rows(ready.draft(modes), calls, tasks)


def _row(
    name: str,
    calls: dict[str, Call],
    groups: dict[str, int],
    sends: dict[tuple[Kind, int], tuple[str, ...]],
    positions: dict[str, int],
) -> Row:
    if (call := calls.get(name)) is not None:
        process = DSP if call.item.group >= 0 else CPU
        return Row(Kind.ITEM, call, call.item.group, process, position=positions.get(name, -1))
    if name == Kind.INPUT.value:
        return Row(Kind.INPUT, None, -1, CPU)
    subgraph, _, service = name.rpartition(".")
    kind, group = Kind(service), groups[subgraph]
    process = CPU if kind is Kind.CALL else DSP
    return Row(kind, None, group, process, sends.get((kind, group), ()))


def _positions(draft: Draft) -> dict[str, int]:
    """Place of each kernel in the program of its subgraph."""
    lengths: dict[int, int] = {}
    found = {}
    for item in draft.items:
        if item.group >= 0 and not item.follows:
            found[item.name] = lengths.get(item.group, 0)
            lengths[item.group] = found[item.name] + 1
    return found


def crossing(draft: Draft) -> dict[tuple[Kind, int], tuple[str, ...]]:
    """Buffers that each call and each return has to bring across.

    Weights, images and labels lie in shared memory from the start.
    """
    shared = {n for n, b in draft.buffers.items() if b.resident or n.endswith(NEXT)}
    shared |= {INPUT, LABEL}
    made: dict[str, int] = {}
    read_by_cpu: set[str] = set()
    for item in draft.items:
        made.update(dict.fromkeys(item.writes, item.group))
        if item.group < 0:
            read_by_cpu.update(item.reads)
    found: dict[tuple[Kind, int], dict[str, None]] = {}
    for item in draft.items:
        if item.group < 0:
            continue
        there = [n for n in item.reads if n not in shared and made.get(n, -1) < 0]
        back = [n for n in item.writes if n in read_by_cpu and n not in shared]
        found.setdefault((Kind.CALL, item.group), {}).update(dict.fromkeys(there))
        found.setdefault((Kind.RETURN, item.group), {}).update(dict.fromkeys(back))
    return {key: tuple(names) for key, names in found.items()}


def host_graph(tasks: TaskGraph, rows: Sequence[Row]) -> TaskGraph:
    """The same tasks on the units of the host, without costs, energy and VTCM."""
    count = len(rows)
    zeros = np.zeros(count, np.int64)
    units = [RPC if row.kind is Kind.RETURN else row.process for row in rows]
    return replace(
        tasks,
        units=UNITS,
        static_power=(),
        ddr_rate=DDR_RATE,
        pj_per_byte=0,
        unit=np.array(units, np.int32),
        slots=np.ones(count, np.int32),
        vtcm_bytes=zeros,
        lead_ns=zeros,
        compute_ns=zeros,
        ddr_bytes=zeros,
        rate_cap=np.full(count, DDR_RATE, np.int64),
        power_mw=zeros,
    )
