"""INT8 kernels without MACs: activations, pooling, sums, loss, updates, and the way in and out.

Where such a kernel makes wide sums (an average, a residual sum, overlapping pools), they are
rescaled on the spot by their own largest magnitude, with the profile's rule: plans choose a
rescale rule for kernels with MACs only.
"""

from __future__ import annotations

import numpy as np

from kernels.int8.border import quantise
from kernels.int8.inputs import quantise_input
from kernels.int8.loss import cross_entropy, loss_error
from kernels.int8.pointwise import (
    NO_BOUND,
    dropout,
    dropout_mask,
    relu6_forward,
    relu6_input_grad,
)
from kernels.int8.pool import (
    avg_pool_forward,
    avg_pool_input_grad,
)
from kernels.int8.stored import INT8_RANGE
from kernels.int8.sums import add_niti_v1, concat, split
from kernels.layout import Concat, Split
from kernels.operators import Role
from kernels.pool import AvgPool2d, GlobalAvgPool, MaxPool2d
from kernels.profiles import InputRule, RescaleRule, SumRule
from kernels.quantised import QTensor
from sim.draft import Item
from sim.model import INPUT
from sim.numeric.frame import Frame, numeric
from sim.numeric.trained import UpdateContext
from sim.numeric.values import array_of, viewed


def settled(frame: Frame, sums: QTensor, rule: RescaleRule) -> QTensor:
    """INT8 from wide sums, by their own largest magnitude."""
    if sums.mantissa.dtype == np.int8:
        return sums
    return frame.arithmetic.rescale(
        sums.mantissa, sums.exponent, rule, threads=frame.threads
    ).tensor


@numeric("quantise", "int8")
def _quantise(frame: Frame, item: Item) -> None:
    source, target = item.reads[0], item.writes[0]
    if (done := frame.handed_on(source)) is not None:  # its producer wrote INT8: Frame.narrow
        frame.put(target, done)
        return
    x, rule = frame.floats(source), frame.profile.input_rule
    if source == INPUT and rule is not InputRule.NITI_V2:
        frame.put(target, quantise_input(x, rule))
        return
    clip = INT8_RANGE if source == INPUT else frame.profile.activation.clip  # NITI v2 takes -128
    out = frame.take(x.shape, np.int8)
    frame.put(target, quantise(np.ascontiguousarray(x), clip, out, frame.threads))


@numeric("dequantise", "int8")
def _dequantise(frame: Frame, item: Item) -> None:
    """Hand the value on: FP32 kernels that read INT8 save the wide copy, others widen it."""
    frame.pass_on(item.reads[0], item.writes[0])


@numeric("transpose", "int8")
@numeric("rotate180", "int8")
def _layout(frame: Frame, item: Item) -> None:
    """Hand the value on: kernels here read any operand as it lies."""
    if (array := array_of(frame.get(item.reads[0]))) is not None:
        frame.arithmetic.move(item.op, array)
    frame.pass_on(item.reads[0], item.writes[0])


@numeric("relu", "int8")
def _relu(frame: Frame, item: Item) -> None:
    x = frame.quantised(item.reads[0])
    out = frame.take(x.shape, np.int8)
    y = frame.arithmetic.relu_forward(x.int8, out, frame.threads)
    frame.put(item.writes[0], QTensor(y, x.exponent))


def relu_bound(frame: Frame) -> int:
    """Mantissa from which on no error passes an activation."""
    return frame.profile.activation.clip[1] if frame.profile.clip_stops_error else NO_BOUND


@numeric("relu", "int8", Role.INPUT_GRAD)
def _relu_grad(frame: Frame, item: Item) -> None:
    error, y = (frame.quantised(name) for name in item.reads)
    out = frame.take(error.shape, np.int8)
    kernel, bound = frame.arithmetic.relu_input_grad, relu_bound(frame)
    masked = kernel(error.int8, y.int8, out, frame.threads, bound=bound)
    frame.put(item.writes[0], QTensor(masked, error.exponent))


@numeric("relu6", "int8")
def _relu6(frame: Frame, item: Item) -> None:
    x = frame.quantised(item.reads[0])
    frame.put(item.writes[0], relu6_forward(x, frame.take(x.shape, np.int8), frame.threads))


@numeric("relu6", "int8", Role.INPUT_GRAD)
def _relu6_grad(frame: Frame, item: Item) -> None:
    error, y = (frame.quantised(name) for name in item.reads)
    out = frame.take(error.shape, np.int8)
    masked = relu6_input_grad(error.int8, y, out, frame.threads, bound=relu_bound(frame))
    frame.put(item.writes[0], QTensor(masked, error.exponent))


@numeric("dropout", "int8")
def _dropout(frame: Frame, item: Item) -> None:
    """Nothing is dropped in evaluation."""
    x = viewed(frame.quantised(item.reads[0]), item.op.output)
    if not frame.inputs.training:
        frame.put(item.writes[0], x)
        return
    shared = frame.profile.shared_dropout
    mask = dropout_mask(x.shape, frame.key(item.name), shared=shared, threads=frame.threads)
    out = frame.take(x.shape, np.int8)
    frame.put(item.writes[0], dropout(x, mask, out, frame.threads))
    frame.put(item.writes[1], QTensor(mask, 0))


