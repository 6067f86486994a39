"""The risk study: what it counts in a trace, how it compares, and that the page shows it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from experiments.results import read_result, write_result
from experiments.search import recorded, risk_study
from experiments.search.recorded import CONFIGS, SETTLED, STALE_RULES, TRUE_RULE, recordings
from experiments.search.risk import plan_risk
from experiments.search.risk_study import (
    RiskStudyError,
    agreement,
    elsewhere,
    kept_table,
    met_ppm,
    shown,
)
from experiments.training.config import TrainConfig
from sim import build_plan, load_device, load_model, training_graph
from sim.lowering import lowering
from sim.numeric.records import RescaleTrace, TraceError

ROOT = Path(__file__).parents[3]
DEVICE = load_device("snapdragon-865")


def trace(subjects: tuple[str, ...], steps: int) -> RescaleTrace:
    """Every fourth step a shift too small by one, every fourth too large; else true."""
    errors = {1: (9, 8, 0, 10, 1, 100), 3: (7, 8, 0, 0, 6, 100)}
    rows = [errors.get(k % 4, (8, 8, 1, 0, 2, 100)) for k in range(SETTLED + steps)]
    return RescaleTrace("m", "p", "sandbox", {s: list(rows) for s in subjects})


def test_what_stale_shifts_did_is_counted_beyond_what_a_true_one_loses() -> None:
    met = met_ppm(trace(("a", "b"), 400))
    assert met == {"total": 35_000.0, "saturated": 25_000.0, "lost": 10_000.0}
    assert risk_study.all_lost_ppm(trace(("a",), 400)) == (11 + 6 + 2 + 2) / 400 * 1e6


def rows(predicted: dict[str, int], met: dict[str, int]) -> dict[str, Any]:
    return {
        rule: {
            "predicted": {"total": predicted[rule], "saturated": predicted[rule], "lost": 0},
            "met": {"total": met[rule], "saturated": met[rule], "lost": -met[rule]},
            "from_the_other": 2 * met[rule],
            "accuracy": 0.5,
        }
        for rule in predicted
    }


def test_ranks_and_errors_leave_out_the_rule_that_cannot_err() -> None:
    met = {"every": 0, "a": 100, "b": 200, "c": 300}
    found = agreement(rows({"every": 0, "a": 110, "b": 150, "c": 300}, met))
    assert (found["tau"], found["tau_saturated"], found["tau_from_the_other"]) == (1.0, 1.0, 1.0)
    assert (found["median_error"], found["worst_error"]) == (0.1, 0.25)
    assert (found["median_error_from_the_other"], found["worst_error_from_the_other"]) == (1, 1)
    turned = agreement(rows({"every": 0, "a": 3, "b": 2, "c": 1}, met))
    assert turned["tau"] == -1.0


def test_a_run_elsewhere_is_compared(tmp_path: Path) -> None:
    graph = training_graph(load_model("lenet", batch=64))
    plan = build_plan("mandheling", graph, DEVICE)
    subjects = tuple(lowering(graph, plan, DEVICE).rules)
    path = tmp_path / "rescale-trace.json"
    trace(subjects, 40).save(path)
    found = elsewhere(path, "lenet", "fixed:16", "a command")
    assert found["met"]["total"] == 35_000.0
    ruled = plan.update({("rescale", s): "fixed:16" for s in subjects})
    assert found["predicted"]["total"] == plan_risk(graph, ruled, DEVICE).total_ppm
    trace(subjects[1:], 40).save(path)
    with pytest.raises(RiskStudyError, match=r"holds 10 tensors .* allowed: the 11 tensors"):
        elsewhere(path, "lenet", "fixed:16", "")
    trace(subjects, 0).save(path)
    with pytest.raises(RiskStudyError, match="more than 256 steps"):
        elsewhere(path, "lenet", "fixed:16", "")
    path.write_text("{}")
    with pytest.raises(TraceError):
        elsewhere(path, "lenet", "fixed:16", "")


def test_the_command_trains_compares_and_keeps(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With a palette of two rules, on few settled steps of a real training."""
    config = TrainConfig("lenet", "digits", epochs=1, engine="none", trace=True)
    monkeypatch.chdir(tmp_path)
    recordings()  # before what is settled changes
    monkeypatch.setattr(risk_study, "CONFIGS", {"lenet": config})
    monkeypatch.setattr(risk_study, "RULES", ("every", "fixed:4", "hindsight"))
    monkeypatch.setattr(risk_study, "SETTLED", 4)
    monkeypatch.setattr(recorded, "SETTLED", 4)
    risk_study.main(["--runs", "runs"])
    kept = read_result(risk_study.RESULT)["models"]["lenet"]["rules"]
    assert list(kept) == ["every", "fixed:4", "hindsight"]
    assert kept["every"]["met"]["total"] == kept["every"]["predicted"]["total"] == 0
    assert 0 < kept["fixed:4"]["met"]["total"] < 500_000
    assert "own recording: tau" in capsys.readouterr().out
    risk_study.main(["--table"])
    assert "fixed:4" in capsys.readouterr().out
    monkeypatch.setattr(risk_study, "RULES", ("every", "fixed:4"))
    with pytest.raises(SystemExit):
        risk_study.main(["--table"])
    said = capsys.readouterr().err
    assert "risk.json: basis.rules is ['every', 'fixed:4', 'hindsight'], and" in said
    assert "python -m experiments.search.risk_study --runs DIR" in said


