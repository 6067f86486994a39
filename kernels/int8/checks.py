"""What convolution and linear kernels refuse, in words; checked once, where arrays enter."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from kernels.gemm import MAX_K, GemmError
from kernels.gemm.threads import available_threads
from kernels.int8.stored import Store

_INT32_MAX = 2**31 - 1
_PRODUCT = 2**14
"""Largest product of two int8."""


def check_array(
    name: str, array: NDArray[Any], dtypes: tuple[DTypeLike, ...], shape: tuple[int, ...]
) -> None:
    """Refuse an ``array`` of another dtype, shape or memory order."""
    kinds = [np.dtype(dtype) for dtype in dtypes]
    if not isinstance(array, np.ndarray) or array.dtype not in kinds:
        kind = getattr(array, "dtype", type(array).__name__)
        allowed = " or ".join(str(kind) for kind in kinds)
        raise GemmError(
            f"{name} is {kind}; allowed: an array of {allowed}; convert it, after a clip if values"
            " may lie outside"
        )
    if array.shape != shape:
        raise GemmError(
            f"{name} has shape {array.shape}; allowed: {shape}, as the operator says, channels last"
        )
    if not array.flags.c_contiguous:
        raise GemmError(
            f"{name} is not C-contiguous (strides {array.strides}); copy it once with"
            f" numpy.ascontiguousarray({name})"
        )


def check_threads(threads: int | None) -> int:
    """Number of threads: every core of this process by default."""
    if threads is None:
        return available_threads()
    if threads < 1:
        raise GemmError(f"threads is {threads}; allowed: 1 or more, or None for every core")
    return threads


def check_depth(role: str, depth: int) -> None:
    """Refuse sums of more products than INT32 always holds."""
    if depth > MAX_K:
        raise GemmError(
            f"{role} sums {depth} products; allowed: 1 .. {MAX_K}, where every sum fits int32;"
            " split the channels and add the parts in int64"
        )


def check_bias(bias: NDArray[np.int32], columns: int, depth: int) -> None:
    """Refuse a ``bias`` that is not (columns,) int32, or that could leave INT32 when added."""
    check_array("bias", bias, (np.int32,), (columns,))
    largest = max(int(bias.max()), -int(bias.min()))
    room = _INT32_MAX - depth * _PRODUCT
    if largest > room:
        raise GemmError(
            f"bias reaches {largest} in magnitude; allowed: {room} beside sums of {depth} products;"
            " align it to the accumulator's exponent, and clip it"
        )


def target(
    out: NDArray[Any] | None,
    store: Store | None,
    shape: tuple[int, ...],
    read: tuple[NDArray[Any], ...],
) -> NDArray[Any]:
    """``out``, checked; or a new array: int8 with a ``store``, int32 without."""
    dtype = np.int32 if store is None else np.int8
    if out is None:
        return np.empty(shape, dtype)
    check_array("out", out, (dtype,), shape)
    if not out.flags.writeable:
        raise GemmError("out is read-only; give an array that can be written, or leave it out")
    if any(np.may_share_memory(out, array) for array in read):
        raise GemmError("out shares memory with an input; give an array of its own")
    return out


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
    GemmError
        Both given; one of another shape, dtype or width than ``wide`` says; or int32 for sums of
        more products than it always holds.
    """
    if into is not None and out is not None:
        raise GemmError("into and out were both given; allowed: into to add to, or out to write to")
    name, total = ("into", into) if into is not None else ("out", out)
    if total is None:
        width = depth > MAX_K if wide is None else wide
        total = np.empty(shape, np.int64 if width else np.int32)
    check_array(name, total, (np.int32, np.int64), shape)
    if not total.flags.writeable:
        raise GemmError(f"{name} is read-only; give an array that can be written, or leave it out")
    is_wide = total.dtype == np.int64
    if wide is not None and wide is not is_wide:
        raise GemmError(
            f"wide is {wide}, but {name} is {total.dtype}; give int64 for wide sums, int32 for"
            " others"
        )
    if not is_wide and depth > MAX_K:
        raise GemmError(
            f"weight_grad sums {depth} products (wide is {wide}); allowed for int32: 1 .. {MAX_K};"
            " leave wide out, or accumulate into int64"
        )
    return total