@numeric("dropout", "int8", Role.INPUT_GRAD)
def _dropout_grad(frame: Frame, item: Item) -> None:
    error, mask = (frame.quantised(name) for name in item.reads)
    out = frame.take(error.shape, np.int8)
    frame.put(item.writes[0], dropout(error, mask.int8, out, frame.threads))


@numeric("max_pool", "int8")
def _max_pool(frame: Frame, item: Item) -> None:
    x, op = frame.quantised(item.reads[0]), item.op
    assert isinstance(op, MaxPool2d)
    out = frame.take(frame.shape(item.writes[0], len(x.int8)), np.int8)
    y = frame.arithmetic.max_pool_forward(x.int8, op, out, frame.threads)
    frame.put(item.writes[0], QTensor(y, x.exponent))


@numeric("max_pool", "int8", Role.INPUT_GRAD)
def _max_pool_grad(frame: Frame, item: Item) -> None:
    (x, error), op = (frame.quantised(name) for name in item.reads), item.op
    assert isinstance(op, MaxPool2d)
    kernel = frame.arithmetic.max_pool_input_grad
    sums = kernel(x.int8, error.int8, op, threads=frame.threads)
    dx = settled(frame, QTensor(sums, error.exponent), frame.rule(item))
    frame.put(item.writes[0], dx)


@numeric("avg_pool", "int8")
@numeric("global_avg_pool", "int8")
def _avg_pool(frame: Frame, item: Item) -> None:
    op = item.op
    assert isinstance(op, AvgPool2d | GlobalAvgPool)
    sums = avg_pool_forward(frame.quantised(item.reads[0]), op, threads=frame.threads)
    frame.put(item.writes[0], settled(frame, sums, frame.rule(item)))


@numeric("avg_pool", "int8", Role.INPUT_GRAD)
@numeric("global_avg_pool", "int8", Role.INPUT_GRAD)
def _avg_pool_grad(frame: Frame, item: Item) -> None:
    op = item.op
    assert isinstance(op, AvgPool2d | GlobalAvgPool)
    sums = avg_pool_input_grad(frame.quantised(item.reads[0]), op, threads=frame.threads)
    frame.put(item.writes[0], settled(frame, sums, frame.rule(item)))


@numeric("add", "int8", Role.FORWARD, Role.INPUT_GRAD)
def _add(frame: Frame, item: Item) -> None:
    terms, rule = [frame.quantised(name) for name in item.reads], frame.rule(item)
    if len(terms) == 2 and frame.profile.sums is SumRule.NITI_V1:
        total = add_niti_v1(terms[0], terms[1], rule)
    else:
        out = frame.take(terms[0].shape, np.int8)
        total = frame.arithmetic.add(terms, rule, out, frame.threads)
    frame.put(item.writes[0], total.tensor)


@numeric("concat", "int8")
def _concat(frame: Frame, item: Item) -> None:
    assert isinstance(item.op, Concat)
    terms = [frame.quantised(name) for name in item.reads]
    frame.put(item.writes[0], concat(terms, frame.rule(item).rounding))


@numeric("split", "int8", Role.FORWARD, Role.INPUT_GRAD)
def _split(frame: Frame, item: Item) -> None:
    assert isinstance(item.op, Split)
    error = frame.quantised(item.reads[0])
    for name, part in zip(item.writes, split(error.int8, item.op.parts), strict=True):
        frame.put(name, QTensor(part, error.exponent))


@numeric("softmax_cross_entropy", "int8")
def _loss(frame: Frame, item: Item) -> None:
    """The value of the loss, in floating point: for display, nothing depends on it."""
    logits = viewed(frame.quantised(item.reads[0]), item.op.inputs[0])
    labels = frame.labels(item.reads[1])
    frame.loss = cross_entropy(logits, labels)


@numeric("softmax_cross_entropy", "int8", Role.INPUT_GRAD)
def _loss_error(frame: Frame, item: Item) -> None:
    logits = viewed(frame.quantised(item.reads[0]), item.op.inputs[0])
    labels = frame.labels(item.reads[1])
    frame.put(item.writes[0], loss_error(logits, labels, frame.profile, frame.key(item.name)))


@numeric("sgd_update", "int8", Role.UPDATE)
@numeric("sgd_update", "fp32", Role.UPDATE)
@numeric("sgd_update", "fp16", Role.UPDATE)
@numeric("sgd_update", "bf16", Role.UPDATE)
@numeric("momentum_update", "fp32", Role.UPDATE)
@numeric("compensated_update", "fp16", Role.UPDATE)
@numeric("compensated_update", "bf16", Role.UPDATE)
def _update(frame: Frame, item: Item) -> None:
    """Weights first, then their gradients; the new weights have no buffer of their own."""
    count = len(item.reads) // 2
    inputs = frame.inputs
    at = UpdateContext(inputs.rate_q24, inputs.epoch, frame.threads, frame.arithmetic)
    for name, gradient in zip(item.reads[:count], item.reads[count:], strict=True):
        frame.parameters.update(name, frame.get(gradient), at)
