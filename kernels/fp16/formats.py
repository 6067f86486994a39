"""The two 16-bit formats: rounding to them, their bits, and counts of what overflowed.

Rounding is to nearest, ties to even, gradual underflow included; what lies beyond the largest value
becomes infinite. NaN has one encoding, that of RISC-V (positive, quiet, no payload).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from kernels.arrays import ArrayError, Floats
from kernels.fp16.rounding import round_flat

Bits = NDArray[np.uint16]


@dataclass(frozen=True, slots=True)
class HalfFormat:
    """A binary format of 16 bits.

    Attributes
    ----------
    name
        ``fp16`` or ``bf16``, as in plans.
    significand_bits
        Bits of precision, the leading one included.
    exponent_bits
        Bits of the exponent field.
    """

    name: str
    significand_bits: int
    exponent_bits: int

    @property
    def bias(self) -> int:
        """What the exponent field adds to the exponent: also the largest exponent."""
        return (1 << (self.exponent_bits - 1)) - 1

    @property
    def least_exponent(self) -> int:
        """Exponent of the least normal value."""
        return 1 - self.bias

    @property
    def largest(self) -> float:
        """Largest finite value."""
        return (2 - 2.0 ** (1 - self.significand_bits)) * 2.0**self.bias

    @property
    def quantum(self) -> float:
        """Least positive value, subnormal: the distance of values around zero."""
        return 2.0 ** (self.least_exponent - self.significand_bits + 1)

    @property
    def rule(self) -> tuple[float, float, float]:
        """What the compiled rounding is told: see :func:`kernels.fp16.rounding.rounded`."""
        lost = 53 - self.significand_bits
        limit = self.largest + 2.0 ** (self.bias - self.significand_bits)
        return 1.5 * 2.0**lost, 2.0**self.least_exponent, limit


FP16: Final = HalfFormat("fp16", 11, 5)
BF16: Final = HalfFormat("bf16", 8, 8)
FORMATS: Final = {one.name: one for one in (FP16, BF16)}


def round_to(x: NDArray[Any], form: HalfFormat) -> Floats:
    """Round float32 or float64 values once; float32 array of the same shape.

    Examples
    --------
    >>> import numpy as np
    >>> round_to(np.array([1.0 + 2.0**-11, 1.0 + 3 * 2.0**-11, 65520.0]), FP16).tolist()
    [1.0, 1.001953125, inf]
    """
    out = np.empty(x.shape, np.float32)
    with np.errstate(invalid="ignore"):  # a signalling NaN becomes a quiet one
        wide = np.ascontiguousarray(x, np.float64)
    round_flat(wide.reshape(-1), out.reshape(-1), *form.rule)
    return out


def encode(x: Floats, form: HalfFormat) -> Bits:
    """Bits of values that are in the format, as uint16.

    Raises
    ------
    ArrayError
        A value that the format does not have; round first.

    Examples
    --------
    >>> import numpy as np
    >>> [f"{bits:04x}" for bits in encode(np.array([1.0, -2.0], np.float32), BF16)]
    ['3f80', 'c000']
    """
    wide = np.ascontiguousarray(x, np.float32)
    kept = round_to(wide, form)
    if not np.array_equal(kept, wide, equal_nan=True):
        raise ArrayError(f"x has values that {form.name} does not have; apply round_to first")
    if form is FP16:
        bits = wide.astype(np.float16).view(np.uint16)
    else:
        bits = (wide.view(np.uint32) >> np.uint32(16)).astype(np.uint16)
    quiet = np.uint16((2 ** (form.exponent_bits + 1) - 1) << (form.significand_bits - 2))
    return np.where(np.isnan(wide), quiet, bits).astype(np.uint16)


def decode(bits: Bits, form: HalfFormat) -> Floats:
    """Values of bits, as float32; the inverse of :func:`encode`."""
    if form is FP16:
        return np.ascontiguousarray(bits, np.uint16).view(np.float16).astype(np.float32)
    return (bits.astype(np.uint32) << np.uint32(16)).view(np.float32)


def overflowed(x: Floats) -> int:
    """Count values that are infinite or no numbers: what overflowed, here or before."""
    return int(x.size - np.isfinite(x).sum())
