"""The graph while a plan rewrites it: kernel calls on buffers, not yet tasks.

Lowering starts with one :class:`Item` per node of the training graph and applies the aspects in a
fixed order. An aspect may replace an item by a fragment (micro-batches, scan and requantise),
insert items on an edge (quantise, transpose) and set fields (data type, unit, group). It never
looks at costs. Order of items is a topological order at every stage.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from math import prod
from typing import NamedTuple

from cost_models.cost import DType, KernelCall, Rescaling
from kernels.operators import Operator, Role, Shape
from sim.graph import TrainingGraph


@dataclass(frozen=True, slots=True)
class Buffer:
    """A tensor in memory during the step: its size, and whether it outlives the step."""

    shape: Shape
    item_bytes: int
    resident: bool = False
    bytes: int = field(init=False, repr=False, compare=False)
    """Unpadded size in bytes."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "bytes", prod(self.shape) * self.item_bytes)


class Item(NamedTuple):
    """One kernel call to be: what it computes, on which buffers, where.

    A named tuple, since lowering makes several changed copies of each (``_replace``).

    Attributes
    ----------
    name
        Unique; micro-batches and fragments append to the subject's name.
    subject
        The name under which plans choose for it; shared by all its micro-batches.
    reads, writes
        Buffer names. A buffer with several writers is complete when all have run.
    unit
        ``cpu:4``, ``little:2``, ``dsp:4``, ``gpu``... once placed; empty before.
    follows
        Subject whose unit it takes, when it has no placement of its own.
    cut
        True when a DSP item must not join the subgraph of its predecessors.
    group
        Index of its DSP subgraph in :attr:`Draft.subgraphs`; -1 outside of any.
    """

    name: str
    subject: str
    layer: str
    op: Operator
    role: Role
    dtype: DType
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    rescaling: Rescaling = "none"
    accumulates: bool = False
    follows: str = ""
    unit: str = ""
    cut: bool = False
    group: int = -1

    @property
    def call(self) -> KernelCall:
        """What a cost model is asked about."""
        return KernelCall(self.op, self.role, self.dtype, self.rescaling, self.accumulates)

    @property
    def has_macs(self) -> bool:
        """Whether the kernel multiplies and accumulates (and so has an INT32 accumulator)."""
        return has_macs(self.op, self.role)

    def placed(self, unit: str) -> Item:
        """Return the item on a unit, in no subgraph; twice as fast as ``_replace``."""
        return Item._make((*self[:-3], unit, False, -1))

    def grouped(self, group: int) -> Item:
        """Return the item in a subgraph; twice as fast as ``_replace``."""
        return Item._make((*self[:-1], group))


NEXT = ".next"
"""Ends the name of a weight after its update; it is the same memory as the weight before."""

MAC_KINDS = frozenset({"conv2d", "linear"})


def has_macs(op: Operator, role: Role) -> bool:
    """Whether an operator multiplies and accumulates in a role."""
    return op.kind in MAC_KINDS and role is not Role.UPDATE


@dataclass(frozen=True, slots=True)
class Subgraph:
    """Consecutive DSP items that one FastRPC call executes.

    Attributes
    ----------
    key
        Digest of operators, roles and shapes: equal keys share one prepared graph. Whether a
        kernel scans in this step is a flag at run time, not part of the graph.
    operators
        Number of kernel calls in it.
    bytes_in, bytes_out
        Buffers that cross between CPU and DSP, whose caches each call maintains.
    filter_bytes
        Filter operands that every execution packs again; the error is one in a weight gradient.
    weight_bytes
        Packed weights in it, on which the time to prepare depends.
    memory_bytes
        DSP memory that it holds while prepared: packed filters and INT32 scratch. Activations
        live in buffers shared with the CPU and are counted as tensors.
    """

    name: str
    key: str
    operators: int
    bytes_in: int
    bytes_out: int
    filter_bytes: int
    weight_bytes: int
    memory_bytes: int


@dataclass(slots=True)
class Draft:
    """Items in topological order and the buffers between them."""

    items: list[Item]
    buffers: dict[str, Buffer]
    batch: int
    subgraphs: tuple[Subgraph, ...] = ()
    _first: dict[str, Item] = field(default_factory=dict, repr=False)
    _dependencies: list[set[int]] | None = field(default=None, repr=False)

    def subjects(self) -> list[str]:
        """Every subject with a placement of its own, in order, once."""
        return list(dict.fromkeys(item.subject for item in self.items if not item.follows))

    def first(self, subject: str) -> Item:
        """Return the first item of a subject; KeyError if there is none."""
        if not self._first:
            for item in reversed(self.items):
                self._first[item.subject] = item
        return self._first[subject]

    def producers(self) -> dict[str, list[int]]:
        """Indices of the items that write each buffer."""
        out: dict[str, list[int]] = {}
        for index, item in enumerate(self.items):
            for name in item.writes:
                out.setdefault(name, []).append(index)
        return out

    def dependencies(self) -> list[set[int]]:
        """Indices of the items that must end before each item starts; do not change them.

        An item waits for the earlier writers of what it reads; an update also waits for every
        other reader of the weight that it overwrites.
        """
        if self._dependencies is not None:
            return self._dependencies
        makers = self.producers()
        readers: dict[str, list[int]] = {}
        for index, item in enumerate(self.items):
            for name in item.reads:
                readers.setdefault(name, []).append(index)
        found = []
        for index, item in enumerate(self.items):
            mine = {p for name in item.reads for p in makers.get(name, ()) if p < index}
            for name in item.writes:
                if name.endswith(NEXT):
                    mine.update(p for p in readers.get(name.removesuffix(NEXT), ()) if p != index)
            found.append(mine)
        self._dependencies = found
        return found

    def reordered(self, items: list[Item], order: list[int]) -> Draft:
        """Return a draft of ``items``, which are this draft's in another topological order.

        ``order[k]`` is the index here of ``items[k]``; dependencies are carried over.
        """
        place = {old: new for new, old in enumerate(order)}
        draft = self.with_items(items)
        known = self.dependencies()
        draft._dependencies = [{place[p] for p in known[old]} for old in order]
        return draft

    def marked(self, items: Iterable[Item]) -> Draft:
        """Return a draft of these items in this order with other marks (unit, cut, group)."""
        draft = self.with_items(items)
        draft._dependencies = self.dependencies()
        return draft

    def with_items(self, items: Iterable[Item]) -> Draft:
        """Return a draft with other items and a copy of the buffer table."""
        return Draft(list(items), dict(self.buffers), self.batch, self.subgraphs)


def draft_of(graph: TrainingGraph) -> Draft:
    """Return the draft before any rewriting: all FP32, nothing split, nothing placed."""
    buffers = {
        t.name: Buffer(t.shape, 4, resident=t.kind == "weight") for t in graph.tensors.values()
    }
    items = [
        Item(n.name, n.name, n.layer, n.op, n.role, "fp32", n.inputs, n.outputs)
        for n in graph.nodes
    ]
    return Draft(items, buffers, graph.batch)
