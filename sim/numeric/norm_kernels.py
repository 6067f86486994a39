"""Batch norm of the numeric executor: in FP32, or between INT8 borders in one go.

A border hands INT8 on where it can (:class:`sim.numeric.frame.Frame`). Where all tensors that a
kernel reads and writes came, or will leave, as INT8, :mod:`kernels.int8.norm` gives the same bits
without an FP32 tensor in memory.
"""

from __future__ import annotations

import numpy as np

from kernels.fp32 import norm
from kernels.fp32.norm import RunningStatistics
from kernels.int8 import norm as between
from kernels.norm import BatchNorm2d
from kernels.operators import Role
from sim.draft import Item
from sim.numeric.frame import Frame, numeric


def _op(item: Item) -> BatchNorm2d:
    assert isinstance(item.op, BatchNorm2d)
    return item.op


@numeric("batch_norm", "fp32")
def _forward(frame: Frame, item: Item) -> None:
    source, target = item.reads[0], item.writes[0]
    gamma, beta = (frame.floats(name) for name in item.reads[1:])
    running = RunningStatistics(*frame.parameters.statistics[item.layer])
    narrow = frame.handed_on(source) if target in frame.narrow else None
    if frame.inputs.training and narrow is not None:
        y, *moments = between.norm_forward(
            narrow, gamma, beta, _op(item), clip=frame.profile.activation.clip, running=running,
            out=frame.take(narrow.shape, np.int8), threads=frame.threads,
        )  # fmt: skip
        frame.put(target, y)
    elif frame.inputs.training:
        x = frame.floats(source)
        out = frame.take(x.shape, np.float32)
        wide, *moments = norm.norm_forward(
            x, gamma, beta, _op(item), running=running, out=out, threads=frame.threads
        )
        frame.put(target, wide)
    else:
        x, moments = frame.floats(source), []
        out = frame.take(x.shape, np.float32)
        norm.norm_evaluate(x, gamma, beta, running, _op(item), out=out, threads=frame.threads)
        frame.put(target, out)
    for name, value in zip(item.writes[1:], moments, strict=frame.inputs.training):
        frame.put(name, value)


@numeric("batch_norm", "fp32", Role.WEIGHT_GRAD)
def _weight_grad(frame: Frame, item: Item) -> None:
    source, error, *moments = item.reads
    mean, inv_std = (frame.floats(name) for name in moments)
    x, e = frame.handed_on(source), frame.handed_on(error)
    if x is not None and e is not None:
        sums = between.norm_weight_grad(x, e, mean, inv_std, _op(item), threads=frame.threads)
    else:
        sums = norm.norm_weight_grad(
            frame.floats(source), frame.floats(error), mean, inv_std, _op(item),
            threads=frame.threads,
        )  # fmt: skip
    for name, value in zip(item.writes, sums, strict=True):
        frame.put(name, value)


@numeric("batch_norm", "fp32", Role.INPUT_GRAD)
def _input_grad(frame: Frame, item: Item) -> None:
    source, error, *names = item.reads
    gamma, mean, inv_std, dgamma, dbeta = (frame.floats(name) for name in names)
    x, e, target = frame.handed_on(source), frame.handed_on(error), item.writes[0]
    if x is not None and e is not None and target in frame.narrow:
        dx = between.norm_input_grad(
            x, e, gamma, mean, inv_std, dgamma, dbeta, _op(item),
            clip=frame.profile.activation.clip, out=frame.take(x.shape, np.int8),
            threads=frame.threads,
        )  # fmt: skip
        frame.put(target, dx)
        return
    values = frame.floats(source)
    out = frame.take(values.shape, np.float32)
    wide = norm.norm_input_grad(
        values, frame.floats(error), gamma, mean, inv_std, dgamma, dbeta, _op(item),
        out=out, threads=frame.threads,
    )  # fmt: skip
    frame.put(target, wide)
