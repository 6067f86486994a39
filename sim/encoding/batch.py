"""Batches of encoded plans, compiled: place, group, reuse, then time each plan of a frame."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sim.encoding.costs import Costs
from sim.encoding.event_loops import Rows, build, run_step
from sim.encoding.frames import ON_DSP, ON_GPU, Frame, Kernels, Sheet
from sim.encoding.groups import Groups, assign, describe, sort_by_level
from sim.encoding.jit import compiled, inlined
from sim.encoding.machine import Machine
from sim.encoding.memory_loops import Lives, peak
from sim.encoding.reuse_loops import NONE, Cache, settle, worst
from sim.encoding.static_loops import Step, Terms, static_step
from sim.engines.compiled import empty_state
from sim.lowering import CYCLE_STEPS
from sim.reuse import LONGEST
from sim.taskgraph import I64

I16 = NDArray[np.int16]

EXPECTED, QUIET, STATIC = range(3)
"""Fidelities, as numbers."""
TIME, ENERGY, MEMORY = range(3)
"""Columns of the scores."""


class Meaning(NamedTuple):
    """How genes are read.

    ``number`` has a row per gene and a column per choice: the place of a rule or operating point
    among all (placements and cuts are read by kernel). The four others are genes, or
    ``-1 - number`` where the space holds that choice.
    """

    number: I64
    reuse: int
    dispatch: int
    cpu_point: int
    dsp_point: int


class Scratch(NamedTuple):
    """Everything that one thread writes to."""

    groups: Groups
    cache: Cache
    step: Step
    rows: Rows
    lives: Lives
    sums: I64
    """Shape ``(4,)``: time and energy, each in whole parts and remainders."""


def make_scratch(frame: Frame, machine: Machine) -> Scratch:
    """Return scratch that is large enough for any plan of a frame."""
    n, buffers = len(frame.kernels.before), len(frame.kernels.buffer_bytes)
    items, edges, tensors, _ = (int(v) for v in np.diff(frame.bounds, axis=0).max(axis=0))
    rows = items + 4 * n + 1
    slots, units = int(machine.unit_slots.sum()), len(machine.unit_slots)

    def zeros(*shape: int) -> I64:
        return np.zeros(shape, np.int64)

    per_kernel = dict.fromkeys(Groups._fields, n + 1)
    per_kernel |= {"level_count": n + 3, "stamp": 1, "gpu": 1}
    per_kernel |= dict.fromkeys(("cpu_read", "cpu_written", "inside", "counted"), buffers)
    per_step = dict.fromkeys(Step._fields, n + 1)
    per_step |= dict.fromkeys(("order", "ready_ns", "following"), items)
    per_step |= {"sums": 2, "slot_free": slots, "slot_vtcm": slots}
    per_step |= dict.fromkeys(("unit_start", "unit_floor", "unit_slot"), units)
    per_row = dict.fromkeys(Rows._fields[:-1], rows)
    per_row |= {"pred_ptr": rows + 1, "pred": edges + 4 * items + 4 * n + 4}
    per_row |= {"stamp": 1, "moved": 1}
    per_row |= {"member_ptr": n + 2}
    cache = {name: zeros(n + 1) for name in Cache._fields}
    cache |= {"miss": zeros(LONGEST, n + 1), "seen": zeros(LONGEST + 1)}
    cache |= {"chosen": zeros(CYCLE_STEPS), "table": zeros(4 * n + 4), "total": zeros(1)}
    state = empty_state(rows, per_row["pred"], units, slots)
    return Scratch(
        Groups(**{name: zeros(size) for name, size in per_kernel.items()}),
        Cache(**cache),
        Step(**{name: zeros(size) for name, size in per_step.items()}),
        Rows(**{name: zeros(size) for name, size in per_row.items()}, state=state),
        Lives(*(zeros(tensors) for _ in Lives._fields)),
        zeros(4),
    )


@inlined
def _choice(gene: int, row: I16, meaning: Meaning) -> int:
    """Number of a gene's choice, or of the one that is held."""
    return meaning.number[gene, row[gene]] if gene >= 0 else -1 - gene


@inlined
def _place(row: I16, kernels: Kernels, s: Groups) -> None:
    """Read placements and cuts."""
    gpu = 0
    for k in range(len(kernels.before)):
        gene = kernels.place_gene[k]
        option = kernels.options[k, row[gene]] if gene >= 0 else kernels.options[k, 0]
        gpu |= option
        s.option[k] = option & (ON_DSP - 1)
        s.on_dsp[k] = 1 if option & ON_DSP else 0
        gene = kernels.cut_gene[k]
        s.cut[k] = kernels.cuts[k, row[gene]] if gene >= 0 else kernels.cuts[k, 0]
    s.gpu[0] = 1 if gpu & ON_GPU else 0


