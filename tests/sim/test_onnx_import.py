"""ONNX import: zoo models written out as ONNX come back the same; the rest is refused by name."""

from __future__ import annotations

import builtins
import os
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from onnx import TensorProto, helper, numpy_helper

from kernels.conv import Conv2d
from kernels.linear import Linear
from kernels.operators import Role, Shape
from kernels.pool import AvgPool2d, MaxPool2d
from sim.autodiff import training_graph
from sim.model import ForwardModel
from sim.onnx_import import OnnxError, import_onnx
from sim.testing import forward_models
from sim.zoo import load_model

Nodes = list[onnx.NodeProto]


def constant(name: str, shape: Shape) -> TensorProto:
    """A weight in an external file that does not exist: only its shape may be looked at."""
    tensor = TensorProto(name=name, dims=shape, data_type=TensorProto.FLOAT)
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="absent.bin")
    return tensor


def write(
    path: Path,
    nodes: Nodes,
    weights: dict[str, Shape],
    shape: tuple[int | str, ...],
    values: dict[str, list[float] | list[int]] | None = None,
) -> Path:
    """An ONNX file of ``nodes`` from ``x`` to the last node's first output."""
    constants = [constant(name, size) for name, size in weights.items()]
    for name, content in (values or {}).items():
        kind = np.int64 if all(isinstance(item, int) for item in content) else np.float32
        constants.append(numpy_helper.from_array(np.array(content, dtype=kind), name))
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(nodes[-1].output[0], TensorProto.FLOAT, None)],
        constants,
    )
    onnx.save(helper.make_model(graph), str(path))
    return path


SIMPLE = {
    "relu": "Relu",
    "dropout": "Dropout",
    "flatten": "Flatten",
    "global_avg_pool": "GlobalAveragePool",
}


def export(model: ForwardModel, path: Path, batch: int | str | None = None) -> Path:
    """``model`` as ONNX, in the manner of torch.onnx.export; sums of three as two Adds."""
    nodes: Nodes = []
    weights: dict[str, Shape] = {}
    for layer in model.layers:
        op, out = layer.op, layer.name
        sources = ["x" if name == "input" else name for name in layer.inputs]
        names = [f"{out}.{i}" for i in range(len(op.weights))]
        weights |= dict(zip(names, op.weights, strict=True))
        if isinstance(op, Conv2d):
            nodes.append(_node("Conv", [*sources, *names], out, _window(op), group=op.groups))
            nodes[-1].attribute.append(helper.make_attribute("dilations", [op.dilation] * 2))
        elif isinstance(op, MaxPool2d | AvgPool2d):
            kind = "MaxPool" if op.kind == "max_pool" else "AveragePool"
            nodes.append(_node(kind, sources, out, _window(op), ceil_mode=int(op.ceil_mode)))
        elif isinstance(op, Linear):
            nodes.append(_node("Gemm", [*sources, *names], out, {}, transB=1))
        elif op.kind == "batch_norm":
            weights |= {f"{out}.mean": op.weights[0], f"{out}.var": op.weights[0]}
            inputs = [*sources, *names, f"{out}.mean", f"{out}.var"]
            nodes.append(_node("BatchNormalization", inputs, out, {}))
        elif op.kind == "relu6":
            nodes.append(_node("Clip", sources, out, {}, min=0.0, max=6.0))
        elif op.kind == "concat":
            nodes.append(_node("Concat", sources, out, {}, axis=1))
        elif op.kind == "add":
            for extra in sources[1:-1]:
                nodes.append(_node("Add", [sources[0], extra], f"{out}.part", {}))
                sources[0] = f"{out}.part"
            nodes.append(_node("Add", [sources[0], sources[-1]], out, {}))
        else:
            nodes.append(_node(SIMPLE[op.kind], sources, out, {}))
    nodes.append(_node("LogSoftmax", [model.layers[-1].name], "y", {}))
    shape = (model.batch if batch is None else batch, *model.input_shape[1:])
    return write(path, nodes, weights, shape)


def _node(
    kind: str, inputs: list[str], output: str, window: dict[str, Any], **more: Any
) -> onnx.NodeProto:
    return helper.make_node(kind, inputs, [output], name=output, **window, **more)


def _window(op: Conv2d | MaxPool2d | AvgPool2d) -> dict[str, Any]:
    pads = [op.pad_h, op.pad_w]
    return {
        "kernel_shape": [op.k_h, op.k_w],
        "strides": [op.stride] * 2,
        "pads": pads + pads,
    }


