"""FP32 kernels of the numeric executor, so that a plan in FP32 (or a layer of one) trains too."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from kernels.fp32 import conv, linear, loss, pointwise, pool
from kernels.int8.pointwise import dropout_mask
from kernels.layout import Split
from kernels.loss import SoftmaxCrossEntropy
from kernels.operators import Role, channels_last
from kernels.pool import AvgPool2d, GlobalAvgPool, MaxPool2d
from kernels.quantised import QTensor
from sim.draft import Item
from sim.numeric.frame import Frame, numeric, rows
from sim.numeric.values import Floats, as_floats

_Kernel = Callable[..., Floats]
_FORWARD: dict[str, _Kernel] = {"conv2d": conv.conv_forward, "linear": linear.linear_forward}
_INPUT_GRAD: dict[str, _Kernel] = {
    "conv2d": conv.conv_input_grad,
    "linear": linear.linear_input_grad,
}
_WEIGHT_GRAD: dict[str, _Kernel] = {
    "conv2d": conv.conv_weight_grad,
    "linear": linear.linear_weight_grad,
}


def _new(frame: Frame, item: Item, batch: int | None = None) -> Floats:
    """Memory for the result; micro-batches fill what the first of them took."""
    name = item.writes[0]
    before = frame.values.get(name)
    if before is not None:
        return as_floats(before)
    return frame.take(frame.shape(name, batch), np.float32)


@numeric("conv2d", "fp32")
@numeric("linear", "fp32")
def _forward(frame: Frame, item: Item) -> None:
    x, weight = frame.floats(item.reads[0]), frame.floats(item.reads[1])
    bias = frame.floats(item.reads[2]) if len(item.reads) > 2 else None
    out = _new(frame, item, len(x))
    source, result = rows(item, x[frame.part]), rows(item, out[frame.part])
    _FORWARD[item.op.kind](source, weight, item.op, bias=bias, out=result, threads=frame.threads)
    frame.put(item.writes[0], out)


@numeric("conv2d", "fp32", Role.INPUT_GRAD)
@numeric("linear", "fp32", Role.INPUT_GRAD)
def _input_grad(frame: Frame, item: Item) -> None:
    error, weight = (frame.floats(name) for name in item.reads[:2])
    out = _new(frame, item, len(error))
    source, result = error[frame.part], rows(item, out[frame.part])
    _INPUT_GRAD[item.op.kind](source, weight, item.op, out=result, threads=frame.threads)
    frame.put(item.writes[0], out)


@numeric("conv2d", "fp32", Role.WEIGHT_GRAD)
@numeric("linear", "fp32", Role.WEIGHT_GRAD)
def _weight_grad(frame: Frame, item: Item) -> None:
    x, error = (frame.floats(name)[frame.part] for name in item.reads[:2])
    kernel = _WEIGHT_GRAD[item.op.kind]
    gradient = kernel(rows(item, x), error, item.op, threads=frame.threads)
    gradients = [gradient]
    if len(item.writes) > 1:
        gradients.append(conv.bias_grad(error, threads=frame.threads))
    for name, part in zip(item.writes, gradients, strict=True):
        frame.put(name, frame.floats(name) + part if item.accumulates else part)


@numeric("relu", "fp32")
@numeric("relu6", "fp32")
def _relu(frame: Frame, item: Item) -> None:
    x = frame.floats(item.reads[0])
    kernel = pointwise.relu_forward if item.op.kind == "relu" else pointwise.relu6_forward
    out = frame.take(x.shape, np.float32)
    frame.put(item.writes[0], kernel(x, out=out, threads=frame.threads))


@numeric("relu", "fp32", Role.INPUT_GRAD)
@numeric("relu6", "fp32", Role.INPUT_GRAD)
def _relu_grad(frame: Frame, item: Item) -> None:
    error, y = (frame.floats(name) for name in item.reads)
    kernel = pointwise.relu_input_grad if item.op.kind == "relu" else pointwise.relu6_input_grad
    out = frame.take(error.shape, np.float32)
    frame.put(item.writes[0], kernel(error, y, out=out, threads=frame.threads))


@numeric("dropout", "fp32")
def _dropout(frame: Frame, item: Item) -> None:
    x = frame.floats(item.reads[0]).reshape(channels_last(item.op.output))
    if not frame.inputs.training:
        frame.put(item.writes[0], x)
        return
    mask = dropout_mask(x.shape, frame.key(item.name), threads=frame.threads)
    frame.put(item.writes[0], pointwise.dropout(x, mask, threads=frame.threads))
    frame.put(item.writes[1], QTensor(mask, 0))


@numeric("dropout", "fp32", Role.INPUT_GRAD)
def _dropout_grad(frame: Frame, item: Item) -> None:
    error, mask = frame.floats(item.reads[0]), frame.quantised(item.reads[1])
    frame.put(item.writes[0], pointwise.dropout(error, mask.int8, threads=frame.threads))


@numeric("max_pool", "fp32")
def _max_pool(frame: Frame, item: Item) -> None:
    x, op = frame.floats(item.reads[0]), item.op
    assert isinstance(op, MaxPool2d)
    out = _new(frame, item, len(x))
    frame.put(item.writes[0], pool.max_pool_forward(x, op, out=out, threads=frame.threads))


@numeric("max_pool", "fp32", Role.INPUT_GRAD)
def _max_pool_grad(frame: Frame, item: Item) -> None:
    (x, error), op = (frame.floats(name) for name in item.reads), item.op
    assert isinstance(op, MaxPool2d)
    dx = pool.max_pool_input_grad(x, error, op, out=_new(frame, item), threads=frame.threads)
    frame.put(item.writes[0], dx)


@numeric("avg_pool", "fp32")
@numeric("global_avg_pool", "fp32")
def _avg_pool(frame: Frame, item: Item) -> None:
    x, op = frame.floats(item.reads[0]), item.op
    assert isinstance(op, AvgPool2d | GlobalAvgPool)
    out = _new(frame, item, len(x))
    frame.put(item.writes[0], pool.avg_pool_forward(x, op, out=out, threads=frame.threads))


@numeric("avg_pool", "fp32", Role.INPUT_GRAD)
@numeric("global_avg_pool", "fp32", Role.INPUT_GRAD)
def _avg_pool_grad(frame: Frame, item: Item) -> None:
    error, op = frame.floats(item.reads[-1]), item.op
    assert isinstance(op, AvgPool2d | GlobalAvgPool)
    dx = pool.avg_pool_input_grad(error, op, out=_new(frame, item), threads=frame.threads)
    frame.put(item.writes[0], dx)


@numeric("add", "fp32", Role.FORWARD, Role.INPUT_GRAD)
def _add(frame: Frame, item: Item) -> None:
    terms = [frame.floats(name) for name in item.reads]
    out = frame.take(terms[0].shape, np.float32)
    frame.put(item.writes[0], pointwise.add(terms, out=out, threads=frame.threads))


@numeric("concat", "fp32")
def _concat(frame: Frame, item: Item) -> None:
    parts = [frame.floats(name) for name in item.reads]
    out = _new(frame, item, len(parts[0]))
    frame.put(item.writes[0], pointwise.concat(parts, out=out))


@numeric("split", "fp32", Role.FORWARD, Role.INPUT_GRAD)
def _split(frame: Frame, item: Item) -> None:
    assert isinstance(item.op, Split)
    parts = pointwise.split(frame.floats(item.reads[0]), item.op.parts)
    for name, part in zip(item.writes, parts, strict=True):
        frame.put(name, part)


@numeric("softmax_cross_entropy", "fp32")
def _loss(frame: Frame, item: Item) -> None:
    assert isinstance(item.op, SoftmaxCrossEntropy)
    logits = frame.floats(item.reads[0]).reshape(item.op.inputs[0])
    labels = frame.labels(item.reads[1])
    frame.loss = loss.cross_entropy(logits, labels, item.op)


@numeric("softmax_cross_entropy", "fp32", Role.INPUT_GRAD)
def _loss_error(frame: Frame, item: Item) -> None:
    assert isinstance(item.op, SoftmaxCrossEntropy)
    logits = frame.floats(item.reads[0]).reshape(item.op.inputs[0])
    labels = frame.labels(item.reads[1])
    frame.put(item.writes[0], loss.cross_entropy_grad(logits, labels, item.op))