@inlined
def _sheet(number: int, frame: Frame) -> Sheet:
    """One of the joined sheets, as views."""
    bounds, sheets = frame.bounds, frame.sheets
    item, edge, tensor, user = (
        bounds[number, 0],
        bounds[number, 1],
        bounds[number, 2],
        bounds[number, 3],
    )
    items, edges, tensors, users = (
        bounds[number + 1, 0],
        bounds[number + 1, 1],
        bounds[number + 1, 2],
        bounds[number + 1, 3],
    )
    kernels = len(frame.kernels.before)
    begin = number * (kernels + 1)
    return Sheet(
        sheets.kernel[item:items],
        sheets.item_ptr[begin : begin + kernels + 1],
        sheets.cost[item:items],
        sheets.pred_ptr[item + number : items + number + 1],
        sheets.pred[edge:edges],
        sheets.succ_ptr[item + number : items + number + 1],
        sheets.succ[edge:edges],
        sheets.reads_input[item:items],
        sheets.tensor_bytes[tensor:tensors],
        sheets.tensor_producer[tensor:tensors],
        sheets.user_ptr[tensor + number : tensors + number + 1],
        sheets.users[user:users],
    )


@inlined
def _prepared(subgraphs: int, rule: int, distinct: int, machine: Machine, s: Groups) -> int:
    """Bytes that prepared subgraphs hold; ``distinct`` is the sum over different ones."""
    largest = 0
    for group in range(subgraphs):
        largest = max(largest, s.memory_bytes[group])
    if rule == NONE:
        return largest
    return max(largest, min(distinct, machine.dsp_memory))


@inlined
def _add(found: tuple[int, int], weight: int, whole: int, sums: I64) -> None:
    """Add a step's share, in whole parts and remainders, so that no sum wraps."""
    sums[0] += weight * (found[0] // whole)
    sums[1] += weight * (found[0] % whole)
    sums[2] += weight * (found[1] // whole)
    sums[3] += weight * (found[1] % whole)


@compiled
def score(
    batch: I16,
    first: int,
    last: int,
    fidelity: int,
    memory: int,
    frame: Frame,
    meaning: Meaning,
    costs: Costs,
    machine: Machine,
    s: Scratch,
    out: I64,
) -> None:
    """Score rows ``first <= b < last`` of a batch, all of one frame, into ``out[b]``."""
    sheets = len(frame.weights)
    begin = 0 if fidelity == EXPECTED else sheets - 1
    for b in range(first, last):
        row = batch[b]
        rule = _choice(meaning.reuse, row, meaning)
        dispatch = _choice(meaning.dispatch, row, meaning)
        cpu_point = _choice(meaning.cpu_point, row, meaning)
        dsp_point = _choice(meaning.dsp_point, row, meaning)
        batch_cost, serial = frame.input_cost, frame.input_serial
        terms = Terms(costs, machine, cpu_point, dsp_point, batch_cost, serial)
        _place(row, frame.kernels, s.groups)
        subgraphs = assign(frame.kernels, s.groups)
        sort_by_level(frame.kernels, subgraphs, s.groups)
        describe(frame.kernels, subgraphs, s.groups)
        keys, sizes = s.groups.key, s.groups.memory_bytes
        steps = settle(rule, keys, sizes, subgraphs, machine.dsp_memory, memory, s.cache)
        if fidelity != EXPECTED:
            s.cache.chosen[0] = worst(steps, subgraphs, s.cache)
            steps = 1
        whole = 0
        for number in range(begin, sheets):
            whole += steps * (frame.weights[number] if fidelity == EXPECTED else 1)
        s.sums[:] = 0
        most = 0
        for number in range(begin, sheets):
            weight = frame.weights[number] if fidelity == EXPECTED else 1
            sheet = _sheet(number, frame)
            for at in range(steps if weight > 0 else 0):
                miss = s.cache.miss[s.cache.chosen[at]]
                if fidelity == STATIC:
                    found = static_step(sheet, terms, miss, subgraphs, s.groups, s.step)
                else:
                    rows = build(sheet, terms, miss, subgraphs, s.groups, s.rows)
                    found = run_step(dispatch, rows, machine, s.rows)
                    if memory == 1:
                        distinct = s.cache.total[0]
                        held = _prepared(subgraphs, rule, distinct, machine, s.groups)
                        resident = frame.weight_bytes[number] + held
                        most = max(most, peak(resident, sheet, s.rows, s.lives))
                _add(found, weight, whole, s.sums)
        out[b, TIME] = s.sums[0] + s.sums[1] // whole
        out[b, ENERGY] = s.sums[2] + s.sums[3] // whole
        out[b, MEMORY] = most
