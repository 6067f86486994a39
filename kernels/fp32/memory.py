"""Copies of runs inside compiled code, as LLVM's memcpy and memset.

A loop over computed indices does not become one in Numba: it allows for negative indices.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

_memcpy: Callable[..., None] = cgutils.raw_memcpy
_memset: Callable[..., None] = cgutils.memset

_BYTES = 4
"""Of a float32."""


def _place(context: Any, builder: Any, kind: Any, array: Any, at: Any) -> Any:
    return builder.gep(context.make_array(kind)(context, builder, array).data, [at])


def _copy(typing: Any, out: Any, to: Any, x: Any, of: Any, count: Any) -> Any:
    """Copy ``x[of : of + count]`` to ``out[to : to + count]``: flat float32, nothing checked."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kinds = signature.args
        written = _place(context, builder, kinds[0], args[0], args[1])
        read = _place(context, builder, kinds[2], args[2], args[3])
        _memcpy(builder, written, read, args[4], _BYTES)
        return context.get_dummy_value()

    i64 = types.int64
    return types.void(out, i64, x, i64, i64), emit


def _clear(typing: Any, out: Any, to: Any, count: Any) -> Any:
    """Write zeros to ``out[to : to + count]``: flat float32, nothing checked."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        written = _place(context, builder, signature.args[0], args[0], args[1])
        size = builder.mul(args[2], args[2].type(_BYTES))
        _memset(builder, written, size, 0)
        return context.get_dummy_value()

    i64 = types.int64
    return types.void(out, i64, i64), emit


copy = cast(Callable[..., None], intrinsic(_copy))
clear = cast(Callable[..., None], intrinsic(_clear))
