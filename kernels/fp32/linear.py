"""FP32 linear layer: forward, dX and dW of :class:`kernels.linear.Linear`.

It is a 1x1 convolution of maps of one pixel, and is computed as that; the gradient of its bias is
:func:`kernels.fp32.conv.bias_grad`.
"""

from __future__ import annotations

from kernels.arrays import Floats, check_floats, float_target
from kernels.fp32.products import correlate, correlate_errors
from kernels.fp32.walks import forward_walk, input_grad_walks
from kernels.linear import Linear
from kernels.threads import thread_count


def _image(rows: Floats) -> Floats:
    return rows.reshape(rows.shape[0], 1, 1, rows.shape[1])


def linear_forward(
    x: Floats,
    w: Floats,
    op: Linear,
    *,
    bias: Floats | None = None,
    out: Floats | None = None,
    threads: int | None = None,
) -> Floats:
    """``y = x W^T (+ b)``.

    Parameters
    ----------
    x
        (n, c_in) float32, C-contiguous.
    w
        (c_out, c_in) float32, C-contiguous.
    op
        The layer.
    bias
        (c_out,) float32, added last; given where ``op.bias`` holds.
    out
        (n, c_out) float32 to write to; a new array by default.
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
    >>> op = Linear(n=1, c_in=2, c_out=1)
    >>> linear_forward(np.array([[2, 3]], np.float32), np.array([[1, -1]], np.float32), op)
    array([[-1.]], dtype=float32)
    """
    check_floats("x", x, (op.n, op.c_in))
    check_floats("w", w, (op.c_out, op.c_in))
    read: tuple[Floats, ...] = (x, w)
    if bias is not None:
        check_floats("bias", bias, (op.c_out,))
        read = (*read, bias)
    y, count = float_target(out, (op.n, op.c_out), *read), thread_count(threads)
    correlate(_image(x), _image(w), forward_walk(op.as_conv()), bias, _image(y), count)
    return y


def linear_input_grad(
    e: Floats, w: Floats, op: Linear, *, out: Floats | None = None, threads: int | None = None
) -> Floats:
    """``dX = E W``.

    Parameters
    ----------
    e
        (n, c_out) float32: gradient of the output, C-contiguous.
    w, op, threads
        As in :func:`linear_forward`.
    out
        (n, c_in) float32 to write to; a new array by default.

    Returns
    -------
    numpy.ndarray
        ``out``.

    Raises
    ------
    ArrayError
        As :func:`linear_forward`.
    """
    check_floats("e", e, (op.n, op.c_out))
    check_floats("w", w, (op.c_out, op.c_in))
    dx, count = float_target(out, (op.n, op.c_in), e, w), thread_count(threads)
    (walk,) = input_grad_walks(op.as_conv())
    correlate(_image(e), _image(w), walk, None, _image(dx), count, swapped=True)
    return dx


def linear_weight_grad(
    x: Floats, e: Floats, op: Linear, *, out: Floats | None = None, threads: int | None = None
) -> Floats:
    """``dW = E^T X``, samples added in their order.

    Parameters
    ----------
    x
        (n, c_in) float32: the input of the forward pass, C-contiguous.
    e
        (n, c_out) float32: gradient of the output, C-contiguous.
    op, threads
        As in :func:`linear_forward`.
    out
        (c_out, c_in) float32 to write to; a new array by default.

    Returns
    -------
    numpy.ndarray
        ``out``.

    Raises
    ------
    ArrayError
        As :func:`linear_forward`.
    """
    check_floats("x", x, (op.n, op.c_in))
    check_floats("e", e, (op.n, op.c_out))
    dw, count = float_target(out, (op.c_out, op.c_in), x, e), thread_count(threads)
    correlate_errors(_image(x), _image(e), forward_walk(op.as_conv()), _image(dw), count)
    return dw
