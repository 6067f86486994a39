"""Memory that kernels use and forget: kept per thread, so that its pages are touched once.

A fresh array of some MiB costs a page fault per 4 KiB each time, as much as a small layer.
"""

from __future__ import annotations

from threading import local
from typing import Any, cast

import numpy as np
from numpy.typing import DTypeLike, NDArray

_LINE = 64
"""Alignment in bytes: a vector never straddles two cache lines."""
_KEPT_FLOATS = 1 << 24
"""Floats that a thread keeps under one name at most, 64 MiB: larger buffers are given back."""
_kept = local()


def aligned(count: int, dtype: DTypeLike) -> NDArray[Any]:
    """Uninitialised flat array of ``count`` values that starts at a cache line.

    Examples
    --------
    >>> aligned(3, np.int32).ctypes.data % 64
    0
    """
    size = count * np.dtype(dtype).itemsize
    raw = np.empty(size + _LINE, np.uint8)
    skip = -raw.ctypes.data % _LINE
    return raw[skip : skip + size].view(dtype)


def scratch(name: str, count: int, dtype: DTypeLike, *, keep: bool = True) -> NDArray[Any]:
    """Uninitialised flat array of ``count`` values: valid until this thread asks for ``name``.

    Parameters
    ----------
    name
        What the memory is for.
    count, dtype
        Of the values.
    keep
        Whether the thread keeps memory that it had to take anew for the next call.

    Examples
    --------
    >>> scratch("example", 3, np.int32).shape
    (3,)
    """
    size = count * np.dtype(dtype).itemsize
    held: NDArray[np.uint8] | None = getattr(_kept, name, None)
    if held is None or held.size < size:
        held = aligned(size, np.uint8)
        if keep:
            setattr(_kept, name, held)
    return held[:size].view(dtype)


def float_scratch(name: str, count: int) -> NDArray[np.float32]:
    """As :func:`scratch`, of float32, which no thread keeps above 64 MiB."""
    floats = scratch(name, count, np.float32, keep=count <= _KEPT_FLOATS)
    return cast(NDArray[np.float32], floats)
