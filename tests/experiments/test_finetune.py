"""Fine-tuning: parts without a common image, frozen layers, a start, and what is kept of runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from experiments.datasets.dataset import DatasetError
from experiments.datasets.loading import load_splits
from experiments.datasets.splits import class_part
from experiments.finetune import Budget, main, pretraining, repeats, run_all, tuning, work_of
from experiments.finetune_cases import CASES, COMPARISONS, Case, comparisons, shown
from experiments.reproduce.gradient_filtering.trained import order_checks, trained_rows
from experiments.reproduce.kept import read_kept
from experiments.results import ResultError, write_result
from experiments.training import checkpoint
from experiments.training.checkpoint import CheckpointError
from experiments.training.config import ConfigError, TrainConfig
from experiments.training.loop import train
from experiments.training.start import start_weights
from sim import load_model
from sim.autodiff import before_last
from sim.graph import GraphError

SMALL = Budget("lenet", pretrain_epochs=1, epochs=1, seeds=2, batch=50, dataset="digits")
MINE = (Case(1, 1), Case(1, 2), Case(2, 4, "int8"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the small experiment's runs; its figures are in ``figures.json``."""
    made = tmp_path_factory.mktemp("finetune")
    run_all(SMALL, None, made, made / "figures.json", MINE)
    return made


def test_parts_share_classes_and_no_image() -> None:
    train_set, test_set = load_splits("digits", None, shape=(28, 28, 1))
    parts = [class_part(train_set, name, shared=False) for name in ("source", "target")]
    assert [sorted(set(p.labels.tolist())) for p in parts] == [[*range(6)], [*range(4, 10)]]
    assert len(parts[0]) + len(parts[1]) == len(train_set)
    for label in range(10):
        counts = [int((p.labels == label).sum()) for p in parts]
        assert sum(counts) == int((train_set.labels == label).sum())
        assert (min(counts) > 0) is (label in (4, 5))
    tested = [class_part(test_set, name) for name in ("source", "target")]
    both = int(np.isin(test_set.labels, (4, 5)).sum())
    assert len(tested[0]) + len(tested[1]) == len(test_set) + both
    with pytest.raises(DatasetError, match="part: 'middle' of 10 classes; allowed: source or"):
        class_part(train_set, "middle")


def test_the_last_convolutions_and_what_follows_are_trained() -> None:
    model = load_model("vgg11", batch=2)
    assert before_last(model, 8) == ()
    assert before_last(model, 3) == ("conv1_1", "conv2_1", "conv3_1", "conv3_2", "conv4_1")
    for wrong in (0, 9):
        with pytest.raises(GraphError, match=f"last = {wrong}: vgg11 has 8 conv.*give 1 to 8"):
            before_last(model, wrong)


def test_a_network_with_too_few_layers_is_refused_before_it_is_trained(tmp_path: Path) -> None:
    with pytest.raises(GraphError, match="last = 4: lenet has 2 convolutions"):
        run_all(SMALL, None, tmp_path / "runs", tmp_path / "figures.json", (*MINE, Case(4, 1)))
    assert not list(tmp_path.iterdir())


def test_frozen_layers_keep_the_weights_that_the_run_started_from(folder: Path) -> None:
    before = start_weights(folder / "pretrained").tensors
    for name in ("exact-last1-fp32-seed0", "r2-last1-fp32-seed1"):
        after = start_weights(folder / name).tensors
        assert np.array_equal(before["conv1.weight"], after["conv1.weight"])
        assert not np.array_equal(before["conv2.weight"], after["conv2.weight"])
        assert not np.array_equal(before["linear2.weight"], after["linear2.weight"])
    after = start_weights(folder / "r4-last2-int8-seed0").tensors  # from FP32 to INT8
    assert not np.array_equal(before["conv1.weight"], after["conv1.weight"])
    assert np.abs(before["conv1.weight"] - after["conv1.weight"]).max() < 0.5


