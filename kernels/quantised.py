"""Quantised tensors: an integer mantissa and one power-of-two exponent, as in NITI.

Value = mantissa * 2^exponent, with one exponent per tensor and no zero point. INT8 mantissas
carry values, INT32 ones are accumulators that wait for a rescale. The rules that make a tensor
from floats are NITI's (wangmaolin/niti, ``ti_torch.py``, version 1 of 2020 and version 2 of
2021); here the logarithm in them is exact.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import frexp
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kernels.rounding import ceil_log2

BITS = 7
"""Magnitude bits of an INT8 mantissa."""
EXPONENT_RANGE = (-126, 127)
"""Exponents allowed: those for which ``2^exponent`` is a normal float32."""
LEAST = 2.0**-118
"""Smallest largest magnitude that every rule of this module has an exponent for."""

Floats = NDArray[np.floating[Any]]


class QuantError(ValueError):
    """A tensor that cannot be quantised so; the message says what is allowed."""


@dataclass(frozen=True, slots=True, eq=False)
class QTensor:
    """An integer tensor with its scale: value = ``mantissa * 2^exponent``.

    Attributes
    ----------
    mantissa
        int8 (values) or int32 (an accumulator), C-contiguous, of any shape. It is not copied.
    exponent
        -126 to 127, one for the tensor. Zeros are the same at any exponent: beyond the range
        theirs becomes the nearest end of it, since an error that has died out gains a smaller one
        with every layer.

    Raises
    ------
    QuantError
        Another dtype, memory order or exponent.

    Examples
    --------
    >>> QTensor(np.array([64, -127], np.int8), -7).dequantise()
    array([ 0.5      , -0.9921875])
    """

    mantissa: NDArray[np.int8] | NDArray[np.int32]
    exponent: int

    def __post_init__(self) -> None:
        if not isinstance(self.mantissa, np.ndarray) or self.mantissa.dtype not in (
            np.int8,
            np.int32,
        ):
            kind = getattr(self.mantissa, "dtype", type(self.mantissa).__name__)
            raise QuantError(
                f"mantissa is {kind}; allowed: an array of int8, or of int32 for an accumulator;"
                " quantise floats with quantise_input or quantise_weight"
            )
        if not self.mantissa.flags.c_contiguous:
            raise QuantError(
                f"mantissa is not C-contiguous (strides {self.mantissa.strides}); copy it once"
                " with numpy.ascontiguousarray"
            )
        least, largest = EXPONENT_RANGE
        if isinstance(self.exponent, bool) or not isinstance(self.exponent, int):
            raise QuantError(f"exponent is {self.exponent!r}; allowed: an int")
        if not least <= self.exponent <= largest:
            if self.mantissa.any():
                raise QuantError(
                    f"exponent is {self.exponent}; allowed: {least} .. {largest}; scale the values"
                )
            object.__setattr__(self, "exponent", min(max(self.exponent, least), largest))

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the mantissa."""
        return self.mantissa.shape

    @property
    def int8(self) -> NDArray[np.int8]:
        """The mantissa of an INT8 tensor; raises :class:`QuantError` for an accumulator."""
        if self.mantissa.dtype != np.int8:
            raise QuantError("mantissa is int32, an accumulator; allowed: int8; rescale it first")
        return self.mantissa.view(np.int8)

    def dequantise(self) -> NDArray[np.float64]:
        """The values, exactly: every int32 times a power of two fits float64."""
        return np.ldexp(self.mantissa.astype(np.float64), self.exponent)

    def amax(self) -> int:
        """Largest magnitude of the mantissa; 0 if it is empty. -2^31 counts as 2^31."""
        if self.mantissa.size == 0:
            return 0
        return max(int(self.mantissa.max()), -int(self.mantissa.min()))


def shift_for(acc_max: int, bits: int = BITS) -> int:
    """Right shift that brings magnitudes up to ``acc_max`` to ``bits`` bits.

    ``ceil_log2(acc_max) - bits``: negative where they are smaller already. At a power of two
    the shifted maximum is ``2^bits``, one too many, and is clipped.

    Parameters
    ----------
    acc_max
        Largest magnitude of an accumulator, 0 or more.
    bits
        Magnitude bits of the result, 0 to 31: 7 for INT8, NITI's ``mu`` for gradients.

    Raises
    ------
    QuantError
        A negative ``acc_max``, or ``bits`` out of range.

    Examples
    --------
    >>> shift_for(128), shift_for(129), shift_for(2**31)
    (0, 1, 24)
    """
    if acc_max < 0:
        raise QuantError(f"acc_max is {acc_max}; allowed: 0 or more, a largest magnitude")
    if not 0 <= bits <= 31:
        raise QuantError(f"bits is {bits}; allowed: 0 .. 31")
    return ceil_log2(acc_max) - bits


