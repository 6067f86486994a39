"""Each rounding rule once, by name: what a right shift does with the bits it drops.

Training in integers stands and falls with these: a floor where NITI truncates biases every
negative value by almost one unit and stops training. All rules are exact over the whole int32
range (and int64), with no overflow on the way; ``shift`` 0 changes nothing. Two forms have the
same names: :mod:`kernels.rounding_oracle` (Python integers, to be read) and this module (NumPy).
Kernels run the rules as compiled loops that clip to INT8 and count what that cost:
:mod:`kernels.int8.rescale_loops` on accumulators in memory, :mod:`kernels.int8.epilogue` on those
that leave a product. The tests hold both to these forms.

==============  =================================  ==========================================
rule            ties or draws                      who uses it
==============  =================================  ==========================================
``trunc``       toward zero                        C's ``/``; NITI ``TruncateInt32``
``half_away``   nearest, ties away from zero       NITI v2 ``RoundShift``; gemmlowp
``half_up``     nearest, ties toward +infinity     Hexagon ``vasr:rnd``, ruy, FBGEMM
``half_even``   nearest, ties to even              ``rint``; QNNPACK and XNNPACK fp32
``stochastic``  draws given by the caller          NITI ``StoShift``
``psto``        the dropped bits are the draw      NITI ``PstoShift``
==============  =================================  ==========================================

NITI: wangmaolin/niti, ``ti_torch.py`` (its ``//`` truncates: PyTorch 1.6 and 1.7). gemmlowp:
``fixedpoint/fixedpoint.h``. ruy: ``ruy/apply_multiplier.cc``. hexagon_nn: ``quantize.c``.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.integer[Any]]
"""int32 or int64 values (any smaller signed integer too)."""
Int64s = NDArray[np.int64]

MAX_SHIFT = 62
NITI_CLIP = (-127, 127)
"""NITI's INT8 range: symmetric, -128 is never made."""
HEXAGON_CLIP = (-128, 127)
"""hexagon_nn's INT8 range."""
HEXAGON_MAX_SHIFT = 23
"""Above it the zero point times ``2^shift`` leaves INT32."""

_INT32 = np.iinfo(np.int32)


class RoundingError(ValueError):
    """A shift, a value or a draw that a rounding rule does not take."""


class Rounding(StrEnum):
    """Names of the rules."""

    TRUNC = "trunc"
    HALF_AWAY = "half_away"
    HALF_UP = "half_up"
    HALF_EVEN = "half_even"
    STOCHASTIC = "stochastic"
    PSTO = "psto"


def ceil_log2(n: int) -> int:
    """Smallest ``b`` with ``n <= 2^b``; 0 for ``n <= 1``. Exact for every integer.

    NITI's ``RangeEstimate`` takes the float32 logarithm, which is too small from
    ``2^21 + 1`` on at some values.

    Examples
    --------
    >>> ceil_log2(1), ceil_log2(128), ceil_log2(129), ceil_log2(2**21 + 1)
    (0, 7, 8, 22)
    """
    return (n - 1).bit_length() if n > 1 else 0


def hexagon_ceil_log2(n: int) -> int:
    """hexagon_nn's ``ceiling_log2`` (``quantize.h``): as :func:`ceil_log2`, but -1 for 0.

    Raises
    ------
    RoundingError
        ``n`` does not fit 32 unsigned bits.
    """
    if not 0 <= n < 2**32:
        raise RoundingError(f"n is {n}; hexagon_nn's ceiling_log2 takes 0 .. 2^32 - 1")
    return n - 1 if n < 4 else (n - 1).bit_length()


def _split(x: Ints, shift: int) -> tuple[Int64s, Int64s]:
    """Floor of ``x / 2^shift``, and what is left: ``0 .. 2^shift - 1``."""
    if not 0 <= shift <= MAX_SHIFT:
        raise RoundingError(
            f"shift is {shift}; allowed: 0 .. {MAX_SHIFT}; scale up with a multiplication instead"
        )
    if x.dtype.kind != "i":
        raise RoundingError(
            f"values have dtype {x.dtype}; allowed: signed integers up to int64; use astype"
        )
    wide = x.astype(np.int64)
    floor = wide >> shift
    return floor, wide - (floor << shift)


