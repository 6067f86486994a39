"""Between FP32 and INT8: the compiled twins of :mod:`kernels.quantised`'s value-preserving rule.

``mantissa = clip(rint(x * 2^-e))`` with ``e = ceil(log2 max|x|) - 7``. A power of two scales
exactly, so the only rounding is ``rint``'s, ties to even.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from kernels.arrays import target
from kernels.jit import compiled
from kernels.quantised import BITS, EXPONENT_RANGE, QTensor, QuantError
from kernels.rounding import NITI_CLIP
from kernels.threads import over_elements

_ALWAYS_FITS = 96
"""Exponent up to which every int32 is a finite float32: ``2^31 * 2^96``."""
_LARGEST = float(np.finfo(np.float32).max)
_INFINITE = 0x7F800000
"""Bits of infinity: what is as large or larger is no number."""
_MAGIC = np.float32(12582912.0)
"""1.5 * 2^23: added and taken away, it leaves a float32 below 2^22 rounded to even."""

Floats = NDArray[np.float32]


@compiled
def _largest_bits(x: NDArray[np.int32], first: int, last: int) -> np.int32:
    """Largest magnitude of float32 values, as bits: they order like the magnitudes."""
    largest = np.int32(0)
    for i in range(first, last):
        largest = max(largest, np.int32(x[i] & np.int32(0x7FFFFFFF)))
    return largest


@compiled
def rounded(x: np.float32, scale: np.float32, low: np.float32, high: np.float32) -> Any:
    """One mantissa: ``clip(rint(x * scale))``, ties to even."""
    value = min(max(np.float32(x * scale), low), high)
    return np.int8(np.float32(np.float32(value + _MAGIC) - _MAGIC))


@compiled
def _to_int8(
    x: Floats, scale: np.float32, low: np.float32, high: np.float32, out: NDArray[np.int8],
    first: int, last: int,
) -> None:  # fmt: skip
    for i in range(first, last):
        out[i] = rounded(x[i], scale, low, high)


@compiled
def _to_float(x: NDArray[Any], unit: np.float32, out: Floats, first: int, last: int) -> None:
    for i in range(first, last):
        out[i] = np.float32(np.float32(x[i]) * unit)


def float_amax(x: Floats, threads: int | None = None) -> float:
    """Largest magnitude of float32 values, exactly.

    Parameters
    ----------
    x
        float32, C-contiguous, one value or more.

    Raises
    ------
    QuantError
        Another dtype or order, no values, NaN or infinity.
    """
    if x.dtype != np.float32 or not x.flags.c_contiguous or x.size == 0:
        raise QuantError(
            f"x is {x.dtype} of shape {x.shape}, strides {x.strides}; allowed: float32, "
            "C-contiguous, one value or more; use numpy.ascontiguousarray(x, numpy.float32)"
        )
    bits = x.reshape(-1).view(np.int32)
    return magnitude_of_bits(
        max(over_elements(lambda a, b: int(_largest_bits(bits, a, b)), x.size, threads))
    )


def magnitude_of_bits(largest: int) -> float:
    """The magnitude that the bits of a float32 without its sign are.

    Raises
    ------
    QuantError
        They are those of NaN or infinity.
    """
    if largest >= _INFINITE:
        raise QuantError("x holds NaN or infinity: training has diverged; lower the learning rate")
    return float(np.array(largest, np.int32).view(np.float32))


def quantise(
    x: Floats,
    clip: tuple[int, int] = NITI_CLIP,
    out: NDArray[np.int8] | None = None,
    threads: int | None = None,
) -> QTensor:
    """FP32 to INT8 at the exponent ``ceil(log2 max|x|) - 7``; values keep their scale.

    Parameters
    ----------
    x
        float32, C-contiguous, of any shape but an empty one. Zeros get the exponent -7, values
        that are all below ``2^-119`` the least one, -126.
    clip
        Least and largest mantissa.
    out
        int8 array of the shape of ``x`` to write to; a new one by default.
    threads
        Threads at most; default: every core of this process. The bits do not depend on it.

    Raises
    ------
    QuantError
        As :func:`float_amax`.
    ArrayError
        ``out`` of another dtype, shape or memory order, or read-only.

    Examples
    --------
    >>> quantise(np.array([0.75, -1.5, 2.0], np.float32)).mantissa
    array([ 48, -96, 127], dtype=int8)
    """
    exponent = exponent_of(float_amax(x, threads))
    mantissa = target(out, x.shape, np.int8)
    scale, low, high = np.float32(2.0**-exponent), np.float32(clip[0]), np.float32(clip[1])
    flat, result = x.reshape(-1), mantissa.reshape(-1)
    over_elements(lambda a, b: _to_int8(flat, scale, low, high, result, a, b), x.size, threads)
    return QTensor(mantissa, exponent)


def dequantise(q: QTensor, out: Floats | None = None, threads: int | None = None) -> Floats:
    """INT8 (or INT32 below ``2^24``) to FP32, exactly: ``mantissa * 2^exponent``.

    Raises
    ------
    QuantError
        A value that is too large for float32.
    ArrayError
        ``out`` of another dtype, shape or memory order, or read-only.

    Examples
    --------
    >>> dequantise(QTensor(np.array([64, -127], np.int8), -7))
    array([ 0.5      , -0.9921875], dtype=float32)
    """
    unit = unit_of(q)
    values = target(out, q.shape, np.float32)
    flat, result = q.mantissa.reshape(-1), values.reshape(-1)
    over_elements(lambda a, b: _to_float(flat, unit, result, a, b), flat.size, threads)
    return values


def unit_of(q: QTensor) -> np.float32:
    """What a mantissa of 1 is worth, as float32.

    Raises
    ------
    QuantError
        A value that is too large for float32.
    """
    if q.exponent > _ALWAYS_FITS and q.amax() * 2.0**q.exponent > _LARGEST:
        raise QuantError(
            f"q reaches {q.amax()} * 2^{q.exponent}; allowed: values below 2^128, the largest"
            " float32; use QTensor.dequantise, which gives float64"
        )
    return np.float32(2.0**q.exponent)


def exponent_of(amax: float) -> int:
    """``ceil(log2 amax) - 7``; that of 1.0 for a tensor of zeros, and never out of range."""
    fraction, exponent = np.frexp(amax)
    power = 0 if amax == 0 else int(exponent) - (1 if fraction == 0.5 else 0)
    return max(power - BITS, EXPONENT_RANGE[0])
