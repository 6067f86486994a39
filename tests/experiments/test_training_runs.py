"""Real runs of LeNet on small sets: what they leave behind, and that a stop changes no bit."""

from __future__ import annotations

import json
import random
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from experiments.training import checkpoint
from experiments.training.checkpoint import CheckpointError
from experiments.training.compare import accuracy_difference, reached, read_training_result
from experiments.training.config import ConfigError, TrainConfig
from experiments.training.curves import draw_curves
from experiments.training.ground import prepare
from experiments.training.loop import Stopped, TrainingError, saved_config, train
from sim.files import FileError
from sim.numeric.records import load_trace

ROOT = Path(__file__).parents[2]
SMALL = TrainConfig(
    "lenet",
    "digits",
    plan="mandheling",
    epochs=2,
    batch=64,
    rate=0.02,
    augment=("flip",),
    checkpoint_every=4,
    trace=True,
)
BATCHES = 20
"""Steps of an epoch: 1294 images are left to train on."""
STEPS = 2 * BATCHES
LIBRARY = (SMALL, replace(SMALL, plan="mnn-fp32", trace=False))


def outcome(result: dict[str, Any]) -> dict[str, Any]:
    """What must not depend on the machine, on threads, or on stops."""
    return {**result, "wall_ms": None}


def after(steps: int) -> Callable[[], bool]:
    """Return a question that is answered with True from the given number of askings on."""
    asked = iter(range(10**9))
    return lambda: next(asked) >= steps


