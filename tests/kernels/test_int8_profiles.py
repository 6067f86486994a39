"""Numeric profiles: the shift of each released code, inputs, and rescaling by a rule."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import kernels.rounding_oracle as oracle
from kernels.int8.inputs import quantise_input, quantise_input_mandheling
from kernels.int8.rescale import rescale
from kernels.profiles import (
    DROPPED,
    PROFILES,
    InputRule,
    ProfileError,
    RescaleRule,
    Small,
    TensorRole,
    rule_of,
    shift_of,
)
from kernels.quantised import quantise_input_v1, quantise_input_v2
from kernels.rounding import NITI_CLIP, Rounding, ceil_log2

quick = settings(max_examples=300, derandomize=True, deadline=None)
ACTIVATION, ERROR, GRADIENT = TensorRole.ACTIVATION, TensorRole.ERROR, TensorRole.GRADIENT
amaxes = st.integers(0, 2**31) | st.builds(
    lambda k, d: max(0, 2**k + d), st.integers(0, 31), st.sampled_from([-1, 0, 1])
)


def niti_v1_act(acc: list[int]) -> tuple[list[int], int]:
    """``act_calc`` at 03c3122, word for word; int8 casts keep the low 8 bits."""
    shift = ceil_log2(max(abs(v) for v in acc)) - 7
    if shift > 1:
        return [min(max(oracle.psto(v, shift), -127), 127) for v in acc], shift
    if shift == 1:
        return [min(max(oracle.psto(v, 2), -127), 127) for v in acc], 2
    return [(v + 128) % 256 - 128 for v in acc], 0


def niti_v2_grad(acc: list[int], mu: int) -> tuple[list[int], int]:
    """``grad_calc`` at d097335."""
    width = ceil_log2(max(abs(v) for v in acc))
    if width == 0:
        return [0] * len(acc), 0
    if width - mu < 1:
        return [(v + 128) % 256 - 128 for v in acc], 0
    return [min(max(oracle.psto(v, width - mu), -127), 127) for v in acc], width - mu


ints = st.lists(
    st.integers(-(2**31), 2**31 - 1) | st.integers(-300, 300), min_size=1, max_size=30
) | st.lists(st.integers(-128, 128), min_size=1, max_size=10)


@quick
@given(ints)
def test_niti_v1_activations(acc: list[int]) -> None:
    values, shift = niti_v1_act(acc)
    clipped = [v if v < 2**31 else 2**31 - 1 for v in acc]
    for role in (ACTIVATION, ERROR):
        done = rescale(np.array(clipped, np.int32), -9, rule_of(PROFILES["niti_v1"], role))
        assert done.tensor.mantissa.tolist() == values
        assert (done.shift, done.tensor.exponent) == (shift, shift - 9)


@quick
@given(ints, st.sampled_from([(0, 5), (99, 5), (100, 4), (149, 4), (150, 3), (300, 3)]))
def test_niti_v2_gradients_follow_their_schedule(acc: list[int], when: tuple[int, int]) -> None:
    epoch, mu = when
    values, shift = niti_v2_grad(acc, mu)
    rule = rule_of(PROFILES["niti_v2"], GRADIENT, epoch=epoch)
    done = rescale(np.array(acc, np.int32), 3, rule)
    assert rule.bits == mu
    assert done.tensor.mantissa.tolist() == values
    assert done.tensor.exponent == 3 + shift


@quick
@given(amaxes)
def test_shifts_of_all_profiles(amax: int) -> None:
    width = ceil_log2(amax)
    positive = max(width - 7, 0)
    v1 = 2 if width == 8 else positive
    expected = {
        "niti_v1": v1,
        "mandheling_cpu": v1,
        "niti_v2": positive,
        "mandheling_dsp": positive,
        "sandbox": width - 7 if amax else 0,
    }
    for name, shift in expected.items():
        for role in (ACTIVATION, ERROR):
            assert shift_of(PROFILES[name], role, amax) == shift, name
    bits = {"niti_v1": 0, "niti_v2": 5, "mandheling_cpu": 2, "mandheling_dsp": 2}
    for name, mu in bits.items():
        shift = DROPPED if amax <= 1 else max(width - mu, 0)
        assert shift_of(PROFILES[name], GRADIENT, amax) == shift
    shift = DROPPED if amax <= 1 else max(width - 3, 0)
    assert shift_of(PROFILES["mandheling_cpu"], GRADIENT, amax, kind="linear") == shift


def test_128_is_cast_to_minus_128_by_niti_and_clipped_by_others() -> None:
    acc = np.array([128, -128, 5], np.int32)
    v1 = rescale(acc, 0, PROFILES["niti_v1"].activation)
    assert v1.tensor.mantissa.tolist() == [-128, -128, 5]
    assert v1.saturated == 1
    dsp = rescale(acc, 0, PROFILES["mandheling_dsp"].activation)
    assert dsp.tensor.mantissa.tolist() == [127, -128, 5]


def test_dsp_rounds_half_up_to_minus_128_and_niti_v2_half_away_to_minus_127() -> None:
    acc = np.array([-512, 510, -6, 6], np.int32)
    dsp = rescale(acc, 0, PROFILES["mandheling_dsp"].error).tensor
    assert (dsp.mantissa.tolist(), dsp.exponent) == ([-128, 127, -1, 2], 2)
    v2 = rescale(acc, 0, PROFILES["niti_v2"].error).tensor
    assert (v2.mantissa.tolist(), v2.exponent) == ([-127, 127, -2, 2], 2)


def test_sandbox_uses_every_bit_of_small_values() -> None:
    done = rescale(np.array([3, -1], np.int32), 4, PROFILES["sandbox"].error)
    assert done.tensor.mantissa.tolist() == [96, -32]
    assert (done.shift, done.tensor.exponent) == (-5, -1)
    zeros = rescale(np.zeros(4, np.int64), 4, PROFILES["sandbox"].error)
    assert (zeros.shift, zeros.tensor.exponent, zeros.amax) == (0, 4, 0)


def test_dropped_gradients_become_zero_by_every_rule() -> None:
    acc = np.array([1, -1, 0], np.int32)
    for rounding in Rounding:
        if rounding is not Rounding.STOCHASTIC:
            done = rescale(acc, 2, RescaleRule(rounding, bits=2, drop_unit=True))
            assert not done.tensor.mantissa.any()
            assert (done.tensor.exponent, done.lost) == (2, 2)


def test_out_is_used_by_shift_and_by_cast() -> None:
    out = np.empty(2, np.int8)
    for acc in (np.array([5, -7], np.int32), np.array([500, -7000], np.int32)):
        assert rescale(acc, 0, PROFILES["niti_v1"].activation, out).tensor.mantissa is out


@quick
@given(st.lists(st.just(0.0) | st.floats(2**-20, 1e6) | st.floats(-1e6, -1e-9), min_size=1))
def test_input_rules(values: list[float]) -> None:
    x = np.array(values, np.float32)
    v1 = quantise_input_v1(x)
    for rule, q in ((InputRule.NITI_V1, v1), (InputRule.NITI_V2, quantise_input_v2(x))):
        chosen = quantise_input(x, rule)
        assert chosen.exponent == q.exponent
        np.testing.assert_array_equal(chosen.mantissa, q.mantissa)
    ours = quantise_input(x, InputRule.MANDHELING)
    np.testing.assert_array_equal(ours.mantissa, v1.mantissa)
    amax = float(abs(x).max())
    if amax:
        assert np.exp(ours.exponent + 6) < amax * (1 + 1e-9)
        assert amax <= np.exp(ours.exponent + 7) * (1 + 1e-9)


def test_mandheling_input_exponent_is_natural() -> None:
    assert quantise_input_mandheling(np.array([255.0, 1.0])).exponent == 6 - 7
    assert quantise_input_v1(np.array([255.0, 1.0])).exponent == 8 - 7
    assert quantise_input_mandheling(np.zeros(3)).exponent == -7


def test_profiles_are_named_and_what_is_not_allowed_is_refused() -> None:
    assert [*PROFILES] == ["niti_v1", "niti_v2", "mandheling_cpu", "mandheling_dsp", "sandbox"]
    assert all(profile.name == name for name, profile in PROFILES.items())
    with pytest.raises(ProfileError, match="a rule without draws"):
        RescaleRule(Rounding.STOCHASTIC)
    with pytest.raises(ProfileError, match="bits is 8"):
        RescaleRule(Rounding.PSTO, bits=8)
    with pytest.raises(ProfileError, match="allowed: one of niti_v1, niti_v2, mandheling"):
        quantise_input(np.ones(1), "float")  # type: ignore[arg-type]
    assert RescaleRule(Rounding.TRUNC).clip == NITI_CLIP
    assert PROFILES["sandbox"].error.small is Small.SCALE_UP
