"""Frames: tables of what a plan computes, made once for all plans that differ in schedule alone.

The choices of precision, micro-batch, rescale rule (and of any aspect before placement) decide
which kernels there are. A :class:`Frame` holds those kernels as arrays, taken from the very drafts
that lowering makes, so that the compiled evaluator only places, groups and times them.
A *sheet* is one of the steps that the expected step is a mixture of: the kernels with the scans and
requantises of that step.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain, pairwise
from typing import NamedTuple

import numpy as np

from kernels.operators import Role
from sim.aspects import ORDER
from sim.aspects.grouping import held_bytes
from sim.aspects.placement import default_unit, units_for
from sim.draft import NEXT, Draft, Item
from sim.encoding.costs import CostTable
from sim.encoding.machine import options_of
from sim.encoding.space import Space
from sim.expected import mixture
from sim.lowering import draft_before, lowering
from sim.plan import Plan
from sim.taskgraph import I64

ON_DSP, ON_GPU = 1 << 16, 1 << 17


class Kernels(NamedTuple):
    """Kernels of a frame (items with a placement of their own), in the order of the draft.

    ``*_ptr`` are CSR pointers of shape ``(kernels + 1,)``.
    """

    place_gene: I64
    """Gene of the placement, -1 where it is held."""
    options: I64
    """``(kernels, choices)``: option that each choice of that gene comes to here; a unit without
    the kernel becomes the default one. What is held stands in the first column. ``ON_DSP`` and
    ``ON_GPU`` are added to the options of those units."""
    cut_gene: I64
    """Gene of the cut, of a subject's first kernel; -1 where it is fixed."""
    cuts: I64
    """``(kernels, 2)``: whether each choice of that gene is a cut; what is fixed comes first."""
    before: I64
    """The micro-batch before it, -1 for none."""
    pred_ptr: I64
    pred: I64
    """Kernels that it reads from, scans and requantises looked through; ascending."""
    chained_ptr: I64
    chained: I64
    """The same with ``before``: on the DSP micro-batches stay together."""
    filter_bytes: I64
    scratch_bytes: I64
    weight_bytes: I64
    digest: I64
    """Of operator, role and whether it accumulates."""
    read_ptr: I64
    read: I64
    write_ptr: I64
    write: I64
    """Buffers that the kernel and what follows it read and write."""
    buffer_bytes: I64
    buffer_made: I64
    """1 where some kernel writes the buffer."""


class Sheet(NamedTuple):
    """Items of one step, in the order of the draft; in :class:`Sheets` of several, one by one."""

    kernel: I64
    """Kernel that it is, or follows: the last of its subject. Never falls."""
    item_ptr: I64
    """By kernel, and one more: where its items begin."""
    cost: I64
    """Row of the cost table."""
    pred_ptr: I64
    pred: I64
    succ_ptr: I64
    succ: I64
    reads_input: I64
    tensor_bytes: I64
    tensor_producer: I64
    """Item that allocates it, -1: there from the beginning."""
    user_ptr: I64
    users: I64


class Frame(NamedTuple):
    """What plans that differ in schedule alone have in common.

    Attributes
    ----------
    sheets
        Arrays of all sheets joined; each sheet's indices are its own.
    bounds
        ``(sheets + 1, 4)``: where the items, dependencies, tensors and users of each begin.
    weights, weight_bytes
        By sheet: its share of the expected step, and the bytes of weights. The quietest is last.
    """

    kernels: Kernels
    sheets: Sheet
    bounds: I64
    weights: I64
    weight_bytes: I64
    input_cost: int
    input_serial: int


def make_frame(space: Space, frame_plan: Plan, table: CostTable) -> Frame:
    """Return the tables of all plans with the choices of ``frame_plan`` before placement."""
    ready = lowering(space.graph, frame_plan, space.device)
    steps = mixture(ready)
    drafts = [
        draft_before("placement", space.graph, frame_plan, space.device, modes)
        for _, modes in steps
    ]
    sheets = [_sheet(draft, table) for draft in drafts]
    sizes = [[len(s.kernel), len(s.pred), len(s.tensor_bytes), len(s.users)] for s in sheets]
    cost, serial = table.input_row(ready, drafts[-1])
    return Frame(
        kernels=_kernels(space, frame_plan, drafts[-1]),
        sheets=Sheet(*(np.concatenate(column) for column in zip(*sheets, strict=True))),
        bounds=np.cumsum([[0, 0, 0, 0], *sizes], axis=0, dtype=np.int64),
        weights=_i64(weight for weight, _ in steps),
        weight_bytes=_i64(_resident(draft) for draft in drafts),
        input_cost=cost,
        input_serial=serial,
    )


