"""What the FP32 kernels ask of an array."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from kernels.gemm.threads import available_threads

Floats = NDArray[np.float32]


class Fp32Error(ValueError):
    """An array or number that an FP32 kernel does not take; the message says what it takes."""


def check_array(
    name: str, array: NDArray[Any], shape: tuple[int, ...], dtype: type[np.generic] = np.float32
) -> None:
    """Refuse an ``array`` of another dtype, shape or memory order than the kernel reads.

    Raises
    ------
    Fp32Error
        Naming the array, what it is, and what is allowed.
    """
    if not isinstance(array, np.ndarray) or array.dtype != dtype:
        kind = getattr(array, "dtype", type(array).__name__)
        raise Fp32Error(f"{name} is {kind}; allowed: an array of {dtype.__name__}; convert it")
    if array.shape != shape:
        raise Fp32Error(
            f"{name} has shape {array.shape}; allowed: {shape} (images are channels-last);"
            " transpose or reshape it"
        )
    if not array.flags.c_contiguous:
        raise Fp32Error(
            f"{name} is not C-contiguous (strides {array.strides}); copy it once with"
            f" numpy.ascontiguousarray({name})"
        )


def check_floats(name: str, array: NDArray[Any], axes: int | None = None) -> None:
    """Refuse what is not a C-contiguous, non-empty float32 array (of ``axes`` axes, if given)."""
    shape = getattr(array, "shape", ())
    if (axes is not None and len(shape) != axes) or 0 in shape:
        wanted = "one or more axes" if axes is None else f"{axes} axes"
        raise Fp32Error(f"{name} has shape {shape}; allowed: {wanted}, each 1 or more long")
    check_array(name, array, shape)


def target(
    out: Floats | None, shape: tuple[int, ...], *read: NDArray[Any], name: str = "out"
) -> Floats:
    """``out`` once checked, or a new array; it may share no memory with what is ``read``."""
    if out is None:
        return np.empty(shape, np.float32)
    check_array(name, out, shape)
    if not out.flags.writeable:
        raise Fp32Error(f"{name} is read-only; give an array that can be written, or leave it out")
    if any(np.may_share_memory(out, array) for array in read):
        raise Fp32Error(f"{name} shares memory with an operand; give an array of its own")
    return out


def thread_count(threads: int | None) -> int:
    """``threads`` once checked; every core of this process where it is None."""
    if threads is None:
        return available_threads()
    if not isinstance(threads, int) or isinstance(threads, bool) or threads < 1:
        raise Fp32Error(f"threads is {threads!r}; allowed: 1 or more, or None for every core")
    return threads
