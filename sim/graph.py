"""The training graph: one step of training as operators in roles, and the tensors between them.

A :class:`TrainingGraph` follows from a :class:`~sim.model.ForwardModel` by these rules
(:func:`sim.autodiff.training_graph` carries them out).

**Nodes.** A forward node has its layer's name. Its gradients are ``<layer>.input_grad`` and
``<layer>.weight_grad``; ``<layer>.update`` applies the latter. ``loss`` comes last in the
forward pass; ``loss.input_grad`` turns logits and labels into the error.

**What needs a gradient.** A tensor does if a trained parameter lies upstream of it. Only then is
there an ``input_grad`` towards it: the first trained layers have none, nor has anything before.

**Tensors.** ``input`` and ``label``; ``<layer>.out`` of a layer; ``<layer>.<saved>`` for what a
forward node leaves for the backward pass (the mask of a dropout); ``<layer>.weight`` and
``<layer>.bias`` with ``.grad`` and ``.next`` (a batch norm's gamma and beta too). ``.next`` is the
weight after the update, in the same memory: an update runs after every other reader.

**Views.** A flatten is no node: who reads it reads the tensor under it. The gradient of a sum
is the error itself: no node either.

**Fan-out.** Where several layers send a gradient to one tensor, each writes
``<tensor>.grad.<layer>``, and one n-ary :class:`~kernels.pointwise.Add` node
``<tensor>.grad_sum`` writes ``<tensor>.grad``.

**Order.** ``nodes`` is topological: forward, then backward from the loss, where a layer's
``input_grad`` precedes its ``weight_grad`` (which precedes its update), as NITI does; batch norm
swaps the first two, since its dX reads the sums of dW. The backward pass of a join is one
:class:`~kernels.layout.Split` node that writes every slice, needed or not.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from math import prod
from types import MappingProxyType
from typing import Literal, TypeVar

from kernels.operators import Operator, Role, Shape

_T = TypeVar("_T")

TensorKind = Literal["input", "label", "activation", "gradient", "weight", "weight_grad"]

HASH_VERSION = 1
"""Part of every hash; raised when the canonical form changes."""


class GraphError(ValueError):
    """A graph was asked for something that it does not have; the message names it."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """A value that nodes hand on; ``shape`` in elements, without a data type."""

    name: str
    shape: Shape
    kind: TensorKind

    @property
    def elements(self) -> int:
        """Number of elements."""
        return prod(self.shape)


@dataclass(frozen=True, slots=True)
class Node:
    """One operator in one role. ``op.work(role)`` counts its work.

    ``inputs`` are in the order of ``op.work(role).reads``; a bias update lists its tensors
    weights first, then gradients.
    """

    name: str
    layer: str
    op: Operator
    role: Role
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class TrainingGraph:
    """Nodes in topological order, and tensors by name, each after what it is made from.

    Examples
    --------
    >>> from sim.autodiff import training_graph
    >>> from sim.zoo import load_model
    >>> graph = training_graph(load_model("lenet", batch=64))
    >>> [node.name for node in graph.nodes][-3:]
    ['relu1.input_grad', 'conv1.weight_grad', 'conv1.update']
    """

    name: str
    batch: int
    nodes: tuple[Node, ...]
    tensors: Mapping[str, Tensor]
    _node: Mapping[str, Node] = field(init=False, repr=False)
    _producer: Mapping[str, str] = field(init=False, repr=False)
    _consumers: Mapping[str, tuple[str, ...]] = field(init=False, repr=False)
    _place: Mapping[str, int] = field(init=False, repr=False)
    _hash: str = field(init=False, repr=False)

    def __post_init__(self) -> None:
        consumers: dict[str, list[str]] = {name: [] for name in self.tensors}
        for node in self.nodes:
            for name in dict.fromkeys(node.inputs):
                consumers[name].append(node.name)
        indexes = {
            "_node": {node.name: node for node in self.nodes},
            "tensors": MappingProxyType(dict(self.tensors)),
            "_producer": {out: node.name for node in self.nodes for out in node.outputs},
            "_consumers": {name: tuple(readers) for name, readers in consumers.items()},
            "_place": {node.name: index for index, node in enumerate(self.nodes)},
            "_hash": _digest(self),
        }
        for name, value in indexes.items():
            object.__setattr__(self, name, value)

    def node(self, name: str) -> Node:
        """The node called ``name``; raises :class:`GraphError` if there is none."""
        return _look_up(self._node, name, f"{self.name}: no node")

    def tensor(self, name: str) -> Tensor:
        """The tensor called ``name``; raises :class:`GraphError` if there is none."""
        return _look_up(self.tensors, name, f"{self.name}: no tensor")

    def producer(self, tensor: str) -> str | None:
        """Name of the node that writes ``tensor``; None for inputs, labels and weights."""
        return self._producer.get(self.tensor(tensor).name)

    def consumers(self, tensor: str) -> tuple[str, ...]:
        """Names of the nodes that read ``tensor``, in node order, each once."""
        return self._consumers[self.tensor(tensor).name]

    def dependencies(self, node: str) -> tuple[str, ...]:
        """Names of the nodes that must end before ``node`` starts, in node order.

        These are the producers of its inputs; and, for an update, all readers of the weights
        that it overwrites.
        """
        found = self.node(node)
        before = {self._producer[name] for name in found.inputs if name in self._producer}
        if found.role is Role.UPDATE:
            for name in found.inputs:
                if self.tensors[name].kind == "weight":
                    before.update(self._consumers[name])
        return tuple(sorted(before - {node}, key=self._place.__getitem__))

    def macs(self, role: Role) -> int:
        """Multiply-accumulates of all nodes in ``role``, for the whole batch."""
        return sum(node.op.work(role).macs for node in self.nodes if node.role is role)

    def described(self) -> str:
        """Return model, batch, input and outputs in words, and what is trained if not all is.

        Examples
        --------
        >>> from sim.autodiff import training_graph
        >>> from sim.zoo import load_model
        >>> training_graph(load_model("lenet", batch=64)).described()
        'lenet, batch 64, images of 1 x 28 x 28, 10 outputs'
        """
        tensors = self.tensors.values()
        size = next(" x ".join(map(str, t.shape[1:])) for t in tensors if t.kind == "input")
        forward = [node for node in self.nodes if node.role is Role.FORWARD]
        last = forward[-1]
        logits = last.inputs if last.op.kind == "softmax_cross_entropy" else last.outputs
        weighted = {node.layer for node in forward if node.op.weights}
        trained = {node.layer for node in self.nodes if node.role is Role.WEIGHT_GRAD}
        held = f", {len(trained)} of {len(weighted)} layers trained"
        text = f"{self.name}, batch {self.batch}, images of {size}, "
        return f"{text}{self.tensors[logits[0]].shape[1]} outputs{held * (trained != weighted)}"

    def hash(self) -> str:
        """SHA-256 (hex) of nodes, operators and tensors; the same on every machine."""
        return self._hash

    def liveness_peak_bytes(self, dtype_bytes: int | Mapping[TensorKind, int] = 4) -> int:
        """Most bytes alive at once when nodes run one by one in their order.

        Parameters
        ----------
        dtype_bytes
            Bytes per element: one number, or one per kind of tensor.

        Notes
        -----
        Weights are alive for the whole step (``.next`` is the same memory). The input and the
        labels are alive from the start to their last reader. Every other tensor lives from its
        producer to its last reader, both included; what nothing reads (the loss) lives while
        its producer runs. Workspaces are a matter of kernels and are not counted.
        """
        resident, change = self._liveness(dtype_bytes)
        alive = peak = resident
        for delta in change:
            alive += delta
            peak = max(peak, alive)
        return peak

    def _liveness(self, dtype_bytes: int | Mapping[TensorKind, int]) -> tuple[int, list[int]]:
        """Bytes alive throughout, and at each node the bytes allocated less those just freed."""
        change = [0] * (len(self.nodes) + 1)
        resident = 0
        for tensor in self.tensors.values():
            width = dtype_bytes if isinstance(dtype_bytes, int) else dtype_bytes[tensor.kind]
            size = width * tensor.elements
            if tensor.kind == "weight":
                resident += 0 if tensor.name in self._producer else size
                continue
            writer, readers = self._producer.get(tensor.name), self._consumers[tensor.name]
            first = self._place[writer] if writer else 0
            change[first] += size
            change[max((self._place[reader] for reader in readers), default=first) + 1] -= size
        return resident, change


def _look_up(table: Mapping[str, _T], name: str, what: str) -> _T:
    try:
        return table[name]
    except KeyError:
        example = next(iter(table))
        raise GraphError(f"{what} is called {name!r}; names look like {example!r}") from None


def _digest(graph: TrainingGraph) -> str:
    """SHA-256 of the canonical JSON of everything but the model's name."""
    content = {
        "version": HASH_VERSION,
        "batch": graph.batch,
        "nodes": [
            [node.name, node.layer, _describe(node.op), node.role, node.inputs, node.outputs]
            for node in graph.nodes
        ],
        "tensors": [[tensor.name, tensor.shape, tensor.kind] for tensor in graph.tensors.values()],
    }
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def _describe(op: Operator) -> list[object]:
    if not is_dataclass(op):
        raise GraphError(f"operator {op!r} is no dataclass; operators are frozen dataclasses")
    return [op.kind, {item.name: getattr(op, item.name) for item in fields(op)}]
