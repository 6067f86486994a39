"""Each rounding rule: its oracle, its NumPy form and the compiled loops are one function."""

from __future__ import annotations

from fractions import Fraction
from math import ceil, floor
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from int8_cases import compiled_loops

import kernels.rounding as fast
import kernels.rounding_oracle as oracle
from kernels.int8.draws import draw_oracle
from kernels.int8.rescale import requantise, requantise_stochastic
from kernels.int8.stored import Store
from kernels.rounding import HEXAGON_CLIP, NITI_CLIP, Rounding, RoundingError

INT32 = np.iinfo(np.int32)
INT64 = np.iinfo(np.int64)
PLAIN = ("trunc", "half_up", "half_away", "half_even", "psto")
SMALL = np.arange(-70_000, 70_001, dtype=np.int32)
EDGES = [INT32.min, INT32.min + 1, -(2**24), -129, -128, -1, 0, 1, 127, 128, INT32.max - 1]
quick = settings(max_examples=150, derandomize=True, deadline=None)
int32s = st.integers(INT32.min, INT32.max) | st.sampled_from([*EDGES, INT32.max])


def near(x: Any, shift: int) -> Any:
    """As many upper bits of int32 as ``shift`` leaves within INT8."""
    return x >> max(24 - shift, 0)


def drawn_int32(count: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    wide = rng.integers(INT32.min, INT32.max, count, np.int32, endpoint=True)
    narrow = wide >> rng.integers(0, 32, count).astype(np.int32)
    return np.concatenate([wide, narrow, np.array([*EDGES, INT32.max], np.int32)])


@pytest.mark.parametrize("shift", [*range(33), 40, 62])
@pytest.mark.parametrize("rule", PLAIN)
def test_the_numpy_form_is_the_oracle_over_int32(rule: str, shift: int) -> None:
    x = drawn_int32(60, shift)
    want = [getattr(oracle, rule)(int(value), shift) for value in x]
    assert getattr(fast, rule)(x, shift).tolist() == want


@pytest.mark.parametrize("shift", range(32))
@pytest.mark.parametrize("rule", PLAIN)
def test_the_compiled_loops_are_the_rule_clipped(rule: str, shift: int) -> None:
    x = drawn_int32(300, shift)
    x = np.concatenate([x, near(x, shift)])
    exact = np.array([getattr(oracle, rule)(int(value), shift) for value in x])
    assert (np.abs(exact) < 128).sum() > x.size // 2
    for clip in (NITI_CLIP, HEXAGON_CLIP):
        for stored in compiled_loops(x, shift, Rounding(rule), clip):
            assert np.array_equal(stored, exact.clip(*clip))


@quick
@given(st.integers(INT64.min, INT64.max), st.integers(0, 62))
def test_int64_does_not_overflow(x: int, shift: int) -> None:
    for rule in PLAIN:
        want = getattr(oracle, rule)(x, shift)
        assert getattr(fast, rule)(np.array([x]), shift).tolist() == [want], rule
        if shift <= 31:  # what a store takes
            store = Store(shift, Rounding(rule), HEXAGON_CLIP)
            clipped = min(max(want, -128), 127)
            assert requantise(np.array([x]), store).values.tolist() == [clipped], rule


@quick
@given(int32s, st.integers(0, 31))
def test_oracles_say_what_their_names_say(x: int, shift: int) -> None:
    exact = Fraction(x, 2**shift)
    half = Fraction(1, 2)
    assert oracle.trunc(x, shift) == int(exact)
    assert oracle.half_up(x, shift) == floor(exact + half)
    assert oracle.half_away(x, shift) == (floor(exact + half) if x >= 0 else ceil(exact - half))
    assert oracle.half_even(x, shift) == round(exact)
    assert abs(oracle.psto(x, shift) - exact) < 1


@quick
@given(int32s, st.integers(0, 31), st.data())
def test_stochastic_in_numpy_is_the_oracle(x: int, shift: int, data: st.DataObject) -> None:
    draw = data.draw(st.integers(0, 2**shift - 1))
    want = oracle.stochastic(x, shift, draw)
    assert fast.stochastic(np.array([x]), shift, np.array([draw])).tolist() == [want]
    assert fast.stochastic(np.array([-x]), shift, np.array([draw])).tolist() == [-want]


@quick
@given(int32s, st.integers(1, 31), st.integers(0, 2**64 - 1))
def test_stochastic_is_compiled_with_the_draws_of_a_key(x: int, shift: int, key: int) -> None:
    acc = np.array([x, near(x, shift)], np.int32)
    draws = [draw_oracle(key, i) >> 64 - shift for i in range(2)]
    want = [oracle.stochastic(int(v), shift, d) for v, d in zip(acc, draws, strict=True)]
    stored = requantise_stochastic(acc, shift, key, HEXAGON_CLIP).values
    assert stored.tolist() == np.clip(want, *HEXAGON_CLIP).tolist()


@pytest.mark.parametrize("shift", range(1, 16))
def test_identities_on_every_value_up_to_70000(shift: int) -> None:
    x = SMALL
    assert np.array_equal(fast.psto(-x, shift), -fast.psto(x, shift))
    closed = (x.astype(np.int64) + 2 ** (shift - 1) - (x < 0)) >> shift
    assert np.array_equal(fast.half_away(x, shift), closed)
    up = (x.astype(np.int64) + 2 ** (shift - 1)) >> shift
    assert np.array_equal(fast.half_up(x, shift), up)
    assert np.array_equal(fast.half_even(x, shift), np.rint(x / 2**shift))
    differ = np.flatnonzero(fast.half_up(x, shift) != fast.half_away(x, shift))
    ties = np.flatnonzero((x < 0) & (x % 2**shift == 2 ** (shift - 1)))
    assert np.array_equal(differ, ties)  # half_up and half_away part on negative ties only


@pytest.mark.parametrize("shift", range(1, 16))
def test_psto_is_odd_on_every_value_up_to_70000(shift: int) -> None:
    """In the oracle, and in the loops that run; INT8 keeps each pattern of dropped bits."""
    exact = [oracle.psto(x, shift) for x in range(70_001)]
    assert [-oracle.psto(-x, shift) for x in range(70_001)] == exact
    assert fast.psto(SMALL[70_000:], shift).tolist() == exact
    want = fast.psto(SMALL, shift).clip(*NITI_CLIP)
    for x in (SMALL, SMALL.astype(np.int64)):
        up = compiled_loops(x, shift, Rounding.PSTO, NITI_CLIP)
        down = compiled_loops(-x, shift, Rounding.PSTO, NITI_CLIP)
        for one, other in zip(up, down, strict=True):
            assert np.array_equal(other, -one)
            assert np.array_equal(one, want)


@pytest.mark.parametrize("shift", range(1, 16))
def test_psto_follows_the_formula_of_niti(shift: int) -> None:
    quotient = (np.abs(SMALL) >> shift) * np.sign(SMALL)
    rest = np.abs(SMALL - quotient * 2**shift)
    low = shift // 2
    quasi, pseudo = rest >> low, rest & (2**low - 1)
    if shift % 2:
        pseudo = pseudo * 2
    want = quotient + np.sign(SMALL) * (quasi > pseudo)
    assert np.array_equal(fast.psto(SMALL, shift), want)


@pytest.mark.parametrize("shift", range(1, 13))
def test_psto_has_the_documented_bias(shift: int) -> None:
    x = np.arange(2**shift) + 2**shift
    error = Fraction(int((fast.psto(x, shift) * 2**shift - x).sum()), 4**shift)
    half = shift // 2
    even = -Fraction(1, 2 ** (half + 1)) * (1 - Fraction(1, 2**half))
    assert error == (Fraction(1, 2 ** (shift + 1)) if shift % 2 else even)


def test_flooring_where_niti_truncates_would_bias_negatives_by_most_of_a_unit() -> None:
    x = -np.arange(1, 4096, dtype=np.int32)
    for shift in (4, 8):
        floored = x >> shift  # what ``//`` does in Python, NumPy and PyTorch from 1.13 on
        rest = x - floored * 2**shift
        quasi, pseudo = rest >> shift // 2, rest & (2 ** (shift // 2) - 1)
        wrong = floored - (quasi > pseudo)
        assert (wrong - x / 2**shift).mean() < -0.6
        assert abs((fast.psto(x, shift) - x / 2**shift).mean()) < 0.15


@pytest.mark.parametrize("shift", range(9))
def test_stochastic_is_unbiased_over_all_its_draws(shift: int) -> None:
    draws = np.arange(2**shift)
    for x in (*range(-300, 301, 7), INT32.min, INT32.max):
        values = fast.stochastic(np.full(2**shift, x), shift, draws)
        assert values.sum() == x


def test_no_shift_changes_nothing() -> None:
    x = drawn_int32(20, 0)
    for rule in PLAIN:
        assert np.array_equal(getattr(fast, rule)(x, 0), x)


def test_a_rule_is_found_by_name() -> None:
    x = drawn_int32(20, 1)
    for rule in set(Rounding) - {Rounding.STOCHASTIC}:
        assert np.array_equal(fast.shift_right(x, 5, rule), getattr(fast, rule.value)(x, 5))
    draws = np.arange(x.size) % 32
    drawn = fast.shift_right(x, 5, Rounding.STOCHASTIC, draws)
    assert np.array_equal(drawn, fast.stochastic(x, 5, draws))


def test_what_enters_is_checked() -> None:
    x = np.array([5, 6], np.int32)
    cases = [
        (lambda: fast.trunc(x, -1), r"shift is -1; allowed: 0 \.\. 62"),
        (lambda: fast.psto(x, 63), r"shift is 63; allowed: 0 \.\. 62"),
        (lambda: fast.half_up(x.astype(np.float32), 2), "dtype float32; allowed: signed integers"),
        (lambda: fast.half_up(x.astype(np.uint32), 2), "dtype uint32; allowed: signed integers"),
        (lambda: fast.stochastic(x, 2, np.array([4, 0])), r"span 0 \.\. 4; allowed: 0 \.\. 2\^2"),
        (lambda: fast.stochastic(x, 2, np.array([-1, 0])), r"span -1 \.\. 0; allowed"),
        (lambda: fast.stochastic(x, 2, np.array([1])), r"one per value"),
        (lambda: fast.stochastic(x, 2, np.array([0.5, 1])), r"float64 .* allowed: integers"),
        (lambda: fast.shift_right(x, 2, Rounding.STOCHASTIC), "draws are missing"),
        (lambda: fast.shift_right(x, 2, Rounding.PSTO, x), "the rule psto takes none"),
    ]
    for action, message in cases:
        with pytest.raises(RoundingError, match=message):
            action()
