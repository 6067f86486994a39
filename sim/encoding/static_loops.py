"""The static fidelity, compiled: places, groups and times a step in one pass over its items.

Nothing is built: each item starts as soon as units, slots and VTCM allow, in the order of the
rows that lowering would make, without contention. Equal to :func:`sim.engines.static_times` of
those rows in their own order.
"""

from __future__ import annotations

from typing import NamedTuple

from sim.encoding.costs import BYTES, LASTS, POWER, SLOTS, VTCM, Costs
from sim.encoding.frames import Sheet
from sim.encoding.groups import Groups, call_ns, prepare_ns
from sim.encoding.jit import compiled, inlined
from sim.encoding.machine import Machine
from sim.taskgraph import I64

ENERGY, MOVED = range(2)
"""What is summed over a step: pJ of tasks, and bytes."""


class Terms(NamedTuple):
    """On what a step is timed: costs, machine, operating points, and the input's task.

    ``batch_cost`` is the cost row of that task or -1, ``batch_serial`` 1 if the step waits for it.
    """

    costs: Costs
    machine: Machine
    cpu_point: int
    dsp_point: int
    batch_cost: int
    batch_serial: int


@inlined
def batch_option(terms: Terms) -> int:
    """Option on whose unit a batch is made ready: the first one with a cost."""
    option = 0
    while terms.costs[terms.batch_cost, option, terms.cpu_point, SLOTS] == 0:
        option += 1
    return option


class Step(NamedTuple):
    """Scratch for the items of one sheet; shape ``(items,)`` unless said otherwise.

    What is kept by subgraph has one place more: ``[-1]`` takes what items outside would write, so
    that no branch is needed.
    """

    order: I64
    ready_ns: I64
    """When all that an item reads is there."""
    following: I64
    """Next item of the same subgraph."""
    group_ready: I64
    """By subgraph, as all below: when its inputs are there."""
    group_call: I64
    left: I64
    head: I64
    tail: I64
    slot_free: I64
    """By slot, sorted within a unit: when it is free, and the VTCM held until then."""
    slot_vtcm: I64
    unit_start: I64
    """By unit: start of its last task, end of the last task that took all slots, first slot."""
    unit_floor: I64
    unit_slot: I64
    sums: I64
    """Shape ``(2,)``"""


@compiled
def order_items(sheet: Sheet, kernels: I64, order: I64) -> None:
    """Fill ``order`` with the items in the order of their kernels, which are sorted by level."""
    place = 0
    for at in range(len(sheet.item_ptr) - 1):
        k = kernels[at]
        for i in range(sheet.item_ptr[k], sheet.item_ptr[k + 1]):
            order[place] = i
            place += 1


@inlined
def _start(
    unit: int, need: int, vtcm: int, duration: int, ready: int, machine: Machine, s: Step
) -> int:
    """Start a task on a unit no sooner than ``ready``; its end. As in ``static_makespan``."""
    begin = s.unit_slot[unit]
    end = begin + machine.unit_slots[unit]
    start = max(ready, s.unit_start[unit], s.unit_floor[unit], s.slot_free[begin + need - 1])
    if begin + need == end:
        until = start + duration
        s.unit_floor[unit] = until
    else:
        if vtcm > 0:
            spare = machine.unit_vtcm[unit] - vtcm
            for at in range(end - 1, begin + need - 1, -1):
                if s.slot_free[at] <= start:
                    break
                spare -= s.slot_vtcm[at]
                if spare < 0:
                    start = s.slot_free[at]
                    break
        until = start + duration
        at = begin + need
        while at < end and s.slot_free[at] < until:
            s.slot_free[at - need] = s.slot_free[at]
            s.slot_vtcm[at - need] = s.slot_vtcm[at]
            at += 1
        for place in range(at - need, at):
            s.slot_free[place] = until
            s.slot_vtcm[place] = 0
        s.slot_vtcm[at - 1] = vtcm
    s.unit_start[unit] = start
    ended: int = until
    return ended


@inlined
def gpu_lead(i: int, sheet: Sheet, machine: Machine, groups: Groups) -> int:
    """Latency of mapping buffers where an item meets the GPU's border."""
    here = machine.option_gpu[groups.option[sheet.kernel[i]]]
    for e in range(sheet.pred_ptr[i], sheet.pred_ptr[i + 1]):
        if machine.option_gpu[groups.option[sheet.kernel[sheet.pred[e]]]] != here:
            return machine.gpu_launch_ns
    return 0


@inlined
def _tell(i: int, when: int, sheet: Sheet, groups: Groups, s: Step) -> None:
    """The result of item ``i`` is there; those of its own subgraph have begun before."""
    for e in range(sheet.succ_ptr[i], sheet.succ_ptr[i + 1]):
        later = sheet.succ[e]
        group = groups.group[sheet.kernel[later]]
        s.ready_ns[later] = max(s.ready_ns[later], when)
        s.group_ready[group] = max(s.group_ready[group], when)


@inlined
def _begin(sheet: Sheet, machine: Machine, subgraphs: int, groups: Groups, s: Step) -> None:
    """Everything free, nothing there, and every item of a subgraph still to come."""
    slot = 0
    for unit in range(len(machine.unit_slots)):
        s.unit_slot[unit] = slot
        s.unit_start[unit] = 0
        s.unit_floor[unit] = 0
        slot += machine.unit_slots[unit]
    for at in range(slot):
        s.slot_free[at] = 0
        s.slot_vtcm[at] = 0
    for group in range(subgraphs):
        s.group_ready[group] = 0
        s.group_call[group] = -1
        s.left[group] = 0
    for i in range(len(sheet.kernel)):
        s.ready_ns[i] = 0
        s.left[groups.group[sheet.kernel[i]]] += 1
    s.sums[ENERGY] = 0
    s.sums[MOVED] = 0


