"""FP16 against FP32 on a microcontroller: trained for real on a few images, kept, and shown."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from experiments import half_precision
from experiments.cli import app
from experiments.half_precision import PLANS, command, main, run_all, settings, shown
from experiments.reproduce.kept import read_kept
from experiments.reproduce.pulp_fp16 import study, trained_rows
from experiments.results import ResultError, read_result, write_result
from experiments.training.config import ConfigError, TrainConfig

SIZES = (12, 16)


def small(precision: str) -> TrainConfig:
    return replace(settings(precision, None, epochs=1), dataset="shapes32", sizes=SIZES, threads=1)


CONFIGS = {name: small(name) for name in PLANS}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of both runs, FP32 by ``mandheling train``; figures are in ``kept.json``."""
    made = tmp_path_factory.mktemp("half")
    words = command(CONFIGS["fp32"]).replace("--data DIR", f"--sizes {SIZES[0]},{SIZES[1]}")
    arguments = [*shlex.split(words)[1:], "--out", str(made / "fp32"), "--quiet"]
    assert CliRunner().invoke(app, arguments).exit_code == 0
    stamp = (made / "fp32" / "result.json").stat().st_mtime_ns
    run_all(CONFIGS, made, made / "kept.json")
    assert (made / "fp32" / "result.json").stat().st_mtime_ns == stamp  # taken as it is
    return made


def test_small_figures_are_kept_with_command_versions_and_digests(folder: Path) -> None:
    content = read_result(folder / "kept.json")
    assert content["command"] == half_precision.COMMAND
    assert set(content["runs"]) == set(PLANS)
    for name, run in content["runs"].items():
        assert run["command"] == command(CONFIGS[name])
        assert run["test"]["images"] == SIZES[1]
        assert run["versions"] == content["versions"]
        digests = ("train_sha256", "test_sha256", "graph_sha256", "plan_sha256")
        assert all(len(run["identity"][each]) == 64 for each in digests)
    assert (folder / "kept.json").stat().st_size < 20_000
    weights = {run["chosen_sha256"] for run in content["runs"].values()}
    assert len(weights) == len(PLANS)


def test_what_is_done_is_not_trained_again_and_others_are_refused(folder: Path) -> None:
    stamps = {path: path.stat().st_mtime_ns for path in folder.glob("*/result.json")}
    before = read_result(folder / "kept.json")
    assert run_all(CONFIGS, folder, folder / "kept.json") == before
    assert stamps == {path: path.stat().st_mtime_ns for path in folder.glob("*/result.json")}
    with pytest.raises(ConfigError, match=r"seed was 0 and is 1 now"):
        run_all({"fp32": replace(CONFIGS["fp32"], seed=1)}, folder, folder / "kept.json")
    assert read_result(folder / "kept.json") == before


def test_the_study_shows_what_is_kept(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(half_precision, "RESULT", folder / "kept.json")
    found, runs = study(), read_result(folder / "kept.json")["runs"]
    rows = {row.label: row for row in found.rows if row.group.startswith("test accuracy")}
    tested = {name: 100 * runs[name]["test"]["accuracy"] for name in PLANS}
    assert rows["FP32"].ours == tested["fp32"]
    assert rows["FP16"].ours == tested["fp16"]
    assert rows["FP16 less FP32"].ours == pytest.approx(tested["fp16"] - tested["fp32"])
    assert rows["FP16 less FP32"].note.startswith("95 %: ")
    assert all(row.published is None for row in rows.values())
    assert half_precision.COMMAND in found.notes[-1]
    assert [name for name, _ in found.inputs] == ["kept.json"]


def test_the_study_says_what_trains_where_nothing_or_half_is_kept(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "kept.json"
    monkeypatch.setattr(half_precision, "RESULT", path)
    assert "not trained yet; `python -m experiments.half_precision" in study().notes[-1]
    runs: dict[str, Any] = read_result(folder / "kept.json")["runs"]
    write_result(path, {"runs": {"fp32": runs["fp32"]}})
    assert [row.label for row in trained_rows(read_kept(path, "train"))] == ["FP32"]
    write_result(path, {"runs": {"fp32": {"test": 3}}})
    with pytest.raises(ResultError, match=r"kept\.json: is not as it was written"):
        study()


def test_the_table(
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(half_precision, "RESULT", tmp_path / "none.json")
    main(["--table"])
    assert capsys.readouterr().out == "no runs yet\n"
    text = shown(read_result(folder / "kept.json"))
    assert "fp16: " in text
    assert "FP16 less FP32: " in text
    assert "FP16-KAHAN less FP32: " in text
