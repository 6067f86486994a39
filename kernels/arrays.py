"""What kernels ask of an array, checked once, where it enters: dtype, shape, memory order."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
from numpy.typing import DTypeLike, NDArray

from kernels.quantised import QTensor

Array = NDArray[Any]
Floats = NDArray[np.float32]


class ArrayError(ValueError):
    """An array, or a number given with it, that a kernel does not take; it says what is allowed."""


def check_array(
    name: str, x: Array, *dtypes: DTypeLike, shape: tuple[int, ...] | None = None
) -> None:
    """Refuse ``x`` unless it is a filled, C-contiguous array of one of ``dtypes`` and ``shape``.

    Raises
    ------
    ArrayError
        It names the array, what it is, what is allowed, and what to do.
    """
    allowed = [np.dtype(dtype) for dtype in dtypes]
    if not isinstance(x, np.ndarray) or x.dtype not in allowed:
        kind = getattr(x, "dtype", type(x).__name__)
        raise ArrayError(
            f"{name} is {kind}; allowed: an array of {' or '.join(map(str, allowed))};"
            " convert it, after a clip if values may lie outside"
        )
    if shape is not None and x.shape != shape:
        order = ", channels last" if len(shape) == 4 else ""
        raise ArrayError(
            f"{name} has shape {x.shape}; allowed: {shape}{order}; transpose or reshape it"
        )
    if x.size == 0:
        raise ArrayError(f"{name} has shape {x.shape}; allowed: one element or more")
    if not x.flags.c_contiguous:
        raise ArrayError(
            f"{name} is not C-contiguous (strides {x.strides}); copy it once with"
            f" numpy.ascontiguousarray({name})"
        )


def check_floats(name: str, x: Array, shape: tuple[int, ...] | None = None) -> None:
    """Refuse ``x`` unless it is a filled, C-contiguous float32 array, of ``shape`` if given."""
    check_array(name, x, np.float32, shape=shape)


def int8_mantissa(name: str, x: QTensor, shape: tuple[int, ...] | None = None) -> NDArray[np.int8]:
    """Give the mantissa of a tensor that must be int8, after :func:`check_array`."""
    check_array(name, x.mantissa, np.int8, shape=shape)
    return cast(NDArray[np.int8], x.mantissa)


def check_written(name: str, x: Array, *read: Array) -> None:
    """Refuse an array to write to that is read-only, or shares memory with what is ``read``."""
    if not x.flags.writeable:
        raise ArrayError(f"{name} is read-only; give an array that can be written, or leave it out")
    if any(np.may_share_memory(x, array) for array in read):
        raise ArrayError(f"{name} shares memory with an operand; give an array of its own")


def target(out: Array | None, shape: tuple[int, ...], dtype: DTypeLike, *read: Array) -> Array:
    """Give ``out`` after a check, or a new array; it may share no memory with what is ``read``.

    Raises
    ------
    ArrayError
        As :func:`check_array` and :func:`check_written`.
    """
    if out is None:
        return np.empty(shape, dtype)
    check_array("out", out, dtype, shape=shape)
    check_written("out", out, *read)
    return out


def float_target(out: Floats | None, shape: tuple[int, ...], *read: Array) -> Floats:
    """As :func:`target`, of float32."""
    return target(out, shape, np.float32, *read)


def check_labels(labels: Array, samples: int, classes: int) -> None:
    """Refuse ``labels`` unless they are one integer a sample, 0 to ``classes - 1``.

    Raises
    ------
    ArrayError
        It says what they are, and what is allowed.
    """
    if not isinstance(labels, np.ndarray) or labels.dtype.kind not in "iu":
        kind = getattr(labels, "dtype", type(labels).__name__)
        raise ArrayError(f"labels are {kind}; allowed: an array of integers, one class a sample")
    if labels.shape != (samples,):
        raise ArrayError(f"labels have shape {labels.shape}; allowed: {(samples,)}, one a sample")
    if labels.min() < 0 or labels.max() >= classes:
        raise ArrayError(
            f"labels span {labels.min()} .. {labels.max()}; allowed: 0 .. {classes - 1}"
        )
