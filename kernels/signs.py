"""A ReLU that keeps one bit per element for its backward pass, in the place of its output.

The error passes where the output was above 0 (and, in INT8, below the bound of
:func:`kernels.int8.pointwise.relu_input_grad`), which a bit tells as well: no gradient changes.
Bits lie one after the other in each sample, eight to a byte, the first highest.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from kernels.arrays import ArrayError
from kernels.operators import Role, Shape, Work
from kernels.windows import Shaped

Bytes = NDArray[np.int8]


@dataclass(frozen=True, slots=True)
class _Signs(Shaped):
    @property
    def packed(self) -> Shape:
        """``(n, bytes)`` of the bits of one tensor."""
        return (self.shape[0], -(-prod(self.shape[1:]) // 8))


@dataclass(frozen=True, slots=True)
class SignMask(_Signs):
    """The bits of a ReLU's output.

    Examples
    --------
    >>> SignMask(shape=(2, 64, 8, 8)).output
    (2, 512)
    """

    kind: ClassVar[str] = "sign_mask"
    role: ClassVar[Role] = Role.FORWARD

    @property
    def output(self) -> Shape:
        """``(n, bytes)``."""
        return self.packed

    def work(self, role: Role) -> Work:
        """A compare per element; writes count bytes, whatever the data type."""
        if role is not self.role:
            raise self.no_role(role)
        size = prod(self.shape)
        return Work(0, size, (size,), prod(self.packed))


@dataclass(frozen=True, slots=True)
class MaskedGrad(_Signs):
    """The error where its bit is set, else 0."""

    kind: ClassVar[str] = "masked_grad"
    role: ClassVar[Role] = Role.INPUT_GRAD

    @property
    def inputs(self) -> tuple[Shape, ...]:
        """``(shape, (n, bytes))``."""
        return (self.shape, self.packed)

    def work(self, role: Role) -> Work:
        """One choice per element; the second read counts bytes, whatever the data type."""
        if role is not self.role:
            raise self.no_role(role)
        size = prod(self.shape)
        return Work(0, size, (size, prod(self.packed)), size)


def pack_signs(y: NDArray[Any], bound: float = float("inf")) -> Bytes:
    """Bits of ``0 < y < bound``: (n, bytes) int8.

    Parameters
    ----------
    y
        (n, ...) int8 or float32.
    bound
        From which on no error passes.

    Examples
    --------
    >>> pack_signs(np.array([[1, -1, 0, 2, 127]], np.int8), bound=127).view(np.uint8)
    array([[144]], dtype=uint8)
    """
    keep = (y > 0) & (y < bound)
    return np.packbits(keep.reshape(len(y), -1), axis=1).view(np.int8)


def masked(e: NDArray[Any], signs: Bytes) -> NDArray[Any]:
    """``e`` where its bit is set, else 0; a new array.

    Raises
    ------
    ArrayError
        Bits of another number of elements.
    """
    size = prod(e.shape[1:])
    if signs.shape != (len(e), -(-size // 8)) or signs.dtype != np.int8:
        raise ArrayError(
            f"signs are {signs.dtype} {signs.shape}; allowed: int8 {(len(e), -(-size // 8))}, the "
            "bits of a tensor like e"
        )
    bits = np.unpackbits(signs.view(np.uint8), axis=1, count=size).reshape(e.shape)
    return np.where(bits, e, e.dtype.type(0))
