"""What travels between the server and a phone: tensors in INT8 or FP32, and how many bytes.

An INT8 tensor is its mantissas and one byte for the exponent; an FP32 tensor is four bytes a value.
Names and shapes are known on both sides and do not travel.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import frexp, isfinite
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kernels.quantised import BITS, QTensor

Floats = NDArray[np.float32]

FP32_BYTES = 4
EXPONENT_BYTES = 1
LEAST = 2.0**-118
"""Smallest largest magnitude that every rule of :mod:`kernels.quantised` has an exponent for."""


@dataclass(frozen=True, slots=True, eq=False)
class Packet:
    """One message.

    Attributes
    ----------
    tensors
        Trained tensors by name: INT8 with an exponent, or float32.
    statistics
        Batch norm's running means and variances by name, float32; they travel in FP32.
    """

    tensors: Mapping[str, QTensor | Floats]
    statistics: Mapping[str, Floats]

    @property
    def size_bytes(self) -> int:
        """Bytes on the link."""
        sizes = sum(map(_size_bytes, self.tensors.values()))
        return sizes + FP32_BYTES * sum(array.size for array in self.statistics.values())

    @property
    def fp32_bytes(self) -> int:
        """Bytes that the same message would have in FP32."""
        arrays = [*map(_array, self.tensors.values()), *self.statistics.values()]
        return FP32_BYTES * sum(array.size for array in arrays)

    def floats(self) -> dict[str, Floats]:
        """The trained tensors as float32, exactly."""
        return {name: values(tensor).astype(np.float32) for name, tensor in self.tensors.items()}


def packed(
    weights: Mapping[str, Floats], integer: Iterable[str], statistics: Mapping[str, Floats]
) -> Packet:
    """Return a message with the tensors named in ``integer`` in INT8, the others in FP32.

    INT8 keeps the scale of the values, see :func:`to_int8`; those of an INT8 tensor travel exactly.

    Examples
    --------
    >>> weights = {"w": np.array([0.75, -1.5], np.float32), "b": np.array([0.1], np.float32)}
    >>> packet = packed(weights, {"w"}, {})
    >>> packet.size_bytes, packet.fp32_bytes, packet.floats()["w"]
    (7, 12, array([ 0.75, -1.5 ], dtype=float32))
    """
    chosen = frozenset(integer)
    tensors = {name: to_int8(array) if name in chosen else array for name, array in weights.items()}
    return Packet(tensors, statistics)


def to_int8(array: NDArray[np.floating[Any]]) -> QTensor:
    """Round to INT8, half to even, with the least exponent at which no value is out of range.

    Unlike :func:`kernels.quantised.quantise_input_v2`, which takes a largest value of ``2^k`` for
    128 units and clips it to 127, this finds every INT8 tensor's own values again.

    Parameters
    ----------
    array
        Floats of any shape but an empty one. Where no magnitude reaches :data:`LEAST`, all
        becomes 0.

    Raises
    ------
    ValueError
        NaN or infinity.

    Examples
    --------
    >>> [to_int8(np.array(pair)).exponent for pair in ([1.0, -0.5], [0.5, -1.0])]
    [-6, -7]
    """
    low, high = float(array.min()), float(array.max())
    if not (isfinite(low) and isfinite(high)):
        raise ValueError("tensor: holds NaN or infinity; allowed: finite values; lower the rate")
    if max(-low, high) < LEAST:
        return QTensor(np.zeros(array.shape, np.int8), -BITS)
    bits = [frexp(high)[1]] if high > 0 else []
    if low < 0:
        fraction, above = frexp(low)
        bits.append(above - 1 if fraction == -0.5 else above)
    exponent = max(bits) - BITS
    units = np.rint(np.ldexp(array.astype(np.float64), -exponent))
    return QTensor(np.ascontiguousarray(np.clip(units, -128, 127), np.int8), exponent)


def values(tensor: QTensor | Floats) -> NDArray[np.float64]:
    """Return the values of a tensor, exactly."""
    if isinstance(tensor, QTensor):
        return tensor.dequantise()
    return tensor.astype(np.float64)


def _array(tensor: QTensor | Floats) -> NDArray[np.generic]:
    return tensor.mantissa if isinstance(tensor, QTensor) else tensor


def _size_bytes(tensor: QTensor | Floats) -> int:
    if isinstance(tensor, QTensor):
        return tensor.mantissa.size + EXPONENT_BYTES
    return FP32_BYTES * tensor.size
