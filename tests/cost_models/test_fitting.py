"""Fits recover what rows were drawn from, say what they cannot know, and intervals cover."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from cost_models.bundle import FittedOn
from cost_models.fitting import Bundle, CalibrationError, Grouping, Law, Table, calibrate, fit
from cost_models.fitting.conformal import groups_needed, interval_of
from cost_models.fitting.crossval import errors_of, leave_one_group_out
from cost_models.fitting.law import unidentified
from cost_models.fitting.laws import CORE_POWER, DSP_NETWORKS, LAWS, NULL_CALLS, RPC_SIZE


def table(values: np.ndarray, groups: list[str], **numbers: np.ndarray) -> Table:
    names = np.array([f"row{i}" for i in range(len(values))])
    sources = np.array(["drawn"] * len(values))
    return Table("ms", names, values, sources, {"group": np.array(groups)}, numbers, "0" * 64)


def networks(seed: int, count: int, spread: float, per_group: int = 1) -> Table:
    """Draw ``2 ms + MACs / 400 GMAC/s`` with one log error per group."""
    rng = np.random.default_rng(seed)
    macs = np.exp(rng.uniform(np.log(0.1e9), np.log(10e9), count * per_group))
    error = np.repeat(rng.normal(0, spread, count), per_group)
    values = (2.0 + macs / 400e6) * np.exp(error)
    return table(values, [f"g{i // per_group}" for i in range(count * per_group)], macs=macs)


def test_coefficients_are_recovered_from_drawn_rows() -> None:
    assert fit(DSP_NETWORKS, networks(1, 6, 0.0)) == pytest.approx([2.0, 400.0], rel=1e-5)
    ghz = np.linspace(0.3, 2.8, 15)
    rows = table(20 + 100 * ghz + 30 * ghz**3, ["a"] * 15, clock_mhz=1000 * ghz)
    assert fit(CORE_POWER, rows) == pytest.approx([20, 100, 30], rel=1e-4)
    size = np.array([0, 2**15, 2**17, 2**20, 2**22, 2**23])
    near, far = np.minimum(size, 2**20) / 2**20, np.maximum(size - 2**20, 0) / 2**20
    rows = table(90 + 50 * (size > 0) + 80 * near + 15 * far, ["a"] * 6, buffer_bytes=size)
    assert fit(RPC_SIZE, rows) == pytest.approx([90, 50, 80, 15], rel=1e-4)


def test_one_row_under_another_load_does_not_decide() -> None:
    rows = networks(2, 20, 0.01)
    rows.values[3] *= 3
    assert fit(DSP_NETWORKS, rows) == pytest.approx([2.0, 400.0], rel=0.05)


def test_too_few_rows_name_the_coefficients_and_what_to_measure() -> None:
    with pytest.raises(CalibrationError, match=r"1 rows do not identify fixed_ms, rate_gmacs; me"):
        fit(DSP_NETWORKS, networks(3, 1, 0.0))
    size = np.array([2.0**15, 2**17, 2**20, 2**22, 2**23])
    rows = table(size / 2**15, ["a"] * 5, buffer_bytes=size)
    with pytest.raises(CalibrationError, match="identify empty_us, buffer_us; measure an empty"):
        fit(RPC_SIZE, rows)
    small = table(np.arange(1.0, 6), ["a"] * 5, buffer_bytes=np.array([0, 2, 4, 6, 8]) * 2.0**10)
    assert unidentified(RPC_SIZE, small) == ("page_us_per_mib",)


def test_a_rank_deficient_design_is_found_by_its_dependent_columns() -> None:
    macs = np.full(5, 1e9)
    assert unidentified(DSP_NETWORKS, table(np.ones(5), ["a"] * 5, macs=macs)) == (
        "fixed_ms",
        "rate_gmacs",
    )


def test_a_group_is_predicted_without_its_rows() -> None:
    rows = networks(4, 5, 0.1, per_group=2)
    before = leave_one_group_out(DSP_NETWORKS, rows, "group").predicted[:2]
    rows.values[:2] *= 7
    after = leave_one_group_out(DSP_NETWORKS, rows, "group").predicted[:2]
    assert before.tolist() == after.tolist()


def test_a_group_without_which_nothing_is_known_is_not_predicted() -> None:
    macs = np.array([1e9, 1e9, 5e9])
    held = leave_one_group_out(
        DSP_NETWORKS, table(2 + macs / 4e8, ["a", "b", "c"], macs=macs), "group"
    )
    assert held.missing == {"c": ("fixed_ms", "rate_gmacs")}
    assert np.isnan(held.predicted).tolist() == [False, False, True]


def test_errors_name_the_worst_row_with_its_sign() -> None:
    names = np.array(["a", "b", "c"])
    errors = errors_of(names, np.array([1.1, 0.7, 1.0]), np.ones(3))
    assert (errors.worst_row, errors.rows) == ("b", 3)
    assert (errors.median, errors.worst) == pytest.approx((0.1, -0.3))


@pytest.mark.parametrize(("groups", "per_group"), [(12, 1), (20, 3)])
def test_intervals_cover_new_groups(groups: int, per_group: int) -> None:
    covered = []
    for seed in range(40):
        rows = networks(100 + seed, groups, 0.08, per_group)
        held = leave_one_group_out(DSP_NETWORKS, rows, "group")
        found = interval_of(held.groups, held.predicted, rows.values)
        assert found.kind == "conformal"
        fresh = networks(10_000 + seed, 60, 0.08)
        ratio = fresh.values / DSP_NETWORKS.predict(fit(DSP_NETWORKS, rows), fresh)
        covered.append(np.mean((found.low <= ratio) & (ratio <= found.high)))
    assert 0.80 <= np.mean(covered) <= 0.98


def test_fewer_groups_than_nine_give_a_range() -> None:
    assert groups_needed(0.9) == 9
    for groups, kind in ((8, "range"), (9, "conformal")):
        rows = networks(5, groups, 0.1)
        held = leave_one_group_out(DSP_NETWORKS, rows, "group")
        found = interval_of(held.groups, held.predicted, rows.values)
        assert (found.kind, found.groups) == (kind, groups)
        ratio = rows.values / held.predicted
        assert found.low <= ratio.min()
        assert found.high >= ratio.max()


def test_a_group_that_several_blocks_have_counts_once() -> None:
    """Three gaps in four modes are three groups, not twelve: no interval."""
    gaps, modes = (0.0, 1e3, 1e4), ("off", "adaptive", "pm_qos", "poll")
    gap = np.array(gaps * len(modes))
    labels = np.repeat(modes, len(gaps))
    rows = table(100 + 40 * np.log1p(gap / 100), ["a"] * len(gap), gap_us=gap)
    rows = replace(rows, labels={"qos": labels})
    on = (FittedOn(facts={"soc": "drawn"}),)
    found = calibrate(NULL_CALLS, rows, [Grouping("gap_us")], file="drawn", fitted_on=on)
    first = found.validations[0]
    assert (first.groups, first.interval.kind, first.interval.level) == (3, "range", None)
    assert [each.block for each in first.blocks] == list(modes)
    assert {each.interval.groups for each in first.blocks} == {3}
    assert found.interval_of("poll.call_us") == first.blocks[-1].interval
    assert found.interval_of("other.call_us") is None


def test_a_range_is_the_central_part_of_what_was_seen() -> None:
    """One odd row among a hundred of few groups is not the range."""
    groups = np.repeat(["a", "b"], 50)
    measured = np.exp(np.linspace(-0.1, 0.1, 100))
    measured[0] = 50.0
    found = interval_of(groups, np.ones(100), measured)
    assert (found.kind, found.groups) == ("range", 2)
    assert 1 / 1.2 < found.low < 1 < found.high < 1.2


def bundle(law: Law = DSP_NETWORKS) -> Bundle:
    return calibrate(
        law,
        networks(6, 6, 0.1),
        [Grouping("group", 0.5)],
        file="drawn.csv",
        fitted_on=(FittedOn(facts={"soc": "drawn"}),),
        excluded={"row2": "for this test"},
    )


def test_a_bundle_survives_json_and_repeats_byte_for_byte() -> None:
    first = bundle()
    assert Bundle.from_json(first.to_json()) == first
    assert bundle().to_json() == first.to_json()
    assert first.met is True


def test_excluded_rows_take_no_part_and_are_shown_apart() -> None:
    found = bundle()
    assert "row2" not in {row.name for row in found.rows}
    assert [(row.name, row.reason) for row in found.excluded] == [("row2", "for this test")]
    assert all(each.rows == 5 for each in found.coefficients)
    with pytest.raises(CalibrationError, match="row 'row99' is to be excluded and does not exist"):
        calibrate(
            DSP_NETWORKS,
            networks(6, 6, 0.1),
            [Grouping("group")],
            file="drawn.csv",
            fitted_on=(FittedOn(facts={"soc": "drawn"}),),
            excluded={"row99": "?"},
        )


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"unit": "ms"', '"units": "ms"', "missing|unknown key"),
        ('"schema_version": 3', '"schema_version": 2', "schema_version: 2 is not allowed"),
        ('"schema_version": 3', '"schema_version": true', "True is not allowed; allowed: 3"),
        ('"schema_version": 3,', "", "schema_version: is missing"),
        ('"unit": "ms"', '"unit": "us", "unit": "ms"', "key 'unit' stands twice"),
        ('"worst_row": "', '"worst_row": "\\u001b[2J', "use printable characters only"),
        ('"median": ', '"median": -', "greater than or equal to 0"),
        ("{", "{{", "is not JSON"),
        ('"rows": 5', '"rows": -5', "-5 is not allowed"),
        ('"rows": 5', '"rows": 0', "0 is not allowed"),
        ('"median": ', '"median": NaN, "x": ', "median"),
    ],
)
def test_a_damaged_bundle_is_told_in_one_line(old: str, new: str, message: str) -> None:
    text = bundle().to_json().replace(old, new, 1)
    with pytest.raises(CalibrationError, match=message) as told:
        Bundle.from_json(text)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "that of the first"}, "coefficients: .* stands twice; keep one"),
        ({"low": 1e9}, "value .* is not within low 1e.09 .. high"),
        ({"high": 1e-9}, "is not within low .* .. high 1e-09"),
        ({"low": None}, "has one of low and high"),
        ({"at_bound": 1}, "at_bound: 1 is not allowed"),
    ],
)
def test_coefficients_that_contradict_themselves_are_refused(
    change: dict[str, object], message: str
) -> None:
    content = bundle().model_dump(mode="json")
    first, second = content["coefficients"]
    second.update({"name": first["name"]} if "name" in change else change)
    with pytest.raises(CalibrationError, match=message):
        Bundle.from_json(json.dumps(content))


def test_a_coefficient_that_was_fitted_on_nothing_is_refused() -> None:
    content = bundle().model_dump(mode="json")
    content["fitted_on"][0]["block"] = "another"
    with pytest.raises(CalibrationError, match=r"fitted_on: says nothing of .* blocks: another"):
        Bundle.from_json(json.dumps(content))


def test_an_interval_from_high_to_low_is_refused() -> None:
    content = bundle().model_dump(mode="json")
    content["validations"][0]["interval"] |= {"low": 2.0, "high": 1.0}
    with pytest.raises(CalibrationError, match=r"interval: low 2 is above high 1; .* again"):
        Bundle.from_json(json.dumps(content))


def test_no_law_has_a_coefficient_of_one_network() -> None:
    for law in LAWS.values():
        assert len(law.coefficients) <= 7
        assert not any("net" in c.name or "lenet" in c.name for c in law.coefficients)
        assert all(c.low < c.start < c.high and c.meaning and c.needs for c in law.coefficients)


def test_an_interval_needs_a_prediction() -> None:
    nothing = np.full(3, np.nan)
    with pytest.raises(CalibrationError, match="none of 3 held-out rows has a prediction"):
        interval_of(np.array(["a", "a", "b"]), nothing, np.ones(3))
