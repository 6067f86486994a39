"""What a buffer of the draft holds while a step is computed, and the memory it is held in."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kernels.operators import Shape, channels_last
from kernels.quantised import QTensor

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Accumulator:
    """Exact sums that wait for a rescale: value = ``sums * 2^exponent``.

    ``sums`` is int32 or int64; ``amax`` is its largest magnitude, found while it was stored.
    ``parts`` holds those of the micro-batches one by one, each with its largest magnitude, where
    a profile rescales them before they meet; ``sums`` and ``amax`` are then those of the widest.
    """

    sums: NDArray[Any]
    exponent: int
    amax: int
    parts: tuple[tuple[NDArray[Any], int], ...] = ()


Value = QTensor | Accumulator | Floats | NDArray[np.int64] | int
"""INT8 tensor, INT32 accumulator, FP32 tensor, labels, or a scanned shift."""


class Pool:
    """Arrays handed out, taken back when nothing reads them any more, and handed out again.

    Fresh memory costs a page fault for each 4 KiB: as much as the arithmetic on it. An array that
    is handed out holds whatever it held before.
    """

    def __init__(self) -> None:
        self._free: dict[tuple[int, str], list[NDArray[Any]]] = {}
        self._out: dict[int, tuple[NDArray[Any], int]] = {}
        """Arrays handed out by address, each with the number of values that hold it."""

    def take(self, shape: tuple[int, ...], dtype: type[np.generic]) -> NDArray[Any]:
        """Return an array of this shape and dtype, C-contiguous, with any content."""
        size = prod(shape)
        kept = self._free.get((size, np.dtype(dtype).str))
        flat = kept.pop() if kept else np.empty(size, dtype)
        self._out[_address(flat)] = flat, 0
        return flat.reshape(shape)

    def hold(self, array: NDArray[Any]) -> None:
        """Count one more value that holds an array; arrays from elsewhere are ignored."""
        if (entry := self._out.get(_address(array))) is not None:
            self._out[_address(array)] = entry[0], entry[1] + 1

    def drop(self, array: NDArray[Any]) -> None:
        """Count one value less; after the last, the memory may be handed out again."""
        if (entry := self._out.get(_address(array))) is None:
            return
        flat, holders = entry
        if holders > 1:
            self._out[_address(array)] = flat, holders - 1
            return
        del self._out[_address(array)]
        self._free.setdefault((flat.size, flat.dtype.str), []).append(flat)


def _address(array: NDArray[Any]) -> int:
    return int(array.__array_interface__["data"][0])


def array_of(value: Value) -> NDArray[Any] | None:
    """Memory of a value, if it has any."""
    if isinstance(value, QTensor):
        return value.mantissa
    if isinstance(value, Accumulator):
        return value.sums
    return value if isinstance(value, np.ndarray) else None


def as_floats(value: Value) -> Floats:
    """The FP32 tensor that a value is."""
    assert isinstance(value, np.ndarray), f"{type(value).__name__} where FP32 is expected"
    return value.astype(np.float32, copy=False)


def viewed(q: QTensor, shape: Shape) -> QTensor:
    """View an INT8 tensor as an operator reads it: ``shape`` is the spec's, of any batch."""
    return QTensor(q.int8.reshape(len(q.mantissa), *channels_last(shape)[1:]), q.exponent)
