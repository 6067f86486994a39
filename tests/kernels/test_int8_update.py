"""Updates of INT8 weights against Python integers, and against SGD in float64."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from int8_cases import (
    ACCEPT_CASES,
    CASES,
    Check,
    compare,
    int8s,
    shape_of,
    size_of,
    threads_of,
)

import kernels.rounding_oracle as oracle
from kernels.arrays import ArrayError
from kernels.int8.update import (
    DECAY_UNIT,
    MASTER_BITS,
    MOMENTUM_UNIT,
    RATE_UNIT,
    VELOCITY_BITS,
    WideWeight,
    niti_update,
    wide_start,
    wide_update,
    wide_weight,
)
from kernels.quantised import QuantError
from kernels.rounding import ceil_log2

quick = settings(max_examples=120, derandomize=True, deadline=None)
INT32 = np.iinfo(np.int32)


def test_niti_update_of_every_pair() -> None:
    w = np.repeat(np.arange(-128, 128), 256).astype(np.int8)
    g = np.tile(np.arange(-128, 128), 256).astype(np.int8)
    exact = w.astype(int) - g
    clipped, wrapped = w.copy(), w.copy()
    assert niti_update(clipped, g) is clipped
    niti_update(wrapped, g, wrap=True)
    np.testing.assert_array_equal(clipped, np.clip(exact, -127, 127))
    np.testing.assert_array_equal(wrapped, (exact + 128) % 256 - 128)


def test_niti_update_on_threads() -> None:
    rng = np.random.default_rng(0)
    w, g = (rng.integers(-128, 128, (3, 70_001)).astype(np.int8) for _ in range(2))
    one, three = w.copy(), w.copy()
    niti_update(one, g, threads=1)
    niti_update(three, g, threads=3)
    np.testing.assert_array_equal(one, three)


def nearest(value: int, bits: int) -> int:
    return oracle.half_up(value, bits)


def clip32(value: int, low: int = INT32.min) -> int:
    return min(max(value, low), INT32.max)


def one_step(
    w: int, v: int, g: int, gap: int, rate: int, momentum: int, decay: int
) -> tuple[int, int, int]:
    """The head of the module in words; ``gap``: gradient's exponent above the velocity's."""
    pull = nearest(w * decay, 32 - VELOCITY_BITS)
    kept = nearest(v * momentum, 16)
    most = 1 << 40
    g = g << gap if gap >= 0 else nearest(min(max(g, -most), most), min(-gap, 62))
    wanted = kept + g + pull
    v = clip32(wanted)
    moved = w - nearest(v * rate, 24 + VELOCITY_BITS)
    w = clip32(moved, INT32.min + 1)
    return w, v, (wanted != v) + (moved != w)


def working_of(master: list[int], exponent: int) -> tuple[list[int], int]:
    shift = max(ceil_log2(max(abs(w) for w in master)) - 7, 0)
    values = [min(max(oracle.half_away(w, shift), -127), 127) for w in master]
    return values, exponent + shift


def drawn_int32(rng: np.random.Generator, size: int) -> np.ndarray:
    x = rng.integers(-(2**31) + 1, 2**31, size) >> rng.integers(0, 31, size)
    return x.astype(np.int32)


def check_niti(rng: np.random.Generator) -> None:
    """Clipped and wrapped."""
    shape, threads = shape_of(rng), threads_of(rng)
    w, g = int8s(rng, shape), int8s(rng, shape)
    exact = w.astype(int) - g
    clipped, wrapped = w.copy(), w.copy()
    assert niti_update(clipped, g, threads=threads) is clipped
    assert np.array_equal(clipped, np.clip(exact, -127, 127))
    assert niti_update(wrapped, g, wrap=True, threads=threads) is wrapped
    assert np.array_equal(wrapped, (exact + 128) % 256 - 128)


def draw_gradient(rng: np.random.Generator, size: int) -> np.ndarray:
    dtype = [np.int8, np.int32, np.int64][rng.integers(3)]
    if dtype is np.int8:
        return int8s(rng, (size,))
    info = np.iinfo(dtype)
    x = rng.integers(info.min, info.max, size, dtype, endpoint=True)
    return x >> rng.integers(0, info.bits - 1, size).astype(dtype)


def check_wide(rng: np.random.Generator) -> None:
    """Two steps with the same memory: master, velocity, working weights and what saturated."""
    size, threads = size_of(rng, 40, chunk=2048 if rng.integers(4) == 0 else 0), threads_of(rng)
    quiet = int(rng.integers(0, 20))
    master, velocity = (drawn_int32(rng, size) >> quiet for _ in range(2))
    velocity[0] = rng.choice([INT32.min, INT32.max, velocity[0]])
    exponent = int(rng.integers(-60, 60))
    weight = wide_weight(master.copy(), velocity.copy(), exponent, threads)
    w, v = master.tolist(), velocity.tolist()
    for _ in range(2):
        g, gap = draw_gradient(rng, size), int(rng.integers(-70, 61))
        rate, momentum, decay = (
            int(rng.integers(0, most + 1)) >> int(rng.integers(0, 12))
            for most in (RATE_UNIT, MOMENTUM_UNIT, 1 << 24)
        )
        saturated = wide_update(
            weight,
            g,
            weight.velocity_exponent + gap,
            rate_q24=rate,
            momentum_q16=momentum,
            decay_q32=decay,
            threads=threads,
        )
        steps = [
            one_step(*each, gap, rate, momentum, decay)
            for each in zip(w, v, g.tolist(), strict=True)
        ]
        w, v = [step[0] for step in steps], [step[1] for step in steps]
        note = (gap, rate, momentum, decay, g.dtype)
        assert weight.master.tolist() == w, note
        assert weight.velocity.tolist() == v, note
        assert saturated == sum(step[2] for step in steps), note
        values, scale = working_of(w, exponent)
        assert weight.working.mantissa.tolist() == values, note
        assert weight.working.exponent == scale, note


CHECKS: dict[str, Check] = {"niti_update": check_niti, "wide_update": check_wide}


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("kernel", CHECKS)
def test_every_update_equals_its_oracle(kernel: str) -> None:
    assert compare(CHECKS[kernel], CASES, seed=61) == CASES


@pytest.mark.accept
@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("kernel", CHECKS)
def test_every_update_equals_its_oracle_on_ten_thousand_cases(
    kernel: str, record_property: Callable[[str, object], None]
) -> None:
    record_property("cases", compare(CHECKS[kernel], ACCEPT_CASES, seed=62))


@quick
@given(
    st.integers(0, 2**32),
    st.integers(1, 60),
    st.sampled_from([np.int8, np.int32, np.int64]),
    st.integers(-70, 60),
    st.integers(0, RATE_UNIT) | st.integers(0, 1 << 12),
    st.integers(0, MOMENTUM_UNIT),
    st.integers(0, 1 << 24),
)
def test_wide_update_is_its_rule(
    seed: int, size: int, dtype: type, gap: int, rate: int, momentum: int, decay: int
) -> None:
    rng = np.random.default_rng(seed)
    master, velocity = drawn_int32(rng, size), drawn_int32(rng, size)
    g = (drawn_int32(rng, size) >> np.int32(24 if dtype is np.int8 else 0)).astype(dtype)
    steps = [
        one_step(int(w), int(v), int(x), gap, rate, momentum, decay)
        for w, v, x in zip(master, velocity, g, strict=True)
    ]
    weight = wide_weight(master, velocity, -30)
    saturated = wide_update(
        weight,
        g,
        weight.velocity_exponent + gap,
        rate_q24=rate,
        momentum_q16=momentum,
        decay_q32=decay,
    )
    assert weight.master.tolist() == [w for w, _, _ in steps]
    assert weight.velocity.tolist() == [v for _, v, _ in steps]
    assert saturated == sum(s for _, _, s in steps)
    values, exponent = working_of(weight.master.tolist(), -30)
    assert weight.working.mantissa.tolist() == values
    assert weight.working.exponent == exponent


def test_the_working_shift_follows_growth_and_decay() -> None:
    """The shift foreseen is that of the step before: both ways of being wrong are mended."""
    weight = wide_weight(np.array([1000, -7], np.int32), np.zeros(2, np.int32), 0)
    assert weight.working.exponent == 3
    for gradient, shift in ((-7000, 6), (7500, 2)):
        g = np.array([gradient << VELOCITY_BITS, 0], np.int32)
        wide_update(weight, g, weight.velocity_exponent, rate_q24=RATE_UNIT)
        values, exponent = working_of(weight.master.tolist(), 0)
        assert exponent == shift
        assert (weight.working.mantissa.tolist(), weight.working.exponent) == (values, exponent)


def copied(weight: WideWeight) -> WideWeight:
    return wide_weight(weight.master.copy(), weight.velocity.copy(), weight.exponent)


def test_threads_change_no_bit() -> None:
    rng = np.random.default_rng(3)
    start = wide_start(rng.normal(size=(3, 3, 20_000)).astype(np.float32))
    g = rng.integers(-128, 128, start.master.shape).astype(np.int8)
    results = []
    for threads in (1, 2, 3):
        weight = copied(start)
        for _ in range(3):
            wide_update(
                weight,
                g,
                -9,
                rate_q24=RATE_UNIT // 10,
                momentum_q16=58982,
                decay_q32=1 << 20,
                threads=threads,
            )
        results.append(weight)
    for other in results[1:]:
        np.testing.assert_array_equal(results[0].master, other.master)
        np.testing.assert_array_equal(results[0].velocity, other.velocity)
        np.testing.assert_array_equal(results[0].working.mantissa, other.working.mantissa)
        assert results[0].working.exponent == other.working.exponent


def test_it_follows_float64_sgd() -> None:
    """300 steps with PyTorch's rule; every product rounds by at most half a unit."""
    rng = np.random.default_rng(4)
    w0 = rng.normal(size=500) * 0.05
    weight = wide_start(w0)
    w, v = weight.dequantise(), np.zeros(500)
    momentum, rate = round(0.9 * MOMENTUM_UNIT), round(0.05 * RATE_UNIT)
    decay = round(5e-4 * DECAY_UNIT)
    steps = 300
    for _ in range(steps):
        g = rng.integers(-128, 128, 500).astype(np.int8)
        v = momentum / MOMENTUM_UNIT * v + g * 2.0**-13 + decay / DECAY_UNIT * w
        w = w - rate / RATE_UNIT * v
        saturated = wide_update(
            weight, g, -13, rate_q24=rate, momentum_q16=momentum, decay_q32=decay
        )
        assert saturated == 0
    unit = 2.0**weight.exponent
    # a velocity is off by 2 roundings (each half of a quarter unit) over 1 - 0.9 at most
    per_step = 0.5 + 0.05 * 10 * 2 * 0.5 / 2**VELOCITY_BITS
    assert abs(weight.dequantise() - w).max() <= per_step * steps * unit
    assert abs(weight.dequantise() - w).max() < 1e-5 * abs(w).max()
    half_unit = 2.0 ** (weight.working.exponent - 1)
    near = abs(weight.working.mantissa) < 127
    off = abs(weight.working.dequantise() - weight.dequantise())
    assert off[near].max() <= half_unit


