"""Kernels of the numeric executor in FP16 and bfloat16, as microcontrollers train.

Tensors carry values of the format as float32. Products are summed as the widest released SIMD
kernel does on eight cores (:mod:`kernels.fp16.products`); what neither adds nor multiplies is
FP32's kernel. Results that are not finite are counted by item.
"""

from __future__ import annotations

from collections.abc import Callable

from kernels.conv import Conv2d
from kernels.fp16 import conv, elementwise, linear, loss
from kernels.fp16.formats import FORMATS, HalfFormat, overflowed, round_to
from kernels.fp16.products import HalfRule
from kernels.linear import Linear
from kernels.loss import SoftmaxCrossEntropy
from kernels.operators import Role
from kernels.pool import AvgPool2d, GlobalAvgPool, MaxPool2d
from sim.draft import Item
from sim.numeric import fp32_kernels
from sim.numeric.frame import Frame, Kernel, kernel_for, numeric, rows
from sim.numeric.values import Floats

_EXACT: tuple[tuple[str, tuple[Role, ...]], ...] = (
    ("relu6", (Role.FORWARD, Role.INPUT_GRAD)),
    ("max_pool", (Role.FORWARD,)),
    ("concat", (Role.FORWARD,)),
    ("split", (Role.FORWARD, Role.INPUT_GRAD)),
    ("softmax_cross_entropy", (Role.FORWARD,)),
)
"""Kernels whose FP32 form gives values of the format, or a number for display."""


def half(kind: str, *roles: Role) -> Callable[[Kernel], Kernel]:
    """Register a kernel for both formats."""

    def add(kernel: Kernel) -> Kernel:
        for name in FORMATS:
            numeric(kind, name, *roles)(kernel)
        return kernel

    return add


assert fp32_kernels  # registers the kernels below
for _kind, _roles in _EXACT:
    for _role in _roles:
        half(_kind, _role)(kernel_for(_kind, _role, "fp32"))


def _form(item: Item) -> HalfFormat:
    return FORMATS[item.dtype]


def _put(frame: Frame, item: Item, index: int, value: Floats) -> None:
    """Set a result, and count what of it is not finite."""
    lost = overflowed(value)
    if lost:
        frame.overflows[item.name] = frame.overflows.get(item.name, 0) + lost
    frame.put(item.writes[index], value)


@half("conv2d", Role.FORWARD)
@half("linear", Role.FORWARD)
def _forward(frame: Frame, item: Item) -> None:
    x, weight = frame.floats(item.reads[0]), frame.floats(item.reads[1])
    bias = frame.floats(item.reads[2]) if len(item.reads) > 2 else None
    rule, source = HalfRule(_form(item)), rows(item, x)
    if isinstance(item.op, Conv2d):
        out = conv.conv_forward(source, weight, item.op, rule, bias=bias, threads=frame.threads)
    else:
        assert isinstance(item.op, Linear)
        out = linear.linear_forward(source, weight, item.op, rule, bias=bias, threads=frame.threads)
    _put(frame, item, 0, out)


@half("conv2d", Role.INPUT_GRAD)
@half("linear", Role.INPUT_GRAD)
def _input_grad(frame: Frame, item: Item) -> None:
    error, weight = (frame.floats(name) for name in item.reads[:2])
    rule = HalfRule(_form(item))
    if isinstance(item.op, Conv2d):
        out = conv.conv_input_grad(error, weight, item.op, rule, threads=frame.threads)
    else:
        assert isinstance(item.op, Linear)
        out = linear.linear_input_grad(
            rows(item, error), weight, item.op, rule, threads=frame.threads
        )
    _put(frame, item, 0, out)


@half("conv2d", Role.WEIGHT_GRAD)
@half("linear", Role.WEIGHT_GRAD)
def _weight_grad(frame: Frame, item: Item) -> None:
    x, error = (frame.floats(name) for name in item.reads[:2])
    rule = HalfRule(_form(item))
    if isinstance(item.op, Conv2d):
        grad = conv.conv_weight_grad(x, error, item.op, rule, threads=frame.threads)
    else:
        assert isinstance(item.op, Linear)
        grad = linear.linear_weight_grad(
            rows(item, x), rows(item, error), item.op, rule, threads=frame.threads
        )
    _put(frame, item, 0, grad)
    if len(item.writes) > 1:
        _put(frame, item, 1, conv.bias_grad(error, rule, threads=frame.threads))


@half("relu", Role.FORWARD)
def _relu(frame: Frame, item: Item) -> None:
    frame.put(item.writes[0], elementwise.relu_forward(frame.floats(item.reads[0])))


@half("relu", Role.INPUT_GRAD)
def _relu_grad(frame: Frame, item: Item) -> None:
    error, y = (frame.floats(name) for name in item.reads)
    frame.put(item.writes[0], elementwise.relu_input_grad(error, y))


@half("add", Role.FORWARD, Role.INPUT_GRAD)
def _add(frame: Frame, item: Item) -> None:
    terms = [frame.floats(name) for name in item.reads]
    _put(frame, item, 0, elementwise.add(terms, _form(item)))


@half("avg_pool", Role.FORWARD)
@half("global_avg_pool", Role.FORWARD)
def _avg_pool(frame: Frame, item: Item) -> None:
    assert isinstance(item.op, AvgPool2d | GlobalAvgPool)
    x = frame.floats(item.reads[0])
    _put(frame, item, 0, elementwise.avg_pool_forward(x, item.op, _form(item)))


@half("avg_pool", Role.INPUT_GRAD)
@half("global_avg_pool", Role.INPUT_GRAD)
def _avg_pool_grad(frame: Frame, item: Item) -> None:
    assert isinstance(item.op, AvgPool2d | GlobalAvgPool)
    error = frame.floats(item.reads[-1])
    _put(frame, item, 0, elementwise.avg_pool_input_grad(error, item.op, _form(item)))


@half("max_pool", Role.INPUT_GRAD)
def _max_pool_grad(frame: Frame, item: Item) -> None:
    assert isinstance(item.op, MaxPool2d)
    x, error = (frame.floats(name) for name in item.reads)
    _put(frame, item, 0, elementwise.max_pool_input_grad(x, error, item.op, _form(item)))


@half("softmax_cross_entropy", Role.INPUT_GRAD)
def _loss_error(frame: Frame, item: Item) -> None:
    assert isinstance(item.op, SoftmaxCrossEntropy)
    logits = frame.floats(item.reads[0]).reshape(item.op.inputs[0])
    labels = frame.labels(item.reads[1])
    _put(frame, item, 0, loss.cross_entropy_grad(logits, labels, _form(item)))


@half("convert", Role.FORWARD)
def _convert(frame: Frame, item: Item) -> None:
    _put(frame, item, 0, round_to(frame.floats(item.reads[0]), _form(item)))


@numeric("convert", "fp32")
def _widen(frame: Frame, item: Item) -> None:
    frame.put(item.writes[0], frame.floats(item.reads[0]))
