"""The rounding rules on Python integers, written to be read: what the fast forms must equal.

Each function takes any Python ``int`` and a right shift of 0 or more and follows the words of
its rule, with no trick that depends on a machine's integers. :mod:`kernels.rounding` has the
same names over NumPy arrays.
"""

from __future__ import annotations

INT32_MAX = 2**31 - 1
INT32_MIN = -(2**31)


def _sign(x: int) -> int:
    return (x > 0) - (x < 0)


def trunc(x: int, shift: int) -> int:
    """Divide by ``2^shift``, toward zero: C's ``/``, and NITI's ``//`` (PyTorch before 1.13).

    Examples
    --------
    >>> trunc(-7, 2), -7 // 4
    (-1, -2)
    """
    return _sign(x) * (abs(x) // (1 << shift))


def half_up(x: int, shift: int) -> int:
    """Nearest; ties toward +infinity (Hexagon ``vasr:rnd``, ruy, FBGEMM, XNNPACK rndnu)."""
    return (2 * x + (1 << shift)) // (2 << shift)


def half_away(x: int, shift: int) -> int:
    """Nearest; ties away from zero (NITI v2 ``RoundShift``, gemmlowp ``RoundingDivideByPOT``)."""
    return _sign(x) * half_up(abs(x), shift)


def half_even(x: int, shift: int) -> int:
    """Nearest; ties to the even neighbour (IEEE 754's default, ``rint``)."""
    floor, rest = divmod(x, 1 << shift)
    if 2 * rest == 1 << shift:
        return floor + floor % 2
    return floor + (2 * rest > 1 << shift)


def stochastic(x: int, shift: int, draw: int) -> int:
    """NITI's ``StoShift``: away from zero if the discarded bits of ``|x|`` exceed ``draw``.

    Unbiased when ``draw`` is uniform over ``0 .. 2^shift - 1``.
    """
    rest = abs(x) % (1 << shift)
    return trunc(x, shift) + _sign(x) * (rest > draw)


def psto(x: int, shift: int) -> int:
    """NITI's pseudo-stochastic ``PstoShift``: discarded bits are compared with each other.

    The upper half of the discarded bits of ``|x|`` (one more when ``shift`` is odd) is rounded
    away from zero when it exceeds the lower half, taken as the random number (doubled when
    ``shift`` is odd, to have the same range).
    """
    rest = abs(x) % (1 << shift)
    low_bits = shift // 2
    upper, lower = divmod(rest, 1 << low_bits)
    if shift % 2:
        lower *= 2
    return trunc(x, shift) + _sign(x) * (upper > lower)


def doubling_high_mul(a: int, b: int) -> int:
    """Gemmlowp's ``SaturatingRoundingDoublingHighMul``: ``a b / 2^31``, ties toward +infinity.

    ``fixedpoint/fixedpoint.h``: a nudge of ``2^30`` (``1 - 2^30`` for a negative product), then
    C's division. Only ``INT32_MIN * INT32_MIN`` saturates.
    """
    if a == b == INT32_MIN:
        return INT32_MAX
    product = a * b
    return trunc(product + (2**30 if product >= 0 else 1 - 2**30), 31)


def gemmlowp_multiply(x: int, multiplier: int, shift: int) -> int:
    """``x * multiplier / 2^(31 + shift)`` in gemmlowp's two roundings."""
    return half_away(doubling_high_mul(x, multiplier), shift)


def ruy_multiply(x: int, multiplier: int, shift: int) -> int:
    """``x * multiplier / 2^(31 + shift)`` in one rounding (``ruy/apply_multiplier.cc``)."""
    return half_up(x * multiplier, 31 + shift)


def hexagon_requantise(x: int, shift: int) -> int:
    """hexagon_nn's INT32 to INT8 in its own Q31 steps, the zero point of 128 taken off again.

    ``nn_requantize_i32_to_qu8_hvx`` (``quantize_h.S``): add the zero point and saturate to
    INT32, a Q31 multiply by ``2^-shift`` with rounding, saturate to UINT8.
    """
    shifted = min(max(x + (128 << shift), INT32_MIN), INT32_MAX)
    scaled = ((shifted << 31 - shift) + 2**30) >> 31
    return min(max(scaled, 0), 255) - 128