def test_the_recording_is_what_its_command_makes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    config = TrainConfig("lenet", "digits", epochs=1, engine="none", trace=True)
    monkeypatch.setattr(recorded, "CONFIGS", {"lenet": config})
    monkeypatch.setattr(recorded, "SETTLED", 4)
    monkeypatch.setattr(recorded, "FILE", tmp_path / "recorded.json")
    recorded.main(["--runs", str(tmp_path / "runs")])
    content = json.loads((tmp_path / "recorded.json").read_text())
    assert content["rules"]["true"] == TRUE_RULE
    assert content["rules"]["stale"] == list(STALE_RULES)
    (one,) = recorded.recordings.__wrapped__()
    assert one.model == "lenet"
    assert {t.role for t in one.tensors.values()} == set(recorded.ROLES)
    assert all(len(tensor.shifts) == 20 for tensor in one.tensors.values())


def test_without_figures_it_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit):
        risk_study.main(["--table"])
    assert "no figures are kept yet" in capsys.readouterr().err
    write_result(risk_study.RESULT, {})
    with pytest.raises(SystemExit):
        risk_study.main(["--table"])


def test_a_table_of_another_recording_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    kept = read_result(ROOT / risk_study.RESULT)
    monkeypatch.chdir(tmp_path)
    write_result(risk_study.RESULT, kept)
    assert kept_table() == kept
    for basis, field in (
        ({**kept["basis"], "recording_sha256": "0" * 64}, "recording_sha256"),
        ({**kept["basis"], "schema": 9}, "schema"),
        (None, "recording_sha256"),
    ):
        write_result(risk_study.RESULT, {**kept, "basis": basis})
        with pytest.raises(RiskStudyError, match=rf"basis\.{field} is .*; renew it with python -m"):
            kept_table()


@pytest.mark.parametrize("rule", ["every", "adaptive:4:64", "delayed:4"])
def test_the_file_holds_what_is_estimated_now(rule: str) -> None:
    graph = training_graph(load_model("lenet", batch=64))
    plan = build_plan("dsp-int8+rescale", graph, DEVICE)
    subjects = lowering(graph, plan, DEVICE).rules
    ruled = plan.update({("rescale", s): rule for s in subjects})
    stated = read_result(ROOT / risk_study.RESULT)["models"]["lenet"]["rules"][rule]
    assert stated["predicted"]["total"] == plan_risk(graph, ruled, DEVICE).total_ppm


def test_the_page_shows_what_the_file_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    content = kept_table()
    page = (ROOT / "docs/background/accuracy-risk.md").read_text(encoding="utf-8")
    assert shown(content) in page
    assert set(content["models"]) == set(CONFIGS)
    for study in content["models"].values():
        assert set(study["rules"]) == set(risk_study.RULES)
        assert agreement(study["rules"]) == study["agreement"]
