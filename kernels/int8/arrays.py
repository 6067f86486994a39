"""Checks of the arrays that enter an INT8 kernel, and elements shared out among threads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numpy as np
from numpy.typing import DTypeLike, NDArray

from kernels.gemm.threads import available_threads, over_rows
from kernels.quantised import QTensor

Array = NDArray[Any]
_Part = TypeVar("_Part")

_TILE = 4096
"""Elements that one thread takes at least: blocks end at whole cache lines and vectors."""
_WORTHWHILE = 1 << 16
"""Elements below which handing them to another thread costs more than it saves (tens of us)."""


class ArrayError(ValueError):
    """An array that a kernel does not take; the message says what is allowed."""


def check_array(
    name: str, x: Array, *dtypes: DTypeLike, shape: tuple[int, ...] | None = None
) -> None:
    """Refuse ``x`` unless it is a filled, C-contiguous array of one of ``dtypes`` and ``shape``.

    Raises
    ------
    ArrayError
        It names the array, what it is, what is allowed, and what to do.
    """
    names = " or ".join(str(np.dtype(dtype)) for dtype in dtypes)
    if not isinstance(x, np.ndarray) or x.dtype not in [np.dtype(dtype) for dtype in dtypes]:
        kind = getattr(x, "dtype", type(x).__name__)
        raise ArrayError(f"{name} is {kind}; allowed: an array of {names}; convert it")
    if shape is not None and x.shape != shape:
        raise ArrayError(f"{name} has shape {x.shape}; allowed: {shape}; channels come last")
    if x.size == 0:
        raise ArrayError(f"{name} has shape {x.shape}; allowed: one element or more")
    if not x.flags.c_contiguous:
        raise ArrayError(
            f"{name} is not C-contiguous (strides {x.strides}); copy it once with"
            f" numpy.ascontiguousarray({name})"
        )


def int8_mantissa(name: str, x: QTensor, shape: tuple[int, ...] | None = None) -> NDArray[np.int8]:
    """Give the mantissa of a tensor that must be int8, after :func:`check_array`."""
    check_array(name, x.mantissa, np.int8, shape=shape)
    return cast(NDArray[np.int8], x.mantissa)


def target(out: Array | None, shape: tuple[int, ...], dtype: DTypeLike) -> Array:
    """Give ``out`` after a check, or a new array.

    Raises
    ------
    ArrayError
        As :func:`check_array`; or ``out`` is read-only.
    """
    if out is None:
        return np.empty(shape, dtype)
    check_array("out", out, dtype, shape=shape)
    if not out.flags.writeable:
        raise ArrayError("out is read-only; give an array that can be written, or leave it out")
    return out


def thread_count(threads: int | None) -> int:
    """Threads to use: those asked for, by default every core of this process.

    Raises
    ------
    ArrayError
        Fewer than 1.
    """
    if threads is None:
        return available_threads()
    if threads < 1:
        raise ArrayError(f"threads is {threads}; allowed: 1 or more, or None for every core")
    return threads


def over_elements(
    kernel: Callable[[int, int], _Part], size: int, threads: int | None
) -> list[_Part]:
    """Call ``kernel(first, last)`` on blocks of ``range(size)``; what each block gave.

    The order of the parts is not fixed: combine them by a sum or maximum of integers.
    """
    parts: list[_Part] = []

    def work(first: int, last: int) -> None:
        parts.append(kernel(first, last))

    count = 1 if size <= _WORTHWHILE else thread_count(threads)
    over_rows(work, size, _TILE, count, least=_WORTHWHILE)
    return parts
