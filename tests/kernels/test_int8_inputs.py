"""Floats at the door of a network, against scalars and exact fractions."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal, localcontext
from fractions import Fraction
from math import ceil

import numpy as np
import pytest
from int8_cases import ACCEPT_CASES, CASES, Check, compare, shape_of

from kernels.int8.inputs import quantise_input
from kernels.profiles import InputRule


def floats(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Float32 around one magnitude, halves of an INT8 unit (ties), bytes of an image, zeros."""
    kind = rng.integers(4)
    if kind == 0:
        x = rng.integers(0, 256, shape).astype(np.float32)
    elif kind == 1:
        x = np.ldexp(rng.integers(-256, 257, shape) / 2.0, rng.integers(-100, 90))
    else:
        x = rng.normal(size=shape) * 2.0 ** rng.integers(-100, 90)
    return np.where(rng.random(shape) < rng.choice([0, 0.5]), 0, x).astype(np.float32)


def binary_exponent(amax: Fraction) -> int:
    """Least ``b`` with ``amax <= 2^b``; 0 for 0."""
    if amax == 0:
        return 0
    b = amax.numerator.bit_length() - amax.denominator.bit_length() - 1
    while amax > Fraction(2) ** b:
        b += 1
    return b


def natural_exponent(amax: Fraction) -> int:
    """Least ``k`` with ``amax <= exp(k)``, by a logarithm of 40 digits; 0 for 0."""
    if amax == 0:
        return 0
    with localcontext() as context:
        context.prec = 40
        return ceil((Decimal(amax.numerator) / Decimal(amax.denominator)).ln())


def by_largest(x: np.ndarray) -> list[int]:
    """``round(x / max|x| * 127)`` in float32, one operation at a time; ties to even."""
    amax = max(abs(v) for v in x.reshape(-1))
    if amax == 0:
        return [0] * x.size
    return [round(float(v / amax * np.float32(127))) for v in x.reshape(-1)]


def check(rng: np.random.Generator, rule: InputRule) -> None:
    x = floats(rng, shape_of(rng, 5))
    got = quantise_input(x, rule)
    amax = Fraction(float(abs(x).max()))
    if rule is InputRule.NITI_V2:
        exponent = binary_exponent(amax) - 7
        unit = Fraction(2) ** exponent
        exact = [round(Fraction(v) / unit) for v in x.reshape(-1).tolist()]
        mantissa = [min(max(v, -128), 127) for v in exact]
    else:
        power = natural_exponent if rule is InputRule.MANDHELING else binary_exponent
        exponent, mantissa = power(amax) - 7, by_largest(x)
    assert got.mantissa.reshape(-1).tolist() == mantissa
    assert (got.shape, got.mantissa.dtype, got.exponent) == (x.shape, np.int8, exponent)


CHECKS: dict[InputRule, Check] = {
    rule: lambda rng, rule=rule: check(rng, rule) for rule in InputRule
}


@pytest.mark.parametrize("rule", CHECKS)
def test_every_rule_equals_its_oracle(rule: InputRule) -> None:
    assert compare(CHECKS[rule], CASES, seed=63) == CASES


@pytest.mark.accept
@pytest.mark.parametrize("rule", CHECKS)
def test_every_rule_equals_its_oracle_on_ten_thousand_cases(
    rule: InputRule, record_property: Callable[[str, object], None]
) -> None:
    record_property("cases", compare(CHECKS[rule], ACCEPT_CASES, seed=64))
