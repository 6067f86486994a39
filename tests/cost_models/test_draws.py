"""Draws: keyed, uniform, equal in scalar and array form; the inverse CDF is exact."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2

from cost_models.draws import KNOTS, InverseCdf, draw_key, draw_u32, draw_u32_many

WORDS = st.integers(0, 2**64 - 1)


@settings(derandomize=True, deadline=None)
@given(
    seed=WORDS,
    step=WORDS,
    names=st.lists(st.tuples(st.text(max_size=8), st.text(max_size=8)), min_size=1, max_size=20),
)
def test_array_form_equals_scalar_form(seed: int, step: int, names: list[tuple[str, str]]) -> None:
    keys = np.array([draw_key(*name) for name in names], dtype=np.uint64)
    many = draw_u32_many(seed, step, keys)
    assert many.dtype == np.uint32
    assert many.tolist() == [draw_u32(seed, step, *name) for name in names]


def test_draws_are_the_same_everywhere() -> None:
    assert draw_u32(0, 0, "conv1", "forward") == 562804217
    assert draw_u32(7, 3, "conv1", "weight_grad") == 1388215557
    assert draw_key("conv1", "forward") == 9772183034410639215
    keys = np.array([draw_key("conv1", "weight_grad"), 0, 2**64 - 1], np.uint64)
    assert draw_u32_many(7, 3, keys).tolist() == [1388215557, 429835543, 3141994889]


def test_each_part_of_the_key_matters() -> None:
    base = (1, 2, "conv1", "forward")
    others = [
        (2, 2, "conv1", "forward"),
        (1, 3, "conv1", "forward"),
        (1, 2, "conv2", "forward"),
        (1, 2, "conv1", "update"),
        (2, 1, "conv1", "forward"),
        (1, 2, "conv", "1forward"),
    ]
    assert len({draw_u32(*key) for key in [base, *others]}) == 1 + len(others)


def test_a_draw_does_not_depend_on_what_was_drawn_before() -> None:
    alone = draw_u32(5, 5, "x", "forward")
    for step in range(100):
        draw_u32(5, step, "y", "forward")
    assert draw_u32(5, 5, "x", "forward") == alone


@pytest.mark.parametrize("vary", ["seed", "step", "subject"])
def test_draws_are_uniform(vary: str) -> None:
    count, bins = 1 << 16, 64
    if vary == "subject":
        keys = np.array([draw_key(f"op{i}", "forward") for i in range(count)], dtype=np.uint64)
        draws = draw_u32_many(1, 1, keys)
    else:
        draws = np.array(
            [
                draw_u32(i, 9, "op", "forward")
                if vary == "seed"
                else draw_u32(9, i, "op", "forward")
                for i in range(count)
            ],
            dtype=np.uint32,
        )
    counts = np.bincount(draws >> np.uint32(26), minlength=bins)
    statistic = float(((counts - count / bins) ** 2 / (count / bins)).sum())
    assert chi2.ppf(0.0005, bins - 1) < statistic < chi2.ppf(0.9995, bins - 1)


@pytest.mark.parametrize(("seed", "step", "name"), [(-1, 0, "seed"), (0, 2**64, "step")])
def test_seeds_and_steps_have_a_range(seed: int, step: int, name: str) -> None:
    with pytest.raises(ValueError, match=f"{name}: .* 0 to"):
        draw_u32(seed, step, "op", "forward")
    with pytest.raises(ValueError, match=f"{name}: .* 0 to"):
        draw_u32_many(seed, step, np.zeros(1, dtype=np.uint64))


ROWS = ((0.0, 0.0), (0.5, 10.0), (0.9, 50.0), (1.0, 25774.0))


@settings(derandomize=True, deadline=None)
@given(st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=50))
def test_inverse_cdf_array_equals_scalar_and_rises(draws: list[int]) -> None:
    cdf = InverseCdf.from_quantiles(ROWS)
    ordered = sorted(draws)
    values = [cdf.at(u32) for u32 in ordered]
    assert values == sorted(values)
    assert cdf.at_many(np.array(ordered, dtype=np.uint32)).tolist() == values


def test_inverse_cdf_meets_its_quantiles() -> None:
    cdf = InverseCdf.from_quantiles(ROWS)
    assert cdf.at(0) == 0
    assert cdf.at(2**31) == pytest.approx(10_000, rel=0.01)
    assert cdf.at(round(0.7 * 2**32)) == pytest.approx(30_000, rel=0.01)
    assert cdf.at(2**32 - 1) == pytest.approx(25_774_000, rel=1e-4)


def test_mean_of_a_straight_line_is_its_middle_and_of_draws_is_close() -> None:
    line = InverseCdf(tuple(range(KNOTS)))
    assert line.mean_ns == 511  # 511.5, rounded down
    cdf = InverseCdf.from_quantiles(ROWS)
    keys = np.array([draw_key(f"{i}", "rpc") for i in range(1 << 16)], dtype=np.uint64)
    sample = cdf.at_many(draw_u32_many(3, 4, keys))
    assert sample.mean() == pytest.approx(cdf.mean_ns, rel=0.03)


@pytest.mark.parametrize(
    "table",
    [
        tuple(range(KNOTS - 1)),
        tuple(range(KNOTS, 0, -1)),
        (-1, *range(KNOTS - 1)),
        (*range(KNOTS - 1), 2**40),
    ],
)
def test_inverse_cdf_refuses_what_it_cannot_hold(table: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="table:"):
        InverseCdf(table)
