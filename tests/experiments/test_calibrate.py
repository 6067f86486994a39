"""``mandheling calibrate``: committed bundles are what the command gives, and say what missed."""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cost_models.fitting import LAWS, Bundle
from experiments.calibration import STUDIES, inference_work, run_study, training_work
from experiments.cli import app

ROOT = Path(__file__).parent.parent.parent
COMMITTED = ROOT / "results" / "calibration"
PAGE = ROOT / "docs" / "background" / "calibration.md"
RECOMPUTED = 2e-3
"""Share by which another math library may move a figure."""
MISSED = {"fastrpc-qos", "cpu-networks"}
bundle_of = cache(run_study)


def test_every_law_has_a_study_and_a_committed_bundle() -> None:
    assert set(STUDIES) == set(LAWS)
    assert {path.stem for path in COMMITTED.glob("*.json")} == set(STUDIES)


@pytest.mark.parametrize("name", list(STUDIES))
def test_committed_figures_are_recomputed(name: str) -> None:
    """If this fails: ``mandheling calibrate all -o results/calibration``, and look at the diff."""
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
def test_targets_are_met_or_known_to_be_missed(name: str) -> None:
    assert bundle_of(name).met is (name not in MISSED)


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
    assert [each["name"] for each in json.loads(out)["calibrations"]] == list(STUDIES)
    assert "core-power" in invoke("calibrate", "--list")[1]


def test_an_unknown_name_is_told_in_one_line() -> None:
    code, out, told = invoke("calibrate", "fastrpc")
    assert (code, out) == (2, "")
    assert len(told.splitlines()) == 1
    assert "did you mean 'fastrpc-" in told
