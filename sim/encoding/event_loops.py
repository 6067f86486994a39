"""The event fidelity, compiled: the rows that lowering would make, run by the compiled engine.

:func:`build` writes the rows straight into the engine's records, in the order and with the
dependencies of :mod:`sim.assembly`; :func:`run_step` runs them with contention.
"""

from __future__ import annotations

from typing import NamedTuple

from sim.dispatch import DISPATCH_RULES
from sim.encoding.costs import BYTES, CAP, COMPUTE, LEAD, POWER, SLOTS, VTCM
from sim.encoding.frames import Sheet
from sim.encoding.groups import Groups, call_ns, prepare_ns
from sim.encoding.jit import compiled, inlined
from sim.encoding.machine import Machine
from sim.encoding.static_loops import Terms, batch_option, gpu_lead, order_items
from sim.engines.compiled import State, link, simulate
from sim.taskgraph import I64

_CRITICAL, _UNBLOCK = (DISPATCH_RULES.index(n) for n in ("critical-path", "unblock-dsp"))


class Rows(NamedTuple):
    """Scratch: rows of a step and the engine's state.

    By item: ``order``, ``row``, ``seen`` (row after which its result is visible outside its
    subgraph), ``member`` (items sorted by subgraph) and ``inner`` (1: another of its subgraph
    reads it). By row: ``power_mw``, ``row_mark``, ``lasts_ns``, ``behind_ns`` and ``pred_ptr``
    (one more). ``pred`` by dependency. By subgraph: ``call_row``, ``left``, ``member_ptr`` (one
    more). ``stamp`` and ``moved`` (bytes) have one element.
    """

    order: I64
    row: I64
    seen: I64
    member: I64
    inner: I64
    power_mw: I64
    row_mark: I64
    lasts_ns: I64
    behind_ns: I64
    pred_ptr: I64
    pred: I64
    call_row: I64
    left: I64
    member_ptr: I64
    stamp: I64
    moved: I64
    state: State
    """Arrays of the engine, longer than needed."""


@inlined
def _edge(row: int, at: int, r: Rows) -> int:
    """Add a dependency of the row being made, once; ``stamp`` is of that row."""
    if r.row_mark[row] != r.stamp[0]:
        r.row_mark[row] = r.stamp[0]
        r.pred[at] = row
        at += 1
    return at


