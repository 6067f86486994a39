"""Settings, schedules, checkpoint files and the comparison of runs, without a training step."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.training import checkpoint
from experiments.training.checkpoint import Checkpoint, CheckpointError
from experiments.training.compare import (
    ComparisonError,
    accuracy_difference,
    reached,
    read_training_result,
)
from experiments.training.config import SCHEDULES, ConfigError, TrainConfig, differences
from experiments.training.progress import EpochRow, Progress, Tally
from experiments.training.schedule import Schedule, rate_to_q24
from sim.files import FileError

CONFIG = TrainConfig("lenet", "digits")

# -- settings ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"epochs": 0}, ["epochs", "0", "from 1"]),
        ({"batch": 2.0}, ["batch", "2.0", "integer"]),
        ({"batch": True}, ["batch", "True", "integer"]),
        ({"seed": -1}, ["seed", "-1"]),
        ({"rate": float("nan")}, ["rate", "nan", "below 16"]),
        ({"rate": 1e-9}, ["rate", "1e-09", "2**-24"]),
        ({"momentum": 1.0}, ["momentum", "1.0", "below 1"]),
        ({"weight_decay": -0.1}, ["weight_decay", "-0.1"]),
        ({"validation": -1}, ["validation", "-1"]),
        ({"threads": 0}, ["threads", "0", "from 1"]),
        ({"schedule": "cosine"}, ["schedule", "'cosine'", "one-cycle"]),
        ({"augment": ("crop", "mixup")}, ["augment", "'mixup'", "crop, flip"]),
        ({"checkpoint_every": 0}, ["checkpoint_every", "0"]),
        ({"rate": "0.1"}, ["rate", "'0.1'", "below 16"]),
        ({"rate": True}, ["rate", "True", "below 16"]),
        ({"rate": 10**400}, ["rate", "10000", "below 16"]),
        ({"momentum": None}, ["momentum", "None", "below 1"]),
        ({"weight_decay": False}, ["weight_decay", "False"]),
        ({"epochs": 10**5000}, ["epochs", "an integer of 16610 bits", "from 1 to 100000"]),
        ({"seed": None}, ["seed", "None"]),
        ({"validation": 10**6 + 1}, ["validation", "1000001", "from 0 to 1000000"]),
        ({"validation": 0.1}, ["validation", "0.1", "integer"]),
        ({"threads": 4097}, ["threads", "4097", "to 1024"]),
        ({"sizes": (10**9, 10)}, ["sizes", "(1000000000, 10)", "1 to 1,000,000"]),
        ({"sizes": (10,)}, ["sizes", "(10,)", "two integers"]),
        ({"sizes": (10, True)}, ["sizes", "(10, True)", "two integers"]),
        ({"sizes": (10.0, 2)}, ["sizes", "(10.0, 2)"]),
        ({"sizes": "10,2"}, ["sizes", "'10,2'", "two integers"]),
        ({"split_of_test": (0, 2)}, ["split_of_test", "(0, 2)", "from 1"]),
        ({"split_of_test": 5}, ["split_of_test", "5", "two integers"]),
        ({"model": ""}, ["model", "''", "not empty"]),
        ({"model": Path("net.onnx")}, ["model", "net.onnx", "a text"]),
        ({"dataset": None}, ["dataset", "None", "a text"]),
        ({"data": " "}, ["data", "' '", "not empty"]),
        ({"backend": ""}, ["backend", "''", "not empty"]),
        ({"engine": 1}, ["engine", "1", "a text"]),
        ({"schedule": ["step"]}, ["schedule", "['step']", "a text"]),
        ({"trace": 1}, ["trace", "1", "True or False"]),
        ({"augment": "crop"}, ["augment", "'crop'", "in a tuple"]),
        ({"augment": 3}, ["augment", "3", "in a tuple"]),
        ({"augment": (3, "crop")}, ["augment", "3", "crop, flip"]),
    ],
)
def test_a_setting_out_of_range_is_named_with_what_is_allowed(
    change: dict[str, Any], words: list[str]
) -> None:
    with pytest.raises(ConfigError) as refused:
        replace(CONFIG, **change)
    for word in words:
        assert word in str(refused.value)


def test_settings_survive_json() -> None:
    config = replace(CONFIG, augment=("crop",), sizes=(64, 32), rate=0.1, validation=0)
    assert TrainConfig.from_json(json.loads(json.dumps(config.as_json()))) == config


@pytest.mark.parametrize("drop", [True, False])
def test_settings_of_another_version_are_refused_by_name(drop: bool) -> None:
    content = CONFIG.as_json()
    if drop:
        del content["rate"]
    else:
        content["warp"] = 9
    with pytest.raises(ConfigError, match="rate" if drop else "warp"):
        TrainConfig.from_json(content)


def test_differences_are_told_in_words() -> None:
    before, now = {"seed": 0, "batch": 8, "old": 1}, {"seed": 1, "batch": 8, "new": 2}
    assert differences(before, now) == [
        "new was None and is 2 now",
        "old was 1 and is None now",
        "seed was 0 and is 1 now",
    ]
    assert differences(now, now) == []


# -- schedules --------------------------------------------------------------------------------

schedules = st.builds(
    Schedule,
    st.sampled_from(SCHEDULES),
    st.integers(1, 1 << 28),
    st.integers(1, 500),
    st.integers(0, 100),
)


@given(schedules)
def test_rates_are_positive_integers_that_reach_the_peak_and_never_exceed_it(
    schedule: Schedule,
) -> None:
    rates = [schedule.rate_q24(step) for step in range(schedule.steps)]
    assert all(type(rate) is int and 1 <= rate <= schedule.peak_q24 for rate in rates)
    assert max(rates) == schedule.peak_q24
    top = rates.index(schedule.peak_q24)
    assert rates[: top + 1] == sorted(rates[: top + 1])
    assert rates[top:] == sorted(rates[top:], reverse=True)


def test_one_cycle_rises_for_its_share_and_ends_near_nothing() -> None:
    cycle = Schedule("one-cycle", 1_000_000, 100, 30)
    rates = [cycle.rate_q24(step) for step in range(100)]
    assert rates.index(max(rates)) == 29
    assert rates[0] == 1_000_000 // 30
    assert rates[-1] == 1_000_000 // 70
    assert sum(rates[:50]) > sum(rates[50:])


def test_steps_of_ten_and_of_a_hundred() -> None:
    schedule = Schedule("step", 1000, 8)
    assert [schedule.rate_q24(step) for step in range(8)] == [1000] * 4 + [100] * 2 + [10] * 2


def test_a_step_that_the_run_has_not_is_refused() -> None:
    with pytest.raises(ConfigError, match="step: 8; allowed: 0 to 7"):
        Schedule("constant", 1, 8).rate_q24(8)
    with pytest.raises(ConfigError, match="peak_q24 0"):
        Schedule("constant", 0, 8)


def test_rates_are_integers_of_the_nearest_value() -> None:
    assert rate_to_q24(1.0) == 1 << 24
    assert rate_to_q24(0.1) == 1677722
    assert rate_to_q24(1e-12) == 1


# -- progress ---------------------------------------------------------------------------------


def test_progress_survives_json_bit_for_bit() -> None:
    tally = Tally(3, 12, 5, 0.1 + 0.2, 10**15, 10**17, 6, 4, 2, 1, 0, 99)
    row = EpochRow(0, tally, 7)
    progress = Progress(1, 2, tally, (row, replace(row, validation_correct=None)), 0, 5, 6)
    assert Progress.from_json(json.loads(json.dumps(progress.as_json()))) == progress
    assert progress.total == tally.joined(tally).joined(tally)


# -- checkpoint files -------------------------------------------------------------------------


def some_checkpoint(word: str = "first") -> Checkpoint:
    weights = np.arange(-128, 128, dtype=np.int8).reshape(4, 64)
    return Checkpoint(
        {"seed": 1, "word": word},
        CONFIG.as_json(),
        Progress().as_json(),
        {"step": 3},
        {
            "parameters": {"conv1.weight": weights, "fc.scale": np.array(-7)},
            "best": {"conv1.weight": np.full((0, 3), 0.1, np.float32)},
            "trace": {"a/b": np.array([[1 << 40]])},
        },
    )


def assert_same(one: Checkpoint, other: Checkpoint) -> None:
    for section in checkpoint.SECTIONS:
        assert getattr(one, section) == getattr(other, section)
    assert one.arrays.keys() == other.arrays.keys()
    for group, arrays in one.arrays.items():
        assert arrays.keys() == other.arrays[group].keys()
        for name, array in arrays.items():
            twin = other.arrays[group][name]
            assert (array.dtype, array.shape) == (twin.dtype, twin.shape)
            assert array.tobytes() == twin.tobytes()


def test_a_checkpoint_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.npz"
    checkpoint.save(path, some_checkpoint())
    assert_same(checkpoint.load(path), some_checkpoint())
    assert list(tmp_path.iterdir()) == [path]


def test_a_truncated_or_changed_checkpoint_is_refused(tmp_path: Path) -> None:
    path, damaged = tmp_path / "checkpoint.npz", tmp_path / "damaged.npz"
    checkpoint.save(path, some_checkpoint())
    whole = path.read_bytes()
    draw = random.Random(7)
    for _ in range(60):
        damaged.write_bytes(whole[: draw.randrange(len(whole))])
        with pytest.raises(CheckpointError, match=r"damaged\.npz: is damaged .* remove it"):
            checkpoint.load(damaged)
    refused = 0
    for _ in range(200):
        changed = bytearray(whole)
        changed[draw.randrange(len(whole))] ^= 1 << draw.randrange(8)
        damaged.write_bytes(bytes(changed))
        try:
            assert_same(checkpoint.load(damaged), some_checkpoint())  # times and flags may differ
        except CheckpointError:
            refused += 1
    assert refused > 100


def test_a_pickle_is_never_read(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.npz"
    np.savez(path, meta=np.array([{"a": 1}], dtype=object))
    with pytest.raises(CheckpointError, match="damaged or no checkpoint"):
        checkpoint.load(path)


def test_another_format_or_a_missing_section_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.npz"
    for meta, words in (
        ({"format": 99}, "format is 99, this version writes and reads 1"),
        ({"format": 1, "identity": {}}, "a section of"),
        ([1], "format is None"),
    ):
        np.savez(path, meta=np.frombuffer(json.dumps(meta).encode(), np.uint8))
        with pytest.raises(CheckpointError, match=words):
            checkpoint.load(path)
    with ZipFile(path, "w"):
        pass
    with pytest.raises(CheckpointError, match="damaged"):
        checkpoint.load(path)
    with pytest.raises(CheckpointError, match="is not there"):
        checkpoint.load(tmp_path / "none.npz")


def test_a_write_that_fails_halfway_keeps_the_checkpoint_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "checkpoint.npz"
    checkpoint.save(path, some_checkpoint())
    savez = np.savez

    def full(file: Any, **arrays: Any) -> None:
        savez(file, **arrays)
        file.truncate(100)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(FileError, match=r"checkpoint\.npz: .*No space left"):
        checkpoint.save(path, some_checkpoint("second"))
    assert checkpoint.load(path).identity["word"] == "first"
    assert list(tmp_path.iterdir()) == [path]


# -- comparing runs ---------------------------------------------------------------------------


def result_of(right: list[bool], rows: tuple[tuple[float | None, int, int], ...] = ()) -> Any:
    bits = np.packbits(np.array(right)).tobytes().hex()
    epochs = [
        {"epoch": i, "validation_accuracy": a, "time_ns": t, "energy_pj": e}
        for i, (a, t, e) in enumerate(rows)
    ]
    test = {"images": len(right), "right_hex": bits}
    return {"schema": 1, "test": test, "identity": {"test_sha256": "x"}, "epochs": epochs}


def test_equal_runs_differ_by_nothing() -> None:
    run = result_of([True, False, True])
    found = accuracy_difference(run, run)
    assert (found.difference, found.low, found.high, found.clear) == (0, 0, 0, False)
    assert found.first == found.second == 2 / 3


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=200))
def test_the_interval_turns_round_with_the_runs(pairs: list[tuple[bool, bool]]) -> None:
    first, second = (result_of([pair[i] for pair in pairs]) for i in (0, 1))
    there, back = accuracy_difference(first, second), accuracy_difference(second, first)
    assert there.low <= there.difference <= there.high
    assert there.difference == -back.difference
    step = 1 / len(pairs)
    assert abs(there.low + back.high) <= step * 1.001
    assert abs(there.high + back.low) <= step * 1.001


def test_the_interval_is_that_of_drawn_resamples() -> None:
    draw = np.random.default_rng(3)
    first, second = draw.random(400) < 0.80, draw.random(400) < 0.86
    found = accuracy_difference(result_of(first.tolist()), result_of(second.tolist()))
    sample = second.astype(int) - first
    means = [float(sample[draw.integers(0, 400, 400)].mean()) for _ in range(4000)]
    low, high = np.percentile(means, [2.5, 97.5])
    assert found.low == pytest.approx(low, abs=0.006)
    assert found.high == pytest.approx(high, abs=0.006)
    assert found.only_second - found.only_first == sample.sum()


def test_the_interval_stays_exact_for_ten_thousand_images() -> None:
    first, second = [True] * 9000 + [False] * 1000, [True] * 9000 + [False] * 900 + [True] * 100
    found = accuracy_difference(result_of(first), result_of(second))
    deviation = (0.01 * 0.99 / 10_000) ** 0.5
    assert found.low == pytest.approx(0.01 - 1.96 * deviation, abs=2e-4)
    assert found.high == pytest.approx(0.01 + 1.96 * deviation, abs=2e-4)
    assert found.clear


def test_runs_on_other_images_are_not_compared() -> None:
    one, other = result_of([True]), result_of([True])
    other["identity"]["test_sha256"] = "y"
    with pytest.raises(ComparisonError, match="different images"):
        accuracy_difference(one, other)
    other = result_of([True] * 20)
    other["test"]["images"] = 4
    with pytest.raises(ComparisonError, match=r"right_hex: has 24 bits for 4"):
        accuracy_difference(other, other)
    with pytest.raises(ComparisonError, match=r"level: 1\.5"):
        accuracy_difference(one, one, 1.5)


def test_time_and_energy_to_an_accuracy() -> None:
    run = result_of([True], ((0.5, 10, 100), (0.9, 20, 200), (0.8, 30, 300)))
    found = reached(run, 0.8)
    assert found is not None
    assert (found.epoch, found.time_ns, found.energy_pj) == (1, 20, 200)
    assert reached(run, 0.95) is None
    with pytest.raises(ComparisonError, match="validation"):
        reached(result_of([True], ((None, 10, 100),)), 0.5)


def test_a_file_that_is_no_result_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ComparisonError, match=r"result\.json: no result can be read"):
        read_training_result(tmp_path)
    path = tmp_path / "result.json"
    for text in ("{", "[]", '{"schema": 2}'):
        path.write_text(text)
        with pytest.raises(ComparisonError, match=r"result\.json"):
            read_training_result(path)