def test_figures_are_kept_and_runs_are_not_repeated(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stamps = {path: path.stat().st_mtime_ns for path in folder.glob("*/result.json")}
    assert len(stamps) == 1 + 2 * len(MINE)
    content = run_all(SMALL, None, folder, folder / "figures.json", MINE)
    assert stamps == {path: path.stat().st_mtime_ns for path in folder.glob("*/result.json")}
    assert set(content["runs"]) == {f"{case.name}-seed{seed}" for case in MINE for seed in (0, 1)}
    for name, run in content["runs"].items():
        assert run["energy_pj"] > 0
        assert 0 < run["accuracy"] <= 1, name
    text = shown(content)
    assert all(case.name in text for case in MINE)
    with pytest.raises(ConfigError, match="holds runs of another budget"):
        run_all(replace(SMALL, epochs=2), None, folder, folder / "figures.json", MINE)


def test_the_study_shows_what_is_kept(folder: Path) -> None:
    kept = read_kept(folder / "figures.json", "train")
    rows = {row.label: row for row in trained_rows(kept)}
    runs = kept.content["runs"]
    for case in MINE:
        tested = [100 * runs[f"{case.name}-seed{seed}"]["accuracy"] for seed in (0, 1)]
        assert rows[case.name].ours == pytest.approx(sum(tested) / 2)
        assert rows[case.name].note.startswith("2 seeds, deviation")
        assert rows[case.name].group == "test accuracy, lenet fine-tuned on digits"
    assert "--model lenet --pretrain-epochs 1 --epochs 1 --seeds 2` (" in kept.origin("x")


def test_the_study_shows_published_orders_with_their_verdict(tmp_path: Path) -> None:
    path = tmp_path / "figures.json"
    assert trained_rows(read_kept(path, "train")) == ()
    names = ("exact-last4-fp32", "r2-last4-fp32", "r4-last4-fp32")
    tested = ((0.80, 0.81, 0.82), (0.70, 0.71, 0.72), (0.75, 0.76, 0.77))
    runs = {
        f"{name}-seed{seed}": {"accuracy": accuracy}
        for name, each in zip(names, tested, strict=True)
        for seed, accuracy in enumerate(each)
    }
    budget = {"model": "vgg11", "dataset": "cifar10"}
    write_result(path, {"runs": runs, "budget": budget})
    kept = read_kept(path, "train")
    orders = [row for row in trained_rows(kept) if row.group == "published orders of accuracy"]
    assert [row.ours for row in orders] == pytest.approx([10, -5])
    assert [row.published for row in orders] == [None, None]
    assert "shown; of ResNet-18 published: +0.5" in orders[0].note
    assert "contradicted; of ResNet-18 published: +0.6" in orders[1].note
    (check,) = order_checks(kept)
    assert (check.value, check.met) == (1, False)
    assert order_checks(read_kept(tmp_path / "none.json", "train")) == ()
    write_result(path, {"runs": {"exact-last4-fp32-seed0": {}}, "budget": budget})
    with pytest.raises(ResultError, match=r"runs\.exact-last4-fp32-seed0\.accuracy is missing"):
        trained_rows(read_kept(path, "train"))


def test_a_start_that_does_not_fit_is_refused(folder: Path, tmp_path: Path) -> None:
    here = replace(tuning(MINE[0], 0, SMALL, None, folder), engine="none")
    with pytest.raises(CheckpointError, match="is not there"):
        train(replace(here, start=str(tmp_path)), tmp_path / "a")
    other = TrainConfig("vgg11", "shapes32", batch=20, sizes=(40, 20), start=here.start)
    with pytest.raises(ConfigError, match="give a run of the same model and number of classes"):
        train(replace(other, plan="mnn-fp32", engine="none"), tmp_path / "b")
    fresh = checkpoint.load(folder / "pretrained" / checkpoint.NAME)
    (tmp_path / "c").mkdir()
    arrays = {"parameters": fresh.arrays["parameters"]}
    checkpoint.save(tmp_path / "c" / checkpoint.NAME, replace(fresh, arrays=arrays))
    with pytest.raises(ConfigError, match="has chosen no weights yet"):
        start_weights(tmp_path / "c")


def test_another_start_is_another_run(folder: Path) -> None:
    mine = tuning(MINE[0], 0, SMALL, None, folder)
    moved = replace(mine, start=str(folder / "r2-last1-fp32-seed0"))
    with pytest.raises(ConfigError, match="start_sha256 was"):
        train(moved, folder / f"{MINE[0].name}-seed0")


def test_settings_of_fine_tuning_leave_other_runs_as_they_were() -> None:
    from experiments.training.ground import prepare

    identity = prepare(TrainConfig("lenet", "digits", engine="none", plan="mnn-fp32")).identity
    assert {"last", "part", "start", "start_sha256"}.isdisjoint(identity)
    plain = TrainConfig("lenet", "digits")
    older = {k: v for k, v in plain.as_json().items() if k not in ("last", "part", "start")}
    assert TrainConfig.from_json(older) == plain
    for change, words in (
        ({"part": "middle"}, "part: 'middle'; allowed: source, target, or None"),
        ({"last": 0}, "last: 0; allowed: an integer from 1"),
        ({"start": " "}, "start: ' '; allowed: a text"),
    ):
        with pytest.raises(ConfigError, match=words):
            replace(TrainConfig("lenet", "digits"), **change)


def test_work_falls_with_patches_and_rises_with_layers() -> None:
    budget = Budget()
    work = {case.name: work_of(case, budget) for case in CASES}
    order = ["r2-last2-fp32", "exact-last2-fp32", "exact-last4-fp32", "exact-last6-fp32"]
    counts = [work[name]["operations"] for name in order]
    assert counts == sorted(counts)
    assert work["r4-last6-fp32"]["operations"] < work["exact-last2-fp32"]["operations"]
    assert work["r2-last4-int8"]["saved_bytes"] * 4 == work["r2-last4-fp32"]["saved_bytes"]
    assert work["r2-last4-fp32"]["saved_bytes"] * 4 == work["exact-last4-fp32"]["saved_bytes"]


def test_a_comparison_is_shown_only_beyond_its_interval() -> None:
    one = COMPARISONS[0]

    def kept(first: tuple[float, ...], second: tuple[float, ...]) -> dict[str, Any]:
        runs = {f"{one.first.name}-seed{k}": {"accuracy": a} for k, a in enumerate(first)}
        runs |= {f"{one.second.name}-seed{k}": {"accuracy": a} for k, a in enumerate(second)}
        return comparisons({"runs": runs})[0]

    assert kept((0.8, 0.81, 0.82), (0.7, 0.71, 0.72))["verdict"] == "shown"
    assert kept((0.7, 0.71, 0.72), (0.8, 0.81, 0.82))["verdict"] == "contradicted"
    wide = kept((0.80, 0.70, 0.75), (0.79, 0.72, 0.70))
    assert wide["verdict"] == "open"
    assert wide["points"] == pytest.approx(4 / 3)
    assert wide["half_width"] == pytest.approx(4.303 * 3.5119 / 3**0.5, rel=1e-3)
    assert kept((0.8,), (0.7,))["half_width"] is None


def test_the_runs_can_be_listed(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--plan-only"])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == [case.name for case in CASES]
    with pytest.raises(SystemExit):
        main(["--seeds", "9"])
    assert "--seeds is 9; allowed: 1 to 5" in capsys.readouterr().err
    assert pretraining(Budget(), "DIR").part == "source"
    main(["--plan-only", "--cases", "r2-last6-fp32,exact-last2-fp32"])
    assert len(capsys.readouterr().out.splitlines()) == 2
    with pytest.raises(SystemExit):
        main(["--plan-only", "--cases", "r3"])
    assert "cases: 'r3'; choose of exact-last2-fp32, " in capsys.readouterr().err


def test_the_rate_that_ends_with_the_least_training_loss_counts() -> None:
    def runs(name: str, accuracies: Sequence[float], losses: Sequence[float]) -> dict[str, Any]:
        return {
            f"{name}-seed{seed}": {"accuracy": accuracy, "losses": [2.0, loss]}
            for seed, (accuracy, loss) in enumerate(zip(accuracies, losses, strict=True))
        }

    kept = {
        **runs("exact-last4-fp32", (0.7, 0.7, 0.7), (0.5, 0.5, 0.5)),
        **runs("r2-last4-fp32", (0.9, 0.9, 0.9), (0.6, 0.6, 2.3)),
        **runs("r2-last4-fp32@0.003", (0.6, 0.61, 0.62), (0.7, 0.7, 0.7)),
        **runs("r2-last4-fp32@0.001", (0.8, 0.8), (0.1, 0.1)),  # not of all seeds
    }
    found = comparisons({"runs": kept})[0]
    assert found["second"] == "r2-last4-fp32@0.003"
    assert found["points"] == pytest.approx(9)


def test_another_rate_is_part_of_the_command_and_a_wrong_one_is_refused_first(
    tmp_path: Path,
) -> None:
    names = ("r2-last4-fp32-seed0", "r2-last6-fp32@0.003-seed0", "r2-last6-fp32@0.003-seed1")
    assert repeats(Budget(), names).endswith("also with --tune-rate 0.003 --cases r2-last6-fp32")
    assert "--tune-rate" not in repeats(Budget(), names[:1])
    wrong = Budget("lenet", dataset="shapes32", tune_rate=-1.0)
    with pytest.raises(ConfigError, match=r"rate: -1\.0"):
        run_all(wrong, None, tmp_path / "runs", tmp_path / "kept.json")
    assert not (tmp_path / "runs").exists()
