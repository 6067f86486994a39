"""``mandheling calibrate``: committed bundles are what the command gives, and say what missed."""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from cost_models.bundle import FOLDER as COMMITTED
from cost_models.fitting import LAWS, Bundle
from cost_models.fitting.conformal import groups_needed, interval_of
from experiments.caffe_networks import caffe_model
from experiments.calibration import STUDIES, inference_work, run_study, training_work
from experiments.cli import app
from experiments.packets import PACKET_STUDIES, run_packet_study
from experiments.sampled import SAMPLED

ROOT = Path(__file__).parent.parent.parent
PAGE = ROOT / "docs" / "background" / "calibration.md"
RECOMPUTED = 2e-3
"""Share by which another math library may move a figure."""
bundle_of = cache(run_study)


def test_every_law_has_a_study_and_a_committed_bundle() -> None:
    assert {*STUDIES, *SAMPLED} == set(LAWS)
    assert {path.stem for path in COMMITTED.glob("*.json")} >= set(STUDIES)


def test_rates_by_packets_are_recomputed_from_the_counts() -> None:
    committed, found = Bundle.load("packet-rates"), run_packet_study("packet-rates")
    assert committed.table_sha256 == found.table_sha256
    assert committed.fitted_on == found.fitted_on
    for before, after in zip(committed.coefficients, found.coefficients, strict=True):
        assert before.name == after.name
        assert after.value == pytest.approx(before.value, rel=RECOMPUTED)


@pytest.mark.parametrize("name", list(STUDIES))
def test_committed_figures_are_recomputed(name: str) -> None:
    """If this fails: ``mandheling calibrate all -o cost_models/bundles``, and look at the diff."""
    committed, found = Bundle.read(COMMITTED / f"{name}.json"), bundle_of(name)
    assert committed.table_sha256 == found.table_sha256
    assert [r.name for r in committed.rows] == [r.name for r in found.rows]
    for old, new in zip(committed.validations, found.validations, strict=True):
        assert (old.rows, old.groups, old.not_predicted) == (
            new.rows,
            new.groups,
            new.not_predicted,
        )
        assert old.worst_row == new.worst_row
        for field in ("median", "p90", "worst"):
            expected = pytest.approx(getattr(old, field), rel=RECOMPUTED)
            assert getattr(new, field) == expected
    for before, after in zip(committed.coefficients, found.coefficients, strict=True):
        assert before.name == after.name
        if not before.at_bound:
            assert after.value == pytest.approx(before.value, rel=RECOMPUTED)


@pytest.mark.parametrize("name", list(STUDIES))
def test_targets_are_met(name: str) -> None:
    assert bundle_of(name).met is True


