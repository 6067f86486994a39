"""The training graph: what it holds for known nets, and what holds for every drawn net."""

from __future__ import annotations

import subprocess
import sys
from typing import get_args

import pytest
from hypothesis import given, settings

from kernels.linear import Linear
from kernels.operators import OperatorError, Role
from sim.autodiff import training_graph
from sim.graph import GraphError, TensorKind, TrainingGraph
from sim.model import ForwardModel, Layer, ModelBuilder, ModelError
from sim.testing import forward_models
from sim.zoo import load_model

PROPERTY = settings(derandomize=True, deadline=None, max_examples=120)


def residual() -> ForwardModel:
    """conv1 -> (conv2, x) -> add -> (conv3, conv4) -> concat -> fc."""
    b = ModelBuilder("residual", (2, 3, 4, 4), "this test")
    x = b.conv("input", 4, 3, pad=1)
    x = b.sum([x, b.conv(x, 4, 3, pad=1)])
    x = b.concat([b.conv(x, 2, 1), b.conv(x, 3, 1)])
    return b.build(b.linear(b.flatten(x), 10, bias=True))


def names_of(graph: TrainingGraph) -> set[str]:
    return {node.name for node in graph.nodes}


def test_lenet_step_in_order() -> None:
    graph = training_graph(load_model("lenet", batch=4))
    order = (
        "conv1 relu1 pool1 conv2 relu2 pool2 linear1 relu3 linear2 loss loss.input_grad "
        "linear2.input_grad linear2.weight_grad linear2.update relu3.input_grad "
        "linear1.input_grad linear1.weight_grad linear1.update "
        "pool2.input_grad relu2.input_grad conv2.input_grad conv2.weight_grad conv2.update "
        "pool1.input_grad relu1.input_grad conv1.weight_grad conv1.update"
    )
    assert " ".join(node.name for node in graph.nodes) == order
    # Flatten is a view: the linear layer reads the pooled map, and its dX has that map's shape.
    assert graph.node("linear1").inputs == ("pool2.out", "linear1.weight")
    assert graph.tensor("pool2.out.grad").shape == (4, 50, 4, 4)
    assert graph.node("loss").inputs == ("linear2.out", "label")
    assert graph.node("relu1.input_grad").inputs == ("relu1.out.grad", "relu1.out")
    assert graph.node("pool1.input_grad").inputs == ("relu1.out", "pool1.out.grad")
    assert graph.node("conv1.update").outputs == ("conv1.weight.next",)
    assert graph.batch == 4


def test_macs_by_role() -> None:
    """Forward and dW are the model's MACs; dX lacks the first layer, which needs none."""
    model = load_model("lenet", batch=4)
    graph = training_graph(model)
    first = model.layers[0].op.work(Role.FORWARD).macs
    assert graph.macs(Role.FORWARD) == graph.macs(Role.WEIGHT_GRAD) == 4 * model.macs
    assert graph.macs(Role.INPUT_GRAD) == 4 * model.macs - first
    assert graph.macs(Role.UPDATE) == 0


def test_fan_out_join_and_sum() -> None:
    graph = training_graph(residual())
    # The sum's error reaches conv1 as it is, beside conv2's dX.
    total = graph.node("conv1.out.grad_sum")
    assert total.inputs == ("add1.out.grad", "conv1.out.grad.conv2")
    assert total.outputs == ("conv1.out.grad",)
    assert graph.node("conv2.input_grad").inputs == ("add1.out.grad", "conv2.weight")
    both = graph.node("add1.out.grad_sum")
    assert both.inputs == ("add1.out.grad.conv4", "add1.out.grad.conv3")
    split = graph.node("concat1.input_grad")
    assert split.op.kind == "split"
    assert split.outputs == ("conv3.out.grad", "conv4.out.grad")
    assert [graph.tensor(name).shape[1] for name in split.outputs] == [2, 3]
    assert not {"add1.input_grad", "flatten1", "flatten1.input_grad"} & names_of(graph)


def test_update_waits_for_every_reader_of_the_weight() -> None:
    graph = training_graph(residual())
    assert graph.dependencies("conv2.update") == (
        "conv2",
        "conv2.input_grad",
        "conv2.weight_grad",
    )
    assert graph.dependencies("conv2") == ("conv1",)
    assert graph.consumers("conv1.out") == ("conv2", "add1", "conv2.weight_grad")
    assert graph.producer("conv1.out") == "conv1"
    assert graph.producer("conv1.weight") is None


