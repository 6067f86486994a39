"""Element by element in 16-bit floats: sums of tensors, average pooling, the update of weights.

What only chooses or copies (maximum, concatenation) is exact on float32 that carries a format:
:mod:`kernels.fp32` computes it. ReLU is here for its zeros and its NaN alone.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from kernels.arrays import Floats, check_floats
from kernels.fp16.formats import HalfFormat, round_to
from kernels.fp16.rounding import fused_flat
from kernels.fp32 import pool
from kernels.pool import AvgPool2d, GlobalAvgPool, MaxPool2d


def add(terms: Sequence[Floats], form: HalfFormat) -> Floats:
    """Sum of tensors one after the other, rounded each time; they may broadcast.

    A sum of two values of a format, rounded to float32 and then to the format, is rounded right:
    ``24 >= 2 p + 2`` (see :mod:`kernels.fp16.rounding`).

    Examples
    --------
    >>> import numpy as np
    >>> from kernels.fp16.formats import FP16
    >>> add([np.array([2048.0], np.float32), np.array([1.0], np.float32)], FP16)
    array([2048.], dtype=float32)
    """
    total = terms[0]
    with np.errstate(over="ignore", invalid="ignore"):
        for term in terms[1:]:
            total = round_to(total + term, form)
    return total


def relu_forward(x: Floats) -> Floats:
    """``x > 0 ? x : 0``, as the released kernel has it: -0 and NaN become +0.

    Source: pulp-platform/pulp-trainlib, ``lib/sources/pulp_act_fp16.c``.

    Examples
    --------
    >>> import numpy as np
    >>> relu_forward(np.array([2.0, -0.0, np.nan], np.float32))
    array([2., 0., 0.], dtype=float32)
    """
    return np.where(x > 0, x, np.float32(0))


def relu_input_grad(error: Floats, y: Floats) -> Floats:
    """The error where the output ``y`` is above zero, else +0."""
    return np.where(y > 0, error, np.float32(0))


def avg_pool_forward(x: Floats, op: AvgPool2d | GlobalAvgPool, form: HalfFormat) -> Floats:
    """Mean of each window: values added row by row in the format, then one division.

    Parameters
    ----------
    x
        (n, h, w, c) float32 that carries the format.

    Returns
    -------
    numpy.ndarray
        (n, h_out, w_out, c) float32 that carries the format.

    Raises
    ------
    ArrayError
        An array of another dtype, shape or order.
    """
    h, w = op.inputs[0][2:]
    check_floats("x", x, (len(x), h, w, op.inputs[0][1]))
    if isinstance(op, GlobalAvgPool):
        windows = [x[:, i, j][:, None, None] for i in range(h) for j in range(w)]
    else:
        padded = np.pad(x, ((0, 0), (op.pad_h,) * 2, (op.pad_w,) * 2, (0, 0)))
        down, right = (op.stride * (size - 1) + 1 for size in op.output[2:])
        windows = [
            padded[:, i : i + down : op.stride, j : j + right : op.stride]
            for i in range(op.k_h)
            for j in range(op.k_w)
        ]
    total = np.zeros_like(windows[0])
    for window in windows:
        total = add([total, window], form)
    return round_to(total.astype(np.float64) / len(windows), form)


def avg_pool_input_grad(error: Floats, op: AvgPool2d | GlobalAvgPool, form: HalfFormat) -> Floats:
    """Each error shared out over its window; summed in FP32 from +0 on, and rounded once."""
    return round_to(pool.avg_pool_input_grad(error, op, threads=1), form)


def max_pool_input_grad(x: Floats, error: Floats, op: MaxPool2d, form: HalfFormat) -> Floats:
    """Each error goes to its window's maximum; summed in FP32 from +0 on, and rounded once."""
    return round_to(pool.max_pool_input_grad(x, error, op, threads=1), form)


def sgd_update(
    weight: Floats, grad: Floats, velocity: Floats, form: HalfFormat, *,
    rate: float, momentum: float = 0.0, weight_decay: float = 0.0,
    lost: Floats | None = None,
) -> None:  # fmt: skip
    """Plain SGD, every step in the format with fused multiply-adds; changes the arrays in place.

    ``g = grad + weight_decay w``, ``v = momentum v + g``, ``w = w - rate v``. The three constants
    are rounded to the format. A step of less than half a unit of the weight's last place is lost:
    that is what training in 16 bits without a wide copy of the weights does. With ``lost``, Kahan's
    summation keeps it: ``y = -rate v - lost``, ``t = w + y``, ``lost = (t - w) - y``, ``w = t``
    (arXiv 2010.06192).

    Parameters
    ----------
    weight, grad, velocity
        float32 of one shape that carry the format, C-contiguous.
    rate, momentum, weight_decay
        Of any value: the oracle's tests draw every bit pattern.
    lost
        What weights had too much after the steps before, as ``weight``; 0 to begin with.

    Raises
    ------
    ArrayError
        An array of another dtype, shape or order.
    """
    check_floats("weight", weight)
    check_floats("grad", grad, weight.shape)
    check_floats("velocity", velocity, weight.shape)
    if lost is not None:
        check_floats("lost", lost, weight.shape)
    scalars = np.array([rate, momentum, weight_decay], np.float64)
    rate, momentum, weight_decay = (float(one) for one in round_to(scalars, form))
    w, g, v = weight.reshape(-1), grad.reshape(-1), velocity.reshape(-1)
    step = g
    if weight_decay:
        step = np.empty_like(w)
        fused_flat(weight_decay, w.astype(np.float64), g.astype(np.float64), step, *form.rule)
    if momentum:
        fused_flat(momentum, v.astype(np.float64), step.astype(np.float64), v, *form.rule)
        step = v
    wide = step.astype(np.float64)
    if lost is None:
        fused_flat(-rate, wide, w.astype(np.float64), w, *form.rule)
        return
    c, y = lost.reshape(-1), np.empty_like(w)
    fused_flat(-rate, wide, -c.astype(np.float64), y, *form.rule)
    new = add([w, y], form)
    c[...] = add([add([new, -w], form), -y], form)
    w[...] = new
