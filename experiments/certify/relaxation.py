"""The relaxed step: what holds for every plan of a space, whatever it chooses.

It has one node per node of the training graph and one per conversion or layout item that some
choice of precision brings (an *optional* node). Nodes have ways (:mod:`experiments.certify.ways`)
and edges. Left out, since they only make a step longer: subgraphs that are prepared again, the
order in which units take their tasks, contention for DDR beyond its total rate, the input
pipeline, and waiting for the whole of a subgraph.

Notes
-----
Why a DSP node may count the packing of its own filter on its path: a subgraph waits for
everything that any of its kernels reads from outside, is called, packs all its filters, and only
then starts its kernels; and it is convex, so that a path enters it once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import prod

import numpy as np
from numpy.typing import NDArray

from cost_models.cost import DType
from cost_models.rpc import rpc_latency_ns, rpc_tail
from experiments.certify.ways import Kernel, Offer, Way, WayFinder, offered
from kernels.operators import Operator, Role
from kernels.precision import Dequantise, Quantise
from sim.aspects.placement import default_unit, units_for
from sim.aspects.precision import LABEL_LIKE
from sim.draft import NEXT, Buffer, Draft, Item
from sim.encoding import Space
from sim.lowering import draft_before
from sim.plan import Plan

COVERED = {"precision", "batch_split", "rescale", "placement", "grouping"} | {
    *("reuse", "operating_point", "gpu_clock", "rpc_qos", "dispatch", "library", "input")
}
"""Aspects whose effect on a step this relaxation accounts for, or can leave out."""


class CertificateError(ValueError):
    """No bound can be given; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Condition:
    """When an optional node exists: some reader computes in a type that the writer does not.

    Attributes
    ----------
    readers
        Layers; the node exists at least where one of them has ``dtype``...
    dtype
        ...while ``writer`` has the other type.
    writer
        Layer; empty for a tensor that is FP32 by itself, or where the writer does not matter.
    """

    readers: tuple[str, ...]
    dtype: DType
    writer: str = ""


@dataclass(frozen=True, slots=True)
class Node:
    """A node of the relaxed step; ``exists`` is None for one that every plan has."""

    name: str
    layer: str
    ways: tuple[Way, ...]
    exists: Condition | None = None


@dataclass(frozen=True, slots=True)
class Edge:
    """``after`` starts when ``before`` has ended, and the call or return between has passed.

    ``call_ns`` is paid where only ``after`` is on the DSP, ``return_ns`` where only ``before`` is.
    """

    before: int
    after: int
    call_ns: int
    return_ns: int


@dataclass(frozen=True, slots=True, eq=False)
class Relaxation:
    """The relaxed step of a space.

    Attributes
    ----------
    types
        Data types that each layer may have.
    reach
        ``reach[a, b]``: node ``b`` cannot start before ``a`` has ended. Shape ``(nodes, nodes)``.
    call_ns, return_ns
        Least latency of a FastRPC call and of its way back.
    mapping_ns
        Latency at the start of a node that is on the GPU where one that it reads from is not, or
        the other way round.
    """

    space: Space
    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]
    types: Mapping[str, tuple[DType, ...]]
    reach: NDArray[np.bool_]
    call_ns: int
    return_ns: int
    mapping_ns: int


def relax(space: Space, *, energy: bool = False) -> Relaxation:
    """Return the relaxed step of a space.

    Raises
    ------
    CertificateError
        The space or its base uses an aspect whose effect is not accounted for here.
    """
    used = {gene.aspect for gene in space.genes} | {key[0] for key, _ in space.base.choices}
    unknown = used - COVERED
    if unknown:
        raise CertificateError(
            f"aspect {min(unknown)!r} is not covered by the bound; certify a space without it, or "
            "teach experiments.certify.relaxation what it does "
            f"(covered: {', '.join(sorted(COVERED))})"
        )
    return _Builder(space, energy).build()


