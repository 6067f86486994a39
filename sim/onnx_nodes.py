"""What each ONNX operator becomes; semantics from onnx.ai/onnx/operators."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any, Final

from kernels.windows import Pair
from sim.onnx_reader import Reader


def _one_value(at: Reader, node: Any, field: str, values: Sequence[int]) -> int:
    if len(values) != 2 or values[0] != values[1]:
        raise at.refuse(node, field, list(values), "the same value on both axes", "change it")
    return values[0]


def _padding(at: Reader, node: Any, window: Pair, stride: int, dilation: int) -> Pair:
    """Zeros on each side; SAME is worked out from the input, and must come out symmetric."""
    attributes = at.attributes(node)
    mode = attributes.get("auto_pad", b"NOTSET").decode()
    if mode == "VALID":
        return (0, 0)
    if mode == "NOTSET":
        top, left, bottom, right = attributes.get("pads", (0, 0, 0, 0))
    elif mode in ("SAME_UPPER", "SAME_LOWER"):
        rows, columns = at.builder.shape(at.source(node))[2:]
        total = [
            max((-(-size // stride) - 1) * stride + dilation * (k - 1) + 1 - size, 0)
            for size, k in ((rows, window[0]), (columns, window[1]))
        ]
        (top, bottom), (left, right) = ((part // 2, part - part // 2) for part in total)
    else:
        raise at.refuse(node, "auto_pad", mode, "NOTSET, VALID, SAME_UPPER, SAME_LOWER", "fix it")
    if (top, left) != (bottom, right):
        raise at.refuse(
            node,
            "pads" if mode == "NOTSET" else f"pads of auto_pad={mode}",
            [top, left, bottom, right],
            "the same on both sides",
            "pad symmetrically",
        )
    return (top, left)


def _check_map(at: Reader, node: Any) -> None:
    rank = len(at.builder.shape(at.source(node)))
    if rank != 4:
        raise at.refuse(node, "rank of input 0", rank, "4 (n, c, h, w)", "use 2-D operators")


def _conv(at: Reader, node: Any) -> None:
    _check_map(at, node)
    attributes, shape = at.attributes(node), at.weight(node, 1)
    stride = _one_value(at, node, "strides", attributes.get("strides", (1, 1)))
    dilation = _one_value(at, node, "dilations", attributes.get("dilations", (1, 1)))
    groups = attributes.get("group", 1)
    window = (shape[2], shape[3])
    channels = at.builder.shape(at.source(node))[1]
    if shape[1] * groups != channels:
        raise at.refuse(node, "weight shape", shape, f"{channels} input channels", "correct it")
    bias = len(node.input) > 2 and bool(node.input[2])
    if bias:
        at.weight(node, 2)
    pad = _padding(at, node, window, stride, dilation)
    layer = at.builder.conv(
        at.source(node),
        shape[0],
        window,
        stride=stride,
        pad=pad,
        dilation=dilation,
        groups=groups,
        bias=bias,
        name=at.name(node),
    )
    at.give(node, layer)


def _gemm(at: Reader, node: Any) -> None:
    attributes = at.attributes(node)
    for field, allowed in (("alpha", 1.0), ("beta", 1.0), ("transA", 0)):
        value = attributes.get(field, allowed)
        if value != allowed:
            raise at.refuse(node, field, value, str(allowed), "fold it into the weights")
    shape = at.weight(node, 1)
    c_in, c_out = shape if not attributes.get("transB", 0) else (shape[1], shape[0])
    bias = len(node.input) > 2 and bool(node.input[2])
    if bias:
        _check_bias(at, node, 2, c_out)
    _linear(at, node, c_in, c_out, bias)


def _check_bias(at: Reader, node: Any, index: int, c_out: int) -> None:
    shape = at.weight(node, index)
    if shape not in ((c_out,), (1, c_out)):
        raise at.refuse(node, f"shape of input {index}", shape, f"({c_out},)", "use a bias vector")


def _linear(at: Reader, node: Any, c_in: int, c_out: int, bias: bool) -> None:
    source = at.source(node)
    if at.builder.shape(source)[1:] != (c_in,):
        raise at.refuse(
            node, "input shape", at.builder.shape(source), f"(n, {c_in})", "flatten it first"
        )
    at.give(node, at.builder.linear(source, c_out, bias=bias, name=at.name(node)))


def _matmul(at: Reader, node: Any) -> None:
    shape = at.weight(node, 1)
    if len(shape) != 2:
        raise at.refuse(node, "shape of input 1", shape, "(c_in, c_out)", "use a matrix")
    readers = at.readers.get(node.output[0], [])
    bias = _bias_after(at, readers)
    if bias is not None:
        add, index = bias
        _check_bias(at, add, index, shape[1])
        at.folded_biases.add(add.output[0])
    _linear(at, node, shape[0], shape[1], bias is not None)


def _bias_after(at: Reader, readers: Sequence[Any]) -> tuple[Any, int] | None:
    """The Add of a constant that is the only reader of a MatMul, and which input that is."""
    if len(readers) != 1 or readers[0].op_type != "Add":
        return None
    for index, name in enumerate(readers[0].input):
        if name in at.constants:
            return readers[0], index
    return None


def _add(at: Reader, node: Any) -> None:
    if node.output[0] in at.folded_biases:
        activation = next(i for i, name in enumerate(node.input) if name in at.layer_of)
        at.give(node, at.source(node, activation))
        return
    sources = [at.source(node, 0), at.source(node, 1)]
    shapes = [at.builder.shape(source) for source in sources]
    if shapes[0] != shapes[1]:
        raise at.refuse(node, "input shapes", shapes, "equal shapes", "avoid broadcasting")
    at.give(node, at.builder.sum(sources, name=at.name(node)))


def _relu(at: Reader, node: Any) -> None:
    at.give(node, at.builder.relu(at.source(node), name=at.name(node)))


def _clip(at: Reader, node: Any) -> None:
    attributes = at.attributes(node)
    low, high = (
        found[0] if (found := at.values(node, index)) else attributes.get(field)
        for index, field in ((1, "min"), (2, "max"))
    )
    if (low, high) != (0, 6):
        raise at.refuse(node, "(min, max)", (low, high), "(0, 6), a ReLU6", "use Relu or ReLU6")
    at.give(node, at.builder.relu6(at.source(node), name=at.name(node)))


def _pool(at: Reader, node: Any) -> None:
    _check_map(at, node)
    attributes = at.attributes(node)
    for field in ("dilations", "storage_order"):
        value = attributes.get(field, 0)
        if value not in (0, [1, 1]):
            raise at.refuse(node, field, value, "the default", "remove it")
    window = (attributes["kernel_shape"][0], attributes["kernel_shape"][1])
    stride = _one_value(at, node, "strides", attributes.get("strides", (1, 1)))
    add = at.builder.max_pool if node.op_type == "MaxPool" else at.builder.avg_pool
    pad = _padding(at, node, window, stride, 1)
    ceil_mode = bool(attributes.get("ceil_mode", 0))
    source = at.source(node)
    at.give(node, add(source, window, stride, pad=pad, ceil_mode=ceil_mode, name=at.name(node)))


def _global_pool(at: Reader, node: Any) -> None:
    at.give(node, at.builder.global_avg_pool(at.source(node), name=at.name(node)))


def _batch_norm(at: Reader, node: Any) -> None:
    _check_map(at, node)
    for index in (1, 2):
        at.weight(node, index)
    at.give(node, at.builder.batch_norm(at.source(node), name=at.name(node)))


def _concat(at: Reader, node: Any) -> None:
    sources = [at.source(node, index) for index in range(len(node.input))]
    axis, rank = at.attributes(node)["axis"], len(at.builder.shape(sources[0]))
    if axis not in (1, 1 - rank):
        raise at.refuse(node, "axis", axis, "1, the channels", "concatenate channels")
    at.give(node, at.builder.concat(sources, name=at.name(node)))


def _flatten(at: Reader, node: Any) -> None:
    source = at.source(node)
    axis = at.attributes(node).get("axis", 1)
    if axis not in (1, 1 - len(at.builder.shape(source))):
        raise at.refuse(node, "axis", axis, "1", "keep the batch and flatten the rest")
    at.give(node, at.builder.flatten(source, name=at.name(node)))


def _reshape(at: Reader, node: Any) -> None:
    source = at.source(node)
    shape = at.builder.shape(source)
    features = prod(shape[1:])
    target = [int(value) for value in at.values(node, 1) or ()]
    flattens = len(target) == 2 and target[0] in at.batches and target[1] in (-1, features)
    if not flattens or target == [-1, -1]:
        raise at.refuse(node, "shape", target, f"(n, {features})", "only flatten before a Gemm")
    at.give(node, at.builder.flatten(source, name=at.name(node)))


def _dropout(at: Reader, node: Any) -> None:
    at.give(node, at.builder.dropout(at.source(node), name=at.name(node)))


def _identity(at: Reader, node: Any) -> None:
    if node.input[0] in at.constants:
        at.constants[node.output[0]] = at.constants[node.input[0]]
    else:
        at.give(node, at.source(node))


def _softmax(at: Reader, node: Any) -> None:
    if node.output[0] != at.graph.output[0].name:
        raise at.refuse(node, "position", "inside the network", "the end", "drop the softmax")
    _identity(at, node)


def _pad(at: Reader, node: Any) -> None:
    pads = at.attributes(node).get("pads") or at.values(node, 1) or []
    if any(pads):
        raise at.refuse(node, "pads", list(pads), "all 0", "pad inside Conv or the pooling")
    at.give(node, at.source(node))


def _constant(at: Reader, node: Any) -> None:
    value = at.attributes(node).get("value")
    if value is None:
        values = [item.name for item in node.attribute]
        raise at.refuse(node, "attribute", values, "value, a tensor", "store it as initializer")
    at.constants[node.output[0]] = value


HANDLERS: Final[dict[str, Callable[[Reader, Any], None]]] = {
    "Add": _add,
    "AveragePool": _pool,
    "BatchNormalization": _batch_norm,
    "Clip": _clip,
    "Concat": _concat,
    "Constant": _constant,
    "Conv": _conv,
    "Dropout": _dropout,
    "Flatten": _flatten,
    "Gemm": _gemm,
    "GlobalAveragePool": _global_pool,
    "Identity": _identity,
    "LogSoftmax": _softmax,
    "MatMul": _matmul,
    "MaxPool": _pool,
    "Pad": _pad,
    "Relu": _relu,
    "Reshape": _reshape,
    "Softmax": _softmax,
}