@pytest.mark.parametrize(
    "name",
    ["lenet", "resnet18", "mobilenet-v1", "mobilenet-v2", "googlenet", "squeezenet1.1", "alexnet"],
)
def test_zoo_round_trip(name: str, tmp_path: Path) -> None:
    model = load_model(name, batch=4)
    found = import_onnx(export(model, tmp_path / "net.onnx", batch="N"), batch=4)
    assert (found.macs, found.params) == (model.macs, model.params)
    assert found.layers == model.layers
    assert training_graph(found).hash() == training_graph(model).hash()
    assert (found.name, found.source) == ("net", "ONNX file net.onnx")


@settings(
    derandomize=True,
    deadline=None,
    max_examples=60,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(model=forward_models())
def test_drawn_models_round_trip(model: ForwardModel, tmp_path: Path) -> None:
    found = import_onnx(export(model, tmp_path / "drawn.onnx"))
    assert (found.batch, found.classes) == (model.batch, model.classes)
    assert (found.macs, found.params) == (model.macs, model.params)
    macs = [training_graph(each).macs(Role.INPUT_GRAD) for each in (found, model)]
    assert macs[0] == macs[1]


def test_what_exporters_leave_behind(tmp_path: Path) -> None:
    """Constant, zero Pad, Identity, Reshape, MatMul with a bias Add, Clip with inputs."""
    target = numpy_helper.from_array(np.array([2, -1], dtype=np.int64))
    nodes = [
        helper.make_node("Constant", [], ["target"], value=target),
        helper.make_node("Pad", ["x", "none"], ["padded"]),
        helper.make_node("Conv", ["padded", "w0"], ["c"], auto_pad="SAME_UPPER"),
        helper.make_node("Clip", ["c", "low", "high"], ["r"]),
        helper.make_node("Identity", ["r"], ["i"]),
        helper.make_node("Identity", ["w1"], ["w1_again"]),
        helper.make_node("Reshape", ["i", "target"], ["f"]),
        helper.make_node("MatMul", ["f", "w1_again"], ["m"]),
        helper.make_node("Add", ["b1", "m"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["y"]),
    ]
    weights: dict[str, Shape] = {"w0": (4, 3, 3, 3), "w1": (4 * 8 * 8, 10), "b1": (10,)}
    values: dict[str, list[float] | list[int]] = {
        "none": [0] * 8,
        "low": [0.0],
        "high": [6.0],
    }
    path = write(tmp_path / "a.onnx", nodes, weights, (2, 3, 8, 8), values)
    model = import_onnx(path, batch=5)
    assert [layer.op.kind for layer in model.layers] == ["conv2d", "relu6", "flatten", "linear"]
    assert model.layers[0].op == Conv2d(5, 3, 8, 8, 4, 3, pad=1)
    assert model.layers[-1].op == Linear(5, 256, 10, bias=True)
    assert model.batch == 5


def test_same_padding_of_a_stride(tmp_path: Path) -> None:
    """SAME on 9 rows by 3x3 with stride 2 pads 1 and 1; on 8 rows 0 and 1, which is refused."""
    node = helper.make_node(
        "MaxPool", ["x"], ["p"], kernel_shape=[3, 3], strides=[2, 2], auto_pad="SAME_UPPER"
    )
    nodes = [node, helper.make_node("Flatten", ["p"], ["y"])]
    model = import_onnx(write(tmp_path / "a.onnx", nodes, {}, (1, 1, 9, 9)))
    assert model.layers[0].op == MaxPool2d(1, 1, 9, 9, 3, 2, pad=1)
    with pytest.raises(OnnxError, match=r"SAME_UPPER = \[0, 0, 1, 1\].*symmetrically"):
        import_onnx(write(tmp_path / "b.onnx", nodes, {}, (1, 1, 8, 8)))


def test_names_become_unique_layer_names(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Relu", ["x"], ["a"], name="loss"),
        helper.make_node("Relu", ["a"], ["b"], name="b.1"),
        helper.make_node("Relu", ["b"], ["c"], name="b 1"),
        helper.make_node("Flatten", ["c"], ["y"]),
    ]
    model = import_onnx(write(tmp_path / "a.onnx", nodes, {}, (1, 4)))
    assert [layer.name for layer in model.layers] == ["loss_2", "b_1", "b_1_2", "Flatten_y"]


def conv(**attributes: Any) -> onnx.NodeProto:
    return helper.make_node("Conv", ["x", "w"], ["y"], name="first", **attributes)


def pool(**attributes: Any) -> onnx.NodeProto:
    return helper.make_node(
        "MaxPool", ["x"], ["y"], **({"kernel_shape": [2, 2]} | attributes), name="first"
    )


def unary(kind: str, *more: str, **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(kind, ["x", *more], ["y"], name="first", **attributes)


W: dict[str, Shape] = {"w": (4, 3, 3, 3)}
M: dict[str, Shape] = {"w": (48, 10), "b": (10, 10)}

REFUSED: list[tuple[onnx.NodeProto, dict[str, Shape], str]] = [
    (unary("Sigmoid"), {}, "operator = Sigmoid; allowed: Add, AveragePool"),
    (unary("Relu", domain="com.acme"), {}, "operator = com.acme.Relu"),
    (conv(strides=[1, 2]), W, "strides = [1, 2]"),
    (conv(dilations=[2, 1]), W, "dilations = [2, 1]"),
    (conv(pads=[0, 0, 1, 1]), W, "pads = [0, 0, 1, 1]"),
    (conv(auto_pad="SAME_MIDDLE"), W, "auto_pad = SAME_MIDDLE"),
    (conv(group=3), W, "weight shape = (4, 3, 3, 3); allowed: 3 input channels"),
    (conv(), {}, "input 1 = 'w'; allowed: a constant"),
    (conv(pads=[0, 0]), W, "cannot be read"),
    (conv(), {"w": (4, 3, 9, 9)}, "larger than the padded input"),
    (pool(dilations=[2, 2]), {}, "dilations = [2, 2]"),
    (pool(strides=[1, 2]), {}, "strides = [1, 2]"),
    (helper.make_node("MaxPool", ["x"], ["y"], name="first"), {}, "kernel_shape"),
    (unary("Clip", min=0.0, max=1.0), {}, "(min, max) = (0.0, 1.0)"),
    (unary("Flatten", axis=2), {}, "axis = 2"),
    (unary("Concat", axis=2), {}, "axis = 2"),
    (unary("Reshape", "w"), {"w": (2,)}, "input 1 = 'w'; allowed: a constant; store it inline"),
    (unary("Pad", pads=[0, 0, 1, 1, 0, 0, 1, 1]), {}, "pads = [0, 0, 1, 1"),
    (unary("Gemm", "w", alpha=2.0), M, "alpha = 2.0; allowed: 1.0"),
    (unary("Gemm", "w", transA=1), M, "transA = 1"),
    (unary("Gemm", "w"), M, "input shape = (2, 3, 4, 4); allowed: (n, 48); flatten it first"),
    (unary("Gemm", "w", "b"), M, "shape of input 2 = (10, 10); allowed: (10,)"),
    (unary("MatMul", "w"), W, "shape of input 1 = (4, 3, 3, 3)"),
    (unary("Add", "w"), W, "input 1 = 'w'; allowed: an activation"),
    (unary("BatchNormalization", "w", "w", "w", "w"), {"w": (3,)}, "weights of its own"),
    (helper.make_node("Constant", [], ["y"], name="first", value_int=3), {}, "['value_int']"),
]


@pytest.mark.parametrize(("node", "weights", "message"), REFUSED, ids=[r[2] for r in REFUSED])
def test_refused_by_node_attribute_and_value(
    node: onnx.NodeProto, weights: dict[str, Shape], message: str, tmp_path: Path
) -> None:
    path = write(tmp_path / "net.onnx", [node], weights, (2, 3, 4, 4))
    with pytest.raises(OnnxError) as caught:
        import_onnx(path)
    text = str(caught.value)
    assert message in text
    assert f"net.onnx: node 'first' ({node.op_type})" in text
    assert "\n" not in text


@pytest.mark.parametrize("target", [[-1, -1], [3, -1], [2, 3, 16], [2, 47], [48]])
def test_reshapes_that_do_not_flatten(target: list[int], tmp_path: Path) -> None:
    path = write(
        tmp_path / "net.onnx", [unary("Reshape", "s")], {}, (2, 3, 4, 4), {"s": list(target)}
    )
    with pytest.raises(OnnxError, match=r"allowed: \(n, 48\)"):
        import_onnx(path)


def test_softmax_inside_and_second_outputs_are_refused(tmp_path: Path) -> None:
    softmax = [helper.make_node("Softmax", ["x"], ["s"]), helper.make_node("Relu", ["s"], ["y"])]
    with pytest.raises(OnnxError, match="inside the network"):
        import_onnx(write(tmp_path / "a.onnx", softmax, {}, (1, 4)))
    mask = [
        helper.make_node("Dropout", ["x"], ["d", "mask"]),
        helper.make_node("Add", ["d", "mask"], ["y"]),
    ]
    with pytest.raises(OnnxError, match="output = 'mask'"):
        import_onnx(write(tmp_path / "b.onnx", mask, {}, (1, 4)))
    shapes = [
        helper.make_node("Flatten", ["x"], ["f"]),
        helper.make_node("Add", ["x", "f"], ["y"]),
    ]
    with pytest.raises(OnnxError, match="avoid broadcasting"):
        import_onnx(write(tmp_path / "c.onnx", shapes, {}, (1, 4, 1, 1)))


def test_open_sizes(tmp_path: Path) -> None:
    nodes = [helper.make_node("Flatten", ["x"], ["y"])]
    path = write(tmp_path / "a.onnx", nodes, {}, ("N", 3, 4, 4))
    with pytest.raises(OnnxError, match=r"axis 0 \('N'\).*pass batch="):
        import_onnx(path)
    assert import_onnx(path, batch=7).batch == 7
    path = write(tmp_path / "b.onnx", nodes, {}, (1, 3, "H", 4))
    with pytest.raises(OnnxError, match=r"axis 2 \('H'\).*fixed sizes"):
        import_onnx(path, batch=7)
    with pytest.raises(ValueError, match="batch = 0"):
        import_onnx(path, batch=0)


def test_unreadable_files(tmp_path: Path) -> None:
    with pytest.raises(OnnxError, match=r"absent\.onnx: cannot be read \(No such file"):
        import_onnx(tmp_path / "absent.onnx")
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"\xff\xfe not protobuf")
    with pytest.raises(OnnxError, match="not a readable ONNX file"):
        import_onnx(broken)
    empty = tmp_path / "empty.onnx"
    empty.write_bytes(b"")
    with pytest.raises(OnnxError, match="0 inputs and 0 outputs"):
        import_onnx(empty)
    identity = write(tmp_path / "i.onnx", [helper.make_node("Identity", ["x"], ["y"])], {}, (1, 4))
    with pytest.raises(OnnxError, match="no layer makes the output"):
        import_onnx(identity)


def test_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    original = builtins.__import__

    def without_onnx(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "onnx":
            raise ImportError(name)
        return original(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_onnx)
    with pytest.raises(OnnxError, match=r"pip install 'mandheling-sandbox\[onnx\]'"):
        import_onnx("any.onnx")


def test_nodes_without_outputs_and_outputs_made_twice(tmp_path: Path) -> None:
    flatten = helper.make_node("Flatten", ["x"], ["y"], name="last")
    for outputs in ([], [""]):
        nodes = [helper.make_node("Relu", ["x"], outputs, name="bare"), flatten]
        with pytest.raises(OnnxError, match=r"node 'bare' \(Relu\): outputs = .*one or more"):
            import_onnx(write(tmp_path / "a.onnx", nodes, {}, (1, 3, 4, 4)))
    nodes = [helper.make_node("Tan", ["x"], []), flatten]
    with pytest.raises(OnnxError, match=r"node 'without output' \(Tan\): outputs"):
        import_onnx(write(tmp_path / "b.onnx", nodes, {}, (1, 3, 4, 4)))
    for twice in ("x", "r", "w"):
        nodes = [
            helper.make_node("Relu", ["x"], ["r"]),
            helper.make_node("Relu", ["r"], [twice]),
            flatten,
        ]
        with pytest.raises(OnnxError, match=rf"output = '{twice}'; allowed: a name that nothing"):
            import_onnx(write(tmp_path / "c.onnx", nodes, {"w": (3,)}, (1, 3, 4, 4)))


@pytest.mark.parametrize(
    "node",
    [
        helper.make_node("Conv", ["x", "w"], ["y"], strides=[0, 0]),
        helper.make_node("Conv", ["x", "w"], ["y"], group=[1]),
        helper.make_node("Conv", ["x", "w"], ["y"], strides=1),
        helper.make_node("Conv", ["x", "w"], ["y"], auto_pad=3),
        helper.make_node("Concat", ["x", "x"], ["y"]),
        helper.make_node("Relu", [], ["y"]),
    ],
    ids=lambda node: f"{node.op_type}:{'.'.join(a.name for a in node.attribute)}",
)
def test_broken_nodes_are_told_in_one_line(node: onnx.NodeProto, tmp_path: Path) -> None:
    with pytest.raises(OnnxError, match="node ") as caught:
        import_onnx(write(tmp_path / "a.onnx", [node], {"w": (3, 3, 1, 1)}, (1, 3, 4, 4)))
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="needs a Unix")
def test_only_regular_files_are_read(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.onnx"
    os.mkfifo(pipe)
    for path in (pipe, Path("/dev/zero"), tmp_path):
        with pytest.raises(OnnxError, match=r"not a regular file\)"):
            import_onnx(path)
