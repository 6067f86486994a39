"""Rescaling of accumulators against the plain rounding rules, and the keyed draws."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.int8.arrays import ArrayError
from kernels.int8.draws import DrawError, draw, draw_key, draw_oracle
from kernels.int8.rescale import amax, requantise, requantise_stochastic
from kernels.int8.stored import Store, StoreError
from kernels.rounding import HEXAGON_CLIP, NITI_CLIP, Rounding, shift_right, stochastic

quick = settings(max_examples=150, derandomize=True, deadline=None)
RULES = [rule for rule in Rounding if rule is not Rounding.STOCHASTIC]
CLIPS = [NITI_CLIP, HEXAGON_CLIP, (-1, 5)]


def accumulators(seed: int, size: int, dtype: type) -> np.ndarray:
    """Every magnitude alike likely, with the ends of the range and ties in front."""
    rng = np.random.default_rng(seed)
    info = np.iinfo(dtype)
    x = rng.integers(info.min, info.max, size, dtype, endpoint=True)
    x >>= rng.integers(0, info.bits - 1, size).astype(dtype)
    ends = [info.min, info.max, 0, 1, -1, 6, -6, 128, -128, 4096, -4096][:size]
    x[: len(ends)] = ends
    return x


def expected(acc: np.ndarray, store: Store) -> tuple[np.ndarray, int, int]:
    if store.shift >= 0:
        exact = shift_right(acc, store.shift, store.rounding)
    else:
        exact = np.clip(acc, -(2**31), 2**31).astype(np.int64) << -store.shift
    clipped = np.clip(exact, *store.clip)
    return clipped, int((clipped != exact).sum()), int(((exact == 0) & (acc != 0)).sum())


@quick
@given(
    st.integers(0, 2**32),
    st.integers(1, 300),
    st.integers(-31, 31),
    st.sampled_from(RULES),
    st.sampled_from(CLIPS),
    st.sampled_from([np.int32, np.int64]),
)
def test_requantise_is_the_plain_rule(
    seed: int, size: int, shift: int, rule: Rounding, clip: tuple[int, int], dtype: type
) -> None:
    acc, store = accumulators(seed, size, dtype), Store(shift, rule, clip)
    values, saturated, lost = expected(acc, store)
    stored = requantise(acc, store)
    assert stored.values.dtype == np.int8
    assert stored.values.tolist() == values.tolist()
    assert (stored.saturated, stored.lost) == (saturated, lost)
    assert stored.amax == max(abs(int(v)) for v in acc) == amax(acc)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("dtype", [np.int32, np.int64])
def test_every_shift_and_any_number_of_threads(rule: Rounding, dtype: type) -> None:
    acc = accumulators(3, 300_003, dtype).reshape(3, -1)
    for shift in range(-31, 32):
        store = Store(shift, rule, NITI_CLIP)
        one = requantise(acc, store, threads=1)
        values, saturated, lost = expected(acc, store)
        np.testing.assert_array_equal(one.values, values)
        assert (one.saturated, one.lost) == (saturated, lost)
        three = requantise(acc, store, threads=3)
        np.testing.assert_array_equal(one.values, three.values)
        assert (one.amax, one.saturated, one.lost) == (three.amax, three.saturated, three.lost)


def test_out_is_written_and_returned() -> None:
    acc, out = np.arange(-6, 6, dtype=np.int32).reshape(3, 4), np.empty((3, 4), np.int8)
    assert requantise(acc, Store(0), out).values is out
    np.testing.assert_array_equal(out, acc)


def test_amax_of_int8_and_of_the_ends() -> None:
    assert amax(np.array([3, -128], np.int8)) == 128
    assert amax(np.array([-(2**63), 1], np.int64)) == 2**63
    assert amax(np.zeros((2, 2), np.int32)) == 0
    large = np.zeros(200_000, np.int32)
    large[150_000] = -9
    assert amax(large, threads=2) == 9


@quick
@given(st.integers(0, 2**64 - 1), st.integers(1, 200), st.integers(1, 31), st.integers(0, 9))
def test_stochastic_is_stoshift_with_the_draws_of_the_key(
    key: int, size: int, shift: int, seed: int
) -> None:
    acc = accumulators(seed, size, np.int32)
    draws = np.array([draw_oracle(key, i) >> 64 - shift for i in range(size)], np.int64)
    exact = stochastic(acc, shift, draws)
    stored = requantise_stochastic(acc, shift, key)
    assert stored.values.tolist() == np.clip(exact, *NITI_CLIP).tolist()
    assert stored.saturated == (abs(exact) > 127).sum()
    assert stored.lost == ((exact == 0) & (acc != 0)).sum()
    assert stored.amax == amax(acc)


def test_stochastic_does_not_depend_on_threads_and_has_no_bias() -> None:
    acc = np.full(400_000, -300, np.int32)  # -300 / 256 = -1.171875
    one = requantise_stochastic(acc, 8, 7, HEXAGON_CLIP, threads=1).values
    np.testing.assert_array_equal(one, requantise_stochastic(acc, 8, 7, threads=3).values)
    assert set(one.tolist()) == {-1, -2}
    assert abs(one.mean() + 300 / 256) < 4 * np.sqrt(0.172 * 0.828 / acc.size)
    assert (one != requantise_stochastic(acc, 8, 8).values).any()


def test_stochastic_without_a_right_shift_needs_no_draw() -> None:
    acc = np.array([3, -70], np.int32)
    assert requantise_stochastic(acc, -1, 0).values.tolist() == [6, -127]


@quick
@given(st.integers(0, 2**64 - 1), st.integers(0, 2**40))
def test_the_compiled_draw_is_the_plain_one(key: int, index: int) -> None:
    assert draw(np.uint64(key), index) == draw_oracle(key, index)


def test_the_draw_is_splitmix64() -> None:
    # first outputs of the reference implementation (xoshiro's splitmix64.c) from state 1234567
    assert [draw_oracle(1234567, i) for i in range(3)] == [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
    ]


def test_keys_tell_words_apart() -> None:
    keys = {draw_key(*words) for words in [(), (0,), (0, 0), (1, 2), (2, 1), (2**64 - 1,)]}
    assert len(keys) == 6
    for wrong in (-1, 2**64):
        with pytest.raises(DrawError, match=r"0 \.\. 2\^64"):
            draw_key(wrong)
        with pytest.raises(DrawError, match="use draw_key"):
            requantise_stochastic(np.ones(1, np.int32), 1, wrong)


@pytest.mark.parametrize(
    ("acc", "message"),
    [
        (np.ones(3, np.int16), "acc is int16; allowed: an array of int32 or int64"),
        (np.ones((0, 3), np.int32), "one element or more"),
        (np.ones((4, 4), np.int32)[:, ::2], "numpy.ascontiguousarray"),
        ([1, 2], "acc is list"),
    ],
)
def test_arrays_not_allowed(acc: np.ndarray, message: str) -> None:
    for call in (lambda: requantise(acc, Store(1)), lambda: requantise_stochastic(acc, 1, 0)):
        with pytest.raises(ArrayError, match=message):
            call()


def test_other_arguments_not_allowed() -> None:
    acc = np.ones(4, np.int32)
    frozen = np.empty(4, np.int8)
    frozen.flags.writeable = False
    for out, message in (
        (np.empty(3, np.int8), "out has shape"),
        (np.empty(4, np.int32), "out is int32"),
        (frozen, "read-only"),
    ):
        with pytest.raises(ArrayError, match=message):
            requantise(acc, Store(1), out)
    with pytest.raises(ArrayError, match="threads is 0"):
        amax(np.ones(1 << 17, np.int32), threads=0)
    with pytest.raises(StoreError, match="shift is 32"):
        requantise_stochastic(acc, 32, 0)
