"""Memory that kernels use and forget: kept per thread, so that its pages are touched once.

A fresh array of some MiB costs a page fault per 4 KiB each time, as much as a small layer.
"""

from __future__ import annotations

from threading import local
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

_LINE = 64
"""Alignment in bytes: a vector never straddles two cache lines."""
_kept = local()


def scratch(name: str, count: int, dtype: DTypeLike) -> NDArray[Any]:
    """Uninitialised flat array of ``count`` values: valid until this thread asks for ``name``.

    Examples
    --------
    >>> scratch("example", 3, np.int32).shape
    (3,)
    """
    size = count * np.dtype(dtype).itemsize
    held: NDArray[np.uint8] | None = getattr(_kept, name, None)
    if held is None or held.size < size:
        raw = np.empty(size + _LINE, np.uint8)
        held = raw[-raw.ctypes.data % _LINE :]
        setattr(_kept, name, held)
    return held[:size].view(dtype)
