"""Grouping: consecutive DSP kernels become subgraphs, each executed by one FastRPC call.

Subjects are kernels; ``join`` puts a kernel into the subgraph of the DSP kernel whose result
it reads, ``cut`` starts a new one. A call starts when all inputs of its subgraph are there and
returns all outputs at once, so a subgraph must be convex: no path may leave it and come back.
*Levels* keep it so. A subgraph, or a kernel elsewhere, has a level above all that it reads from; a
kernel may join only if everything else it reads lies below the subgraph's level. Then edges
between subgraphs always go up, and a cycle is impossible.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from cost_models.cost import ITEM_BYTES
from cost_models.device import Device
from cost_models.dsp import d32_elements, repacked_bytes, result_shape
from kernels.operators import Operator, Role
from sim.aspects.base import Aspect, StepContext
from sim.draft import Draft, Item, Subgraph, has_macs

NODE_BYTES = 4096
"""Memory of a prepared node besides operands: descriptors and plan, one page (assumed)."""


class Grouping(Aspect):
    """Cuts between DSP subgraphs."""

    name = "grouping"

    def subjects(self, draft: Draft, device: Device) -> list[str]:
        """Every kernel with a placement of its own; a cut has no effect outside the DSP."""
        return draft.subjects()

    def allowed(self, draft: Draft, subject: str, device: Device) -> tuple[str, ...]:
        """``join`` or ``cut``."""
        return ("join", "cut")

    def default(self, draft: Draft, subject: str, device: Device) -> str:
        """As few calls as possible."""
        return "join"

    def matters(self, draft: Draft, subject: str, choice: str) -> bool:
        """Whether the kernel is on the DSP."""
        return on_dsp(draft.first(subject))

    def rewrite(self, draft: Draft, choices: Mapping[str, str], context: StepContext) -> Draft:
        """Assign subgraphs and levels, and order the items by level."""
        first: set[str] = set()
        marked = []
        for item in draft.items:
            cut = choices.get(item.subject) == "cut" and item.subject not in first
            first.add(item.subject)
            marked.append(item._replace(cut=True) if cut else item)
        groups, levels = _assign(marked, draft.dependencies())
        order = sorted(range(len(marked)), key=levels.__getitem__)
        numbers: dict[int, int] = {}
        items = []
        for index in order:
            item, group = marked[index], groups[index]
            if group >= 0:
                item = item.grouped(numbers.setdefault(group, len(numbers)))
            items.append(item)
        out = draft.reordered(items, order)
        out.subgraphs = _describe(out, len(numbers))
        return out


def on_dsp(item: Item) -> bool:
    """Whether the item was placed on the DSP."""
    return item.unit.startswith("dsp")


@dataclass(slots=True)
class _Assignment:
    """Groups and levels so far.

    A ``floating`` item reads nothing made on the DSP but by other floating items (the turned
    weights of a dX, say); it has no subgraph yet and joins that of its first reader.
    """

    preds: list[set[int]]
    group: list[int]
    level: list[int]
    group_level: list[int] = field(default_factory=list)
    floating: set[int] = field(default_factory=set)

    def put(self, members: set[int], group: int) -> None:
        for index in members:
            self.group[index] = group
            self.level[index] = self.group_level[group]
        self.floating -= members

    def open(self, members: set[int]) -> None:
        """Put ``members`` into a new subgraph, above all that they read from."""
        self.group_level.append(self.above(members))
        self.put(members, len(self.group_level) - 1)

    def leave_behind(self, index: int) -> None:
        """Open what a cut item reads from floating items; only work on weights stays with it."""
        for p in sorted(self.preds[index] & self.floating, reverse=True):
            members = self.with_floating(p) if p in self.floating else set()
            if any(self.preds[m] - members for m in members):
                self.open(members)

    def above(self, members: set[int]) -> int:
        """Lowest level above everything that ``members`` read from outside."""
        return (
            max((self.level[p] for m in members for p in self.preds[m] - members), default=-1) + 1
        )

    def with_floating(self, index: int) -> set[int]:
        """Return an item and the floating items that it needs, directly or not."""
        found, stack = {index}, [index]
        while stack:
            for p in self.preds[stack.pop()] & self.floating - found:
                found.add(p)
                stack.append(p)
        return found


def _assign(items: list[Item], preds: list[set[int]]) -> tuple[list[int], list[int]]:
    """Return the subgraph (or -1) and the level of each item.

    Items that follow another (scan, requantise) are looked through and go where that one
    goes: subgraphs must not depend on whether this step happens to rescale. Micro-batches of one
    kernel stay together, so that their results meet in one place.
    """
    owners: dict[str, set[int]] = {}
    for index, item in enumerate(items):
        if not item.follows:
            owners.setdefault(item.subject, set()).add(index)
    followers = {index for index, item in enumerate(items) if item.follows}
    kernels = [mine - followers for mine in preds]
    for kernel, mine in zip(kernels, preds, strict=True):
        kernel.update(*(owners[items[p].follows] for p in mine & followers))
    placed = {index for index, item in enumerate(items) if on_dsp(item)}
    before: dict[int, int] = {}  # micro-batches go where the one before them goes
    for parts in map(sorted, owners.values()):
        if parts[0] in placed:
            before.update(zip(parts[1:], parts, strict=False))
    for index, part in before.items():
        kernels[index].add(part)
    state = _Assignment(kernels, [-1] * len(items), [0] * len(items))
    for index, item in enumerate(items):
        if item.follows:
            continue
        if index not in placed:
            for p in sorted(kernels[index] & state.floating, reverse=True):
                if p in state.floating:
                    state.open(state.with_floating(p))
            state.level[index] = state.above({index})
            continue
        settled = (kernels[index] & placed) - state.floating
        settled = settled & {before.get(index)} or settled
        if not settled and not item.cut:
            state.floating.add(index)
            continue
        if item.cut:
            state.leave_behind(index)
        _place(state, state.with_floating(index), set() if item.cut else settled)
    for index in sorted(state.floating, reverse=True):
        if index in state.floating:
            state.open(state.with_floating(index))
    for index, item in enumerate(items):
        if item.follows:
            owner = max(owners[item.follows])
            state.group[index], state.level[index] = state.group[owner], state.level[owner]
    return state.group, state.level


def _place(state: _Assignment, members: set[int], producers: set[int]) -> None:
    """Join the newest subgraph among the producers' that admits the members, or open one."""
    for group in sorted({state.group[p] for p in producers}, reverse=True):
        outside = {q for m in members for q in state.preds[m]} - members
        others = {q for q in outside if state.group[q] != group}
        if all(state.level[q] < state.group_level[group] for q in others):
            state.put(members, group)
            return
    state.open(members)