@dataclass(slots=True)
class _Builder:
    """Collects nodes and edges; tensors go by the names they have before conversion."""

    space: Space
    energy: bool
    finder: WayFinder = field(init=False)
    types: dict[str, tuple[DType, ...]] = field(init=False)
    draft: Draft = field(init=False)
    buffers: dict[str, Buffer] = field(init=False)
    choices: dict[tuple[str, str], tuple[str, ...]] = field(init=False)
    nodes: list[Node] = field(default_factory=list)
    edges: dict[tuple[int, int], Edge] = field(default_factory=dict)
    weights: list[int] = field(default_factory=list)
    """Bytes of the weights that each node reads, in INT8."""

    def __post_init__(self) -> None:
        self.finder = WayFinder(self.space, energy=self.energy)
        self.choices = {g.key: g.choices for g in self.space.genes}
        self.types = self._types()
        self.draft = self._widest()
        self.buffers = {_plain(n): b for n, b in reversed(self.draft.buffers.items())}

    def build(self) -> Relaxation:
        """Add the items with their conversions, then all edges."""
        items = [i for i in self.draft.items if i.op.kind not in ("quantise", "dequantise")]
        reads = [tuple(dict.fromkeys(map(_plain, item.reads))) for item in items]
        readers: dict[str, list[int]] = {}
        makers: dict[str, list[int]] = {}
        for index, item in enumerate(items):
            for name in reads[index]:
                readers.setdefault(name, []).append(index)
            for name in map(_plain, item.writes):
                makers.setdefault(name, []).append(index)
        real = {node.name for node in self.space.graph.nodes}
        for index, item in enumerate(items):
            wanted = sorted(
                {items[r].layer for w in item.writes for r in readers.get(_plain(w), ())}
            )
            self._add(
                item, reads[index], None if item.name in real else Condition(tuple(wanted), "int8")
            )
        for name, users in readers.items():
            self._link(name, makers.get(name, []), users)
        for index, item in enumerate(items):
            for name in item.writes:
                if name.endswith(NEXT):
                    for reader in readers.get(name.removesuffix(NEXT), ()):
                        if reader != index:
                            self._edge(reader, index, 0)
        self._around_optional()
        call, back = self._rpc(0)
        gpu = self.space.device.gpu
        order = _topological(len(self.nodes), self.edges)
        return Relaxation(
            self.space,
            tuple(self.nodes),
            tuple(self.edges.values()),
            self.types,
            _closure(order, self.edges),
            call,
            back,
            round(gpu.launch_us.value * 1000) if gpu is not None else 0,
        )

    # -- what plans may choose ----------------------------------------------------------------

    def _types(self) -> dict[str, tuple[DType, ...]]:
        space, found = self.space, {}
        held = "precision" in space.held
        base = space.base.aspect("precision")
        for layer in dict.fromkeys(node.layer for node in space.graph.nodes):
            kept = (base.get(layer, "fp32") if held else "fp32",)
            names = self.choices.get(("precision", layer), kept)
            found[layer] = tuple(t for t in _TYPES if t in names)
        return found

    def _widest(self) -> Draft:
        """Return the step in which each layer is INT8 that can be: it has all layout items."""
        able = [layer for layer, types in self.types.items() if "int8" in types]
        chosen = {("precision", layer): "int8" for layer in able}
        graph = self.space.graph
        plan = Plan.make("widest", graph.hash(), chosen)
        return draft_before("batch_split", graph, plan, self.space.device)

    def _offer(self, item: Item, optional: bool) -> Offer:
        """Return what plans may choose for an item; a placement it cannot have is repaired."""
        space, everywhere = self.space, default_unit(self.space.device)
        possible = units_for(item, space.device)
        places = self._open("placement", item.subject, everywhere)
        if optional and "placement" in space.held:  # its name depends on what else is INT8
            places = (everywhere, *possible)
        if not set(places) <= set(possible):
            places = (everywhere, *(p for p in places if p in possible))
        batch = str(space.graph.batch)
        sizes = tuple(int(size) for size in self._open("batch_split", item.subject, batch))
        return Offer(
            tuple(dict.fromkeys(places)), sizes, self._open("rescale", item.subject, "every")
        )

    def _open(self, aspect: str, subject: str, default: str) -> tuple[str, ...]:
        if aspect in self.space.held:
            default = self.space.base.aspect(aspect).get(subject, default)
        return self.choices.get((aspect, subject), (default,))

    # -- nodes and edges ----------------------------------------------------------------------

    def _add(self, item: Item, reads: Iterable[str], exists: Condition | None) -> int:
        result = item.op.inputs[0] if item.role is Role.INPUT_GRAD else item.op.output
        types: tuple[DType, ...] = ("int8",) if exists else self.types[item.layer]
        ways: list[Way] = []
        for dtype in types:
            kernel = Kernel(item.op, item.role, dtype, result)
            offer = self._offer(item._replace(dtype=dtype), exists is not None)
            ways += self.finder.ways(kernel, offer)
        self.nodes.append(Node(item.name, item.layer, tuple(ways), exists))
        own = [self.buffers[n] for n in reads if self.buffers[n].resident]
        self.weights.append(sum(prod(buffer.shape) for buffer in own))
        return len(self.nodes) - 1

    def _link(self, name: str, makers: list[int], users: list[int]) -> None:
        """Add the edges of one tensor, through its conversions where there may be some."""
        shape = self.buffers[name].shape
        size = prod(shape)
        for maker in makers:
            for user in users:
                if maker < user:
                    self._edge(maker, user, size)
        laid_out = bool(makers) and self.nodes[makers[0]].exists is not None
        if self.buffers[name].resident or name in LABEL_LIKE or laid_out:
            return
        writer = self.nodes[makers[0]].layer if makers else ""
        from_types = self.types[writer] if makers else ("fp32",)
        conversions: tuple[tuple[DType, Operator], ...] = (
            ("int8", Quantise(shape)),
            ("fp32", Dequantise(shape)),
        )
        for wanted, op in conversions:
            into = [u for u in users if wanted in self._types_of(u)]
            layers = tuple(sorted({self.nodes[u].layer for u in into} - {writer}))
            if layers and any(t != wanted for t in from_types):
                self._convert(name, op, makers, into, Condition(layers, wanted, writer))

    def _types_of(self, node: int) -> tuple[DType, ...]:
        known = self.nodes[node]
        return ("int8",) if known.exists else self.types[known.layer]

    def _convert(
        self, name: str, op: Operator, makers: list[int], users: list[int], exists: Condition
    ) -> None:
        subject = f"{name}.{op.kind}"
        item = Item(
            subject, subject, exists.readers[0], op, Role.FORWARD, "int8", (name,), (subject,)
        )
        node = self._add(item, (), exists)
        for maker in makers:
            self._edge(maker, node, prod(op.output))
        for user in users:
            self._edge(node, user, prod(op.output))

    def _edge(self, before: int, after: int, tensor_bytes: int) -> None:
        known = self.edges.get((before, after))
        call, _ = self._rpc(tensor_bytes + self.weights[after])
        _, back = self._rpc(tensor_bytes + self.weights[before])
        if known is not None:
            call, back = max(call, known.call_ns), max(back, known.return_ns)
        self.edges[before, after] = Edge(before, after, call, back)

    def _around_optional(self) -> None:
        """Whoever waits for an optional node waits, with or without it, for what it reads."""
        optional = [k for k, node in enumerate(self.nodes) if node.exists]
        for node in optional * 2:  # twice: one optional node may read another
            before = [edge for edge in self.edges.values() if edge.after == node]
            after = [edge for edge in self.edges.values() if edge.before == node]
            for first in before:
                for last in after:
                    if (first.before, last.after) not in self.edges:
                        self._edge(first.before, last.after, 0)

    def _rpc(self, size: int) -> tuple[int, int]:
        """Least latency of a call that passes this many bytes or more, and of its way back."""
        device = self.space.device
        if device.fastrpc is None:
            return 0, 0
        modes = [m if m != "default" else None for m in offered(self.space, "rpc_qos")]
        whole = min(rpc_latency_ns(device, mode, size) for mode in modes)
        tail = min(rpc_tail(device, mode).mean_ns for mode in modes)
        return whole // 2 + tail, whole - whole // 2


_TYPES: tuple[DType, ...] = ("fp32", "int8")


def _plain(name: str) -> str:
    """Name of a tensor before it was converted."""
    return name.replace("@int8", "").replace("@fp32", "")


def _topological(count: int, edges: Iterable[tuple[int, int]]) -> list[int]:
    after: list[list[int]] = [[] for _ in range(count)]
    waits = [0] * count
    for first, last in edges:
        after[first].append(last)
        waits[last] += 1
    order = [k for k in range(count) if not waits[k]]
    for node in order:
        for other in after[node]:
            waits[other] -= 1
            if not waits[other]:
                order.append(other)
    return order


def _closure(order: list[int], edges: Iterable[tuple[int, int]]) -> NDArray[np.bool_]:
    reach = np.zeros((len(order), len(order)), dtype=np.bool_)
    before: dict[int, list[int]] = {}
    for first, last in edges:
        before.setdefault(last, []).append(first)
    for node in order:
        for first in before.get(node, ()):
            reach[:, node] |= reach[:, first]
            reach[first, node] = True
    return reach