def _float_amax(name: str, x: Floats) -> float:
    if not isinstance(x, np.ndarray) or x.dtype.kind != "f":
        kind = getattr(x, "dtype", type(x).__name__)
        raise QuantError(f"{name} is {kind}; allowed: an array of floats; use astype(np.float32)")
    if x.size == 0:
        raise QuantError(f"{name} has shape {x.shape}; allowed: one value or more")
    amax = float(np.abs(x).max())
    if not np.isfinite(amax):
        raise QuantError(f"{name} holds NaN or infinity; allowed: finite values; clean it first")
    return amax


def _float_ceil_log2(amax: float) -> int:
    """``ceil(log2(amax))`` of a positive float, exactly; 0 for 0 (a tensor of zeros)."""
    fraction, exponent = frexp(amax)
    return exponent - 1 if fraction == 0.5 else exponent


def _by_amax(name: str, x: Floats) -> QTensor:
    """``round(x / max|x| * 127)``, ties to even, at the exponent of the enclosing power of two."""
    amax = _float_amax(name, x)
    exponent = _float_ceil_log2(amax) - BITS
    if amax == 0:
        return QTensor(np.zeros(x.shape, np.int8), exponent)
    scaled = np.rint(x / x.dtype.type(amax) * x.dtype.type(127))
    return QTensor(np.ascontiguousarray(scaled, np.int8), exponent)


def quantise_input_v1(x: Floats) -> QTensor:
    """NITI version 1's rule for network inputs: ``round(x / max|x| * 127)``.

    The exponent is ``ceil(log2 max|x|) - 7``, so that values are scaled by up to 2 besides:
    the rule is NITI's, and training absorbs it. One exponent for the whole batch; arithmetic in
    the dtype of ``x``; a tensor of zeros gets the exponent -7.

    Parameters
    ----------
    x
        Floats of any shape but an empty one.

    Returns
    -------
    QTensor
        int8 in -127 .. 127.

    Raises
    ------
    QuantError
        No floats, none at all, NaN or infinity, or an exponent outside -126 .. 127.

    Examples
    --------
    >>> q = quantise_input_v1(np.array([0.75, -1.5], np.float32))
    >>> q.mantissa, q.exponent
    (array([  64, -127], dtype=int8), -6)
    """
    return _by_amax("x", x)


def quantise_input_v2(x: Floats) -> QTensor:
    """NITI version 2's rule for inputs: ``round(x * 2^(7 - b))``, ``b = ceil(log2 max|x|)``.

    Values keep their scale; the mantissa is clipped to -128 .. 127. Otherwise as
    :func:`quantise_input_v1`.

    Examples
    --------
    >>> q = quantise_input_v2(np.array([0.75, -1.5, 2.0], np.float32))
    >>> q.mantissa, q.exponent
    (array([ 48, -96, 127], dtype=int8), -6)
    """
    exponent = _float_ceil_log2(_float_amax("x", x)) - BITS
    scaled = np.rint(np.ldexp(x.astype(np.float64), -exponent))
    return QTensor(np.ascontiguousarray(np.clip(scaled, -128, 127), np.int8), exponent)


def quantise_exactly(array: Floats) -> QTensor:
    """Round to INT8, half to even, with the least exponent at which no value is out of range.

    Unlike :func:`quantise_input_v2`, which takes a largest value of ``2^k`` for
    128 units and clips it to 127, this finds every INT8 tensor's own values again.

    Parameters
    ----------
    array
        Floats of any shape but an empty one. Where no magnitude reaches :data:`LEAST`, all
        becomes 0.

    Raises
    ------
    QuantError
        No floats, none at all, NaN or infinity.

    Examples
    --------
    >>> [quantise_exactly(np.array(pair)).exponent for pair in ([1.0, -0.5], [0.5, -1.0])]
    [-6, -7]
    """
    _float_amax("array", array)
    low, high = float(array.min()), float(array.max())
    if max(-low, high) < LEAST:
        return QTensor(np.zeros(array.shape, np.int8), -BITS)
    bits = [frexp(high)[1]] if high > 0 else []
    if low < 0:
        fraction, above = frexp(low)
        bits.append(above - 1 if fraction == -0.5 else above)
    exponent = max(bits) - BITS
    units = np.rint(np.ldexp(array.astype(np.float64), -exponent))
    return QTensor(np.ascontiguousarray(np.clip(units, -128, 127), np.int8), exponent)


def quantise_weight(w: Floats) -> QTensor:
    """NITI's rule for initial weights: ``round(w / max|w| * 127)``; its exponent stays for good.

    The same as :func:`quantise_input_v1`; both versions of NITI use it for weights.
    """
    return _by_amax("w", w)