def _describe(draft: Draft, count: int) -> tuple[Subgraph, ...]:
    """Size up the subgraphs: keys, bytes that cross the border, memory held."""
    members: list[list[Item]] = [[] for _ in range(count)]
    cpu_written: set[str] = set()
    cpu_read: set[str] = set()
    for item in draft.items:
        if item.group >= 0:
            members[item.group].append(item)
        else:
            cpu_written.update(item.writes)
            cpu_read.update(item.reads)
    made = {name for item in draft.items for name in item.writes}
    return tuple(
        _subgraph(draft, f"subgraph{number}", items, cpu_written, cpu_read, made)
        for number, items in enumerate(members)
    )


def _subgraph(
    draft: Draft,
    name: str,
    members: list[Item],
    cpu_written: set[str],
    cpu_read: set[str],
    made: Collection[str],
) -> Subgraph:
    inside = {n for i in members for n in i.writes}
    reads = {n for i in members for n in i.reads} - inside
    kernels = tuple((i.op, i.role, i.accumulates) for i in members if not i.follows)
    key, filter_bytes, weight_bytes, memory_bytes = _prepared(kernels)
    return Subgraph(
        name=name,
        key=key,
        operators=len(kernels),
        bytes_in=_total(draft, {n for n in reads if n in cpu_written or n not in made}),
        bytes_out=_total(draft, inside & cpu_read),
        filter_bytes=filter_bytes,
        weight_bytes=weight_bytes,
        memory_bytes=memory_bytes,
    )


@lru_cache(maxsize=4096)
def _prepared(kernels: tuple[tuple[Operator, Role, bool], ...]) -> tuple[str, int, int, int]:
    """Key, filter bytes, weight bytes and memory of a subgraph of these kernels."""
    held = [(role, *held_bytes(op, role)) for op, role, _ in kernels if has_macs(op, role)]
    filters = sum(packed for _, packed, _ in held)
    scratch = max((wide for _, _, wide in held), default=0)
    digest = hashlib.sha256()
    for op, role, accumulates in kernels:
        digest.update(repr((op, role.value, accumulates)).encode())
    weights = sum(packed for role, packed, _ in held if role is not Role.WEIGHT_GRAD)
    memory = filters + scratch + NODE_BYTES * len(kernels)
    return digest.hexdigest()[:16], filters, weights, memory


def _total(draft: Draft, names: set[str]) -> int:
    return sum(draft.buffers[n].bytes for n in names)


def held_bytes(op: Operator, role: Role) -> tuple[int, int]:
    """Memory of a prepared kernel with MACs: its packed filter, and INT32 scratch for its result.

    Kernels of a subgraph share the scratch: the largest counts.
    """
    scratch = d32_elements(result_shape(op, role)) * ITEM_BYTES["int32"]
    return repacked_bytes(op, role), scratch
