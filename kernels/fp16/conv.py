"""Convolution in 16-bit floats as the matrix products that microcontrollers train with.

Forward, weight gradient and input gradient of a sample are one product each, of weights, errors
and a matrix of input windows (im2row). Sums run over channels first, then the window, as the
channels-first kernels do (pulp-platform/pulp-trainlib, ``lib/sources/pulp_conv2d_fp16.c``,
``pulp_conv_pw_fp16.c``, ``pulp_conv_dw_fp16.c``); arrays here are channels-last as everywhere.
"""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import as_strided

from kernels.arrays import Floats, check_floats
from kernels.conv import Conv2d
from kernels.fp16.elementwise import add
from kernels.fp16.products import HalfRule, matmul
from kernels.operators import channels_last


def im2row(x: Floats, op: Conv2d) -> Floats:
    """Input windows of one sample: (groups, channels x k_h x k_w, h_out x w_out) float32.

    Parameters
    ----------
    x
        (h, w, c_in) float32.
    op
        The convolution; its batch does not matter.
    """
    padded = np.pad(x, ((op.pad_h, op.pad_h), (op.pad_w, op.pad_w), (0, 0)))
    return _windows(padded, op, op.stride, (op.h_out, op.w_out))


def _windows(x: Floats, op: Conv2d, stride: int, places: tuple[int, int]) -> Floats:
    """All windows of a padded map as rows (channel, tap), group by group."""
    rows, columns, channels = x.strides
    step, channels_each = op.dilation, x.shape[2] // op.groups
    shape = (op.groups, channels_each, op.k_h, op.k_w, *places)
    strides = (
        channels_each * channels, channels, step * rows, step * columns,
        stride * rows, stride * columns,
    )  # fmt: skip
    seen = as_strided(x, shape, strides, writeable=False)
    window = channels_each * op.k_h * op.k_w
    return np.ascontiguousarray(seen).reshape(op.groups, window, places[0] * places[1])


def _error_rows(error: Floats, op: Conv2d) -> Floats:
    """Windows of one sample's errors around each input position, zeros put between strides."""
    reach_h, reach_w = (op.k_h - 1) * op.dilation, (op.k_w - 1) * op.dilation
    tall, wide = op.h + reach_h + 2 * op.pad_h, op.w + reach_w + 2 * op.pad_w
    map_ = np.zeros((tall, wide, op.c_out), np.float32)
    down, right = op.stride * (op.h_out - 1) + 1, op.stride * (op.w_out - 1) + 1
    map_[reach_h : reach_h + down : op.stride, reach_w : reach_w + right : op.stride] = error
    return _windows(map_[op.pad_h :, op.pad_w :], op, 1, (op.h, op.w))


def _by_group(map_: Floats, op: Conv2d) -> Floats:
    """One sample's map (h, w, channels) as (groups, channels, h x w)."""
    flat = np.ascontiguousarray(map_.reshape(-1, map_.shape[2]).T)
    return flat.reshape(op.groups, map_.shape[2] // op.groups, -1)


def _joined(groups: Floats, h: int, w: int) -> Floats:
    """The inverse of :func:`_by_group`."""
    flat = groups.reshape(-1, h * w)
    return np.ascontiguousarray(flat.T).reshape(h, w, -1)


def _filters(w: Floats, op: Conv2d) -> Floats:
    """Weights (c_out, k_h, k_w, c_in / groups) as (groups, outputs, inputs x k_h x k_w)."""
    rows = w.transpose(0, 3, 1, 2).reshape(op.groups, op.c_out // op.groups, -1)
    return np.ascontiguousarray(rows)


def conv_forward(
    x: Floats, w: Floats, op: Conv2d, rule: HalfRule, *,
    bias: Floats | None = None, threads: int | None = 1,
) -> Floats:  # fmt: skip
    """Forward pass, sample by sample; a bias is added last.

    Parameters
    ----------
    x, w
        (n, h, w, c_in) and (c_out, k_h, k_w, c_in / groups) float32 that carry the format.
    bias
        (c_out,), where there is one.

    Returns
    -------
    numpy.ndarray
        (n, h_out, w_out, c_out) float32 that carries the format.

    Raises
    ------
    ArrayError
        An array of another dtype, shape or order.
    """
    check_floats("x", x, channels_last((len(x), *op.inputs[0][1:])))
    check_floats("w", w, channels_last(op.weights[0]))
    filters, transposed = _filters(w, op), not (op.pointwise or op.depthwise)
    out = np.empty((len(x), op.h_out, op.w_out, op.c_out), np.float32)
    for one, result in zip(x, out, strict=True):
        sums = matmul(filters, im2row(one, op), rule, transposed=transposed, threads=threads)
        result[...] = _joined(sums, op.h_out, op.w_out)
    if bias is None:
        return out
    check_floats("bias", bias, (op.c_out,))
    return add([out, bias], rule.form)


def conv_input_grad(
    error: Floats, w: Floats, op: Conv2d, rule: HalfRule, *, threads: int | None = 1
) -> Floats:
    """dX (n, h, w, c_in) of errors (n, h_out, w_out, c_out); see :func:`conv_forward`.

    Every input position takes a whole window of errors, zeros included where the stride leaves some
    out: that many products the kernel computes too.
    """
    check_floats("error", error, channels_last((len(error), *op.output[1:])))
    check_floats("w", w, channels_last(op.weights[0]))
    each = op.c_out // op.groups
    turned = w[:, ::-1, ::-1].reshape(op.groups, each, op.k_h, op.k_w, -1)
    filters = turned.transpose(0, 4, 1, 2, 3).reshape(op.groups, op.c_in // op.groups, -1)
    filters, transposed = np.ascontiguousarray(filters), not (op.pointwise or op.depthwise)
    out = np.empty((len(error), op.h, op.w, op.c_in), np.float32)
    for one, result in zip(error, out, strict=True):
        rows = _error_rows(one, op)
        sums = matmul(filters, rows, rule, transposed=transposed, threads=threads)
        result[...] = _joined(sums, op.h, op.w)
    return out


def conv_weight_grad(
    x: Floats, error: Floats, op: Conv2d, rule: HalfRule, *, threads: int | None = 1
) -> Floats:
    """dW (c_out, k_h, k_w, c_in / groups); samples are added one after the other, rounded each."""
    check_floats("x", x, channels_last((len(x), *op.inputs[0][1:])))
    check_floats("error", error, channels_last((len(x), *op.output[1:])))
    total: Floats | None = None
    for one, map_ in zip(x, error, strict=True):
        rows = im2row(one, op).swapaxes(1, 2)
        errors = _by_group(map_, op)
        grad = matmul(errors, rows, rule, transposed=op.pointwise, threads=threads)
        total = grad if total is None else add([total, grad], rule.form)
    assert total is not None
    shaped = total.reshape(op.c_out, op.c_in // op.groups, op.k_h, op.k_w)
    return np.ascontiguousarray(shaped.transpose(0, 2, 3, 1))


def bias_grad(error: Floats, rule: HalfRule, *, threads: int | None = 1) -> Floats:
    """Sum of errors (..., channels) over all but the last axis, one after the other."""
    rows = error.reshape(1, -1, error.shape[-1])
    ones = np.ones((1, 1, rows.shape[1]), np.float32)
    naive = HalfRule(rule.form, "naive_m", rule.fused, rule.cores)
    return matmul(ones, rows, naive, threads=threads).reshape(-1)