def _resident(draft: Draft) -> int:
    """Bytes alive for the whole step: weights."""
    named = draft.buffers.items()
    return sum(b.bytes for n, b in named if b.resident and not n.endswith(NEXT))


def _owners(draft: Draft) -> tuple[list[int], dict[str, list[int]]]:
    """Indices of the items that are kernels, and by subject their numbers among the kernels."""
    own = [k for k, item in enumerate(draft.items) if not item.follows]
    by_subject: dict[str, list[int]] = {}
    for number, index in enumerate(own):
        by_subject.setdefault(draft.items[index].subject, []).append(number)
    return own, by_subject


def _kernels(space: Space, plan: Plan, draft: Draft) -> Kernels:
    device, items = space.device, draft.items
    own, by_subject = _owners(draft)
    number = {index: k for k, index in enumerate(own)}
    preds = _kernel_preds(draft, own, number, by_subject)
    before = [-1] * len(own)
    for parts in by_subject.values():
        for one, other in pairwise(parts):
            before[other] = one
    options = options_of(device)
    place = {o: k for k, o in enumerate(options)}
    marks = {"dsp": ON_DSP, "gpu": ON_GPU}
    code = [k | marks.get(o.partition(":")[0], 0) for k, o in enumerate(options)]
    fixed_units, fixed_cuts = _fixed(space, plan, draft)
    genes = {g.key: k for k, g in enumerate(space.genes)}
    first = {parts[0] for parts in by_subject.values()}
    subjects = [items[index].subject for index in own]
    buffers = {name: k for k, name in enumerate(draft.buffers)}
    reads, writes = _buffers(draft, by_subject, number, buffers)
    made = {b for mine in writes for b in mine}
    held = [_held(items[index]) for index in own]
    placed = [genes.get(("placement", s), -1) for s in subjects]
    table = np.zeros((len(own), int(space.counts.max(initial=1))), np.int64)
    for k, (index, gene) in enumerate(zip(own, placed, strict=True)):
        allowed = {place[u] for u in units_for(items[index], device)}
        if gene < 0:
            table[k, 0] = code[place[fixed_units.get(subjects[k], default_unit(device))]]
        else:
            wanted = [place[u] for u in space.genes[gene].choices]
            table[k, : len(wanted)] = [code[o if o in allowed else 0] for o in wanted]
    cut_genes = [
        genes.get(("grouping", s), -1) if k in first else -1 for k, s in enumerate(subjects)
    ]
    cuts = np.zeros((len(own), 2), np.int64)
    for k, gene in enumerate(cut_genes):
        if gene >= 0:
            cuts[k] = [choice == "cut" for choice in space.genes[gene].choices]
        else:
            cuts[k, 0] = k in first and fixed_cuts.get(subjects[k]) == "cut"
    chained = [sorted({*p, b} - {-1}) for p, b in zip(preds, before, strict=True)]
    return Kernels(
        place_gene=_i64(placed),
        options=table,
        cut_gene=_i64(cut_genes),
        cuts=cuts,
        before=_i64(before),
        pred_ptr=_pointers(preds),
        pred=_i64(chain.from_iterable(preds)),
        chained_ptr=_pointers(chained),
        chained=_i64(chain.from_iterable(chained)),
        filter_bytes=_i64(h[0] for h in held),
        scratch_bytes=_i64(h[1] for h in held),
        weight_bytes=_i64(h[2] for h in held),
        digest=_i64(_digest(items[index]) for index in own),
        read_ptr=_pointers(reads),
        read=_i64(chain.from_iterable(reads)),
        write_ptr=_pointers(writes),
        write=_i64(chain.from_iterable(writes)),
        buffer_bytes=_i64(b.bytes for b in draft.buffers.values()),
        buffer_made=_i64(k in made for k in range(len(buffers))),
    )


