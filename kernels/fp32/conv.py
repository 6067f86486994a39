"""FP32 convolution: forward, dX and dW of :class:`kernels.conv.Conv2d`, channels-last.

Each output is one sum in a fixed order, so threads change no bit. A convolution that gives each
channel filters of its own takes :mod:`kernels.fp32.depthwise`.
"""

from __future__ import annotations

from kernels.arrays import Floats, check_floats, float_target
from kernels.conv import Conv2d
from kernels.fp32 import depthwise
from kernels.fp32.products import correlate, correlate_errors
from kernels.fp32.sums import channel_sums
from kernels.fp32.walks import forward_walk, input_grad_walks, reaches_all
from kernels.operators import channels_last
from kernels.threads import thread_count


def _shapes(op: Conv2d) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """Shapes of the input, the weights and the output, channels-last."""
    return channels_last(op.inputs[0]), channels_last(op.weights[0]), channels_last(op.output)


def _is_depthwise(op: Conv2d) -> bool:
    return op.depthwise and op.c_out == op.c_in


def conv_forward(
    x: Floats,
    w: Floats,
    op: Conv2d,
    *,
    bias: Floats | None = None,
    out: Floats | None = None,
    threads: int | None = None,
) -> Floats:
    """``y[n, i, j, o] = sum x[n, i s + p d - pad_h, j s + q d - pad_w, c] w[o, p, q, c] (+ bias)``.

    Parameters
    ----------
    x
        (n, h, w, c_in) float32, C-contiguous.
    w
        (c_out, k_h, k_w, c_in / groups) float32, C-contiguous.
    op
        The convolution.
    bias
        (c_out,) float32, added last; given where ``op.bias`` holds.
    out
        (n, h_out, w_out, c_out) float32 to write to; a new array by default.
    threads
        Threads at most; default: every core of this process. The bits are the same for each.

    Returns
    -------
    numpy.ndarray
        ``out``.

    Raises
    ------
    ArrayError
        An array of another dtype, shape or order, or fewer than 1 thread.

    Examples
    --------
    >>> import numpy as np
    >>> op = Conv2d(n=1, c_in=1, h=3, w=3, c_out=1, k=3, pad=1)
    >>> x = np.ones((1, 3, 3, 1), np.float32)
    >>> conv_forward(x, x, op)[0, :, :, 0]
    array([[4., 6., 4.],
           [6., 9., 6.],
           [4., 6., 4.]], dtype=float32)
    """
    source, weights, result = _shapes(op)
    check_floats("x", x, source)
    check_floats("w", w, weights)
    read: tuple[Floats, ...] = (x, w)
    if bias is not None:
        check_floats("bias", bias, (op.c_out,))
        read = (*read, bias)
    y, count = float_target(out, result, *read), thread_count(threads)
    if _is_depthwise(op):
        depthwise.forward(x, w, bias, op, y, count)
    else:
        for group in range(op.groups):
            correlate(x, w, forward_walk(op, group), bias, y, count)
    return y


def conv_input_grad(
    e: Floats,
    w: Floats,
    op: Conv2d,
    *,
    out: Floats | None = None,
    threads: int | None = None,
) -> Floats:
    """dX: each error times the weights it met, summed where its window read.

    A stride is taken phase by phase, each a convolution of its own (Dumoulin and Visin, arXiv
    1603.07285, section 4, without the zeros they insert).

    Parameters
    ----------
    e
        (n, h_out, w_out, c_out) float32: gradient of the output, C-contiguous.
    w
        (c_out, k_h, k_w, c_in / groups) float32, C-contiguous.
    op
        The convolution.
    out
        (n, h, w, c_in) float32 to write to; a new array by default.
    threads
        As in :func:`conv_forward`.

    Returns
    -------
    numpy.ndarray
        ``out``.

    Raises
    ------
    ArrayError
        As :func:`conv_forward`.
    """
    source, weights, result = _shapes(op)
    check_floats("e", e, result)
    check_floats("w", w, weights)
    dx, count = float_target(out, source, e, w), thread_count(threads)
    if _is_depthwise(op):
        depthwise.input_grad(e, w, op, dx, count)
        return dx
    if not reaches_all(op):
        dx.fill(0)
    for group in range(op.groups):
        for walk in input_grad_walks(op, group):
            correlate(e, w, walk, None, dx, count, swapped=True)
    return dx


def conv_weight_grad(
    x: Floats,
    e: Floats,
    op: Conv2d,
    *,
    out: Floats | None = None,
    threads: int | None = None,
) -> Floats:
    """dW: each input times the errors it contributed to, summed over samples and positions.

    Parameters
    ----------
    x
        (n, h, w, c_in) float32: the input of the forward pass, C-contiguous.
    e
        (n, h_out, w_out, c_out) float32: gradient of the output, C-contiguous.
    op
        The convolution.
    out
        (c_out, k_h, k_w, c_in / groups) float32 to write to; a new array by default.
    threads
        As in :func:`conv_forward`.

    Returns
    -------
    numpy.ndarray
        ``out``.

    Raises
    ------
    ArrayError
        As :func:`conv_forward`.
    """
    source, weights, result = _shapes(op)
    check_floats("x", x, source)
    check_floats("e", e, result)
    dw, count = float_target(out, weights, x, e), thread_count(threads)
    if _is_depthwise(op):
        depthwise.weight_grad(x, e, op, dw, count)
    else:
        for group in range(op.groups):
            correlate_errors(x, e, forward_walk(op, group), dw, count)
    return dw


def bias_grad(e: Floats, *, threads: int | None = None) -> Floats:
    """Gradient of the bias: the error summed over all axes but the last.

    Parameters
    ----------
    e
        (..., c_out) float32, C-contiguous: of a convolution or a linear layer.
    threads
        Threads at most; the bits are the same for each.

    Returns
    -------
    numpy.ndarray
        (c_out,) float32.

    Raises
    ------
    ArrayError
        An array of another dtype or order, an empty one, or fewer than 1 thread.
    """
    return channel_sums(e, threads=threads)