@pytest.mark.parametrize("name", list(STUDIES))
def test_the_page_states_the_figures_of_the_bundles(name: str) -> None:
    rows = re.findall(rf"^\| `{name}` \| (.*) \|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(rows) == len(bundle_of(name).validations)
    for row, each in zip(rows, bundle_of(name).validations, strict=True):
        by, counts, target, median, p90, worst, worst_row = row.split(" | ")
        assert (by, counts) == (each.by, f"{each.groups} / {each.rows}")
        assert target == ("-" if each.target is None else f"{100 * each.target:.0f} %")
        assert median == f"{100 * each.median:.1f} %"
        assert (p90, worst) == (f"{100 * each.p90:.1f} %", f"{100 * each.worst:+.1f} %")
        assert worst_row == f"`{each.worst_row}`"


def test_a_fitted_row_is_never_its_own_prediction() -> None:
    for name in ("fastrpc-size", "dsp-networks", "cpu-networks", "training-sd855"):
        found = bundle_of(name)
        predicted = [row for row in found.rows if row.held_out is not None]
        assert len(predicted) == found.validations[0].rows
        assert any(row.held_out != row.fitted for row in predicted)


def test_mixed_rows_and_the_memory_cliff_are_shown_apart() -> None:
    assert [row.name for row in bundle_of("dsp-networks").excluded] == ["mobilenet-v2"]
    cliff = bundle_of("training-sd855").excluded
    assert [row.name for row in cliff] == ["squeezenet1.0/batch32/1708.8"]
    assert cliff[0].predicted is not None
    assert cliff[0].measured > 3 * cliff[0].predicted


@pytest.mark.parametrize("name", list(STUDIES))
def test_intervals_cover_where_there_are_enough_groups(name: str) -> None:
    """Each group against the interval that the others give: 80 to 98 % must lie within."""
    bundle = Bundle.read(COMMITTED / f"{name}.json")
    rows = [(row, row.held_out) for row in bundle.rows if row.held_out is not None]
    groups = np.array([row.group for row, _ in rows])
    measured = np.array([row.measured for row, _ in rows])
    predicted = np.array([held_out for _, held_out in rows])
    assert len(set(groups)) == bundle.validations[0].groups
    if len(set(groups)) < groups_needed():
        assert bundle.validations[0].interval.kind == "range"
        assert bundle.validations[0].interval.level is None
        return
    covered = []
    for group in set(groups):
        own = groups == group
        found = interval_of(groups[~own], predicted[~own], measured[~own])
        ratio = measured[own] / predicted[own]
        covered.append(np.mean((found.low <= ratio) & (ratio <= found.high)))
    assert found.kind == bundle.validations[0].interval.kind == "conformal"
    assert 0.80 <= np.mean(covered) <= 0.98


def test_ncnn_is_counted_on_the_networks_it_runs() -> None:
    own = inference_work("resnet50", None, "ncnn-fp16")
    assert own["macs"] == pytest.approx(3.86e9, rel=2e-3)  # its strides are in 1x1 convolutions
    assert inference_work("resnet50", None, "paddlelite-fp32") == inference_work("resnet50", None)
    assert caffe_model("googlenet").macs == pytest.approx(1.58e9, rel=2e-3)
    assert caffe_model("alexnet").params == pytest.approx(60_965_224 - 10_568, rel=1e-3)


def test_work_is_counted_on_the_zoo() -> None:
    work = inference_work("resnet50", None)
    assert work["macs"] == work["direct_macs"] + work["winograd_macs"] == 4_089_184_256
    assert work["winograd_macs"] > 0
    assert training_work("mobilenet-v2", 2)["depthwise_macs"] > 0
    assert training_work("lenet", 8)["nodes"] == training_work("lenet", 1)["nodes"]


def invoke(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, list(arguments), env={"COLUMNS": "100"})
    return result.exit_code, result.stdout, result.stderr


def test_the_command_prints_coefficients_and_the_worst_row() -> None:
    code, out, _ = invoke("calibrate", "dsp-networks")
    assert code == 0
    for text in ("fixed_ms", "rate_gmacs", "worst row", "inception-v3", "90 % would take 9 groups"):
        assert text in " ".join(out.split())
    assert "Not fitted: mobilenet-v2" in out


def test_the_same_input_gives_the_same_bytes(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        assert invoke("calibrate", "fastrpc-size", "-o", str(tmp_path / folder))[0] == 0
    first, second = ((tmp_path / f / "fastrpc-size.json").read_bytes() for f in ("one", "two"))
    assert first == second
    assert Bundle.from_json(first.decode()).name == "fastrpc-size"


def test_json_and_list() -> None:
    code, out, _ = invoke("calibrate", "fastrpc-qos", "--json")
    assert code == 0
    document = json.loads(out)
    assert [bundle["name"] for bundle in document["bundles"]] == ["fastrpc-qos"]
    code, out, _ = invoke("calibrate", "--list", "--json")
    listed = {each["name"]: each for each in json.loads(out)["calibrations"]}
    assert set(listed) == {*STUDIES, *SAMPLED, *PACKET_STUDIES}
    assert (listed["kernels"]["table"], listed["kernels"]["samples"]) == (None, "kernel")
    assert "core-power" in invoke("calibrate", "--list")[1]


def test_an_unknown_name_is_told_in_one_line() -> None:
    code, out, told = invoke("calibrate", "fastrpc")
    assert (code, out) == (2, "")
    assert len(told.splitlines()) == 1
    assert "did you mean 'fastrpc-" in told
