"""Federated runs of LeNet: they learn, and a stop, a kill or threads change no bit."""

from __future__ import annotations

import json
import os
import random
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

from experiments.datasets.splits import shares_sha256
from experiments.federated.config import FederatedConfig
from experiments.federated.curves import draw_curves
from experiments.federated.ground import prepare
from experiments.federated.loop import Stopped, federate
from experiments.federated.packets import packed
from experiments.federated.phone import FederatedError, Phone
from experiments.training import checkpoint
from experiments.training.checkpoint import CheckpointError
from experiments.training.config import ConfigError, TrainConfig

ROOT = Path(__file__).parents[2]
LOCAL = TrainConfig(
    "lenet", "digits", epochs=1, batch=16, rate=0.01, schedule="constant", validation=0
)
SMALL = FederatedConfig(LOCAL, rounds=3, clients=8, per_round=3, test_every=2)
PLAIN = replace(LOCAL, engine="none")


def outcome(result: dict[str, Any]) -> dict[str, Any]:
    """What threads, stops and kills must not change on one machine.

    All but the clock reading, and the settings as they were given (threads are among them).
    """
    config = {**result["config"], "training": None}
    return {**result, "config": config, "wall_ms": None}


def after(steps: int) -> Callable[[], bool]:
    """Return a question that is answered with True from the given number of askings on."""
    asked = iter(range(10**9))
    return lambda: next(asked) >= steps


Whole = tuple[Path, dict[str, Any]]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Whole:
    """Return a run that nothing stopped: its folder and result."""
    out = tmp_path_factory.mktemp("runs") / "whole"
    return out, federate(SMALL, out)


# -- what a run leaves ------------------------------------------------------------------------