def _magnitude(x: Ints, shift: int) -> tuple[Int64s, Int64s]:
    """``x / 2^shift`` toward zero, and the low ``shift`` bits of ``|x|``."""
    floor, rest = _split(x, shift)
    inexact = (x < 0) & (rest > 0)
    return floor + inexact, np.where(inexact, (1 << shift) - rest, rest)


def _below_half(shift: int) -> int:
    """Largest remainder that is less than half."""
    return (1 << shift) - 1 >> 1


def trunc(x: Ints, shift: int) -> Int64s:
    """Shift toward zero.

    Parameters
    ----------
    x
        int32 or int64 values of any shape.
    shift
        Bits to drop, 0 to 62.

    Returns
    -------
    numpy.ndarray
        int64, not clipped, of the same shape.

    Raises
    ------
    RoundingError
        ``shift`` outside 0 .. 62, or values that are no signed integers. So do all rules here.

    Examples
    --------
    >>> trunc(np.array([-7, 7]), 2)
    array([-1,  1])
    """
    return _magnitude(x, shift)[0]


def half_up(x: Ints, shift: int) -> Int64s:
    """Nearest; ties toward +infinity: ``floor((x + 2^(shift-1)) / 2^shift)``. See :func:`trunc`."""
    floor, rest = _split(x, shift)
    return floor + (rest > _below_half(shift))


def half_away(x: Ints, shift: int) -> Int64s:
    """Nearest; ties away from zero: gemmlowp's ``RoundingDivideByPOT``. See :func:`trunc`.

    Equals ``(x + 2^(shift-1) - (x < 0)) >> shift`` where that does not overflow.
    """
    floor, rest = _split(x, shift)
    return floor + (rest > _below_half(shift) + (x < 0))


def half_even(x: Ints, shift: int) -> Int64s:
    """Nearest; ties to the even neighbour. See :func:`trunc`."""
    floor, rest = _split(x, shift)
    return floor + (rest > _below_half(shift) + (1 - (floor & 1)))


def stochastic(x: Ints, shift: int, draws: Ints) -> Int64s:
    """NITI's ``StoShift``: up in magnitude with probability (dropped bits) / ``2^shift``.

    Parameters
    ----------
    x, shift
        As for :func:`trunc`.
    draws
        Integers uniform over ``0 .. 2^shift - 1``, one per value, of the shape of ``x``.

    Raises
    ------
    RoundingError
        As :func:`trunc`; or draws of another shape or outside their range.
    """
    quotient, rest = _magnitude(x, shift)
    if draws.shape != x.shape or draws.dtype.kind not in "iu":
        raise RoundingError(
            f"draws are {draws.dtype} of shape {draws.shape}; allowed: integers of shape {x.shape},"
            " one per value"
        )
    if draws.size and (draws.min() < 0 or draws.max() >= 1 << shift):
        raise RoundingError(
            f"draws span {draws.min()} .. {draws.max()}; allowed: 0 .. 2^{shift} - 1"
        )
    away: Int64s = np.sign(x) * (rest > draws)
    return quotient + away


def psto(x: Ints, shift: int) -> Int64s:
    """NITI's ``PstoShift``: the lower dropped bits decide as a draw would. See :func:`trunc`.

    Odd, ``psto(-x) == -psto(x)``, and the same on every machine. Its mean error in magnitude
    over all dropped bits is ``2^-(s + 1)`` of a unit at an odd shift ``s`` (a quarter at 1) and
    ``-2^-(h + 1) (1 - 2^-h)``, ``h = s / 2``, at an even one.
    """
    quotient, rest = _magnitude(x, shift)
    low_bits = shift // 2
    upper = rest >> low_bits
    lower = (rest & (1 << low_bits) - 1) << shift % 2
    away: Int64s = np.sign(x) * (upper > lower)
    return quotient + away


_PLAIN = {
    Rounding.TRUNC: trunc,
    Rounding.HALF_AWAY: half_away,
    Rounding.HALF_UP: half_up,
    Rounding.HALF_EVEN: half_even,
    Rounding.PSTO: psto,
}


