"""How the fast engines are compiled: decorators over ``numba.njit`` that keep types for mypy.

Reference counts are left out (Numba's ``_nrt`` option): a compiled function here allocates nothing
and its caller holds every array. Counts are atomic, and took four fifths of an engine's time.
A Numba without that option gives the same results, slower.

Numba's cache of a function does not see changes in other files: functions that call each
other stay in one module.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numpy as np
from numba import njit
from numba.core.options import DefaultOptions
from numpy.typing import NDArray

_Function = TypeVar("_Function", bound=Callable[..., Any])
_OPTIONS: dict[str, Any] = {"cache": True, "nogil": True}
if hasattr(DefaultOptions, "_nrt"):
    _OPTIONS["_nrt"] = False

Rows = NDArray[np.void]
"""An array of int64 records: what belongs to one task lies together. ``rows[i].field`` in
compiled code, ``rows["field"]`` outside."""


def record(*fields: str) -> np.dtype[np.void]:
    """Type of a record of int64 ``fields``."""
    return np.dtype([(name, np.int64) for name in fields])


def compiled(function: _Function) -> _Function:
    """Compile a function that Python, or other compiled code, calls."""
    return cast(_Function, njit(**_OPTIONS)(function))


def inlined(function: _Function) -> _Function:
    """Compile a function into each of its callers."""
    return cast(_Function, njit(**_OPTIONS, inline="always")(function))


def stamped(stamp: str) -> Callable[[_Function], _Function]:
    """Compile as :func:`compiled` does, with a cache that also ends when ``stamp`` changes.

    For functions that call compiled code in other files: a digest of those files. Where this Numba
    keeps its stamp elsewhere than known here, nothing is cached.
    """

    def decorate(function: _Function) -> _Function:
        made = compiled(function)
        if made is function:  # NUMBA_DISABLE_JIT
            return made
        file = getattr(getattr(made, "_cache", None), "_cache_file", None)
        if file is None or not hasattr(file, "_source_stamp"):
            return cast(_Function, njit(**{**_OPTIONS, "cache": False})(function))
        file._source_stamp = file._source_stamp, stamp
        return made

    return decorate