def test_a_run_says_what_it_did(whole: Whole) -> None:
    out, result = whole
    rows, ground = result["rounds"], prepare(SMALL)
    assert result == json.loads((out / "result.json").read_text())
    assert result["config"]["aggregate"] == "fp32-global"
    assert [row["round"] for row in rows] == [0, 1, 2]
    assert [row["test_correct"] is None for row in rows] == [True, False, False]
    for row in rows:
        sizes = [len(ground.shares[client]) for client in row["clients"]]
        assert row["steps"] == sum(-(-size // 16) for size in sizes)
        assert row["slowest"] in row["clients"]
        assert row["time_ns"] > row["training_ns"] > 0
        assert row["down_bytes"] == row["up_bytes"]
    weights = sum(array.size for array in Phone(ground.local).weights().values())
    tensors = len(Phone(ground.local).weights())
    assert rows[0]["down_bytes"] == 3 * (weights + tensors)
    assert result["traffic"]["up_fp32_bytes"] == 3 * 3 * 4 * weights
    assert result["simulated"]["time_ns"] == sum(row["time_ns"] for row in rows)
    assert result["simulated"]["energy_pj"] == rows[-1]["total_pj"]
    right = np.unpackbits(np.frombuffer(bytes.fromhex(result["test"]["right_hex"]), np.uint8))
    assert int(right.sum()) == result["test"]["correct"] == rows[-1]["test_correct"]
    assert draw_curves(result, out / "curves.png")
    assert (out / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_a_finished_run_is_not_done_again(whole: Whole) -> None:
    out, result = whole
    assert federate(SMALL, out, stop=lambda: True) == result


@pytest.mark.parametrize(
    ("plan", "profile", "aggregate"),
    [
        ("mandheling", "sandbox", "int8"),
        ("mandheling", "sandbox", "fp32-global"),
        ("mandheling", "mandheling_dsp", "int8"),
        ("mnn-fp32", "sandbox", "fp32"),
    ],
)
def test_runs_learn(tmp_path: Path, plan: str, profile: str, aggregate: str) -> None:
    local = replace(PLAIN, plan=plan, profile=profile)
    result = federate(
        FederatedConfig(local, rounds=6, clients=10, per_round=5, aggregate=aggregate), tmp_path
    )
    assert result["test"]["accuracy"] > 0.65
    assert result["simulated"] is None
    ratio = result["traffic"]["down_fp32_bytes"] / result["traffic"]["down_bytes"]
    assert ratio == 1 if plan == "mnn-fp32" else 3.99 < ratio < 4


def test_small_steps_are_lost_in_int8_and_not_with_fp32_global(tmp_path: Path) -> None:
    """What the variant is for: at a thirtieth of the usual rate INT8 averages stand still."""
    found = {}
    for rule in ("int8", "fp32-global"):
        config = FederatedConfig(
            replace(PLAIN, rate=0.0003), rounds=8, clients=20, per_round=5, aggregate=rule
        )
        found[rule] = federate(config, tmp_path / rule)["test"]["accuracy"]
    assert found["fp32-global"] > found["int8"] + 0.2


# -- nothing but the identity counts ----------------------------------------------------------


def test_a_client_knows_nothing_of_the_one_before() -> None:
    made = prepare(SMALL)
    ground, shares, rate = made.local, made.shares, 1 << 17
    alone, second = Phone(ground), Phone(ground)
    packet = packed(alone.weights(), alone.integer, alone.statistics())
    second.train(packet, shares[0], 0, 0, rate)
    first = alone.train(packet, shares[1], 1, 4, rate)
    again = second.train(packet, shares[1], 1, 4, rate)
    assert first.tally == again.tally
    assert first.after.keys() == again.after.keys()
    for name, array in first.after.items():
        assert array.tobytes() == again.after[name].tobytes()
    other = second.train(packet, shares[1], 1, 5, rate)
    assert other.tally.loss != first.tally.loss


@pytest.mark.parametrize("change", [{"threads": 1}, {"threads": 2}, {"backend": "portable"}])
def test_threads_and_backends_change_no_bit(
    whole: Whole, tmp_path: Path, change: dict[str, Any]
) -> None:
    config = replace(SMALL, training=replace(LOCAL, **change))
    assert outcome(federate(config, tmp_path)) == outcome(whole[1])


def test_fp32_does_not_depend_on_threads(tmp_path: Path) -> None:
    found = [
        federate(
            replace(SMALL, rounds=1, training=replace(PLAIN, plan="mnn-fp32", threads=threads)),
            tmp_path / str(threads),
        )["weights_sha256"]
        for threads in (1, 2)
    ]
    assert found[0] == found[1]


def test_the_shares_count_as_settings(whole: Whole, monkeypatch: pytest.MonkeyPatch) -> None:
    out, result = whole
    ground = prepare(SMALL)
    assert result["identity"]["shares_sha256"] == shares_sha256(ground.shares)
    moved = [ground.shares[0][1:], np.append(ground.shares[1], ground.shares[0][0])]
    other = [*moved, *ground.shares[2:]]
    assert shares_sha256(other) != shares_sha256(ground.shares)
    test = ground.local.test
    monkeypatch.setattr("experiments.federated.ground.shares", lambda *given: (other, test))
    with pytest.raises(ConfigError, match=r"shares_sha256 was .* and is .* now"):
        federate(SMALL, out)


def test_the_seed_counts(whole: Whole, tmp_path: Path) -> None:
    other = federate(replace(SMALL, rounds=1, training=replace(PLAIN, seed=1)), tmp_path)
    assert other["rounds"][0]["loss"] != whole[1]["rounds"][0]["loss"]


# -- stops ------------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [0, 7, 40])
def test_a_stopped_run_goes_on_to_the_same_bits(whole: Whole, tmp_path: Path, steps: int) -> None:
    with pytest.raises(Stopped, match=r"stopped after round [0-2] of 3"):
        federate(SMALL, tmp_path, stop=after(steps))
    assert not (tmp_path / "result.json").exists()
    assert outcome(federate(SMALL, tmp_path)) == outcome(whole[1])


RUN = """
import json, sys
from pathlib import Path
from experiments.federated.config import FederatedConfig
from experiments.federated.loop import federate
from experiments.training.config import TrainConfig
settings = json.loads(sys.argv[1])
training = TrainConfig.from_json(settings.pop("training"))
federate(FederatedConfig(training=training, **settings), Path(sys.argv[2]))
"""


def start(config: FederatedConfig, out: Path) -> subprocess.Popen[bytes]:
    words = [sys.executable, "-c", RUN, json.dumps(config.as_json()), str(out)]
    return subprocess.Popen(words, cwd=ROOT, start_new_session=True)


def rounds_saved(out: Path) -> int:
    """Rounds that the state in a folder has; -1 where there is none yet."""
    path = out / checkpoint.NAME
    return len(checkpoint.load(path).progress["rows"]) if path.exists() else -1


def killed_in(config: FederatedConfig, out: Path, seed: int) -> int:
    """Kill the run's process in every round but the last; return how many kills hit a live one."""
    rng, hits = random.Random(seed), 0
    for number in range(config.rounds - 1):
        process = start(config, out)
        deadline = time.monotonic() + 120
        while rounds_saved(out) < number and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 0.2))
        hits += process.poll() is None
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    return hits


def test_killed_runs_go_on_to_the_same_bits(whole: Whole, tmp_path: Path) -> None:
    assert killed_in(SMALL, tmp_path, seed=0) >= 1
    assert not (tmp_path / "result.json").exists()
    assert outcome(federate(SMALL, tmp_path)) == outcome(whole[1])
    assert not list(tmp_path.glob(".*.part"))


# -- refusals ---------------------------------------------------------------------------------


def test_another_run_in_the_folder_is_refused(whole: Whole) -> None:
    out, _ = whole
    for change, message in (
        (replace(SMALL, alpha=0.6), "alpha was 0.5 and is 0.6 now"),
        (replace(SMALL, training=replace(LOCAL, rate=0.02)), "rate was 0.01 and is 0.02 now"),
        (replace(SMALL, aggregate="int8"), "aggregate was fp32-global and is int8 now"),
    ):
        with pytest.raises(ConfigError, match=message):
            federate(change, out)


def test_a_damaged_state_is_refused(tmp_path: Path) -> None:
    config = replace(SMALL, training=PLAIN)
    with pytest.raises(Stopped):
        federate(config, tmp_path, stop=after(0))
    path = tmp_path / checkpoint.NAME
    saved = checkpoint.load(path)
    weights = dict(saved.arrays["weights"])
    name = next(iter(weights))
    weights[name] = weights[name][:1]
    checkpoint.save(path, replace(saved, arrays={**saved.arrays, "weights": weights}))
    with pytest.raises(CheckpointError, match="does not fit this run"):
        federate(config, tmp_path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="damaged"):
        federate(config, tmp_path)


def test_a_diverging_run_says_where(tmp_path: Path) -> None:
    local = replace(PLAIN, plan="mnn-fp32", rate=15.0)
    with pytest.raises(FederatedError, match=r"round 1, client \d: the loss is (nan|inf)"):
        federate(replace(SMALL, training=local), tmp_path)


# -- the command ------------------------------------------------------------------------------


def run_command(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "experiments.cli", "federated", *words]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_the_command_gives_the_same_run(whole: Whole, tmp_path: Path) -> None:
    words = ["--model", "lenet", "--dataset", "digits", "--clients", "8", "--per-round", "3"]
    words += ["--rounds", "3", "--test-every", "2", "--out", str(tmp_path)]
    made = run_command(*words, "--json", "--quiet")
    assert (made.returncode, made.stderr) == (0, "")
    assert outcome(json.loads(made.stdout))["rounds"] == whole[1]["rounds"]
    again = run_command(*words)
    assert "test accuracy" in again.stdout
    assert max(map(len, again.stdout.splitlines())) <= 80
    refused = run_command(*words, "--aggregate", "fp32")
    assert refused.returncode == 2
    assert refused.stderr.startswith("error: aggregate: 'fp32'; plan mandheling trains in INT8")