def test_batch_norm_dx_reads_the_sums_of_dw() -> None:
    graph = training_graph(load_model("resnet18", batch=2))
    names = [node.name for node in graph.nodes]
    at = "layer1-0/conv1/bn"
    order = [names.index(f"{at}.{role}") for role in ("weight_grad", "input_grad", "update")]
    assert order == sorted(order)
    assert f"{at}.bias.grad" in graph.node(f"{at}.input_grad").inputs
    assert graph.node(at).outputs == (f"{at}.out", f"{at}.mean", f"{at}.inv_std")


def test_dropout_backward_reads_its_mask() -> None:
    graph = training_graph(load_model("vgg-small-7", batch=2))
    assert graph.node("dropout").outputs == ("dropout.out", "dropout.mask")
    assert graph.node("dropout.input_grad").inputs == ("dropout.out.grad", "dropout.mask")


def test_a_layer_that_reads_one_tensor_twice() -> None:
    b = ModelBuilder("twice", (1, 2, 2, 2), "this test")
    x = b.conv("input", 2, 1)
    x = b.concat([b.sum([x, x]), x])
    graph = training_graph(b.build(b.linear(b.flatten(x), 3)))
    total = graph.node("conv1.out.grad_sum")
    assert total.inputs == ("conv1.out.grad.concat1", "add1.out.grad", "add1.out.grad")
    assert len(total.inputs) == len(total.op.inputs)


def test_frozen_layers_are_not_trained() -> None:
    model = residual()
    graph = training_graph(model, frozen=["conv1", "conv2"])
    names = names_of(graph)
    assert not {name for name in names if name.startswith(("conv1.", "conv2."))}
    assert {"conv3.weight_grad", "conv4.weight_grad", "linear1.update"} <= names
    assert "conv3.input_grad" not in names  # nothing is trained upstream of it
    with pytest.raises(GraphError, match="add1"):
        training_graph(model, frozen=["add1"])
    with pytest.raises(GraphError, match="no layer is left to train"):
        training_graph(model, frozen=["conv1", "conv2", "conv3", "conv4", "linear1"])


def test_frozen_batch_norm_still_sums_for_its_input() -> None:
    b = ModelBuilder("bn", (2, 1, 4, 4), "this test")
    x = b.batch_norm(b.conv("input", 2, 3))
    model = b.build(b.linear(b.flatten(x), 3))
    names = [node.name for node in training_graph(model, frozen=["bn1"]).nodes]
    assert "bn1.weight_grad" in names
    assert "bn1.update" not in names


@PROPERTY
@given(forward_models())
def test_every_node_reads_and_writes_what_its_operator_says(model: ForwardModel) -> None:
    graph = training_graph(model)
    for node in graph.nodes:
        work = node.op.work(node.role)
        reads = [graph.tensor(name).elements for name in node.inputs]
        assert sum(graph.tensor(name).elements for name in node.outputs) == work.writes
        if node.role is Role.UPDATE:
            assert sum(reads) == sum(work.reads)
        else:
            assert tuple(reads) == work.reads


@PROPERTY
@given(forward_models())
def test_topological_single_writer_and_complete(model: ForwardModel) -> None:
    graph = training_graph(model)
    names = [node.name for node in graph.nodes]
    assert len(set(names)) == len(names)
    written = {name for name in graph.tensors if graph.producer(name) is None}
    assert {graph.tensor(name).kind for name in written} <= {"input", "label", "weight"}
    for index, node in enumerate(graph.nodes):
        assert written.issuperset(node.inputs)
        assert written.isdisjoint(node.outputs)
        written.update(node.outputs)
        assert set(graph.dependencies(node.name)) <= set(names[:index])
    assert written == set(graph.tensors)
    trained = {layer.name for layer in model.layers if layer.op.weights}
    assert {node.layer for node in graph.nodes if node.role is Role.UPDATE} == trained


@PROPERTY
@given(forward_models())
def test_input_grad_only_below_something_trained(model: ForwardModel) -> None:
    """Against a plain search upstream from each layer's inputs."""
    layers = {layer.name: layer for layer in model.layers}

    def trained_upstream(name: str) -> bool:
        layer = layers.get(name)
        if layer is None:
            return False
        return bool(layer.op.weights) or any(trained_upstream(source) for source in layer.inputs)

    graph = training_graph(model)
    made = {node.layer for node in graph.nodes if node.name == f"{node.layer}.input_grad"}
    expected = {
        layer.name
        for layer in model.layers
        if any(trained_upstream(source) for source in layer.inputs) and not layer.op.grad_is_view
    }
    assert made == expected | {"loss"}


