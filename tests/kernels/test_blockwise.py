"""Optimiser state in 8 bits against a plain oracle: codes, errors, updates."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from kernels.arrays import ArrayError
from kernels.fp32.blockwise import (
    BLOCK,
    blockwise_update,
    codebook,
    dequantise_blocks,
    quantise_blocks,
)
from kernels.fp32.update import sgd_update
from kernels.operators import OperatorError, Role
from kernels.update import MomentumUpdate, SgdUpdate

Floats = NDArray[np.float32]


def oracle(x: Floats) -> tuple[NDArray[np.uint8], Floats]:
    """The code of least distance, the lower of two, by looking at all 256."""
    book = codebook().astype(np.float64)
    codes, scales = [], []
    for first in range(0, x.size, BLOCK):
        block = x[first : first + BLOCK]
        scale = np.abs(block).max()
        unit = block / scale if scale > 0 else np.zeros_like(block)
        codes.append(np.abs(unit.astype(np.float64)[:, None] - book).argmin(axis=1))
        scales.append(scale)
    return np.concatenate(codes).astype(np.uint8), np.array(scales, np.float32)


def test_the_codebook() -> None:
    book = codebook()
    assert book.dtype == np.float32
    assert len(set(book.tolist())) == 256
    assert (np.diff(book) > 0).all()
    assert 0.0 in book
    assert book[-1] == 1.0
    assert np.array_equal(-book[:127][::-1], book[128:255])  # all but 0 and 1 in both signs
    assert book[128] == np.float32(0.55e-6)
    steps = np.diff(book[128:255].astype(np.float64))
    assert steps[-1] == pytest.approx(0.9 / 64, rel=1e-5)  # 64 in the last decade


@settings(deadline=None)  # compiled on first use
@given(
    seed=st.integers(0, 2**32 - 1),
    size=st.sampled_from([1, 7, 2047, 2048, 2049, 5000]),
    decades=st.floats(0, 8),
)
def test_codes_are_the_nearest(seed: int, size: int, decades: float) -> None:
    rng = np.random.default_rng(seed)
    x = (rng.standard_normal(size) * 10.0 ** rng.uniform(-decades, 0, size)).astype(np.float32)
    codes, scales = quantise_blocks(x, threads=1)
    expected_codes, expected_scales = oracle(x)
    assert np.array_equal(scales, expected_scales)
    assert np.array_equal(codes, expected_codes)


def test_halfway_goes_to_the_lower_code_and_codes_stay() -> None:
    book = codebook()
    x = np.concatenate([book, np.ones(1, np.float32)])
    codes, _ = quantise_blocks(x)
    assert codes[:256].tolist() == list(range(256))
    assert np.array_equal(dequantise_blocks(*quantise_blocks(x)), x)


@settings(deadline=None)  # compiled on first use
@given(seed=st.integers(0, 2**32 - 1), size=st.integers(1, 6000), power=st.integers(-20, 20))
def test_errors_are_bounded_by_half_the_widest_gap_of_the_block(
    seed: int, size: int, power: int
) -> None:
    rng = np.random.default_rng(seed)
    x = (rng.standard_normal(size) * 2.0**power).astype(np.float32)
    codes, scales = quantise_blocks(x)
    back = dequantise_blocks(codes, scales)
    scale = np.repeat(scales, BLOCK)[:size].astype(np.float64)
    gap = np.diff(codebook().astype(np.float64)).max()
    assert (np.abs(back - x) <= scale * (gap / 2 + 1e-6)).all()
    large = np.abs(x) >= 0.1 * scale  # the last decade: 64 steps
    assert (np.abs(back - x)[large] <= scale[large] * (0.9 / 64 + 1e-6)).all()


def plain_update(
    w: Floats, g: Floats, codes: NDArray[np.uint8], scales: Floats, rate: float, momentum: float
) -> tuple[Floats, NDArray[np.uint8], Floats]:
    """The same step on whole arrays, rounded as float32 after each operation."""
    before = np.repeat(scales, BLOCK)[: w.size] * codebook()[codes]
    velocity = np.float32(momentum) * before + (g + np.float32(0.01) * w)
    return (w - np.float32(rate) * velocity, *oracle(velocity))


@settings(deadline=None)  # compiled on first use
@given(seed=st.integers(0, 2**32 - 1), size=st.sampled_from([3, 2048, 4100]))
def test_updates_equal_the_plain_ones(seed: int, size: int) -> None:
    rng = np.random.default_rng(seed)
    w, g, v = (rng.standard_normal(size).astype(np.float32) for _ in range(3))
    codes, scales = quantise_blocks(v)
    expected = plain_update(w, g, codes, scales, 0.1, 0.9)
    blockwise_update(w, g, codes, scales, rate=0.1, momentum=0.9, weight_decay=0.01)
    assert np.array_equal(w, expected[0])
    assert np.array_equal(codes, expected[1])
    assert np.array_equal(scales, expected[2])


def test_threads_change_no_bit() -> None:
    rng = np.random.default_rng(0)
    size = 70 * BLOCK + 5
    first = rng.standard_normal(size).astype(np.float32)
    results = []
    for threads in (1, 3):
        w, (codes, scales) = first.copy(), quantise_blocks(first, threads=threads)
        blockwise_update(w, first, codes, scales, rate=0.1, momentum=0.9, threads=threads)
        results.append((w.tobytes(), codes.tobytes(), scales.tobytes()))
    assert results[0] == results[1]


def test_it_follows_the_exact_optimiser_on_a_quadratic() -> None:
    """Both end near the minimum; a state of 8 bits loses little on the way."""
    rng = np.random.default_rng(1)
    target = rng.standard_normal(3000).astype(np.float32)
    exact, coarse = (np.zeros(3000, np.float32) for _ in range(2))
    velocity, (codes, scales) = np.zeros(3000, np.float32), quantise_blocks(exact)
    for _ in range(150):
        sgd_update(exact, exact - target, velocity, rate=0.05, momentum=0.9)
        blockwise_update(coarse, coarse - target, codes, scales, rate=0.05, momentum=0.9)
    start = float(np.square(target).mean())
    assert float(np.square(exact - target).mean()) < 1e-3 * start
    assert float(np.square(coarse - target).mean()) < 1e-2 * start


def test_bytes() -> None:
    assert [MomentumUpdate(n, 8).state_bytes for n in (1, 2048, 2049)] == [5, 2052, 2057]
    for params in (1, 5000):
        codes, scales = quantise_blocks(np.zeros(params, np.float32))
        assert MomentumUpdate(params, 8).state_bytes == codes.nbytes + scales.nbytes
        assert MomentumUpdate(params, 32).state_bytes == 4 * params


def test_work_of_updates() -> None:
    plain, wide, narrow = SgdUpdate(4096), MomentumUpdate(4096), MomentumUpdate(4096, 8)
    works = [op.work(Role.UPDATE) for op in (plain, wide, narrow)]
    assert [work.elements for work in works] == [3 * 4096, 5 * 4096, 3 * 4096 + 2 * 1026]
    assert [work.alu_ops // 4096 for work in works] == [2, 6, 18]
    with pytest.raises(OperatorError, match="role 'forward' does not exist"):
        wide.work(Role.FORWARD)
    with pytest.raises(OperatorError, match="state_bits = 16; allowed: 8 or 32"):
        MomentumUpdate(4, 16)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"g": np.zeros(4, np.float32)}, "g has shape"),
        ({"codes": np.zeros(3, np.int8)}, "codes is int8; allowed: an array of uint8"),
        ({"scales": np.zeros(2, np.float32)}, r"scales has shape \(2,\); allowed: \(1,\)"),
        ({"momentum": 1.5}, "momentum is 1.5; allowed: 0 to 1"),
        ({"rate": float("nan")}, "rate is nan; allowed: 0 or more"),
    ],
)
def test_refusals(change: dict[str, object], message: str) -> None:
    arguments: dict[str, object] = {
        "w": np.zeros(3, np.float32),
        "g": np.zeros(3, np.float32),
        "codes": np.zeros(3, np.uint8),
        "scales": np.zeros(1, np.float32),
        "rate": 0.1,
        "momentum": 0.9,
    }
    with pytest.raises(ArrayError, match=message):
        blockwise_update(**(arguments | change))  # type: ignore[arg-type]


@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf])
def test_a_velocity_that_is_not_finite_reads_back_as_none(odd: float) -> None:
    """As in FP32 it stays; the other blocks know nothing of it."""
    w, g = np.zeros(BLOCK + 1, np.float32), np.ones(BLOCK + 1, np.float32)
    codes, scales = quantise_blocks(w)
    g[5] = odd
    blockwise_update(w, g, codes, scales, rate=0.1, momentum=0.9)
    assert np.flatnonzero(~np.isfinite(w)).tolist() == [5]
    velocity = dequantise_blocks(codes, scales)
    assert np.isnan(velocity[:BLOCK]).all()
    assert velocity[BLOCK] == 1.0
    g[5] = 1.0
    blockwise_update(w, g, codes, scales, rate=0.1, momentum=0.9)
    assert not np.isfinite(w[:BLOCK]).any()
    assert np.isfinite(w[BLOCK])


def test_what_is_not_finite_has_no_scale() -> None:
    with pytest.raises(ArrayError, match="x holds a value that is not finite"):
        quantise_blocks(np.array([1.0, np.inf], np.float32))
