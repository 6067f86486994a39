"""Incremental training and precision switching, run for real on a few images; and their study."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from experiments.dynamic import switching
from experiments.dynamic.increments import (
    IncrementSettings,
    increment_graph,
    kept,
    main,
    step_macs,
    train_increments,
)
from experiments.dynamic.switching import SwitchSettings, train_switching
from experiments.reproduce.dynamic_dnn import ranges, study
from experiments.results import ResultError, write_result
from experiments.training.checkpoint import CheckpointError
from experiments.training.config import ConfigError
from sim.policies.switching import PrecisionSwitching

FEW = "--sizes 48,32 --validation 16 --batch 16 --epochs 1"
TINY = IncrementSettings(
    "shapes32", epochs=1, batch=16, rate=0.05, validation=16, threads=1, sizes=(48, 32)
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("increments")
    return folder, train_increments(TINY, folder)


def test_every_increment_is_trained_and_tested(run: tuple[Path, dict[str, Any]]) -> None:
    _, result = run
    rows = result["increments"]
    assert [row["active"] for row in rows] == [1, 2, 3, 4]
    for row in rows:
        assert row["test"]["images"] == 32
        assert 0 < row["test"]["confidence"] < 32
        assert row["validation"][0]["images"] == 16
        assert row["macs"] == step_macs(increment_graph(row["active"], 16))
    times = [row["step_ns"] for row in rows]
    assert times == sorted(times)
    assert rows[0]["macs"]["weight_grad"] == rows[3]["macs"]["weight_grad"]


def test_the_same_settings_go_on_and_others_are_refused(run: tuple[Path, dict[str, Any]]) -> None:
    folder, result = run
    assert train_increments(TINY, folder) == result
    (folder / "result.json").unlink()
    assert train_increments(TINY, folder) == result  # from the checkpoint: nothing is trained again
    other = IncrementSettings("shapes32", epochs=1, batch=16, validation=16, sizes=(48, 32))
    with pytest.raises(ConfigError, match=r"holds another run: rate was 0.05 and is 0.02 now"):
        train_increments(other, folder)


def test_a_stopped_run_ends_as_one_that_was_not(
    run: tuple[Path, dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from experiments.dynamic import increments

    whole, real = run[1], increments._increment
    calls = []

    def stopping(*arguments: Any) -> Any:
        calls.append(arguments[2])
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(increments, "_increment", stopping)
    with pytest.raises(KeyboardInterrupt):
        train_increments(TINY, tmp_path)
    assert not (tmp_path / "result.json").exists()
    result = train_increments(TINY, tmp_path)
    assert calls == [1, 2, 3, 3, 4]
    digests = [[row["parameters_sha256"] for row in r["increments"]] for r in (whole, result)]
    assert digests[0] == digests[1]


def test_a_damaged_checkpoint_is_told(run: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.npz"
    path.write_bytes(b"no archive")
    with pytest.raises(CheckpointError, match="is damaged or no checkpoint"):
        train_increments(TINY, tmp_path)


def test_the_command_keeps_a_small_result(
    run: tuple[Path, dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, _ = run
    file = tmp_path / "kept.json"
    words = "--dataset shapes32 --epochs 1 --batch 16 --rate 0.05 --validation 16 --sizes 48,32"
    assert main([*words.split(), "--out", str(folder), "--keep", str(file)]) == 0
    content = json.loads(file.read_text(encoding="utf-8"))
    assert content["command"].startswith(
        "python -m experiments.dynamic.increments --dataset shapes32"
    )
    assert "validation" not in content["increments"][0]
    assert "100 % of the network: test accuracy" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("command", "given", "message"),
    [
        (main, "--dataset nope", "data set: 'nope'; known are cifar10"),
        (switching.main, "--dataset nope", "data set: 'nope'; known are cifar10"),
        (main, "--dataset shapes32 --sizes 8", "--sizes '8': give two whole numbers"),
        (main, "--dataset shapes32 --epochs 0", "epochs: 0; allowed"),
        (main, "--dataset shapes32 --sizes 48,32", "validation: 1000 of 48 images leave no batch"),
        (main, f"--dataset shapes32 {FEW} --device odd", "device: 'odd' is unknown"),
        (main, f"--dataset shapes32 {FEW} --plan odd", "plan 'odd' is unknown"),
        (main, "--dataset shapes32 --keep gone/kept.json", "--keep gone/kept.json: folder"),
        (switching.main, "--dataset shapes32 --start int4", "start: 'int4'; allowed: int8, fp32"),
        (switching.main, "--dataset shapes32 --resolution 0", "resolution"),
        (switching.main, "--dataset shapes32 --out gone/a.json", "--out gone/a.json: folder"),
    ],
)
def test_what_cannot_be_trained_is_told_in_one_line(
    command: Callable[[list[str]], int],
    given: str,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stopped:
        command(["--out", "out", *given.split()])
    assert stopped.value.code == 2
    printed = capsys.readouterr()
    assert printed.err.startswith(f"error: {message}")
    assert printed.err.count("\n") == 1
    assert printed.out == ""


def test_an_empty_checkpoint_is_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "checkpoint.npz").touch()
    words = [sys.executable, "-m", "experiments.dynamic.increments", "--dataset", "shapes32"]
    words += [*FEW.split(), "--out", str(tmp_path)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {tmp_path / 'checkpoint.npz'}: is damaged or no")
    assert done.stderr.count("\n") == 1


def test_the_study_shows_what_is_kept_or_says_what_trains_it(
    run: tuple[Path, dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ranges, "TRAINED", tmp_path / "trained.json")
    without = study()
    assert "accuracy on CIFAR-10" not in {row.group for row in without.rows}
    assert without.notes[-1].endswith(
        f"not trained yet; `{ranges.COMMAND}` trains it and keeps trained.json."
    )
    assert without.inputs == ()
    write_result(ranges.TRAINED, kept(run[1], "python -m experiments.dynamic.increments"))
    found = study()
    rows = [row for row in found.rows if row.group == "accuracy on CIFAR-10"]
    tested = [100 * row["test"]["accuracy"] for row in run[1]["increments"]]
    assert [row.ours for row in rows] == tested
    assert [row.published for row in rows] == [None] * 4  # only recalled values are known
    assert "trained with `python -m experiments.dynamic.increments` (mand" in found.notes[-1]
    assert [name for name, _ in found.inputs] == ["trained.json"]
    write_result(ranges.TRAINED, {"increments": [{"active": 1}]})
    with pytest.raises(ResultError, match=r"trained\.json: is not as it was written"):
        study()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"epochs": 0}, "epochs: 0; allowed"),
        ({"rate": 0.0}, "rate: 0.0; allowed: a number above 0, up to 1"),
        ({"batch": 40}, "validation: 16 of 48 images leave no batch of 40"),
    ],
)
def test_settings_that_cannot_be(arguments: dict[str, Any], message: str, tmp_path: Path) -> None:
    given = {"batch": 16, "validation": 16, "sizes": (48, 32), **arguments}
    with pytest.raises(ConfigError, match=message):
        train_increments(IncrementSettings("shapes32", **given), tmp_path)


def switched(**rule: Any) -> dict[str, Any]:
    settings = SwitchSettings("digits", epochs=4, batch=64, rate=0.02, validation=1200, threads=1)
    return train_switching(settings, PrecisionSwitching(resolution=2, **rule))


def test_precision_is_switched_by_real_gradients() -> None:
    """With a threshold of 1 any fall of the diversity is a violation."""
    result = switched(patience=1, alpha=0.0)
    rows = result["epochs"]
    assert rows[0]["precision"] == "int8"
    found = [row["diversity"] for row in rows if "diversity" in row]
    assert len(found) == 2
    assert all(diversity >= 0.5 - 1e-6 for diversity in found)
    assert result["time_ns"] == sum(row["time_ns"] for row in rows)
    assert rows[-1]["loss"] < rows[0]["loss"]


def test_a_start_without_a_plan_is_refused() -> None:
    with pytest.raises(ConfigError, match="start: 'int16'; allowed: int8, fp32"):
        train_switching(SwitchSettings("digits", start="int16"))
    with pytest.raises(ConfigError, match="levels: 'int16'; allowed: int8, fp32"):
        train_switching(SwitchSettings("digits"), PrecisionSwitching(levels=("int16", "fp32")))


def test_the_study() -> None:
    found = study()
    assert all(check.met for check in found.checks)
    fitted = {row.label for row in found.rows if row.fitted}
    assert len(fitted) == 16
    assert all("left out" not in label for label in fitted)
    published = [row.published for row in found.rows if row.group.startswith("dynamic range")]
    assert [value for value in published if value is not None] == [2.73, 41.6, 2.36, 10.6]
    memory = next(row for row in found.rows if row.published == 2.4)
    assert abs(memory.error or 1) < 0.1