@pytest.fixture(scope="module", params=LIBRARY, ids=lambda config: config.plan)
def whole(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[TrainConfig, Path, dict[str, Any]]:
    """Return a run that nothing stopped: its settings, folder and result."""
    config: TrainConfig = request.param
    out = tmp_path_factory.mktemp("runs") / config.plan
    return config, out, train(config, out)


Whole = tuple[TrainConfig, Path, dict[str, Any]]

# -- what a run leaves ------------------------------------------------------------------------


def test_a_run_learns_and_says_what_it_did(whole: Whole) -> None:
    config, out, result = whole
    assert result == json.loads((out / "result.json").read_text())
    assert result["steps"] == STEPS
    assert [row["steps"] for row in result["epochs"]] == [BATCHES, BATCHES]
    data = result["data"]
    assert (data["train"], data["validation"], data["test"]) == (1294, 143, 360)
    assert list(data["files_sha256"]) == ["digits.csv.gz"]
    first, last = result["epochs"]
    assert last["loss"] < first["loss"]
    assert last["validation_accuracy"] > 0.5
    assert 0 < first["time_ns"] < last["time_ns"] == result["simulated"]["time_ns"]
    assert 0 < first["energy_pj"] < last["energy_pj"] == result["simulated"]["energy_pj"]
    warm = (last["time_ns"] - first["time_ns"]) // BATCHES
    cold = result["simulated"]["first_step_ns"]  # FP32 on the CPU prepares nothing
    assert cold > warm if config.plan == "mandheling" else cold == warm
    right = np.unpackbits(np.frombuffer(bytes.fromhex(result["test"]["right_hex"]), np.uint8))
    assert right[:360].sum() == result["test"]["correct"] == 360 * result["test"]["accuracy"]
    assert result["identity"]["rate"] == config.rate
    assert result["manifest"]["seed"] == config.seed


def test_the_epoch_is_chosen_by_validation_and_tested_with_its_parameters(whole: Whole) -> None:
    config, out, result = whole
    counts = [row["validation_correct"] for row in result["epochs"]]
    assert result["chosen_epoch"] == counts.index(max(counts))
    ground = prepare(config)
    saved = checkpoint.load(out / checkpoint.NAME)
    session = ground.session()
    session.executor.parameters.load(saved.arrays["best"])
    assert session.executor.parameters.sha256() == result["chosen_sha256"]
    right = np.concatenate(
        [session.executor.predict(x).argmax(1) == y for x, y in ground.in_order(ground.test)]
    )
    assert np.packbits(right).tobytes().hex() == result["test"]["right_hex"]
    session.executor.parameters.load(saved.arrays["parameters"])
    assert session.executor.parameters.sha256() == result["weights_sha256"]


def test_rescaling_is_counted_from_real_tensors(whole: Whole) -> None:
    config, out, result = whole
    if config.plan == "mnn-fp32":
        assert result["rescale"] is None
        return
    met = result["rescale"]
    assert met["tensors"] == sum(row["rescale"]["tensors"] for row in result["epochs"])
    assert 0 < met["scans"] < met["tensors"]
    assert met["skipped_share"] == 1 - met["scans"] / met["tensors"]
    totals = load_trace(out / "rescale-trace.json").totals()
    for name in ("tensors", "scans", "stale", "saturated", "lost"):
        assert totals[name] == met[name]


def test_a_finished_run_is_not_run_again(whole: Whole, monkeypatch: pytest.MonkeyPatch) -> None:
    config, out, result = whole
    before = (out / checkpoint.NAME).stat().st_mtime_ns
    monkeypatch.setattr("experiments.training.loop._Run.to_the_end", pytest.fail)
    assert train(config, out) == result
    assert (out / checkpoint.NAME).stat().st_mtime_ns == before


def test_curves_are_drawn(whole: Whole, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    _, _, result = whole
    for one in (result, {**result, "simulated": None}):
        assert draw_curves(one, tmp_path / "curves.png")
        assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_threads_change_no_bit(whole: Whole, tmp_path: Path) -> None:
    config, _, result = whole
    again = train(replace(config, threads=1), tmp_path / "one")
    assert outcome(again) == outcome(result)


def test_two_runs_are_compared(whole: Whole) -> None:
    _, out, result = whole
    same = accuracy_difference(read_training_result(out), result)
    assert (same.low, same.high, same.first) == (0, 0, result["test"]["accuracy"])
    first = reached(result, 0.0)
    assert first is not None
    assert first.time_ns == result["epochs"][0]["time_ns"]


# -- stops and kills --------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_a_run_stopped_at_any_step_ends_in_the_same_bits(
    whole: Whole, tmp_path: Path, seed: int
) -> None:
    config, whole_out, result = whole
    draw = random.Random(seed)
    stops = 0
    while True:
        try:
            again = train(config, tmp_path, stop=after(draw.randrange(24)))
        except Stopped:
            stops += 1
        else:
            break
    assert stops > 1
    assert outcome(again) == outcome(result)
    for name in ("rescale-trace.json",) if config.trace else ():
        assert (tmp_path / name).read_bytes() == (whole_out / name).read_bytes()


def test_a_stop_while_testing_goes_on_with_the_last_parameters(
    whole: Whole, tmp_path: Path
) -> None:
    config, _, result = whole
    asked = STEPS + 2 * 3 + 1  # steps, three batches of validation per epoch, one of the test
    with pytest.raises(Stopped):
        train(config, tmp_path, stop=after(asked))
    assert not (tmp_path / "result.json").exists()
    assert outcome(train(config, tmp_path)) == outcome(result)


def command(config: TrainConfig, out: Path) -> list[str]:
    """Return the command line of a run with these settings."""
    options = {
        "model": config.model,
        "dataset": config.dataset,
        "plan": config.plan,
        "epochs": config.epochs,
        "batch": config.batch,
        "rate": config.rate,
        "augment": ",".join(config.augment or ()),
        "checkpoint-every": config.checkpoint_every,
        "out": out,
    }
    words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    start = [sys.executable, "-m", "experiments.cli", "train", *words]
    return [*start, "--trace"] if config.trace else start


def begun(config: TrainConfig, out: Path) -> subprocess.Popen[str]:
    """Start a run in a process of its own and wait until it trains."""
    pipe = subprocess.PIPE
    process = subprocess.Popen(command(config, out), cwd=ROOT, stderr=pipe, stdout=pipe, text=True)
    assert process.stderr is not None
    assert "lenet" in process.stderr.readline()
    return process


def kill_until_done(config: TrainConfig, out: Path, kills: int, seed: int) -> int:
    """Kill a run at random moments and start it again, then let it end; return the kills."""
    draw = random.Random(seed)
    landed = 0
    for _ in range(kills):
        process = begun(replace(config, checkpoint_every=draw.choice([1, 3])), out)
        time.sleep(draw.random() * 0.3)
        process.kill()
        process.communicate()
        landed += process.returncode == -signal.SIGKILL
        if process.returncode == 0:
            break
    done = subprocess.run(command(config, out), cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return landed


def assert_killed_run_is_whole(config: TrainConfig, tmp_path: Path, kills: int, seed: int) -> int:
    """Compare a run that is killed with one that is not; return the kills."""
    plan = tmp_path / "plan.json"  # reading it is faster than making it again
    plan.write_text(prepare(config).plan.to_json())
    config = replace(config, plan=str(plan))
    expected = train(config, tmp_path / "whole")
    landed = kill_until_done(config, tmp_path / "killed", kills, seed)
    assert outcome(read_training_result(tmp_path / "killed")) == outcome(expected)
    assert not list((tmp_path / "killed").glob(".*.part"))
    return landed


def test_a_killed_run_ends_in_the_same_bits(tmp_path: Path) -> None:
    config = replace(SMALL, epochs=3)
    assert assert_killed_run_is_whole(config, tmp_path, kills=2, seed=1) > 0


@pytest.mark.accept
@pytest.mark.parametrize("plan", ["mandheling", "mnn-fp32"])
def test_a_run_killed_twenty_times_ends_in_the_same_bits(tmp_path: Path, plan: str) -> None:
    config = replace(SMALL, plan=plan, epochs=30)
    assert assert_killed_run_is_whole(config, tmp_path, kills=20, seed=2) == 20


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_says_how_to_go_on(tmp_path: Path, number: signal.Signals) -> None:
    config = replace(SMALL, epochs=200, checkpoint_every=10**6)
    process = begun(config, tmp_path)
    time.sleep(0.5)
    process.send_signal(number)
    printed, said = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert printed == ""
    assert f"go on with: mandheling train --resume {tmp_path}" in said
    assert "Traceback" not in said
    saved = checkpoint.load(tmp_path / checkpoint.NAME)
    done = BATCHES * saved.progress["epoch"] + saved.progress["batch"]
    assert f"stopped after step {done} of {200 * BATCHES}" in said
    assert done > 0
    assert saved_config(tmp_path) == replace(config, device="snapdragon-865")


# -- what is refused --------------------------------------------------------------------------


def test_other_settings_in_the_same_folder_are_refused_by_name(whole: Whole) -> None:
    config, out, _ = whole
    other = replace(config, seed=1, batch=32, plan="dsp-int8")
    with pytest.raises(ConfigError) as refused:
        train(other, out)
    for word in ("batch was 64 and is 32 now", "seed was 0 and is 1 now", "plan was", "choose"):
        assert word in str(refused.value)


def test_the_data_count_as_settings(whole: Whole, monkeypatch: pytest.MonkeyPatch) -> None:
    config, out, _ = whole
    monkeypatch.setattr("experiments.datasets.dataset.Dataset.digest", lambda self: "0" * 64)
    with pytest.raises(ConfigError, match=r"test_sha256 was .* and is 000"):
        train(config, out)


def test_a_damaged_checkpoint_is_refused_and_kept(tmp_path: Path) -> None:
    with pytest.raises(Stopped):
        train(SMALL, tmp_path, stop=after(3))
    path = tmp_path / checkpoint.NAME
    whole, half = path.read_bytes(), path.read_bytes()[: path.stat().st_size // 2]
    path.write_bytes(half)
    with pytest.raises(CheckpointError, match=r"checkpoint\.npz: is damaged"):
        train(SMALL, tmp_path)
    assert path.read_bytes() == half
    path.write_bytes(whole)
    saved = checkpoint.load(path)
    name = next(iter(saved.arrays["parameters"]))
    saved.arrays["parameters"].pop(name)
    checkpoint.save(path, saved)
    with pytest.raises(CheckpointError, match="does not fit this run"):
        train(SMALL, tmp_path)


def test_changed_parameters_are_noticed(tmp_path: Path) -> None:
    with pytest.raises(Stopped):
        train(SMALL, tmp_path, stop=after(3))
    saved = checkpoint.load(tmp_path / checkpoint.NAME)
    first = next(iter(saved.arrays["parameters"].values()))
    first.reshape(-1)[0] += 1
    checkpoint.save(tmp_path / checkpoint.NAME, saved)
    with pytest.raises(CheckpointError, match=r"sha256 of the parameters"):
        train(SMALL, tmp_path)


def test_a_full_disk_ends_in_one_line_and_keeps_the_last_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(Stopped):
        train(SMALL, tmp_path, stop=after(3))
    before = (tmp_path / checkpoint.NAME).read_bytes()

    def small_files() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))

    failed = subprocess.run(
        command(SMALL, tmp_path), cwd=ROOT, capture_output=True, text=True, preexec_fn=small_files,
    )  # fmt: skip
    assert failed.returncode == 2
    last = failed.stderr.splitlines()[-1]
    assert last.startswith("error: ")
    assert "checkpoint.npz: cannot be written (File too large)" in last
    assert (tmp_path / checkpoint.NAME).read_bytes() == before
    assert not list(tmp_path.glob(".*.part"))


def test_a_folder_that_cannot_be_written_is_refused_before_training(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"out: .*choose another"):
        train(SMALL, tmp_path / "file" / "run")
    (tmp_path / checkpoint.NAME).mkdir()
    with pytest.raises((CheckpointError, FileError), match=r"checkpoint\.npz"):
        train(SMALL, tmp_path)


def test_a_folder_with_the_result_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "result.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"result\.json and no checkpoint"):
        train(SMALL, tmp_path)
    assert (tmp_path / "result.json").read_text() == "{}"


def test_a_folder_is_trained_in_by_one_process_at_a_time(tmp_path: Path) -> None:
    def inner() -> bool:
        with pytest.raises(ConfigError, match="another process is training"):
            train(SMALL, tmp_path)
        return True

    with pytest.raises(Stopped):
        train(SMALL, tmp_path, stop=inner)


def test_a_loss_that_is_no_number_ends_the_run(tmp_path: Path) -> None:
    config = replace(LIBRARY[1], rate=15.0, momentum=0.99, schedule="constant")
    with (
        np.errstate(all="ignore"),
        pytest.raises(TrainingError, match=r"step \d+: the loss is (nan|inf); take a smaller rate"),
    ):
        train(config, tmp_path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"engine": "warp"}, ["engine", "'warp'", "compiled, simpy, none"]),
        ({"scenario": "sunny"}, ["scenario", "'sunny'", "quiet"]),
        ({"profile": "nope"}, ["profile", "'nope'", "sandbox"]),
        ({"engine": "none", "scenario": "sustained"}, ["scenario", "sustained", "engine"]),
        ({"dataset": "imagenet"}, ["'imagenet'", "digits"]),
        ({"dataset": "cifar10"}, ["cifar10", "folder"]),
        ({"batch": 2000}, ["batch", "2000"]),
        ({"validation": 1437}, ["1437"]),
        ({"plan": "nope"}, ["'nope'"]),
        ({"sizes": (10, 10)}, ["sizes", "digits"]),
    ],
)
def test_what_cannot_be_trained_is_refused_before_a_step(
    tmp_path: Path, change: dict[str, Any], words: list[str]
) -> None:
    with pytest.raises(ValueError, match=r".") as refused:
        train(replace(SMALL, **change), tmp_path / "run")
    for word in words:
        assert word in str(refused.value)
    assert not (tmp_path / "run").exists()


def test_defaults_follow_from_the_data_set_and_the_plan() -> None:
    config = prepare(replace(SMALL, rate=None, augment=None)).config
    assert config.rate is not None
    assert (config.augment, config.validation) == ((), 143)
    assert prepare(replace(SMALL, validation=0)).validation is None
