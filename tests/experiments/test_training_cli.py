"""``mandheling train`` as it is typed: what it prints, how it goes on, what it refuses."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from experiments.cli import app

SHAPES = ["train", "-m", "lenet", "--dataset", "shapes32", "-p", "mnn-fp32", "--epochs", "1"]
TINY = ["train", "-m", "lenet", "--dataset", "digits", "-p", "mnn-fp32", "--epochs", "1"]


def run(arguments: list[str], out: Path | None = None) -> Result:
    extra = [] if out is None else ["--out", str(out)]
    return CliRunner().invoke(app, [*arguments, *extra])


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    out = tmp_path_factory.mktemp("runs") / "new" / "folder"
    return out, run(TINY, out)


def test_it_prints_a_table_and_tells_of_each_epoch(trained: tuple[Path, Result]) -> None:
    out, result = trained
    assert result.exit_code == 0, result.stderr
    table = result.stdout
    assert "lenet on digits, mnn-fp32" in table
    assert "1 *" in table
    assert "test accuracy" in table
    assert "predicted for snapdragon-865, not measured" in table
    assert max(map(len, table.splitlines())) <= 80
    told = result.stderr.splitlines()
    assert "1294 images, 143 held out" in told[0]
    assert [line for line in told if line.startswith("epoch 1/1: loss ")]
    names = {path.name for path in out.iterdir()}
    assert {"checkpoint.npz", "result.json"} <= names


def test_the_same_command_shows_the_result_again(trained: tuple[Path, Result]) -> None:
    out, first = trained
    again = run(TINY, out)
    assert again.exit_code == 0
    assert again.stdout == first.stdout
    assert again.stderr == ""


def test_json_is_the_result_and_nothing_else(trained: tuple[Path, Result]) -> None:
    out, _ = trained
    found = run([*TINY, "--json", "--quiet"], out)
    assert json.loads(found.stdout) == json.loads((out / "result.json").read_text())
    resumed = run(["train", "--resume", str(out), "--json", "--threads", "1"])
    assert resumed.stdout == found.stdout


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "not JSON"),
        ('{"x": 1' + "0" * 5000 + "}", "not JSON"),
        ("[]", "not a JSON object"),
        ("{}", "not the result of the run in this folder"),
    ],
)
def test_a_result_that_is_damaged_is_told_and_made_again(
    trained: tuple[Path, Result], tmp_path: Path, content: str, words: str
) -> None:
    out = shutil.copytree(trained[0], tmp_path / "run")
    (out / "result.json").write_text(content)
    refused = run(TINY, out)
    assert refused.exit_code == 2, refused.exception
    (line,) = refused.stderr.splitlines()
    assert "result.json" in line
    assert words in line
    assert "remove it" in line
    (out / "result.json").unlink()
    assert run(TINY, out).exit_code == 0


def test_quiet_says_nothing_on_stderr(tmp_path: Path) -> None:
    arguments = [*TINY, "--engine", "none", "--validation", "0", "--quiet"]
    result = run(arguments, tmp_path / "run")
    assert result.exit_code == 0
    assert result.stderr == ""
    assert "sim. s" not in result.stdout
    assert "predicted" not in result.stdout


def test_the_default_folder_is_named_after_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run([*TINY, "--seed", "7", "--engine", "none"]).exit_code == 0
    assert (tmp_path / "runs" / "lenet-digits-mnn-fp32-s7" / "result.json").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["train", "--dataset", "digits"], ["--model is missing", "--resume"]),
        (["train", "-m", "lenet"], ["--dataset is missing"]),
        ([*TINY, "--epochs", "0"], ["--epochs", "'0'"]),
        ([*TINY, "--batch", "1e2"], ["--batch", "'1e2'"]),
        ([*TINY, "--rate", "fast"], ["--rate", "'fast'", "number"]),
        ([*TINY, "--rate", "nan"], ["rate", "nan"]),
        ([*TINY, "--rate", "-1"], ["rate", "-1.0", "from 0"]),
        ([*TINY, "--schedule", "cosine"], ["schedule", "'cosine'", "one-cycle"]),
        ([*TINY, "--augment", "crop,mixup"], ["augment", "'mixup'"]),
        ([*TINY, "--sizes", "10"], ["--sizes", "'10'", "two whole numbers"]),
        ([*TINY, "--sizes", "10,x"], ["--sizes", "'10,x'"]),
        ([*SHAPES, "--sizes", "1000000000,10"], ["--sizes", "'1000000000,10'", "1 to 1000000"]),
        ([*SHAPES, "--sizes", "10,1000001"], ["--sizes", "'10,1000001'", "1 to 1000000"]),
        ([*SHAPES, "--sizes", "0,10"], ["--sizes", "'0,10'", "1 to 1000000"]),
        ([*SHAPES, "--sizes", f"{'9' * 5000},1"], ["--sizes", "1 to 1000000"]),
        (
            [*SHAPES, "-m", "alexnet", "--sizes", "1000000,10"],
            ["shape", "1,000,000 images of 224 x 224 x 3", "17,179,869,184", "fewer images"],
        ),
        ([*TINY, "--split-of-test", "1000000000,1"], ["--split-of-test", "1 to 1000000"]),
        ([*TINY, "--validation", "1000000000"], ["--validation", "from 0 to 1000000"]),
        (
            [*TINY, "--validation", "1437"],
            ["validation: 1437", "1437 training images", "0 to 1436"],
        ),
        ([*TINY, "--batch", "1295"], ["batch: 1295", "1 to 1294"]),
        ([*TINY, "--batch", "4097"], ["--batch", "'4097'", "1 to 4096"]),
        ([*TINY, "--epochs", "100001"], ["--epochs", "'100001'", "1 to 100000"]),
        ([*TINY, "--rate", "1_0"], ["--rate", "'1_0'", "number"]),
        ([*TINY, "--rate", " 0.1"], ["--rate", "' 0.1'", "number"]),
        ([*TINY, "--data", ""], ["data: ''", "not empty"]),
        ([*TINY, "--plan", ""], ["plan: ''", "not empty"]),
        ([*TINY, "-m", ""], ["model: ''", "not empty"]),
        ([*TINY, "--engine", "warp"], ["engine", "'warp'", "none"]),
        ([*TINY, "--profile", "fp8"], ["profile", "'fp8'", "sandbox"]),
        ([*TINY, "--backend", "cuda"], ["'cuda'"]),
        ([*TINY, "--weight-decay", "0.5"], ["weight_decay", "0.5"]),
        ([*TINY, "--data", "/nowhere"], ["folder", "digits"]),
        (["train", "-m", "lenet", "--dataset", "cifar10"], ["cifar10", "folder"]),
        (["train", "-m", "lenet", "--dataset", "nope"], ["'nope'", "shapes32"]),
        (["train", "-m", "nope", "--dataset", "digits"], ["'nope'", "lenet"]),
        (["train", "--resume", "/nowhere"], ["/nowhere", "not there"]),
        (["train", "--resume", __file__], [__file__, "is a file; give the folder of a run"]),
        (["train", "--resume", "/nowhere", "--epochs", "9"], ["--epochs", "--resume"]),
    ],
)
def test_refusals_are_one_line_and_name_what_is_wrong(
    tmp_path: Path, arguments: list[str], words: list[str]
) -> None:
    resumed = "--resume" in arguments
    result = run(arguments, None if resumed else tmp_path / "run")
    assert result.exit_code == 2, (result.stdout, result.stderr, result.exception)
    lines = result.stderr.splitlines()
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("error: ")
    for word in words:
        assert word in lines[0]
    assert result.stdout == ""


def test_help_needs_no_compiler() -> None:
    code = (
        "import sys; from experiments import cli\n"
        "sys.argv = ['mandheling', 'train', '--help']\n"
        "try: cli.main()\n"
        "finally: assert not {'numba', 'numpy'} & set(sys.modules)\n"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert shown.returncode == 0, shown.stderr
    assert "--checkpoint-every" in shown.stdout


def test_recorded_shifts_replay_to_the_time_that_training_had(tmp_path: Path) -> None:
    words = ["train", "-m", "lenet", "--dataset", "digits", "--epochs", "1", "--trace"]
    assert run([*words, "--quiet"], tmp_path / "run").exit_code == 0
    trained = json.loads((tmp_path / "run" / "result.json").read_text())
    trace = str(tmp_path / "run" / "rescale-trace.json")
    words = ["simulate", "-m", "lenet", "-d", "snapdragon-865", "--json", "--shifts"]
    found = run([*words, trace, "--steps", str(trained["steps"])])
    replayed = json.loads(found.stdout)
    assert replayed["shifts"] == "recorded"
    assert replayed["makespan_ns"] == trained["simulated"]["time_ns"]
    assert replayed["energy_pj"] == trained["simulated"]["energy_pj"]
    assert replayed["scans"] == trained["rescale"]["scans"]
    (tmp_path / "broken").write_text("{}")
    refused = run([*words, str(tmp_path / "broken")])
    assert refused.exit_code == 2
    assert "is no rescale trace" in refused.stderr


@pytest.mark.parametrize("command", ["train", "federated"])
def test_a_rate_that_integers_do_not_take_is_refused_at_once(command: str, tmp_path: Path) -> None:
    words = [command, "-m", "lenet", "--dataset", "digits", "--rate", "1.5"]
    refused = run(words, tmp_path / "run")
    assert refused.exit_code == 2
    assert "rate: 1.5; INT8 layers of profile sandbox take up to 1: lower it" in refused.stderr
    assert not (tmp_path / "run").exists()
