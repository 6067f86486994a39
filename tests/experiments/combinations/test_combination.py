"""Combinations: their names, their neighbours, and which are worth training at all."""

from __future__ import annotations

from math import inf, nan

import pytest

from experiments.combinations.combination import (
    REMOVABLE,
    Combination,
    candidates,
    combinations,
    named,
)
from experiments.combinations.settings import StudySettings
from experiments.combinations.study import neighbours
from experiments.training.config import ConfigError

EVERY = StudySettings().combinations


def test_names_are_unique_and_lead_back() -> None:
    assert len({one.name for one in EVERY}) == len(EVERY) == 72
    assert all(named(one.name) == one for one in EVERY)


def test_a_neighbour_differs_in_one_technique() -> None:
    for one in EVERY:
        for technique, other in neighbours(one).items():
            assert one.uses(technique) != other.uses(technique)
            differ = {name for name in REMOVABLE if one.uses(name) != other.uses(name)}
            assert differ - {technique} <= ({"int8", "switching"} - {technique})


def test_a_training_that_switches_has_two_stages() -> None:
    one = Combination(2, "switch", 2, "split")
    assert [stage.name for stage in one.stages] == ["w50-int8-r2-split", "w50-fp32-r2-split"]
    assert Combination(2, "int8", 2, "split").stages == (Combination(2, "int8", 2, "split"),)


def test_candidates_are_those_that_nothing_richer_undercuts() -> None:
    wide, narrow = (Combination(width, "fp32", 1, "split") for width in (4, 1))
    rough, whole = Combination(4, "int8", 1, "split"), Combination(4, "fp32", 1, "whole")
    assert candidates({wide: (5, 5), narrow: (4, 4), rough: (6, 6)}) == (wide, narrow)
    assert candidates({whole: (5, 5), wide: (5, 5)}) == (whole,)
    assert candidates({whole: (6, 6), wide: (5, 5)}) == (wide,)
    turns = Combination(4, "switch", 1, "split")
    assert candidates({turns: (3, 5), rough: (3, 3), wide: (5, 5)}) == (turns, rough, wide)


def test_every_combination_left_out_has_a_rival_that_stays() -> None:
    every = combinations((1, 2), ("fp32", "switch", "int8"), (1, 2))
    costs = {one: (17 * k % 7, 17 * k % 7 + k % 3) for k, one in enumerate(every)}
    kept = candidates(costs)
    for one in set(every) - set(kept):
        assert any(
            other.learns_no_less(one)
            and all(a <= b for a, b in zip(costs[other], costs[one], strict=True))
            for other in kept
        )


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("energy_j", 0.0, "energy_j: 0.0; allowed: a number above 1e-06 and below"),
        ("energy_j", 1e-13, "energy_j: 1e-13; allowed"),
        ("energy_j", inf, r"energy_j: inf; allowed: .* below 9.22337e\+06"),
        ("energy_j", 1e300, "energy_j: 1e.300"),
        ("energy_j", nan, "energy_j: nan"),
        ("memory_mib", inf, r"memory_mib: inf; allowed: a number above 0 and below 8.79609e\+12"),
        ("rate", inf, "rate: inf; allowed: a number above 0 and below 1"),
        ("widths", (5,), "widths: .5,.; allowed: some of"),
        ("patches", (2, 2), "each once"),
        ("rungs", (0.5, 0.2, 1.0), "rising shares"),
        ("rungs", (0.5,), "the last 1"),
        ("points", 0, "points: 0"),
    ],
)
def test_settings_out_of_range_are_refused(field: str, value: object, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        StudySettings(**{field: value})  # type: ignore[arg-type]


def test_the_rate_rises_and_stays_whatever_the_energy() -> None:
    short, long = StudySettings(energy_j=1), StudySettings(energy_j=1000)
    rates = [short.rate_q24(step) for step in range(60)]
    assert rates == [long.rate_q24(step) for step in range(60)]
    assert rates[:50] == sorted(rates[:50])
    assert set(rates[49:]) == {round(0.01 * 2**24)}
