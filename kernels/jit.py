"""How the compiled kernels are compiled: ``numba.njit`` with types kept for mypy.

Importing this module imports Numba (about half a second), so it is imported where a compiled
kernel is first used. Compiled kernels release the GIL, are cached on disk, and allocate
nothing: their callers hold every array. Numba's cache of a function does not see changes in
other files.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

from numba import njit

_Function = TypeVar("_Function", bound=Callable[..., Any])


def compiled(function: _Function) -> _Function:
    """Compile a function that Python, or other compiled code, calls."""
    return cast(_Function, njit(cache=True, nogil=True)(function))
