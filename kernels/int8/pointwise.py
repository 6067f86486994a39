"""INT8 operators that treat every element alike: ReLU, ReLU6 and dropout.

They keep the mantissas' exponent (dropout adds 1), so nothing is rescaled.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kernels.arrays import ArrayError, check_array, int8_mantissa, target
from kernels.int8.draws import check_key, draw
from kernels.jit import compiled
from kernels.quantised import QTensor
from kernels.threads import over_elements, over_rows, thread_count

Int8s = NDArray[np.int8]
_WORTHWHILE = 1 << 18
"""Elements below which a block is not worth handing to another thread."""
NO_BOUND = 128
"""An upper bound that no int8 reaches."""


@compiled
def _clamp(x: Int8s, y: Int8s, bound: np.int8) -> None:
    for i in range(x.size):
        y[i] = min(max(x[i], np.int8(0)), bound)


@compiled
def _clamp_in_place(x: Int8s, bound: np.int8) -> None:
    """As :func:`_clamp`, whose vector form LLVM leaves when both are the same memory."""
    for i in range(x.size):
        x[i] = min(max(x[i], np.int8(0)), bound)


@compiled
def _mask(e: Int8s, y: Int8s, dx: Int8s, most: np.int8) -> None:
    for i in range(e.size):
        dx[i] = e[i] if (y[i] > 0) & (y[i] <= most) else np.int8(0)


@compiled
def _mask_in_place(e: Int8s, y: Int8s, most: np.int8) -> None:
    """As :func:`_mask`; by bits, as LLVM makes a branch of the choice between old value and 0."""
    for i in range(e.size):
        keep = np.int8(-1) if (y[i] > 0) & (y[i] <= most) else np.int8(0)
        e[i] = np.int8(e[i] & keep)


@compiled
def _times(x: Int8s, mask: Int8s, y: Int8s, first: int, last: int) -> None:
    """Samples ``first`` to ``last``; the mask has one row per sample, or one for all."""
    for n in range(first, last):
        source, kept, result = x[n], mask[n % mask.shape[0]], y[n]
        for i in range(source.size):
            result[i] = source[i] if kept[i] else np.int8(0)


@compiled
def _draw_mask(mask: Int8s, key: np.uint64, first: int) -> None:
    top = np.uint64(63)
    for i in range(mask.size):
        mask[i] = np.int8(draw(key, first + i) >> top)


def relu_forward(x: Int8s, out: Int8s | None = None, threads: int | None = None) -> Int8s:
    """``max(x, 0)``; the exponent stays.

    Parameters
    ----------
    x
        int8, C-contiguous, of any shape.
    out
        int8 of that shape to write to, ``x`` itself allowed; a new array by default.
    threads
        Threads at most; default: every core of this process.

    Raises
    ------
    ArrayError
        Another dtype, shape or memory order.

    Examples
    --------
    >>> relu_forward(np.array([-128, -1, 5], np.int8))
    array([0, 0, 5], dtype=int8)
    """
    return _clamped(x, NO_BOUND, out, threads)


def _clamped(x: Int8s, bound: int, out: Int8s | None, threads: int | None) -> Int8s:
    check_array("x", x, np.int8)
    y = target(out, x.shape, np.int8)
    source, result, most = x.reshape(-1), y.reshape(-1), np.int8(min(bound, 127))

    def block(i: int, j: int) -> None:
        if y is x:
            _clamp_in_place(result[i:j], most)
        else:
            _clamp(source[i:j], result[i:j], most)

    over_elements(block, x.size, threads)
    return y


def relu_input_grad(
    e: Int8s,
    y: Int8s,
    out: Int8s | None = None,
    threads: int | None = None,
    *,
    bound: int = NO_BOUND,
) -> Int8s:
    """The error where the saved output is above 0, else 0.

    Parameters
    ----------
    e
        int8 errors.
    y
        int8, the saved output (the saved input serves as well), of the shape of ``e``.
    out, threads
        As for :func:`relu_forward`; ``out`` may be ``e`` itself.
    bound
        Mantissa from which on no error passes: 127 where a clip holds the value, 128 for none.

    Raises
    ------
    ArrayError
        Another dtype, shape or memory order.

    Examples
    --------
    >>> relu_input_grad(np.array([5, 5, 5], np.int8), np.array([0, 1, 127], np.int8), bound=127)
    array([0, 5, 0], dtype=int8)
    """
    return _masked(e, y, bound, out, threads)


def _masked(e: Int8s, y: Int8s, bound: int, out: Int8s | None, threads: int | None) -> Int8s:
    check_array("e", e, np.int8)
    check_array("y", y, np.int8, shape=e.shape)
    dx = target(out, e.shape, np.int8)
    errors, saved, result = e.reshape(-1), y.reshape(-1), dx.reshape(-1)
    most = np.int8(bound - 1)

    def block(i: int, j: int) -> None:
        if dx is e:
            _mask_in_place(result[i:j], saved[i:j], most)
        else:
            _mask(errors[i:j], saved[i:j], result[i:j], most)

    over_elements(block, e.size, threads)
    return dx


def relu6_bound(exponent: int) -> int:
    """``floor(6 * 2^-exponent)``, the mantissa of ReLU6's bound; 128 where no int8 reaches it.

    Examples
    --------
    >>> relu6_bound(-4), relu6_bound(-3), relu6_bound(0), relu6_bound(3), relu6_bound(-5)
    (96, 48, 6, 0, 128)
    """
    if exponent < -4:
        return NO_BOUND
    return 6 >> exponent if exponent >= 0 else 6 << -exponent


def relu6_forward(x: QTensor, out: Int8s | None = None, threads: int | None = None) -> QTensor:
    """``min(max(x, 0), 6)``, the bound rounded down to a multiple of ``2^exponent``.

    Parameters
    ----------
    x
        int8 values of any shape.
    out, threads
        As for :func:`relu_forward`.

    Raises
    ------
    ArrayError
        Another dtype, shape or memory order.
    """
    mantissa = int8_mantissa("x", x)
    return QTensor(_clamped(mantissa, relu6_bound(x.exponent), out, threads), x.exponent)


def relu6_input_grad(
    e: Int8s,
    y: QTensor,
    out: Int8s | None = None,
    threads: int | None = None,
    *,
    bound: int = NO_BOUND,
) -> Int8s:
    """The error where the saved output is between 0 and the bound, both excluded; else 0.

    Parameters
    ----------
    e
        int8 errors.
    y
        The saved output: its exponent tells where 6 is.
    out, threads, bound
        As for :func:`relu_input_grad`; the lower of the two bounds holds.

    Raises
    ------
    ArrayError
        Another dtype, shape or memory order.
    """
    return _masked(e, int8_mantissa("y", y), min(relu6_bound(y.exponent), bound), out, threads)


def dropout_mask(
    shape: tuple[int, ...], key: int, shared: bool = False, threads: int | None = None
) -> Int8s:
    """Draw which elements stay, each with probability 1/2.

    Element ``i`` of the mask, in C order, is the top bit of draw ``i`` of the key
    (:mod:`kernels.int8.draws`).

    Parameters
    ----------
    shape
        Of the tensor, batch first.
    key
        ``0 .. 2^64 - 1``.
    shared
        Whether all samples share one mask of shape ``shape[1:]``, as in NITI version 2
        (``TiDropout`` of ``ti_torch.py``).
    threads
        Threads at most; default: every core of this process. The bits do not depend on it.

    Returns
    -------
    numpy.ndarray
        int8 of 0 and 1.

    Raises
    ------
    DrawError
        A key out of range.
    """
    check_key(key)
    mask = np.empty(shape[1:] if shared else shape, np.int8)
    flat, start = mask.reshape(-1), np.uint64(key)
    over_elements(lambda i, j: _draw_mask(flat[i:j], start, i), flat.size, threads)
    return mask


def dropout(
    x: QTensor, mask: Int8s, out: Int8s | None = None, threads: int | None = None
) -> QTensor:
    """Forward: ``2 * x * mask``; backward, the same on the error.

    The factor 2, which keeps the mean, is an exponent one higher. NITI's version 2 leaves the
    error's exponent as it is; it uses error exponents for nothing.

    Parameters
    ----------
    x
        int8 values or errors, batch first.
    mask
        From :func:`dropout_mask`: of the shape of ``x``, or of one sample.
    out, threads
        As for :func:`relu_forward`.

    Raises
    ------
    ArrayError, QuantError
        Another dtype, shape or memory order; an exponent that leaves its range.
    """
    mantissa = int8_mantissa("x", x)
    check_array("mask", mask, np.int8)
    if mask.shape not in (x.shape, x.shape[1:]):
        raise ArrayError(f"mask has shape {mask.shape}; allowed: {x.shape} or {x.shape[1:]}")
    y = target(out, x.shape, np.int8)
    rows = x.shape[0]
    source, result = mantissa.reshape(rows, -1), y.reshape(rows, -1)
    kept = mask.reshape(-1, source.shape[1])
    over_rows(
        lambda first, last: _times(source, kept, result, first, last),
        rows,
        1,
        thread_count(threads),
        1 + _WORTHWHILE // source.shape[1],
    )
    return QTensor(y, x.exponent + 1)
