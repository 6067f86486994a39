"""What travels between the server and a phone: tensors in INT8 or FP32, and how many bytes.

An INT8 tensor is its mantissas and one byte for the exponent; an FP32 tensor is four bytes a value.
Names and shapes are known on both sides and do not travel.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kernels.quantised import QTensor, quantise_exactly

Floats = NDArray[np.float32]

FP32_BYTES = 4
EXPONENT_BYTES = 1


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

    INT8 keeps the scale of the values, see
    :func:`kernels.quantised.quantise_exactly`; those of an INT8 tensor travel exactly.

    Examples
    --------
    >>> weights = {"w": np.array([0.75, -1.5], np.float32), "b": np.array([0.1], np.float32)}
    >>> packet = packed(weights, {"w"}, {})
    >>> packet.size_bytes, packet.fp32_bytes, packet.floats()["w"]
    (7, 12, array([ 0.75, -1.5 ], dtype=float32))
    """
    chosen = frozenset(integer)
    tensors = {
        name: quantise_exactly(array) if name in chosen else array
        for name, array in weights.items()
    }
    return Packet(tensors, statistics)


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
