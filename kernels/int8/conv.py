"""Exact INT8 convolution, forward and backward: arrays in, accumulators or requantised INT8 out.

Arrays are channels-last and C-contiguous: activations and errors ``(n, h, w, c)``, weights and
their gradients ``(c_out, k_h, k_w, c_in / groups)``; the operator's shapes are NCHW as everywhere.
All back-ends, thread counts and ways to split a batch give the same integers. The definition
is in :mod:`kernels.int8.conv_oracle`.

With a :class:`~kernels.int8.stored.Store` the shift is known beforehand and the result leaves
as INT8, a byte per value; without one the INT32 accumulators leave, to be scanned and
requantised. Either way the largest accumulator is collected on the way.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from kernels.arrays import check_array, target
from kernels.conv import Conv2d
from kernels.gemm import GemmError
from kernels.gemm.backends import chosen
from kernels.gemm.tiles import KINDS
from kernels.int8 import conv_plain, conv_tiled, depthwise
from kernels.int8.accumulators import check_bias, check_depth, grad_target
from kernels.int8.epilogue import amax_block, recipe, requantise_block
from kernels.int8.stored import Store, Stored, stored_dtype
from kernels.operators import channels_last
from kernels.threads import thread_count

Int8s = NDArray[np.int8]
Int32s = NDArray[np.int32]


def _stored(acc: Int32s, store: Store | None, out: NDArray[Any]) -> Stored:
    """Accumulators into ``out``, which is int8 with a ``store``."""
    flat = acc.reshape(-1)
    amax = int(amax_block(flat, flat.size))
    if store is None:
        out[...] = acc
        return Stored(out, amax)
    saturated, lost = requantise_block(flat, flat.size, recipe(store), out.reshape(-1))
    return Stored(out, amax, int(saturated), int(lost))


def conv_forward(
    x: Int8s,
    w: Int8s,
    op: Conv2d,
    *,
    bias: Int32s | None = None,
    store: Store | None = None,
    out: NDArray[Any] | None = None,
    backend: str | None = None,
    threads: int | None = None,
) -> Stored:
    """``y = conv(x, w) + bias``, exactly.

    Parameters
    ----------
    x
        (n, h, w, c_in) int8.
    w
        (c_out, k_h, k_w, c_in / groups) int8.
    op
        Sizes, stride, padding, dilation and groups.
    bias
        (c_out,) int32, at the accumulator's exponent.
    store
        How to requantise to int8 on the way out; None for the accumulators.
    out
        (n, h_out, w_out, c_out) to write to: int8 with a ``store``, int32 without.
    backend, threads
        As for :func:`kernels.gemm.gemm_s8s8s32`.

    Returns
    -------
    Stored
        Values, largest accumulator, counts.

    Raises
    ------
    ArrayError
        A wrong dtype, shape or memory order; fewer than 1 thread.
    GemmError
        Sums that INT32 does not always hold; a back-end that is unknown or that the CPU cannot
        run.

    Examples
    --------
    >>> op = Conv2d(n=1, c_in=1, h=2, w=2, c_out=1, k=2)
    >>> x = np.array([[1, 2], [3, -128]], np.int8).reshape(1, 2, 2, 1)
    >>> y = conv_forward(x, np.full((1, 2, 2, 1), 3, np.int8), op, store=Store(4))
    >>> y.values.item(), y.amax
    (-23, 366)
    """
    check_array("x", x, np.int8, shape=channels_last(op.inputs[0]))
    check_array("w", w, np.int8, shape=channels_last(op.weights[0]))
    depth = op.k_h * op.k_w * (op.c_in // op.groups)
    check_depth("forward", depth)
    if bias is not None:
        check_bias(bias, op.c_out, depth)
    count, name = thread_count(threads), chosen(backend)
    result = target(out, channels_last(op.output), stored_dtype(store), x, w)
    if name in KINDS:
        numbers = recipe(store)
        if op.depthwise:
            counts = depthwise.forward(x, w, op, bias, numbers, result, count)
        else:
            counts = conv_tiled.forward(x, w, op, bias, numbers, result, name, count)
        return Stored(result, *counts)
    acc = conv_plain.forward(x, w, op, name, count)
    if bias is not None:
        acc += bias
    return _stored(acc, store, result)


def conv_input_grad(
    e: Int8s,
    w: Int8s,
    op: Conv2d,
    *,
    store: Store | None = None,
    out: NDArray[Any] | None = None,
    backend: str | None = None,
    threads: int | None = None,
) -> Stored:
    """dX: the error of the input from that of the output, ``e``, exactly.

    Parameters
    ----------
    e
        (n, h_out, w_out, c_out) int8.
    w, op, store, backend, threads
        As for :func:`conv_forward`.
    out
        (n, h, w, c_in) to write to: int8 with a ``store``, int32 without.

    Raises
    ------
    ArrayError, GemmError
        As :func:`conv_forward`.
    """
    check_array("e", e, np.int8, shape=channels_last(op.output))
    check_array("w", w, np.int8, shape=channels_last(op.weights[0]))
    check_depth("input_grad", op.k_h * op.k_w * (op.c_out // op.groups))
    count, name = thread_count(threads), chosen(backend)
    result = target(out, channels_last(op.inputs[0]), stored_dtype(store), e, w)
    numbers = recipe(store)
    if name in KINDS and op.depthwise and op.c_out > op.c_in:
        parts = np.empty((*channels_last(op.inputs[0])[:3], op.c_out), np.int32)
        depthwise.input_grad(e, w, op, recipe(None), parts, count)
        shared = parts.reshape(*channels_last(op.inputs[0]), -1).sum(axis=4, dtype=np.int32)
        return _stored(shared, store, result)
    if name in KINDS and op.depthwise:
        return Stored(result, *depthwise.input_grad(e, w, op, numbers, result, count))
    if name in KINDS:
        counts = conv_tiled.input_grad(e, w, op, numbers, result, name, count)
        return Stored(result, *counts)
    return _stored(conv_plain.input_grad(e, w, op, name, count), store, result)


def conv_weight_grad(
    x: Int8s,
    e: Int8s,
    op: Conv2d,
    *,
    into: NDArray[Any] | None = None,
    out: NDArray[Any] | None = None,
    wide: bool | None = None,
    backend: str | None = None,
    threads: int | None = None,
) -> Stored:
    """dW, exactly; added to ``into`` if given, where the micro-batches of a split batch meet.

    Parameters
    ----------
    x
        (n, h, w, c_in) int8, the saved input.
    e
        (n, h_out, w_out, c_out) int8, the error of the output.
    op
        The convolution, at the (micro-)batch of ``x`` and ``e``.
    into
        (c_out, k_h, k_w, c_in / groups), int32 or int64: earlier micro-batches, changed here.
    out
        The same, written over: an array to use again.
    wide
        True for int64 sums, False for int32 ones; by default as ``into`` or ``out`` is, or int64
        where ``n * h_out * w_out`` products may leave int32.
    backend, threads
        As for :func:`kernels.gemm.gemm_s8s8s32`.

    Returns
    -------
    Stored
        ``values`` is ``into``, ``out`` or a new array; ``amax`` counts all that it holds.

    Raises
    ------
    ArrayError, GemmError
        As :func:`conv_forward`; or a sum in an int32 ``into`` left int32: nothing wraps silently,
        and what ``into`` holds is then of no use.
    """
    check_array("x", x, np.int8, shape=channels_last(op.inputs[0]))
    check_array("e", e, np.int8, shape=channels_last(op.output))
    count, name = thread_count(threads), chosen(backend)
    total = grad_target(into, out, wide, channels_last(op.weights[0]), op.n * op.h_out * op.w_out)
    if name in KINDS and op.depthwise:
        amax, wrapped = depthwise.weight_grad(x, e, op, into is None, total, count)
    elif name in KINDS:
        amax, wrapped = conv_tiled.weight_grad(x, e, op, into is None, total, name, count)
    else:
        amax, wrapped = conv_plain.weight_grad(x, e, op, into is None, total, name, count)
    if wrapped:
        raise GemmError(
            f"into would reach {amax} in magnitude; allowed: what int32 holds; accumulate into"
            " int64"
        )
    return Stored(total, amax)
