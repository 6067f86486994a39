"""Copies of runs inside compiled code, as LLVM's memcpy and memset.

A loop over computed indices does not become one in Numba: it allows for negative indices.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from kernels.emit import Values, array_data

_memcpy: Callable[..., None] = cgutils.raw_memcpy
_memset: Callable[..., None] = cgutils.memset


def _item_bytes(context: Any, array: Any) -> int:
    return int(context.get_abi_sizeof(context.get_value_type(array.dtype)))


def _copy(typing: Any, source: Any, at: Any, target: Any, to: Any, count: Any) -> Any:
    if source.dtype != target.dtype:
        return None

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, args: Values) -> ir.Value:
        read, written = (
            builder.gep(array_data(context, builder, signature, args, n), [args[n + 1]])
            for n in (0, 2)
        )
        _memcpy(builder, written, read, args[4], _item_bytes(context, source))
        return context.get_dummy_value()

    i64 = types.int64
    return types.void(source, i64, target, i64, i64), emit


def _clear(typing: Any, target: Any, to: Any, count: Any) -> Any:
    def emit(context: Any, builder: ir.IRBuilder, signature: Any, args: Values) -> ir.Value:
        written = builder.gep(array_data(context, builder, signature, args, 0), [args[1]])
        size = builder.mul(args[2], args[2].type(_item_bytes(context, target)))
        _memset(builder, written, size, 0)
        return context.get_dummy_value()

    i64 = types.int64
    return types.void(target, i64, i64), emit


copy = cast(Callable[..., None], intrinsic(_copy))
"""``(source, at, target, to, count)``: copy values of one type between flat arrays, unchecked."""
clear = cast(Callable[..., None], intrinsic(_clear))
"""``(target, to, count)``: write zeros to a flat array, unchecked."""
