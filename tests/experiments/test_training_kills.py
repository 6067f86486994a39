"""A stop, a signal or a kill at any moment changes no bit of a training run."""

from __future__ import annotations

import random
import signal
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import pytest
from training_cases import (
    BATCHES,
    LIBRARY,
    ROOT,
    SMALL,
    STEPS,
    Whole,
    after,
    command,
    outcome,
)

from experiments.training import checkpoint
from experiments.training.compare import read_training_result
from experiments.training.config import TrainConfig
from experiments.training.ground import prepare
from experiments.training.loop import Stopped, saved_config, train
from experiments.training.start import start_weights
from sim import Plan, load_model, training_graph


@pytest.fixture(scope="module", params=LIBRARY)
def whole(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Whole:
    """Return a run that nothing stopped."""
    config = LIBRARY[request.param]
    out = tmp_path_factory.mktemp("runs") / config.plan
    return config, out, train(config, out)


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


def test_a_run_whose_inputs_are_kept_in_bases_goes_on_and_can_be_started_from(
    tmp_path: Path,
) -> None:
    graph = training_graph(load_model("lenet", batch=64))
    choices = {("backward", "conv1"): "asi:64:1:9:9", ("backward", "conv2"): "asi:64:8:6:6"}
    (tmp_path / "plan.json").write_text(Plan.make("bases", graph.hash(), choices).to_json())
    config = replace(SMALL, plan=str(tmp_path / "plan.json"), epochs=1, engine="none", trace=False)
    at_once = train(config, tmp_path / "at-once")
    with pytest.raises(Stopped):
        train(config, tmp_path / "stopped", stop=after(7))
    saved = checkpoint.load(tmp_path / "stopped" / checkpoint.NAME).arrays["parameters"]
    assert {name for name in saved if name.endswith(":bases")} == {"conv1:bases", "conv2:bases"}
    assert outcome(train(config, tmp_path / "stopped")) == outcome(at_once)
    tensors = start_weights(tmp_path / "at-once").tensors
    assert {name.partition(".")[0] for name in tensors} == {"conv1", "conv2", "linear1", "linear2"}
