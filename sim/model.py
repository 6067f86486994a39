"""A forward classifier as a list of layers; what the zoo makes and ONNX import returns.

A :class:`ForwardModel` holds its layers in topological order. Its last layer gives the logits,
``(n, classes)``; the loss belongs to the training graph, not to the model. Everything about its
wiring is checked once, when it is made, so that whoever reads it need check nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from kernels.conv import Conv2d
from kernels.layout import Concat, Flatten
from kernels.linear import Linear
from kernels.norm import BatchNorm2d
from kernels.operators import Operator, Role, Shape
from kernels.pointwise import Add, Dropout, Relu, Relu6
from kernels.pool import AvgPool2d, GlobalAvgPool, MaxPool2d
from kernels.windows import Pair

INPUT: Final = "input"
"""Name under which layers read the images."""

RESERVED_NAMES: Final = frozenset({INPUT, "label", "loss"})
_NAME = re.compile(r"[A-Za-z0-9_/-]+")


class ModelError(ValueError):
    """A model cannot exist like this; the message names the layer, the value and the rule."""


@dataclass(frozen=True, slots=True)
class Layer:
    """One operator and where its inputs come from: names of earlier layers, or ``"input"``."""

    name: str
    op: Operator
    inputs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ForwardModel:
    """A classifier at one batch size.

    Attributes
    ----------
    name
        What reports call it.
    layers
        In topological order: a layer reads only earlier ones.
    input_shape
        ``(n, channels, rows, columns)`` of the images (any shape that starts with the batch).
    classes
        Width of the logits.
    source
        Where the architecture is defined (paper, repository path).

    Raises
    ------
    ModelError
        For names that repeat, are reserved or contain a dot or blank; for inputs that are
        unknown or have another shape; for layers that nothing reads; for a last layer that is
        not ``(n, classes)``.

    Examples
    --------
    >>> b = ModelBuilder("tiny", (8, 1, 4, 4), source="this docstring")
    >>> model = b.build(b.linear(b.flatten(b.relu(b.conv("input", 2, 3, pad=1))), 10))
    >>> model.macs, model.params, [layer.name for layer in model.layers]
    (608, 338, ['conv1', 'relu1', 'flatten1', 'linear1'])
    """

    name: str
    layers: tuple[Layer, ...]
    input_shape: Shape
    classes: int
    source: str

    def __post_init__(self) -> None:
        shapes: dict[str, Shape] = {INPUT: self.input_shape}
        unread: set[str] = set()
        for layer in self.layers:
            self._check_layer(layer, shapes)
            unread.difference_update(layer.inputs)
            unread.add(layer.name)
            shapes[layer.name] = layer.op.output
        logits = (self.input_shape[0], self.classes)
        if not self.layers or self.layers[-1].op.output != logits:
            got = self.layers[-1].op.output if self.layers else "no layer"
            raise ModelError(
                f"{self.name}: the last layer gives {got}; it must give (n, classes) = {logits}; "
                f"end the model with a linear or flatten layer of that width"
            )
        unread.discard(self.layers[-1].name)
        if unread:
            raise ModelError(
                f"{self.name}: no layer reads {', '.join(sorted(unread))}; every layer but the "
                f"last must be read; remove them or connect them"
            )

    def _check_layer(self, layer: Layer, shapes: dict[str, Shape]) -> None:
        where = f"{self.name}: layer {layer.name!r}"
        if layer.name in RESERVED_NAMES or not _NAME.fullmatch(layer.name):
            raise ModelError(
                f"{where}: allowed names use A-Z a-z 0-9 _ / - and are none of "
                f"{', '.join(sorted(RESERVED_NAMES))}; rename it"
            )
        if layer.name in shapes:
            raise ModelError(f"{where}: the name is taken by an earlier layer; rename it")
        for source in layer.inputs:
            if source not in shapes:
                raise ModelError(
                    f"{where}: reads {source!r}, which is no earlier layer; put layers in "
                    f"topological order and name the images {INPUT!r}"
                )
        got = tuple(shapes[source] for source in layer.inputs)
        if got != layer.op.inputs:
            raise ModelError(
                f"{where}: a {layer.op.kind} of inputs {layer.op.inputs} reads {got}; make the "
                f"operator for the shapes that it reads"
            )

    @property
    def batch(self) -> int:
        """Samples per step."""
        return self.input_shape[0]

    @property
    def macs(self) -> int:
        """Forward multiply-accumulates for one sample."""
        return sum(layer.op.work(Role.FORWARD).macs for layer in self.layers) // self.batch

    @property
    def params(self) -> int:
        """Trained parameters of all layers."""
        return sum(layer.op.params for layer in self.layers)

    def with_batch(self, batch: int) -> ForwardModel:
        """The same model on ``batch`` samples; raises :class:`ModelError` for 0 or less."""
        check_batch(batch)
        layers = tuple(
            Layer(layer.name, layer.op.with_batch(batch), layer.inputs) for layer in self.layers
        )
        shape = (batch, *self.input_shape[1:])
        return ForwardModel(self.name, layers, shape, self.classes, self.source)


def check_batch(batch: int) -> None:
    """Refuse a batch that is not a positive int."""
    if not isinstance(batch, int) or isinstance(batch, bool) or batch < 1:
        raise ModelError(f"batch = {batch!r}; allowed: an int of 1 or more; pass e.g. batch=64")


class ModelBuilder:
    """Adds layers one by one; each method returns the new layer's name.

    Without a ``name`` a layer is called after its kind and counted (``conv1``, ``conv2``).
    Shapes are taken from the layers read, so that only what is new has to be said.
    """

    def __init__(self, name: str, input_shape: Shape, source: str) -> None:
        self._name, self._source = name, source
        self._layers: list[Layer] = []
        self._shapes: dict[str, Shape] = {INPUT: input_shape}
        self._counts: dict[str, int] = {}

    def shape(self, source: str) -> Shape:
        """Shape of what layer ``source`` gives."""
        try:
            return self._shapes[source]
        except KeyError:
            raise ModelError(
                f"{self._name}: {source!r} is no layer so far; known: {', '.join(self._shapes)}"
            ) from None

    def add(self, op: Operator, inputs: Iterable[str], stem: str, name: str | None = None) -> str:
        """Add any operator; ``stem`` is what an unnamed layer is counted under."""
        if name is None:
            self._counts[stem] = self._counts.get(stem, 0) + 1
            name = f"{stem}{self._counts[stem]}"
        self._layers.append(Layer(name, op, tuple(inputs)))
        self._shapes[name] = op.output
        return name

    def build(self, last: str) -> ForwardModel:
        """The finished model, whose logits come from layer ``last``."""
        if not self._layers or self._layers[-1].name != last:
            raise ModelError(f"{self._name}: {last!r} is not the last layer added; add it last")
        classes = self.shape(last)[-1]
        return ForwardModel(
            self._name, tuple(self._layers), self._shapes[INPUT], classes, self._source
        )

    def _map(self, source: str, stem: str) -> tuple[int, int, int, int]:
        shape = self.shape(source)
        if len(shape) != 4:
            raise ModelError(
                f"{self._name}: a {stem} layer reads {source!r} of shape {shape}; it needs "
                f"(n, channels, rows, columns)"
            )
        return (shape[0], shape[1], shape[2], shape[3])

    def conv(
        self,
        source: str,
        c_out: int,
        k: int | Pair,
        *,
        stride: int = 1,
        pad: int | Pair = 0,
        dilation: int = 1,
        groups: int = 1,
        bias: bool = False,
        name: str | None = None,
    ) -> str:
        """Add a convolution; ``groups=0`` makes it depthwise."""
        n, c, h, w = self._map(source, "conv")
        op = Conv2d(n, c, h, w, c_out, k, stride, pad, dilation, groups or c, bias)
        return self.add(op, [source], "conv", name)

    def linear(
        self, source: str, c_out: int, *, bias: bool = False, name: str | None = None
    ) -> str:
        """Add a fully connected layer to a flat tensor ``(n, features)``."""
        shape = self.shape(source)
        if len(shape) != 2:
            raise ModelError(
                f"{self._name}: a linear layer reads {source!r} of shape {shape}; flatten it first"
            )
        return self.add(Linear(shape[0], shape[1], c_out, bias), [source], "linear", name)

    def max_pool(
        self,
        source: str,
        k: int | Pair,
        stride: int,
        *,
        pad: int | Pair = 0,
        ceil_mode: bool = False,
        name: str | None = None,
    ) -> str:
        """Add a maximum pooling."""
        op = MaxPool2d(*self._map(source, "pool"), k, stride, pad, ceil_mode)
        return self.add(op, [source], "pool", name)

    def avg_pool(
        self,
        source: str,
        k: int | Pair,
        stride: int,
        *,
        pad: int | Pair = 0,
        ceil_mode: bool = False,
        name: str | None = None,
    ) -> str:
        """Add an average pooling."""
        op = AvgPool2d(*self._map(source, "pool"), k, stride, pad, ceil_mode)
        return self.add(op, [source], "pool", name)

    def global_avg_pool(self, source: str, name: str | None = None) -> str:
        """Add the average of each channel's map."""
        return self.add(GlobalAvgPool(*self._map(source, "pool")), [source], "pool", name)

    def batch_norm(self, source: str, name: str | None = None) -> str:
        """Add a batch normalisation."""
        return self.add(BatchNorm2d(*self._map(source, "bn")), [source], "bn", name)

    def relu(self, source: str, name: str | None = None) -> str:
        """Add a ReLU."""
        return self.add(Relu(self.shape(source)), [source], "relu", name)

    def relu6(self, source: str, name: str | None = None) -> str:
        """Add a ReLU clipped at 6."""
        return self.add(Relu6(self.shape(source)), [source], "relu", name)

    def dropout(self, source: str, name: str | None = None) -> str:
        """Add a dropout."""
        return self.add(Dropout(self.shape(source)), [source], "dropout", name)

    def flatten(self, source: str, name: str | None = None) -> str:
        """Add the view ``(n, features)``."""
        return self.add(Flatten(self.shape(source)), [source], "flatten", name)

    def sum(self, sources: Iterable[str], name: str | None = None) -> str:
        """Add the sum of tensors of one shape."""
        names = list(sources)
        return self.add(Add(self.shape(names[0]), len(names)), names, "add", name)

    def concat(self, sources: Iterable[str], name: str | None = None) -> str:
        """Add the join of tensors along the channel axis."""
        names = list(sources)
        parts = tuple(self.shape(source)[1] for source in names)
        first = self.shape(names[0])
        op = Concat((first[0], sum(parts), *first[2:]), parts)
        return self.add(op, names, "concat", name)
