"""Quantised tensors: what they hold, and NITI's rules that make them from floats."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.quantised import (
    QTensor,
    QuantError,
    quantise_input_v1,
    quantise_input_v2,
    quantise_weight,
    shift_for,
)

quick = settings(max_examples=100, derandomize=True, deadline=None)
value = st.floats(2**-100, 2**20, width=32)
signed = value | value.map(lambda x: -x) | st.just(0.0)
floats = st.lists(signed, min_size=1, max_size=20).map(lambda x: np.array(x, np.float32))


def test_value_is_mantissa_times_a_power_of_two_exactly() -> None:
    accumulator = np.array([2**31 - 1, -(2**31), 3], np.int32)
    for exponent in (-126, -14, 0, 127):
        values = QTensor(accumulator, exponent).dequantise()
        assert values.dtype == np.float64
        assert values.tolist() == [float(m) * 2.0**exponent for m in accumulator.tolist()]


def test_amax_counts_the_lowest_integer() -> None:
    assert QTensor(np.array([-128, 127], np.int8), 0).amax() == 128
    assert QTensor(np.array([-(2**31), 5], np.int32), 0).amax() == 2**31
    assert QTensor(np.zeros((2, 0), np.int8), 0).amax() == 0
    assert QTensor(np.zeros((2, 3), np.int8), 0).shape == (2, 3)


@pytest.mark.parametrize(("exponent", "kept"), [(-128, -126), (-400, -126), (128, 127), (5, 5)])
def test_zeros_have_an_exponent_of_the_range(exponent: int, kept: int) -> None:
    assert QTensor(np.zeros(3, np.int8), exponent).exponent == kept


def test_a_tensor_is_checked_where_it_is_made() -> None:
    good = np.ones((2, 3), np.int8)
    cases = [
        (good.astype(np.int16), 0, "mantissa is int16; allowed: an array of int8"),
        (good.astype(np.float32), 0, "mantissa is float32; .* quantise_input"),
        ([1, 2], 0, "mantissa is list"),
        (good.T, 0, "not C-contiguous .*ascontiguousarray"),
        (good, -127, r"exponent is -127; allowed: -126 \.\. 127"),
        (good, 128, "exponent is 128"),
        (good, 1.5, r"exponent is 1\.5; allowed: an int"),
        (good, True, "exponent is True; allowed: an int"),
    ]
    for mantissa, exponent, message in cases:
        with pytest.raises(QuantError, match=message):
            QTensor(mantissa, exponent)  # type: ignore[arg-type]


@quick
@given(floats)
def test_version_1_scales_the_largest_value_to_127(x: np.ndarray) -> None:
    q = quantise_input_v1(x)
    if not x.any():
        assert (q.exponent, q.amax()) == (-7, 0)
        return
    amax = np.abs(x).max()
    assert q.amax() == 127
    assert 2.0 ** (q.exponent + 6) < amax <= 2.0 ** (q.exponent + 7)
    assert np.abs(q.mantissa - x.astype(np.float64) / amax * 127).max() <= 0.5001
    weight = quantise_weight(x)
    assert np.array_equal(weight.mantissa, q.mantissa)
    assert weight.exponent == q.exponent


@quick
@given(floats)
def test_version_2_keeps_the_scale(x: np.ndarray) -> None:
    q = quantise_input_v2(x)
    unit = 2.0**q.exponent
    error = np.abs(q.dequantise() - x)
    inside = x < 127.5 * unit
    assert (error[inside] <= unit / 2).all()
    assert (q.mantissa[~inside] == 127).all()  # only the top half unit of the range is clipped


def test_exponents_at_powers_of_two() -> None:
    for amax, exponent in ((1.0, -7), (1.0000001, -6), (2.0, -6), (0.5, -8), (2.0**-100, -107)):
        x = np.array([amax, 0.0], np.float32)
        assert quantise_input_v1(x).exponent == exponent
        assert quantise_input_v2(x).exponent == exponent
    assert quantise_input_v2(np.array([1.0, -1.0])).mantissa.tolist() == [127, -128]


def test_ties_go_to_even() -> None:
    x = np.array([2.5, 3.5, -2.5, 127.0], np.float32)
    assert quantise_input_v2(x).mantissa.tolist() == [2, 4, -2, 127]
    assert quantise_input_v1(x).mantissa.tolist() == [2, 4, -2, 127]


def test_a_strided_view_becomes_a_contiguous_mantissa() -> None:
    x = np.arange(12, dtype=np.float32).reshape(3, 4).T
    for rule in (quantise_input_v1, quantise_input_v2, quantise_weight):
        assert rule(x).mantissa.flags.c_contiguous
        assert rule(x).shape == (4, 3)


@pytest.mark.parametrize("rule", [quantise_input_v1, quantise_input_v2, quantise_weight])
def test_floats_are_checked(rule) -> None:
    cases = [
        (np.zeros(3, np.int8), "is int8; allowed: an array of floats"),
        ([0.5], "is list; allowed: an array of floats"),
        (np.zeros((0, 3)), r"has shape (0, 3); allowed: one value or more"),
        (np.array([np.nan, 1.0]), "holds NaN or infinity"),
        (np.array([np.inf]), "holds NaN or infinity"),
        (np.array([1e-300]), "exponent is -1003; allowed: -126 .. 127"),
    ]
    for x, message in cases:
        with pytest.raises(QuantError, match=re.escape(message)):
            rule(x)


def test_shift_for_leaves_seven_bits() -> None:
    assert [shift_for(n) for n in (0, 1, 127, 128, 129, 256, 257)] == [-7, -7, 0, 0, 1, 1, 2]
    assert shift_for(2**31) == 24
    assert shift_for(1000, bits=3) == 7
    for acc_max in (129, 5000, 2**20 + 1, 2**31):
        assert acc_max / 2 ** shift_for(acc_max) <= 128 < 2 * acc_max / 2 ** shift_for(acc_max)
    with pytest.raises(QuantError, match="acc_max is -1; allowed: 0 or more"):
        shift_for(-1)
    with pytest.raises(QuantError, match=r"bits is 32; allowed: 0 \.\. 31"):
        shift_for(5, bits=32)