def shift_right(x: Ints, shift: int, rule: Rounding, draws: Ints | None = None) -> Int64s:
    """Shift by the rule of that name; ``draws`` are needed by, and only by, ``stochastic``.

    Raises
    ------
    RoundingError
        As the rule; or draws missing, or given to a rule that has none.
    """
    if rule is Rounding.STOCHASTIC:
        if draws is None:
            raise RoundingError("draws are missing; the rule stochastic needs one per value")
        return stochastic(x, shift, draws)
    if draws is not None:
        raise RoundingError(f"draws were given; the rule {rule.value} takes none: leave them out")
    return _PLAIN[rule](x, shift)


def to_int8(x: Ints, limits: tuple[int, int] = NITI_CLIP) -> NDArray[np.int8]:
    """Clip to ``limits`` (:data:`NITI_CLIP` or :data:`HEXAGON_CLIP`) and store as int8."""
    return np.clip(x, *limits).astype(np.int8)


def _int32_values(name: str, x: Ints) -> Int64s:
    if x.dtype != np.int32:
        raise RoundingError(f"{name} has dtype {x.dtype}; allowed: int32; use astype(np.int32)")
    return x.astype(np.int64)


def _check_multiplier(multiplier: int) -> None:
    if not 0 <= multiplier <= _INT32.max:
        raise RoundingError(f"multiplier is {multiplier}; allowed: 0 .. 2^31 - 1 (a Q31 fraction)")


def doubling_high_mul(a: Ints, b: Ints) -> Int64s:
    """Gemmlowp's ``SaturatingRoundingDoublingHighMul``: ``a b / 2^31``, ties toward +infinity.

    Parameters
    ----------
    a, b
        int32, of shapes that broadcast.

    Returns
    -------
    numpy.ndarray
        int64 values within int32; only ``INT32_MIN * INT32_MIN`` saturates.

    Raises
    ------
    RoundingError
        Another dtype than int32.
    """
    product = _int32_values("a", a) * _int32_values("b", b)
    nudged = product + np.where(product >= 0, 1 << 30, 1 - (1 << 30))
    return np.minimum(trunc(nudged, 31), _INT32.max)


def gemmlowp_multiply(x: Ints, multiplier: int, shift: int) -> Int64s:
    """``x * multiplier / 2^(31 + shift)`` in gemmlowp's two roundings.

    Parameters
    ----------
    x
        int32 values.
    multiplier
        Q31 fraction, 0 to ``2^31 - 1``.
    shift
        0 to 31.

    Raises
    ------
    RoundingError
        A value, multiplier or shift out of range.
    """
    _check_multiplier(multiplier)
    if not 0 <= shift <= 31:
        raise RoundingError(f"shift is {shift}; allowed: 0 .. 31")
    return half_away(doubling_high_mul(x, np.array(multiplier, np.int32)), shift)


def ruy_multiply(x: Ints, multiplier: int, shift: int) -> Int64s:
    """``x * multiplier / 2^(31 + shift)`` in one rounding, ties toward +infinity.

    ``shift`` is -30 to 31 here (ruy's own has the opposite sign); the result is not clipped.

    Raises
    ------
    RoundingError
        A value, multiplier or shift out of range.
    """
    _check_multiplier(multiplier)
    if not -30 <= shift <= 31:
        raise RoundingError(f"shift is {shift}; allowed: -30 .. 31")
    return half_up(_int32_values("x", x) * multiplier, 31 + shift)


def hexagon_requantise(x: Ints, shift: int) -> NDArray[np.int8]:
    """hexagon_nn's INT32 to INT8: ``clip(floor((x + 2^(shift-1)) / 2^shift), -128, 127)``.

    hexagon_nn computes it in Q31 with a zero point of 128; the oracle of this name follows
    those steps.

    Raises
    ------
    RoundingError
        Values other than int32; ``shift`` outside 1 .. 23, where hexagon_nn itself overflows.
    """
    if not 1 <= shift <= HEXAGON_MAX_SHIFT:
        raise RoundingError(
            f"shift is {shift}; allowed: 1 .. {HEXAGON_MAX_SHIFT}, the range of hexagon_nn's"
            " zero point in INT32; use half_up and to_int8 outside it"
        )
    return to_int8(half_up(_int32_values("x", x), shift), HEXAGON_CLIP)
