"""What INT32 sums of INT8 products ask for: how many there are, of a bias, and where dW goes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from kernels.arrays import ArrayError, check_array, check_written
from kernels.gemm import MAX_K, GemmError

_INT32_MAX = 2**31 - 1
_PRODUCT = 2**14
"""Largest product of two int8."""


def check_depth(role: str, depth: int) -> None:
    """Refuse sums of more products than INT32 always holds."""
    if depth > MAX_K:
        raise GemmError(
            f"{role} sums {depth} products; allowed: 1 .. {MAX_K}, where every sum fits int32;"
            " split the channels and add the parts in int64"
        )


def check_bias(bias: NDArray[np.int32], columns: int, depth: int) -> None:
    """Refuse a ``bias`` that is not (columns,) int32, or that could leave INT32 when added."""
    check_array("bias", bias, np.int32, shape=(columns,))
    largest = max(int(bias.max()), -int(bias.min()))
    room = _INT32_MAX - depth * _PRODUCT
    if largest > room:
        raise ArrayError(
            f"bias reaches {largest} in magnitude; allowed: {room} beside sums of {depth} products;"
            " align it to the accumulator's exponent, and clip it"
        )


def grad_target(
    into: NDArray[Any] | None,
    out: NDArray[Any] | None,
    wide: bool | None,
    shape: tuple[int, ...],
    depth: int,
) -> NDArray[Any]:
    """Where a weight gradient goes: ``into`` or ``out``, checked, or an array of the width needed.

    Raises
    ------
    ArrayError
        Both given; or one of another shape, dtype or width than ``wide`` says.
    GemmError
        int32 for sums of more products than it always holds.
    """
    if into is not None and out is not None:
        raise ArrayError(
            "into and out were both given; allowed: into to add to, or out to write to"
        )
    name, total = ("into", into) if into is not None else ("out", out)
    if total is None:
        width = depth > MAX_K if wide is None else wide
        total = np.empty(shape, np.int64 if width else np.int32)
    check_array(name, total, np.int32, np.int64, shape=shape)
    check_written(name, total)
    is_wide = total.dtype == np.int64
    if wide is not None and wide is not is_wide:
        raise ArrayError(
            f"wide is {wide}, but {name} is {total.dtype}; give int64 for wide sums, int32 for"
            " others"
        )
    if not is_wide and depth > MAX_K:
        raise GemmError(
            f"weight_grad sums {depth} products (wide is {wide}); allowed for int32: 1 .. {MAX_K};"
            " leave wide out, or accumulate into int64"
        )
    return total