@PROPERTY
@given(forward_models())
def test_peak_memory_equals_a_walk_over_the_nodes(model: ForwardModel) -> None:
    """Against the rule applied naively: at each node, add up what is alive."""
    graph = training_graph(model)
    place = {node.name: index for index, node in enumerate(graph.nodes)}
    peak = 0
    for now in range(len(graph.nodes)):
        alive = 0
        for tensor in graph.tensors.values():
            writer = graph.producer(tensor.name)
            if tensor.kind == "weight":
                alive += 0 if writer else 4 * tensor.elements
                continue
            first = place[writer] if writer else 0
            last = max((place[name] for name in graph.consumers(tensor.name)), default=first)
            alive += 4 * tensor.elements if first <= now <= last else 0
        peak = max(peak, alive)
    assert graph.liveness_peak_bytes() == peak
    assert graph.liveness_peak_bytes(8) == 2 * peak


def test_peak_memory_by_kind() -> None:
    graph = training_graph(load_model("lenet", batch=1))
    nothing: dict[TensorKind, int] = dict.fromkeys(get_args(TensorKind), 0)
    assert graph.liveness_peak_bytes({**nothing, "weight": 1}) == 430_500
    # conv1's output (20x24x24) and relu1's are alive together.
    assert graph.liveness_peak_bytes({**nothing, "activation": 1}) >= 2 * 20 * 24 * 24


def test_hash_tells_graphs_apart_and_ignores_the_name() -> None:
    model = residual()
    same = ForwardModel("other", model.layers, model.input_shape, model.classes, "elsewhere")
    assert training_graph(model).hash() == training_graph(same).hash()
    others = [
        training_graph(model.with_batch(3)),
        training_graph(model, frozen=["conv1"]),
        training_graph(load_model("lenet", batch=2)),
    ]
    assert len({graph.hash() for graph in [*others, training_graph(model)]}) == 4


def test_hash_is_the_same_in_another_process() -> None:
    code = (
        "from sim.autodiff import training_graph; from sim.zoo import load_model; "
        "print(training_graph(load_model('squeezenet1.1', 2)).hash())"
    )
    runs = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for seed in ("1", "2")
    }
    assert runs == {training_graph(load_model("squeezenet1.1", 2)).hash()}
    assert len(runs.pop()) == 64


def test_unknown_names_are_refused() -> None:
    graph = training_graph(residual())
    assert isinstance(graph, TrainingGraph)
    with pytest.raises(GraphError, match="no node is called 'conv9'"):
        graph.node("conv9")
    with pytest.raises(GraphError, match=r"no tensor is called 'conv9\.out'"):
        graph.consumers("conv9.out")


def model_of(*layers: Layer, shape: tuple[int, ...] = (2, 3)) -> ForwardModel:
    return ForwardModel("bad", layers, shape, 5, "this test")


def test_wrong_models_are_refused_by_name() -> None:
    good = Layer("fc", Linear(2, 3, 5), ("input",))
    assert model_of(good).params == 15
    cases = [
        ((Layer("a.b", good.op, ("input",)),), "allowed names use"),
        ((Layer("loss", good.op, ("input",)),), "rename it"),
        ((good, good), "taken by an earlier layer"),
        ((Layer("fc", good.op, ("nowhere",)),), "'nowhere'"),
        ((Layer("fc", Linear(2, 4, 5), ("input",)),), "reads ((2, 3),)"),
        ((Layer("fc", Linear(2, 3, 6), ("input",)),), "it must give (n, classes) = (2, 5)"),
        ((), "no layer"),
        ((Layer("dead", Linear(2, 3, 7), ("input",)), good), "no layer reads dead"),
    ]
    for layers, message in cases:
        with pytest.raises(ModelError) as caught:
            model_of(*layers)
        assert message in str(caught.value)


def test_builder_refuses_what_does_not_fit() -> None:
    b = ModelBuilder("b", (1, 3, 8, 8), "this test")
    with pytest.raises(ModelError, match="flatten it first"):
        b.linear("input", 10)
    with pytest.raises(ModelError, match="'x' is no layer so far"):
        b.relu("x")
    flat = b.flatten("input")
    with pytest.raises(ModelError, match="needs"):
        b.conv(flat, 4, 3)
    b.linear(flat, 3)
    with pytest.raises(ModelError, match="add it last"):
        b.build(flat)
    with pytest.raises(OperatorError, match="larger than the padded input"):
        b.conv("input", 4, 9)
