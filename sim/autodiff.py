"""From a forward model to its training graph; the rules are at the head of :mod:`sim.graph`."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from kernels.conv import Conv2d
from kernels.layout import Concat
from kernels.loss import SoftmaxCrossEntropy
from kernels.operators import Operand, Operator, Role, Shape
from kernels.pointwise import Add
from kernels.update import SgdUpdate
from sim.graph import GraphError, Node, Tensor, TensorKind, TrainingGraph
from sim.model import INPUT, ForwardModel, Layer

LABEL: Final = "label"
"""The tensor of labels."""

LOSS: Final = "loss"
"""The node and layer name of the loss."""


def training_graph(model: ForwardModel, frozen: Collection[str] = ()) -> TrainingGraph:
    """The training step of ``model``, by the rules of :mod:`sim.graph`.

    Parameters
    ----------
    model
        The classifier; its logits go into a softmax cross-entropy.
    frozen
        Names of layers whose parameters stay as they are. They get no update, and no weight
        gradient unless their own input gradient reads it (batch norm).

    Raises
    ------
    GraphError
        For a frozen name that is no layer with parameters, or when nothing is left to train.
    """
    return _Builder(model, frozenset(frozen)).build()


def inference_graph(model: ForwardModel) -> TrainingGraph:
    """The forward pass of ``model`` alone: what a device runs that does not train.

    Its nodes and tensors are named as in the training graph; it has no labels and no loss.

    Examples
    --------
    >>> from sim.zoo import load_model
    >>> [node.name for node in inference_graph(load_model("lenet", batch=1)).nodes][-1]
    'linear2'
    """
    return _Builder(model, frozenset()).forward_only()


def before_last(model: ForwardModel, last: int) -> tuple[str, ...]:
    """Names of the layers with parameters that lie before the ``last`` last convolutions.

    Frozen, they leave these convolutions to train, and all that comes after the first of them.

    Raises
    ------
    GraphError
        The model has fewer convolutions, or ``last`` is below 1.

    Examples
    --------
    >>> from sim.zoo import load_model
    >>> model = load_model("vgg11", batch=8)
    >>> graph = training_graph(model, frozen=before_last(model, 2))
    >>> [node.layer for node in graph.nodes if node.role is Role.WEIGHT_GRAD]
    ['fc', 'conv5_2', 'conv5_1']
    """
    weighted = [layer.name for layer in model.layers if layer.op.weights]
    convs = [layer.name for layer in model.layers if isinstance(layer.op, Conv2d)]
    if not 1 <= last <= len(convs):
        raise GraphError(
            f"last = {last}: {model.name} has {len(convs)} convolutions; give 1 to {len(convs)}"
        )
    return tuple(weighted[: weighted.index(convs[-last])])


class _Builder:
    """Collects nodes and tensors: forward in layer order, then backward from the loss."""

    def __init__(self, model: ForwardModel, frozen: frozenset[str]) -> None:
        self.model = model
        self.trained = {layer.name for layer in model.layers if layer.op.weights} - frozen
        unknown = frozen - {layer.name for layer in model.layers if layer.op.weights}
        if unknown:
            raise GraphError(
                f"frozen = {sorted(unknown)}: no layer with parameters of {model.name!r} has "
                f"these names; take names of model.layers"
            )
        if not self.trained:
            raise GraphError(f"{model.name}: no layer is left to train; freeze fewer layers")
        self.nodes: list[Node] = []
        self.tensors: dict[str, Tensor] = {}
        self.out: dict[str, str] = {INPUT: INPUT}
        """Tensor that each layer's readers read; through views."""
        self.needs_grad: dict[str, bool] = {INPUT: False, LABEL: False}
        self.grads: dict[str, list[str]] = {}
        """Gradients that have been sent to each tensor."""
        self.senders: dict[str, int] = {}
        """How many gradients each tensor will be sent."""

    def build(self) -> TrainingGraph:
        """Run both passes."""
        model = self.model
        loss = Layer(
            LOSS, SoftmaxCrossEntropy(model.batch, model.classes), (model.layers[-1].name, LABEL)
        )
        self.out[LABEL] = LABEL
        self.tensor(INPUT, model.input_shape, "input")
        self.tensor(LABEL, loss.op.inputs[1], "label")
        layers = [*model.layers, loss]
        for layer in layers:
            self.forward(layer)
        for layer in reversed(layers):
            self.backward(layer)
        return TrainingGraph(model.name, model.batch, tuple(self.nodes), self.tensors)

    def forward_only(self) -> TrainingGraph:
        """Run the forward pass."""
        self.tensor(INPUT, self.model.input_shape, "input")
        for layer in self.model.layers:
            self.forward(layer)
        return TrainingGraph(self.model.name, self.model.batch, tuple(self.nodes), self.tensors)

    def tensor(self, name: str, shape: Shape, kind: TensorKind) -> str:
        self.tensors[name] = Tensor(name, shape, kind)
        return name

    def forward(self, layer: Layer) -> None:
        sources = [self.out[name] for name in layer.inputs]
        if layer.op.is_view:
            self.out[layer.name] = sources[0]
            return
        for name, shape in zip(_weight_names(layer), layer.op.weights, strict=True):
            self.tensor(name, shape, "weight")
        out = self.tensor(f"{layer.name}.out", layer.op.output, "activation")
        self.out[layer.name] = out
        self.needs_grad[out] = layer.name in self.trained or any(
            self.needs_grad[source] for source in sources
        )
        for source in sources:
            self.senders[source] = self.senders.get(source, 0) + 1
        saved = [
            self.tensor(name, shape, "activation")
            for name, (_, shape) in zip(_saved_names(layer), layer.op.saved, strict=True)
        ]
        self.node(layer.name, layer, layer.op, Role.FORWARD, "", [out, *saved])

    def node(
        self, name: str, layer: Layer, op: Operator, role: Role, error: str, outputs: list[str]
    ) -> None:
        """Add a node of ``layer``; ``error`` is the gradient of its output, if it reads one."""
        weights = _weight_names(layer)
        tensors = {
            Operand.INPUT: [self.out[source] for source in layer.inputs],
            Operand.OUTPUT: [self.out[layer.name]],
            Operand.GRAD_OUTPUT: [error],
            Operand.WEIGHT: weights[:1],
            Operand.WEIGHTS: weights,
            Operand.WEIGHT_GRADS: [f"{weight}.grad" for weight in weights],
            Operand.SAVED: _saved_names(layer),
        }
        inputs = tuple(item for operand in op.operands(role) for item in tensors[operand])
        self.nodes.append(Node(name, layer.name, op, role, inputs, tuple(outputs)))

    def backward(self, layer: Layer) -> None:
        if layer.op.is_view or not self.needs_grad[self.out[layer.name]]:
            return
        error = "" if layer.name == LOSS else self.error_of(layer)
        wants = any(self.needs_grad[self.out[source]] for source in layer.inputs)
        if layer.op.grad_is_view:
            self.pass_on(layer, error)
            wants = False
        sums_first = Operand.WEIGHT_GRADS in layer.op.operands(Role.INPUT_GRAD)
        weight_grad = layer.name in self.trained or (sums_first and wants)
        if weight_grad and sums_first:
            self.weight_grad(layer, error)
        if wants:
            self.input_grad(layer, error)
        if weight_grad and not sums_first:
            self.weight_grad(layer, error)
        if layer.name in self.trained:
            nexts = [
                self.tensor(f"{name}.next", shape, "weight")
                for name, shape in zip(_weight_names(layer), layer.op.weights, strict=True)
            ]
            update = SgdUpdate(layer.op.params)
            self.node(f"{layer.name}.update", layer, update, Role.UPDATE, "", nexts)

    def error_of(self, layer: Layer) -> str:
        """The gradient of the layer's output, after summing where several were sent."""
        out = self.out[layer.name]
        sent = self.grads[out]
        if len(sent) == 1:
            return sent[0]
        total = self.tensor(f"{out}.grad", self.tensors[out].shape, "gradient")
        op = Add(self.tensors[out].shape, len(sent))
        self.nodes.append(
            Node(f"{out}.grad_sum", layer.name, op, Role.INPUT_GRAD, tuple(sent), (total,))
        )
        return total

    def pass_on(self, layer: Layer, error: str) -> None:
        for source in layer.inputs:
            self.grads.setdefault(self.out[source], []).append(error)

    def input_grad(self, layer: Layer, error: str) -> None:
        outputs: list[str] = []
        sources = [self.out[name] for name in layer.inputs if name != LABEL]
        for index, tensor in enumerate(sources):
            name = f"{tensor}.grad"
            if self.senders[tensor] > 1:
                name += f".{layer.name}"
            if sources.count(tensor) > 1:
                name += f".{index}"
            outputs.append(self.tensor(name, self.tensors[tensor].shape, "gradient"))
            self.grads.setdefault(tensor, []).append(name)
        op = layer.op.split() if isinstance(layer.op, Concat) else layer.op
        self.node(f"{layer.name}.input_grad", layer, op, Role.INPUT_GRAD, error, outputs)

    def weight_grad(self, layer: Layer, error: str) -> None:
        grads = [
            self.tensor(f"{name}.grad", shape, "weight_grad")
            for name, shape in zip(_weight_names(layer), layer.op.weights, strict=True)
        ]
        self.node(f"{layer.name}.weight_grad", layer, layer.op, Role.WEIGHT_GRAD, error, grads)


def _weight_names(layer: Layer) -> list[str]:
    return [f"{layer.name}.{part}" for part in ("weight", "bias")[: len(layer.op.weights)]]


def _saved_names(layer: Layer) -> list[str]:
    return [f"{layer.name}.{part}" for part, _ in layer.op.saved]
