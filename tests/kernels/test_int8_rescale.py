"""Rescaling of accumulators against the plain rounding rules, and the keyed draws."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from int8_cases import (
    ACCEPT_CASES,
    CASES,
    CLIPS,
    RULES,
    Check,
    accumulators,
    bounded,
    compare,
    int8s,
    magnitude,
    out_of,
    requantised,
    rescaled,
    shape_of,
    size_of,
    threads_of,
)

from kernels.arrays import ArrayError
from kernels.int8.draws import DrawError, draw, draw_key, draw_oracle
from kernels.int8.rescale import amax, requantise, requantise_stochastic, rescale
from kernels.int8.stored import Store, StoreError
from kernels.profiles import PROFILES, NumericProfile, TensorRole, rule_of
from kernels.rounding import HEXAGON_CLIP, NITI_CLIP, Rounding, stochastic

quick = settings(max_examples=150, derandomize=True, deadline=None)


def check_amax(rng: np.random.Generator) -> None:
    dtype = [np.int8, np.int32, np.int64][rng.integers(3)]
    if dtype is np.int8:
        x = int8s(rng, shape_of(rng))
    else:
        size, width = size_of(rng), np.iinfo(dtype).bits
        x = bounded(rng, size, int(rng.integers(2 ** int(rng.integers(1, width)))), dtype)
    assert amax(x, threads_of(rng)) == max(abs(v) for v in x.reshape(-1).tolist())


def check_requantise(rng: np.random.Generator, rule: Rounding, dtype: type) -> None:
    acc = accumulators(rng, size_of(rng), dtype)
    store = Store(int(rng.integers(-31, 32)), rule, CLIPS[rng.integers(3)])
    before, out = acc.copy(), out_of(rng, acc.shape, np.int8)
    got = requantise(acc, store, out, threads_of(rng))
    values, saturated, lost = requantised(acc, store)
    assert got.values.dtype == np.int8, store
    assert out is None or got.values is out
    assert np.array_equal(got.values, values), store
    assert (got.amax, got.saturated, got.lost) == (magnitude(acc), saturated, lost), store
    assert np.array_equal(acc, before)


def check_stochastic(rng: np.random.Generator) -> None:
    acc = accumulators(rng, size_of(rng, 150), [np.int32, np.int64][rng.integers(2)])
    shift, clip = int(rng.integers(-9, 32)), CLIPS[rng.integers(3)]
    key = int(rng.integers(0, 2**64, dtype=np.uint64))
    got = requantise_stochastic(
        acc, shift, key, clip, out_of(rng, acc.shape, np.int8), threads_of(rng)
    )
    if shift > 0:
        draws = np.array([draw_oracle(key, i) >> 64 - shift for i in range(acc.size)])
        exact = stochastic(acc, shift, draws.astype(np.int64))
        values = np.clip(exact, *clip)
        counts = int((values != exact).sum()), int(((exact == 0) & (acc != 0)).sum())
    else:
        values, *counts = requantised(acc, Store(shift, Rounding.TRUNC, clip))
    assert np.array_equal(got.values, values), (shift, clip)
    assert (got.amax, got.saturated, got.lost) == (magnitude(acc), *counts), (shift, clip)


def check_rescale(rng: np.random.Generator, profile: NumericProfile) -> None:
    """By a scan, or with a shift of an earlier step; magnitudes around each power of two."""
    role, kind = [*TensorRole][rng.integers(3)], ["conv2d", "linear"][rng.integers(2)]
    rule = rule_of(profile, role, kind, int(rng.integers(0, 200)))
    dtype, exponent = [np.int32, np.int64][rng.integers(2)], int(rng.integers(-90, 90))
    top = 31 + (rule.bits if dtype is np.int64 else 0)
    largest = max(0, 2 ** int(rng.integers(0, top)) + int(rng.integers(-2, 3)))
    acc = bounded(rng, size_of(rng), largest, dtype)
    known = int(rng.integers(-8, 32)) if rng.integers(4) == 0 else None
    out = out_of(rng, acc.shape, np.int8)
    got = rescale(acc, exponent, rule, out, threads_of(rng), shift=known)
    values, shift, growth, saturated, lost = rescaled(acc, rule, known)
    note = (role, rule, largest, known)
    assert np.array_equal(got.tensor.int8, values), note
    assert out is None or got.tensor.mantissa is out
    assert (got.shift, got.tensor.exponent) == (shift, exponent + growth), note
    assert (got.amax, got.saturated, got.lost) == (magnitude(acc), saturated, lost), note


CHECKS: dict[str, Check] = {
    "amax": check_amax,
    "requantise_stochastic": check_stochastic,
    **{
        f"requantise {rule} {dtype.__name__}": partial(check_requantise, rule=rule, dtype=dtype)
        for rule in RULES
        for dtype in (np.int32, np.int64)
    },
    **{
        f"rescale {name}": partial(check_rescale, profile=profile)
        for name, profile in PROFILES.items()
    },
}


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("kernel", CHECKS)
def test_every_kernel_equals_its_oracle(kernel: str) -> None:
    assert compare(CHECKS[kernel], CASES, seed=51) == CASES


@pytest.mark.accept
@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("kernel", CHECKS)
def test_every_kernel_equals_its_oracle_on_ten_thousand_cases(
    kernel: str, record_property: Callable[[str, object], None]
) -> None:
    record_property("cases", compare(CHECKS[kernel], ACCEPT_CASES, seed=52))


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
    values, saturated, lost = requantised(acc, store)
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
        values, saturated, lost = requantised(acc, store)
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


def test_draws_and_keys_are_the_same_everywhere() -> None:
    key = draw_key(7, 3, 1)
    assert key == 6990374536830237290
    assert [int(draw(np.uint64(key), i)) for i in range(3)] == [
        7538235444083763819,
        10103353688859852378,
        8093969987481909143,
    ]
    assert int(draw(np.uint64(2**64 - 1), 2**40)) == 7550352060150933567


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
