"""Statistics of shifts: by hand, and what is kept of real training beside the drawn ones."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from experiments import shifts
from experiments.results import read_result
from sim.numeric.records import RescaleTrace

KEPT = read_result(Path(__file__).parents[2] / shifts.RESULT)


def test_shares_by_hand() -> None:
    rows = {"a": [7, 8] * 200, "b": [5] * 400}
    assert shifts.differing(rows) == {
        lag: 0.5 if lag == "1" else 0.0 for lag in map(str, shifts.LAGS)
    }
    found = shifts.scanned(rows)
    # "b" settles: a scan each 64 steps from step 256 on, 2 or 3 of 144. "a" is seen at every 4th
    # step by 4:64, always the same, so it settles too; 1:64 sees it move in each step.
    assert found["adaptive:4:64"] < 0.03
    assert found["adaptive:1:64"] == pytest.approx((1 + 1 / 64) / 2, abs=0.01)


def test_drawn_shifts_are_those_kept() -> None:
    assert KEPT["drawn"] == shifts.tables(shifts.drawn())


def test_drawn_shifts_move_as_recorded_ones() -> None:
    recorded, drawn = KEPT["recorded"], KEPT["drawn"]
    for lag, share in recorded["differing"].items():
        assert drawn["differing"][lag] == pytest.approx(share, abs=0.05), lag
    for rule, share in recorded["scanned"].items():
        assert 0.65 < drawn["scanned"][rule] / share < 1, rule


def test_a_trace_is_read_and_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(shifts, "RESULT", tmp_path / "shifts.json")
    trace = RescaleTrace("lenet", "mandheling", "sandbox")
    trace.rows["conv1"] = [(7 + step % 2, 7, 0, 0, 0, 9) for step in range(600)]
    trace.save(tmp_path / "trace.json")
    shifts.main([str(tmp_path / "trace.json"), "--first-step", "100", "--source", "by hand"])
    assert "by hand" in capsys.readouterr().out
    kept = json.loads((tmp_path / "shifts.json").read_text(encoding="utf-8"))
    assert (kept["steps"], kept["tensors"]) == (500, 1)
    assert kept["recorded"]["differing"]["1"] == 1.0

    with pytest.raises(SystemExit):
        shifts.main([str(tmp_path / "trace.json"), "--first-step", "400"])
    assert "holds 200 steps" in capsys.readouterr().err


def test_nothing_kept_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(shifts, "RESULT", tmp_path / "shifts.json")
    with pytest.raises(SystemExit):
        shifts.main([])
    assert "no figures are kept yet" in capsys.readouterr().err
