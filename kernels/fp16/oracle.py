"""16-bit arithmetic in exact fractions, written to be read: what the compiled kernels must equal.

Every function works on Python floats that are values of the format. A result is computed exactly,
as a fraction, and rounded once.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from math import copysign, inf, isfinite, isnan, nan

from kernels.fp16.formats import HalfFormat
from kernels.fp16.products import Order


def rounded(exact: Fraction, form: HalfFormat, zero: float = 0.0) -> float:
    """Round to nearest, ties to even; ``zero`` is what an exact zero becomes."""
    if exact == 0:
        return zero
    size = abs(exact)
    exponent = size.numerator.bit_length() - size.denominator.bit_length()
    exponent -= size < Fraction(2) ** exponent  # now 2^exponent <= size < 2^(exponent + 1)
    quantum = Fraction(2) ** (max(exponent, form.least_exponent) - form.significand_bits + 1)
    units = round(size / quantum)  # Python rounds fractions half to even
    value = inf if units * quantum > Fraction(form.largest) else float(units * quantum)
    return value if exact > 0 else -value


def product(a: float, b: float, form: HalfFormat) -> float:
    """``a b`` rounded once."""
    if not (isfinite(a) and isfinite(b)):
        return a * b
    return rounded(Fraction(a) * Fraction(b), form, a * b if a * b == 0 else copysign(0.0, a * b))


def total(a: float, b: float, form: HalfFormat) -> float:
    """``a + b`` rounded once."""
    if not (isfinite(a) and isfinite(b)):
        return a + b
    return rounded(Fraction(a) + Fraction(b), form, a + b)


def multiply_add(a: float, b: float, c: float, form: HalfFormat) -> float:
    """``a b + c`` rounded once."""
    if not (isfinite(a) and isfinite(b) and isfinite(c)):
        return nan if isnan(a * b) else a * b + c
    return rounded(Fraction(a) * Fraction(b) + Fraction(c), form, a * b + c)


def dot(
    a: Sequence[float], b: Sequence[float], form: HalfFormat, order: Order, fused: bool
) -> float:
    """Sum of products in one of the orders of :mod:`kernels.fp16.products`."""

    def accumulate(terms: Sequence[tuple[float, float]]) -> float:
        value = 0.0
        for left, right in terms:
            if fused:
                value = multiply_add(left, right, value, form)
            else:
                value = total(value, product(left, right, form), form)
        return value

    terms = list(zip(a, b, strict=True))
    if order == "product":
        return product(*terms[0], form)
    if order == "sequential":
        return accumulate(terms)
    pairs, rest = terms[: len(terms) // 2 * 2], terms[len(terms) // 2 * 2 :]
    if order == "lanes":  # what is left over joins the first lane
        return total(accumulate(pairs[::2] + rest), accumulate(pairs[1::2]), form)
    lanes = total(accumulate(pairs[::2]), accumulate(pairs[1::2]), form)
    return total(accumulate(rest), lanes, form)