@quick
@given(st.lists(st.just(0.0) | st.floats(1e-4, 1e3) | st.floats(-1e3, -1e-4), min_size=1))
def test_wide_start_keeps_the_weights(values: list[float]) -> None:
    w = np.array(values)
    weight = wide_start(w)
    unit = 2.0**weight.exponent
    amax = abs(w).max() or 1.0
    assert amax <= 2.0**MASTER_BITS * unit < 2 * amax
    assert abs(weight.dequantise() - w).max() <= unit / 2
    assert not weight.velocity.any()
    values8, exponent = working_of(weight.master.tolist(), weight.exponent)
    assert weight.working.mantissa.tolist() == values8
    assert weight.working.exponent == exponent


def test_a_huge_gradient_saturates_and_is_counted() -> None:
    for dtype, value in ((np.int8, -1), (np.int32, INT32.max), (np.int64, 2**62)):
        weight = wide_start(np.array([0.5, -0.5]))
        saturated = wide_update(weight, np.full(2, value, dtype), 60, rate_q24=RATE_UNIT)
        assert weight.velocity.tolist() == [INT32.max if value > 0 else INT32.min] * 2
        assert saturated == 2


def test_what_is_not_allowed() -> None:
    weight = wide_start(np.ones((2, 3)))
    g = np.zeros((2, 3), np.int8)
    with pytest.raises(ArrayError, match=r"gradient has shape \(3, 2\)"):
        wide_update(weight, g.reshape(3, 2), 0, rate_q24=1)
    with pytest.raises(ArrayError, match="gradient is float64"):
        wide_update(weight, g.astype(float), 0, rate_q24=1)
    for name in ("rate_q24", "momentum_q16", "decay_q32"):
        for value in (-1, (1 << 24) + 1):
            with pytest.raises(QuantError, match=f"{name} is {value}; allowed: 0"):
                wide_update(weight, g, 0, **{"rate_q24": 1, name: value})
    with pytest.raises(ArrayError, match="velocity has shape"):
        wide_weight(weight.master, weight.velocity[0].copy(), 0)
    with pytest.raises(ArrayError, match="g is int16"):
        niti_update(g, g.astype(np.int16))
    frozen = np.zeros((2, 3), np.int8)
    frozen.flags.writeable = False
    with pytest.raises(ArrayError, match="read-only"):
        niti_update(frozen, g)