@inlined
def _make_batch(sheet: Sheet, terms: Terms, groups: Groups, s: Step) -> int:
    """Time the task that makes a batch ready, if there is one; its end."""
    if terms.batch_cost < 0:
        return 0
    option = batch_option(terms)
    cost = terms.costs[terms.batch_cost, option, terms.cpu_point]
    unit = terms.machine.option_unit[option]
    ended = _start(unit, 1, 0, cost[LASTS], 0, terms.machine, s)
    s.sums[ENERGY] += cost[POWER] * cost[LASTS]
    if terms.batch_serial == 1:
        for i in range(len(sheet.kernel)):
            if sheet.reads_input[i] == 1:
                s.ready_ns[i] = ended
                s.group_ready[groups.group[sheet.kernel[i]]] = ended
    return ended


@inlined
def _call(group: int, miss: int, terms: Terms, groups: Groups, s: Step) -> None:
    """Prepare a subgraph if it must be, call it, and pack its filters again."""
    machine = terms.machine
    ready = s.group_ready[group]
    if miss == 1:
        lead = prepare_ns(groups.kernels[group], groups.weight_bytes[group], machine)
        s.sums[ENERGY] += lead * machine.one_context_mw[terms.dsp_point]
        ready = _start(machine.dsp, 1, 0, lead, ready, machine, s)
    whole = call_ns(groups.bytes_io[group], machine)
    there = whole // 2 + machine.call_tail_ns
    ready = _start(machine.rpc, 1, 0, there, ready, machine, s)
    size = 2 * groups.filter_bytes[group]
    if size > 0:
        lasts = -(-size * 1000 // machine.repack_rate)
        ready = _start(machine.dsp, machine.dsp_slots, 0, lasts, ready, machine, s)
        s.sums[ENERGY] += lasts * machine.all_contexts_mw[terms.dsp_point]
        s.sums[MOVED] += size
    s.group_call[group] = ready
    s.head[group] = -1


@inlined
def _compute(i: int, group: int, sheet: Sheet, terms: Terms, groups: Groups, s: Step) -> int:
    """Time the kernel of an item; its end."""
    machine = terms.machine
    option = groups.option[sheet.kernel[i]]
    point = terms.dsp_point if machine.option_dsp[option] == 1 else terms.cpu_point
    cost = terms.costs[sheet.cost[i], option, point]
    lasts = cost[LASTS]
    if groups.gpu[0] == 1:
        lasts += gpu_lead(i, sheet, machine, groups)
    ready = s.ready_ns[i]
    if group >= 0:
        ready = max(ready, s.group_call[group])
    s.sums[ENERGY] += lasts * cost[POWER]
    s.sums[MOVED] += cost[BYTES]
    return _start(machine.option_unit[option], cost[SLOTS], cost[VTCM], lasts, ready, machine, s)


@inlined
def _leave(i: int, group: int, ended: int, sheet: Sheet, groups: Groups, s: Step) -> None:
    """An item of a subgraph has ended: tell the others in it, and those outside too soon.

    The latter begin after the subgraph has returned, which tells them again.
    """
    for e in range(sheet.succ_ptr[i], sheet.succ_ptr[i + 1]):
        later = sheet.succ[e]
        s.ready_ns[later] = max(s.ready_ns[later], ended)
    s.following[i] = s.head[group]
    s.head[group] = i
    s.tail[group] = ended if s.following[i] < 0 else max(s.tail[group], ended)
    s.left[group] -= 1


@inlined
def _return(group: int, sheet: Sheet, machine: Machine, groups: Groups, s: Step) -> int:
    """Return from a subgraph, and tell all who wait for its results; when that is over."""
    whole = call_ns(groups.bytes_io[group], machine)
    ended = _start(machine.rpc, 1, 0, whole - whole // 2, s.tail[group], machine, s)
    member = s.head[group]
    while member >= 0:
        _tell(member, ended, sheet, groups, s)
        member = s.following[member]
    return ended


@compiled
def static_step(
    sheet: Sheet, terms: Terms, miss: I64, subgraphs: int, groups: Groups, s: Step
) -> tuple[int, int]:
    """Time a step; returns makespan in ns and energy in pJ.

    ``miss`` says for each subgraph whether it must be prepared.
    """
    machine = terms.machine
    order_items(sheet, groups.order, s.order)
    _begin(sheet, machine, subgraphs, groups, s)
    makespan = _make_batch(sheet, terms, groups, s)
    for place in range(len(sheet.kernel)):
        i = s.order[place]
        group = groups.group[sheet.kernel[i]]
        if group >= 0 and s.group_call[group] < 0:
            _call(group, miss[group], terms, groups, s)
        ended = _compute(i, group, sheet, terms, groups, s)
        if group < 0:
            _tell(i, ended, sheet, groups, s)
        else:
            _leave(i, group, ended, sheet, groups, s)
            if s.left[group] == 0:
                ended = _return(group, sheet, machine, groups, s)
        makespan = max(makespan, ended)
    energy = s.sums[ENERGY] + makespan * machine.static_mw
    return makespan, energy + s.sums[MOVED] * machine.pj_per_byte
