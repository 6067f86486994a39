"""FP32 activations, dropout, sums of tensors, and joins along the channels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kernels.arrays import ArrayError, Floats, check_array, check_floats, float_target
from kernels.jit import compiled
from kernels.threads import over_elements

Mask = NDArray[np.int8]


@compiled
def _relu(x: Floats, y: Floats, first: int, last: int) -> None:
    read, written = x[first:last], y[first:last]
    for i in range(read.size):
        value = read[i]
        written[i] = np.float32(0) if value < 0 else value


@compiled
def _relu_grad(e: Floats, y: Floats, dx: Floats, first: int, last: int) -> None:
    error, seen, written = e[first:last], y[first:last], dx[first:last]
    for i in range(error.size):
        value, passed = seen[i], error[i]  # both read always: else no vector instruction fits
        written[i] = np.float32(0) if value <= 0 else passed


@compiled
def _relu6(x: Floats, y: Floats, first: int, last: int) -> None:
    read, written = x[first:last], y[first:last]
    for i in range(read.size):
        value = np.float32(0) if read[i] < 0 else read[i]
        written[i] = np.float32(6) if value > 6 else value


@compiled
def _relu6_grad(e: Floats, y: Floats, dx: Floats, first: int, last: int) -> None:
    error, seen, written = e[first:last], y[first:last], dx[first:last]
    for i in range(error.size):
        value, passed = seen[i], error[i]
        stopped = (value <= 0) | (value >= 6)
        written[i] = np.float32(0) if stopped else passed


@compiled
def _drop(x: Floats, mask: Mask, y: Floats, first: int, last: int) -> None:
    """Doubled where the mask, which repeats, is not 0."""
    start = first
    while start < last:
        of = start % mask.size
        count = min(last - start, mask.size - of)
        read, kept, written = x[start : start + count], mask[of : of + count], y[start:]
        for i in range(count):
            doubled = read[i] + read[i]
            written[i] = doubled if kept[i] else np.float32(0)
        start += count


@compiled
def _add(a: Floats, b: Floats, y: Floats, first: int, last: int) -> None:
    left, right, written = a[first:last], b[first:last], y[first:last]
    for i in range(left.size):
        written[i] = left[i] + right[i]


def _over(kernel: Callable[..., None], arrays: Sequence[NDArray[Any]], threads: int | None) -> None:
    """Run ``kernel(*flat arrays, first, last)`` over all elements."""
    flat = [array.reshape(-1) for array in arrays]
    over_elements(lambda first, last: kernel(*flat, first, last), flat[0].size, threads, least=1)


def _map(
    kernel: Callable[..., None], read: dict[str, Floats], out: Floats | None, threads: int | None
) -> Floats:
    """Element by element, so ``out`` may be one of the operands itself."""
    arrays = list(read.values())
    check_floats(next(iter(read)), arrays[0])
    for name, array in read.items():
        check_floats(name, array, arrays[0].shape)
    others = [array for array in arrays if array is not out]
    y = float_target(out, arrays[0].shape, *others)
    _over(kernel, [*arrays, y], threads)
    return y


def relu_forward(x: Floats, *, out: Floats | None = None, threads: int | None = None) -> Floats:
    """``max(x, 0)``; NaN stays NaN.

    Parameters
    ----------
    x
        float32 of any shape, C-contiguous.
    out
        Array to write to, which may be ``x`` itself; a new one by default.
    threads
        Threads at most; default: every core of this process. The bits are the same for each.

    Returns
    -------
    numpy.ndarray
        ``out``.

    Raises
    ------
    ArrayError
        An array of another dtype, shape or order, an empty one, or fewer than 1 thread.

    Examples
    --------
    >>> relu_forward(np.array([-1, 2], np.float32))
    array([0., 2.], dtype=float32)
    """
    return _map(_relu, {"x": x}, out, threads)


def relu_input_grad(
    e: Floats, y: Floats, *, out: Floats | None = None, threads: int | None = None
) -> Floats:
    """The error, 0 where the saved output ``y`` is not above 0.

    ``out`` may be ``e`` or ``y`` itself; else as :func:`relu_forward`.
    """
    return _map(_relu_grad, {"e": e, "y": y}, out, threads)


def relu6_forward(x: Floats, *, out: Floats | None = None, threads: int | None = None) -> Floats:
    """``min(max(x, 0), 6)``; else as :func:`relu_forward`."""
    return _map(_relu6, {"x": x}, out, threads)


def relu6_input_grad(
    e: Floats, y: Floats, *, out: Floats | None = None, threads: int | None = None
) -> Floats:
    """The error, 0 where the saved output ``y`` is 0 or 6; else as :func:`relu_input_grad`."""
    return _map(_relu6_grad, {"e": e, "y": y}, out, threads)


def dropout(
    x: Floats, mask: Mask, *, out: Floats | None = None, threads: int | None = None
) -> Floats:
    """Forward, and backward on the error: twice what the mask keeps, and 0 elsewhere.

    Parameters
    ----------
    x
        float32 of any shape, batch first, C-contiguous.
    mask
        int8 of 0 and 1, from :func:`kernels.int8.pointwise.dropout_mask`: of the shape of ``x``,
        or of one sample where all share it. INT8 and FP32 drop the same elements for one key.
    out
        Array to write to, which may be ``x`` itself; a new one by default.
    threads
        As in :func:`relu_forward`.

    Returns
    -------
    numpy.ndarray
        ``out``.

    Raises
    ------
    ArrayError
        As :func:`relu_forward`.
    """
    check_floats("x", x)
    shared = getattr(mask, "shape", None) == x.shape[1:]
    check_array("mask", mask, np.int8, shape=x.shape[1:] if shared else x.shape)
    y = float_target(out, x.shape, *(() if out is x else (x,)))
    flat = mask.reshape(-1)
    _over(
        lambda read, written, first, last: _drop(read, flat, written, first, last), [x, y], threads
    )
    return y


def add(
    terms: Sequence[Floats], *, out: Floats | None = None, threads: int | None = None
) -> Floats:
    """Sum of two or more arrays of one shape, from the first to the last.

    ``out`` may be the first term itself; else as :func:`relu_forward`.
    """
    if len(terms) < 2:
        raise ArrayError(f"terms has {len(terms)} arrays; allowed: 2 or more")
    total = _map(_add, {"terms[0]": terms[0], "terms[1]": terms[1]}, out, threads)
    for number, term in enumerate(terms[2:], 2):
        _map(_add, {"the sum": total, f"terms[{number}]": term}, total, threads)
    return total


def concat(parts: Sequence[Floats], *, out: Floats | None = None) -> Floats:
    """Join arrays along their last axis, the channels.

    Parameters
    ----------
    parts
        float32 arrays, C-contiguous, equal in all axes but the last.
    out
        Array to write to; a new one by default.

    Returns
    -------
    numpy.ndarray
        ``out``.

    Raises
    ------
    ArrayError
        No array, or one of another dtype, shape or order.
    """
    if not parts:
        raise ArrayError("parts is empty; allowed: 1 array or more")
    for number, part in enumerate(parts):
        check_floats(f"parts[{number}]", part)
        check_floats(f"parts[{number}]", part, (*parts[0].shape[:-1], part.shape[-1]))
    y = float_target(out, (*parts[0].shape[:-1], sum(part.shape[-1] for part in parts)), *parts)
    np.concatenate(parts, axis=-1, out=y)
    return y


def split(x: Floats, channels: Sequence[int]) -> list[Floats]:
    """Cut an array along its last axis into new arrays of ``channels`` each.

    Raises
    ------
    ArrayError
        An array of another dtype or order, or channels that do not add up to its last axis.
    """
    check_floats("x", x)
    if sum(channels) != x.shape[-1] or any(count < 1 for count in channels):
        raise ArrayError(
            f"channels is {tuple(channels)}; allowed: positive sizes that add up to the last axis"
            f" of x, {x.shape[-1]}"
        )
    ends = np.cumsum(np.array(channels))
    return [
        np.ascontiguousarray(x[..., end - count : end])
        for end, count in zip(ends, channels, strict=True)
    ]
