"""The study of FP16 training on microcontrollers keeps its bounds and hides no fit."""

from __future__ import annotations

import pytest

from experiments.reproduce.registry import run
from experiments.reproduce.study import Study


@pytest.fixture(scope="module")
def study() -> Study:
    return run("pulp-fp16")


def test_every_bound_is_met(study: Study) -> None:
    assert len(study.checks) == 5
    assert all(check.met for check in study.checks)


def test_fitted_rows_are_marked_and_appear_again_left_out(study: Study) -> None:
    groups: dict[str, list[str]] = {}
    for row in study.rows:
        groups.setdefault(row.group, []).append(row.label)
        assert row.fitted is (row.group == "cycles, as fitted")
        assert row.left_out is row.group.endswith("left out")
    assert groups["cycles, as fitted"] == groups["cycles, the row left out"]
    assert len(groups["cycles, the row left out"]) == 16
    left = set(groups["cycles, the row left out"]) - set(groups["cycles, the workload left out"])
    assert left == {"conv 8->16 3x3 8x8 1 core", "conv 8->16 3x3 8x8 8 cores"}


def test_a_left_out_row_is_not_the_fitted_one(study: Study) -> None:
    ours: dict[str, dict[str, float]] = {}
    for row in study.rows:
        ours.setdefault(row.group, {})[row.label] = row.ours
    fitted, left_out = ours["cycles, as fitted"], ours["cycles, the row left out"]
    assert all(fitted[label] != left_out[label] for label in fitted)


def test_released_counts_are_no_predictions_and_none_counts_twice(study: Study) -> None:
    """Five published values were never fitted; the sixteen counts are in every fit but one."""
    assert [row.published for row in study.predicted()] == [1.72, 3.11, 0.81, 1.6, 4.39]
    released = {row.label for row in study.rows if row.fitted}
    assert released.isdisjoint(row.label for row in study.predicted())
    left = [each for each in study.errors() if each["kind"] == "left out"]
    assert [each["rows"] for each in left] == [16, 14]


def test_the_published_ratio_is_predicted_and_the_averages_are_shown_as_they_are(
    study: Study,
) -> None:
    rows = {row.label: row for row in study.rows}
    assert abs(rows["up to"].error or 0) < 0.15
    worst = rows["ds-cnn, FP16, average"]
    assert (worst.error or 0) > 0.5  # another network than the published one: not hidden
    assert study.document()["worst"]["label"] == worst.label
