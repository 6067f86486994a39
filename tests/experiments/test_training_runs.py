"""Real runs of LeNet on small sets: what they leave behind, and what is refused."""

from __future__ import annotations

import json
import resource
import subprocess
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from training_cases import BATCHES, LIBRARY, ROOT, SMALL, STEPS, Whole, after, command, outcome

from experiments.render_train import summary
from experiments.training import checkpoint
from experiments.training.checkpoint import CheckpointError
from experiments.training.compare import accuracy_difference, reached, read_training_result
from experiments.training.config import ConfigError, TrainConfig
from experiments.training.curves import draw_curves
from experiments.training.ground import prepare
from experiments.training.loop import Stopped, TrainingError, train
from sim.files import FileError
from sim.numeric.records import load_trace


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Whole]:
    """Return runs that nothing stopped, by plan."""
    folder = tmp_path_factory.mktemp("runs")
    return {plan: (c, folder / plan, train(c, folder / plan)) for plan, c in LIBRARY.items()}


@pytest.fixture(params=LIBRARY)
def whole(request: pytest.FixtureRequest, runs: dict[str, Whole]) -> Whole:
    """Return one of them."""
    return runs[request.param]


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
    assert [note.partition(" of ")[0].rpartition(" ")[2] for note in result["notes"]] == (
        ["velocity"] if config.plan == "mnn-fp32" else ["velocity", "weights"]
    )
    shown = summary(result, str(out), drawn=False)
    assert all(f"note: {note}" in shown for note in result["notes"])


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


def test_int8_is_compared_with_fp32(runs: dict[str, Whole]) -> None:
    fp32, int8 = (read_training_result(runs[plan][1]) for plan in ("mnn-fp32", "mandheling"))
    found = accuracy_difference(fp32, int8)
    assert (found.first, found.second) == (fp32["test"]["accuracy"], int8["test"]["accuracy"])
    one, two = (int(run["test"]["right_hex"], 16) for run in (fp32, int8))
    assert one != two
    assert (found.only_first, found.only_second) == (
        (one & ~two).bit_count(),
        (two & ~one).bit_count(),
    )
    assert found.difference == (found.only_second - found.only_first) / 360
    assert found.low < found.difference < found.high
    mirrored = accuracy_difference(int8, fp32)
    assert (mirrored.difference, mirrored.images) == (-found.difference, 360)
    for run in (fp32, int8):
        last = run["epochs"][-1]
        end = reached(run, last["validation_accuracy"])
        assert end is not None
        assert (end.epoch, end.time_ns, end.energy_pj) == (1, last["time_ns"], last["energy_pj"])
        assert reached(run, 1.01) is None
    ends = [reached(run, 0.0) for run in (fp32, int8)]
    assert ends[0] is not None
    assert ends[1] is not None
    assert (ends[0].epoch, ends[1].epoch) == (0, 0)
    assert ends[0].time_ns != ends[1].time_ns


def test_a_loss_is_kept_with_six_digits(whole: Whole) -> None:
    _, out, result = whole
    for row, sums in zip(
        result["epochs"], checkpoint.load(out / checkpoint.NAME).progress["rows"], strict=True
    ):
        exact = sums["tally"]["loss"] / BATCHES
        assert row["loss"] != exact
        assert row["loss"] == float(f"{exact:.6g}")


# -- what is refused --------------------------------------------------------------------------


def test_other_settings_in_the_same_folder_are_refused_by_name(whole: Whole) -> None:
    config, out, _ = whole
    other = replace(config, seed=1, batch=32, plan="dsp-int8")
    with pytest.raises(ConfigError) as refused:
        train(other, out)
    for word in ("batch was 64 and is 32 now", "seed was 0 and is 1 now", "plan was", "choose"):
        assert word in str(refused.value)


def test_a_run_is_not_continued_under_another_numpy(
    whole: Whole, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, out, result = whole
    assert result["identity"]["numpy"] == version("numpy")
    monkeypatch.setattr(
        "experiments.training.ground.version",
        lambda package: "9.9" if package == "numpy" else version(package),
    )
    with pytest.raises(ConfigError, match=rf"numpy was {version('numpy')} and is 9\.9 now"):
        train(config, out)


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
    config = replace(LIBRARY["mnn-fp32"], rate=15.0, momentum=0.99, schedule="constant")
    with (
        np.errstate(all="ignore"),
        pytest.raises(TrainingError, match=r"step \d+: the loss is (nan|inf); take a smaller rate"),
    ):
        train(config, tmp_path)


HALF = TrainConfig(
    "lenet", "shapes32", plan="pulp-fp16", device="gap9", batch=1, sizes=(40, 20), validation=10,
    epochs=1, engine="none", threads=1,
)  # fmt: skip


def test_a_lost_run_says_what_overflowed_in_16_bits(tmp_path: Path) -> None:
    words = (
        r"the loss is (nan|inf), [\d,]+ results in 16 bits overflowed in this step "
        r"\(first of \S+\); take"
    )
    config = replace(HALF, rate=15.0, momentum=0.99, schedule="constant")
    with np.errstate(all="ignore"), pytest.raises(TrainingError, match=words):
        train(config, tmp_path)


def test_a_finished_run_says_what_overflowed_in_16_bits(tmp_path: Path) -> None:
    with np.errstate(all="ignore"):
        result = train(replace(HALF, rate=3.0), tmp_path)
    assert result["overflowed"] > 0
    shown = summary(result, "out", drawn=False)
    assert f"{result['overflowed']:,} results in 16 bits overflowed" in shown


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
