"""Shifts of 32 bits that stay 32 bits: Numba widens ``int32 >> int32`` to int64.

LLVM narrows that again only now and then; where it does not, a vectorised loop runs at half the
speed. Intrinsics for compiled code; the amount is 0 to 31, and is not checked.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from llvmlite import ir
from numba import types
from numba.extending import intrinsic


def _shift(instruction: str, kind: Any) -> Callable[[Any, Any], Any]:
    def emit(context: Any, builder: ir.IRBuilder, signature: Any, args: list[ir.Value]) -> ir.Value:
        return getattr(builder, instruction)(*args)

    def shift(typing: Any, x: Any, amount: Any) -> Any:
        return kind(kind, types.uint32), emit

    return cast(Callable[[Any, Any], Any], intrinsic(shift))


shr_unsigned = _shift("lshr", types.uint32)
"""``(x, amount)``: uint32 to the right, zeros from the left."""
shr_signed = _shift("ashr", types.int32)
"""``(x, amount)``: int32 to the right, toward minus infinity."""
shl_unsigned = _shift("shl", types.uint32)
"""``(x, amount)``: uint32 to the left; what leaves is lost."""