def _fixed(space: Space, plan: Plan, draft: Draft) -> tuple[Mapping[str, str], Mapping[str, str]]:
    """Placements and cuts that the space holds, by subject."""
    found = []
    for name in ("placement", "grouping"):
        aspect = next(a for a in ORDER if a.name == name)
        held = name in space.held
        found.append(aspect.resolve(draft, plan, space.device) if held else {})
    return found[0], found[1]


def _kernel_preds(
    draft: Draft, own: Sequence[int], number: Mapping[int, int], by_subject: Mapping[str, list[int]]
) -> list[list[int]]:
    """Kernels that each kernel waits for; through a scan or requantise to all parts before it."""
    preds = draft.dependencies()
    found = []
    for index in own:
        mine: set[int] = set()
        for p in preds[index]:
            follows = draft.items[p].follows
            mine.update(by_subject[follows] if follows else (number[p],))
        found.append(sorted(mine))
    return found


def _buffers(
    draft: Draft,
    by_subject: Mapping[str, list[int]],
    number: Mapping[int, int],
    place: Mapping[str, int],
) -> tuple[list[list[int]], list[list[int]]]:
    """Buffers that each kernel reads and writes, with those of what follows its subject."""
    reads: list[set[int]] = [set() for _ in number]
    writes: list[set[int]] = [set() for _ in number]
    for index, item in enumerate(draft.items):
        k = by_subject[item.follows][-1] if item.follows else number[index]
        reads[k].update(place[n] for n in item.reads)
        writes[k].update(place[n] for n in item.writes)
    return [sorted(r) for r in reads], [sorted(w) for w in writes]


def _held(item: Item) -> tuple[int, int, int]:
    """Packed filter, scratch, and packed weights of a kernel in a prepared subgraph, bytes."""
    if not item.has_macs:
        return 0, 0, 0
    packed, scratch = held_bytes(item.op, item.role)
    return packed, scratch, 0 if item.role is Role.WEIGHT_GRAD else packed


def _digest(item: Item) -> int:
    text = repr((item.op, item.role.value, item.accumulates))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big", signed=True)


def _sheet(draft: Draft, table: CostTable) -> Sheet:
    items, preds = draft.items, draft.dependencies()
    own, by_subject = _owners(draft)
    number = {index: k for k, index in enumerate(own)}
    succs: list[list[int]] = [[] for _ in items]
    for index, mine in enumerate(preds):
        for p in sorted(mine):
            succs[p].append(index)
    producer: dict[str, int] = {}
    users: dict[str, set[int]] = {}
    for index, item in enumerate(items):
        for name in item.writes:
            if name not in producer:
                producer[name] = index
                users.setdefault(name, set()).add(index)
        for name in item.reads:
            users.setdefault(name, set()).add(index)
    named = draft.buffers
    lives = [n for n in users if not (named[n].resident or n.endswith(NEXT))]
    kernel = _i64(
        by_subject[i.follows][-1] if i.follows else number[k] for k, i in enumerate(items)
    )
    assert (np.diff(kernel) >= 0).all(), "an item stands before the kernel that it follows"
    return Sheet(
        kernel=kernel,
        item_ptr=np.searchsorted(kernel, np.arange(len(own) + 1)).astype(np.int64),
        cost=_i64(table.row(item.call) for item in items),
        pred_ptr=_pointers(preds),
        pred=_i64(chain.from_iterable(sorted(p) for p in preds)),
        succ_ptr=_pointers(succs),
        succ=_i64(chain.from_iterable(succs)),
        reads_input=_i64("input" in i.reads for i in items),
        tensor_bytes=_i64(named[n].bytes for n in lives),
        tensor_producer=_i64(producer.get(n, -1) for n in lives),
        user_ptr=_pointers([users[n] for n in lives]),
        users=_i64(u for n in lives for u in sorted(users[n])),
    )


def _pointers(rows: Iterable[Iterable[int]]) -> I64:
    return np.cumsum([0, *(len(list(row)) for row in rows)], dtype=np.int64)


def _i64(values: Iterable[int]) -> I64:
    return np.fromiter(values, dtype=np.int64)