@inlined
def _row(
    number: int,
    unit: int,
    slots: int,
    vtcm: int,
    lead: int,
    compute: int,
    size: int,
    cap: int,
    power: int,
    edges: int,
    r: Rows,
) -> int:
    """Finish a row whose dependencies end at ``edges``; the number of the next one."""
    task = r.state.task
    task[number].unit = unit
    task[number].slots = slots
    task[number].vtcm_bytes = vtcm
    task[number].lead_ns = lead
    task[number].compute_ns = compute
    task[number].rate_cap = cap
    task[number].release_ns = 0
    task[number].rank = 0
    task[number].succ_begin = 0
    task[number].succ_end = 0
    task[number].remaining = size
    task[number].rate = 0
    task[number].since_ns = 0
    task[number].stream_end_ns = 0
    task[number].start_ns = -1
    task[number].end_ns = -1
    task[number].slot_mask = 0
    r.power_mw[number] = power
    r.lasts_ns[number] = lead + max(compute, -(-size * 1000 // cap))
    r.pred_ptr[number + 1] = edges
    r.stamp[0] += 1
    return number + 1


@inlined
def _sort_members(sheet: Sheet, subgraphs: int, groups: Groups, r: Rows) -> int:
    """Sort the items of subgraphs by subgraph, in order; 1 if anything is on the GPU."""
    for group in range(subgraphs + 1):
        r.member_ptr[group] = 0
    n = len(sheet.kernel)
    for i in range(n):
        r.inner[i] = 0
        group = groups.group[sheet.kernel[i]]
        if group >= 0:
            r.member_ptr[group + 1] += 1
    for group in range(subgraphs):
        r.call_row[group] = -1
        r.left[group] = r.member_ptr[group + 1]
        r.member_ptr[group + 1] += r.member_ptr[group]
    for place in range(n - 1, -1, -1):
        i = r.order[place]
        group = groups.group[sheet.kernel[i]]
        if group >= 0:
            r.member_ptr[group + 1] -= 1
            r.member[r.member_ptr[group + 1]] = i
    for group in range(subgraphs):
        r.member_ptr[group] = r.member_ptr[group + 1]
    total = 0
    for group in range(subgraphs):
        total += r.left[group]
    r.member_ptr[subgraphs] = total
    return total


@inlined
def _call_rows(
    group: int,
    miss: int,
    rows: int,
    waits_for: int,
    sheet: Sheet,
    terms: Terms,
    groups: Groups,
    r: Rows,
) -> int:
    """Rows that prepare a subgraph if it must be, call it, and pack its filters again."""
    machine = terms.machine
    edges = r.pred_ptr[rows]
    waits = 0
    for at in range(r.member_ptr[group], r.member_ptr[group + 1]):
        member = r.member[at]
        waits |= sheet.reads_input[member]
        for e in range(sheet.pred_ptr[member], sheet.pred_ptr[member + 1]):
            p = sheet.pred[e]
            if groups.group[sheet.kernel[p]] != group:
                edges = _edge(r.seen[p], edges, r)
    if waits == 1 and waits_for >= 0:
        edges = _edge(waits_for, edges, r)
    if miss == 1:
        lead = prepare_ns(groups.kernels[group], groups.weight_bytes[group], machine)
        power = machine.one_context_mw[terms.dsp_point]
        rows = _row(rows, machine.dsp, 1, 0, lead, 0, 0, 1, power, edges, r)
        edges = _edge(rows - 1, edges, r)
    there = call_ns(groups.bytes_io[group], machine) // 2 + machine.call_tail_ns
    rows = _row(rows, machine.rpc, 1, 0, there, 0, 0, 1, 0, edges, r)
    r.lasts_ns[rows - 1] = there - machine.call_tail_ns  # priorities know of no tails
    size = 2 * groups.filter_bytes[group]
    if size > 0:
        edges = _edge(rows - 1, edges, r)
        power = machine.all_contexts_mw[terms.dsp_point]
        cap, slots = machine.repack_rate, machine.dsp_slots
        rows = _row(rows, machine.dsp, slots, 0, 0, 0, size, cap, power, edges, r)
        r.moved[0] += size
    r.call_row[group] = rows - 1
    return rows


@inlined
def _item_row(
    i: int,
    group: int,
    rows: int,
    waits_for: int,
    sheet: Sheet,
    terms: Terms,
    groups: Groups,
    r: Rows,
) -> int:
    """Row of an item."""
    machine = terms.machine
    option = groups.option[sheet.kernel[i]]
    point = terms.dsp_point if machine.option_dsp[option] == 1 else terms.cpu_point
    cost = terms.costs[sheet.cost[i], option, point]
    edges = r.pred_ptr[rows]
    for e in range(sheet.pred_ptr[i], sheet.pred_ptr[i + 1]):
        p = sheet.pred[e]
        if group >= 0 and groups.group[sheet.kernel[p]] == group:
            r.inner[p] = 1
            edges = _edge(r.row[p], edges, r)
        else:
            edges = _edge(r.seen[p], edges, r)
    if waits_for >= 0 and sheet.reads_input[i] == 1:
        edges = _edge(waits_for, edges, r)
    if group >= 0:
        edges = _edge(r.call_row[group], edges, r)
    lead = cost[LEAD]
    if groups.gpu[0] == 1:
        lead += gpu_lead(i, sheet, machine, groups)
    r.moved[0] += cost[BYTES]
    r.row[i] = rows
    r.seen[i] = rows
    return _row(
        rows,
        machine.option_unit[option],
        cost[SLOTS],
        cost[VTCM],
        lead,
        cost[COMPUTE],
        cost[BYTES],
        cost[CAP],
        cost[POWER],
        edges,
        r,
    )


@inlined
def _return_row(group: int, rows: int, machine: Machine, groups: Groups, r: Rows) -> int:
    """Row in which a subgraph returns: after those of its items that no other of them reads."""
    edges = r.pred_ptr[rows]
    for at in range(r.member_ptr[group], r.member_ptr[group + 1]):
        member = r.member[at]
        r.seen[member] = rows
        if r.inner[member] == 0:
            edges = _edge(r.row[member], edges, r)
    whole = call_ns(groups.bytes_io[group], machine)
    return _row(rows, machine.rpc, 1, 0, whole - whole // 2, 0, 0, 1, 0, edges, r)


@compiled
def build(sheet: Sheet, terms: Terms, miss: I64, subgraphs: int, groups: Groups, r: Rows) -> int:
    """Make the rows of a step; returns how many. ``moved`` holds the bytes that they move."""
    order_items(sheet, groups.order, r.order)
    _sort_members(sheet, subgraphs, groups, r)
    r.pred_ptr[0] = 0
    r.moved[0] = 0
    r.stamp[0] += 1
    rows = 0
    waits_for = -1
    if terms.batch_cost >= 0:
        option = batch_option(terms)
        cost = terms.costs[terms.batch_cost, option, terms.cpu_point]
        unit = terms.machine.option_unit[option]
        if terms.batch_serial == 1:
            waits_for = 0
        rows = _row(0, unit, 1, 0, 0, cost[COMPUTE], 0, 1, cost[POWER], 0, r)
    for place in range(len(sheet.kernel)):
        i = r.order[place]
        group = groups.group[sheet.kernel[i]]
        if group >= 0 and r.call_row[group] < 0:
            rows = _call_rows(group, miss[group], rows, waits_for, sheet, terms, groups, r)
        rows = _item_row(i, group, rows, waits_for, sheet, terms, groups, r)
        if group >= 0:
            r.left[group] -= 1
            if r.left[group] == 0:
                rows = _return_row(group, rows, terms.machine, groups, r)
    return rows


@inlined
def _rank(rule: int, rows: int, state: State, machine: Machine, r: Rows) -> None:
    """Set priorities by a dispatch rule; as :func:`sim.dispatch.priorities`."""
    for row in range(rows - 1, -1, -1):
        below = 0
        behind = 0
        for e in range(state.task[row].succ_begin, state.task[row].succ_end):
            later = state.succ[e]
            below = max(below, r.behind_ns[later])
            if state.task[later].unit == machine.dsp:
                behind += r.lasts_ns[later]
            elif state.task[later].unit == machine.rpc:
                behind += r.behind_ns[later]
        if rule == _CRITICAL:
            r.behind_ns[row] = r.lasts_ns[row] + below
            state.task[row].rank = -r.behind_ns[row]
        else:
            r.behind_ns[row] = behind
            on_dsp = state.task[row].unit == machine.dsp
            state.task[row].rank = -(r.lasts_ns[row] if on_dsp else behind)


@inlined
def _reset(rows: int, state: State, machine: Machine) -> None:
    """Units free, nothing ready, no event."""
    for unit in range(len(machine.unit_slots)):
        state.unit[unit].ready = 0
        state.unit[unit].started = 0
        state.unit[unit].free_slots = machine.unit_slots[unit]
        state.unit[unit].free_mask = (1 << machine.unit_slots[unit]) - 1
        state.unit[unit].free_vtcm = machine.unit_vtcm[unit]
        state.unit[unit].ready_base = 0
    for row in range(rows):
        state.unit[state.task[row].unit].ready_base += 1
    base = 0
    for unit in range(len(machine.unit_slots)):
        here = state.unit[unit].ready_base
        state.unit[unit].ready_base = base
        base += here
    state.tally[0].events = 0
    state.tally[0].streams = 0
    state.tally[0].streams_changed = 0
    state.tally[0].started = 0
    state.tally[0].ended = 0


@compiled
def run_step(rule: int, rows: int, machine: Machine, r: Rows) -> tuple[int, int]:
    """Run the rows of :func:`build`; returns makespan in ns and energy in pJ."""
    whole = r.state
    state = State(
        whole.task[:rows],
        whole.unit,
        whole.event,
        whole.ready,
        whole.stream,
        whole.succ,
        whole.dispatch,
        whole.tally,
    )
    link(state.task, r.pred_ptr[: rows + 1], r.pred[: r.pred_ptr[rows]], state.succ)
    if rule in (_CRITICAL, _UNBLOCK):
        _rank(rule, rows, state, machine, r)
    _reset(rows, state, machine)
    simulate(state, machine.ddr_rate, True, False)
    makespan = 0
    energy = r.moved[0] * machine.pj_per_byte
    for row in range(rows):
        ended = state.task[row].end_ns
        makespan = max(makespan, ended)
        energy += r.power_mw[row] * (ended - state.task[row].start_ns)
    return makespan, energy + makespan * machine.static_mw
