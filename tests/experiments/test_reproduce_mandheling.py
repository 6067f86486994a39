"""The study of Mandheling: what is fitted is marked, misses are shown, rules are as released."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cost_models.library import load_library
from experiments import accuracy
from experiments.demo import compare_one, gains
from experiments.reproduce.kept import ROOT, read_kept
from experiments.reproduce.mandheling import baseline, study
from experiments.reproduce.mandheling.baseline import as_benchmarked, baseline_rows, step_ms
from experiments.reproduce.mandheling.published import (
    released_condition,
    released_micro_batch,
)
from experiments.reproduce.mandheling.splits import splits
from experiments.reproduce.mandheling.steps import (
    ENGINES,
    PHONES,
    average_rows,
    engine_rows,
    expected_steps,
    gain,
    technique_rows,
)
from experiments.reproduce.mandheling.trained import kept_runs, races, trained_rows
from experiments.reproduce.study import Row
from experiments.results import ResultError
from sim import load_device, load_model

SMALL = ("lenet", "vgg11")


@pytest.fixture(scope="module")
def baselines() -> dict[str, Row]:
    return {row.label: row for row in baseline_rows()}


def test_rows_of_networks_in_the_fit_are_no_predictions(baselines: dict[str, Row]) -> None:
    """The library's file says on which rows its constants were fitted."""
    said = (ROOT / "cost_models" / "libraries" / "mnn.yaml").read_text(encoding="utf-8")
    assert "all rows of LeNet, GoogLeNet and MobileNetV2 (17 rows; SqueezeNet left out" in said
    at_the_clock = [row for name, row in baselines.items() if name.endswith("1708.8")]
    assert sum(row.fitted for row in at_the_clock) == 17
    predicted = {name.split("/")[0] for name, row in baselines.items() if not row.fitted}
    assert predicted == {"squeezenet1.0"}


def test_the_miss_of_the_one_prediction_is_shown(baselines: dict[str, Row]) -> None:
    errors = [baselines[f"squeezenet1.0/batch{n}/1708.8"].error or 0 for n in (1, 2, 4, 8, 16)]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < -0.5
    assert "pages" in baselines["squeezenet1.0/batch32/1708.8"].note
    fits = [row.error or 0 for name, row in baselines.items() if name.startswith("mobilenet")]
    assert max(map(abs, fits)) < 0.05  # as the library's file says of its fit


def test_the_misses_that_pages_tell_are_those_of_the_rows(baselines: dict[str, Row]) -> None:
    def at_the_clock(network: str) -> list[float]:
        return [
            100 * (row.error or 0)
            for name, row in baselines.items()
            if name.startswith(f"{network}/") and name.endswith("/1708.8")
        ]

    lenet, googlenet, unseen = map(at_the_clock, ("lenet", "googlenet", "squeezenet1.0"))
    *known, paged = (-error for error in unseen)
    told = f"{min(known):.0f} to {max(known):.0f} % too fast"
    for page in ("limits", "evidence", "calibration"):
        assert told in (ROOT / "docs/background" / f"{page}.md").read_text(encoding="utf-8")
    note = load_library("mnn").notes[0]
    assert f"{told} ({paged:.0f} % where it pages)" in note
    assert f"LeNet {-min(lenet):.0f} % too fast to {max(lenet):.0f} % too slow" in note
    assert f"GoogLeNet up to {-min(googlenet):.0f} % too fast" in note
    assert max(googlenet) < 1


def test_the_benchmarks_networks_keep_convolutions_alone() -> None:
    zoo = load_model("googlenet", 1, None, 10)
    bare = as_benchmarked(zoo)
    kinds = {layer.op.kind for layer in bare.layers}
    assert kinds.isdisjoint({"relu", "batch_norm", "dropout"})
    convs = [[one.name for one in m.layers if one.op.kind == "conv2d"] for m in (zoo, bare)]
    assert set(convs[0]) - set(convs[1]) == {"conv2"}


def test_a_held_clock_is_slower_than_the_governors() -> None:
    device = baseline.settable(load_device("snapdragon-855"))
    assert step_ms("lenet", 32, "1708.8", device) > step_ms("lenet", 32, "default", device)


def test_the_released_rule_of_splitting() -> None:
    cases = ((16, 64), (14, 64), (8, 64), (8, 256), (17, 64), (32, 64), (4, 512))
    assert [released_micro_batch(m, m, n) for m, n in cases] == [32, 32, 64, 128, 16, 8, 512]
    assert [released_condition(n) for n in (8, 9, 16, 17)] == [False, True, True, False]
    found = splits(PHONES)
    assert (found.differing, found.outside) == (0, 0)
    assert found.vain > 0
    saved = {row.label: row.ours for row in found.rows}
    assert saved["resnet18, saved by a split with 256 KiB"] == 5
    assert not any(value for name, value in saved.items() if "4096" in name)


def test_gains_are_those_of_the_demo() -> None:
    steps = expected_steps(("lenet",), ("snapdragon-865",))
    shown = compare_one("lenet", seed=0)
    for engine in ENGINES:
        for metric, mean in zip(("time", "energy"), gains([shown], engine), strict=True):
            ours = gain(steps, "snapdragon-865", "lenet", engine, metric)
            assert ours == pytest.approx(mean.mean)


def test_averages_are_over_everything_and_lie_within_their_interval() -> None:
    steps = expected_steps(SMALL, PHONES[:2])
    time = next(row for row in average_rows(steps) if row.published == 5.5)
    each = [
        gain(steps, phone, model, engine, "time")
        for phone in PHONES[:2]
        for model in SMALL
        for engine in ENGINES
    ]
    assert time.ours == pytest.approx(sum(each) / 8)
    low, high = map(float, time.note.removeprefix("90 %: ").split(" when")[0].split(" to "))
    assert low < time.ours < high
    by_engine = {row.label: row.ours for row in engine_rows(steps)}
    one = [gain(steps, PHONES[0], model, "mnn-fp32", "energy") for model in SMALL]
    label = f"energy, {PHONES[0]}, against mnn-fp32"
    assert by_engine[label] == pytest.approx((one[0] * one[1]) ** 0.5)
    alone = {row.label: row.ours for row in technique_rows(steps)}
    assert alone[f"batch splitting, {PHONES[0]}"] == 1  # 4 MiB of VTCM
    assert alone[f"self-adaptive rescaling, {PHONES[0]}"] > 1


def test_convergence_takes_epochs_as_trained_and_steps_as_expected_now() -> None:
    kept = kept_runs()
    found = {(race.model, race.seed): race for race in races(kept.content["runs"])}
    vgg = found["vgg11", "0"]
    assert [
        epoch + 1 for epoch in kept.content["comparisons"]["vgg11-seed0"]["to_accuracy"]["epochs"]
    ] == [vgg.fp32, vgg.int8]
    rows = {row.label: row for row in trained_rows(kept)}
    steps = expected_steps(("vgg11",), ("snapdragon-865",))
    ratio = gain(steps, "snapdragon-865", "vgg11", "mnn-fp32", "time")
    assert rows["time, vgg11, seed 0"].ours == pytest.approx(vgg.fp32 / vgg.int8 * ratio)
    assert rows["time, up to"].ours >= rows["time, vgg11, seed 0"].ours
    assert rows["vgg11, arithmetic of the released code"].ours > 10  # shown, though it breaks down
    assert not any(row.fitted for row in rows.values())


def test_trainings_that_are_missing_or_damaged(tmp_path: Path) -> None:
    path = tmp_path / "accuracy.json"
    assert trained_rows(read_kept(path, "train")) == ()
    lone = {"vgg11-seed0-sandbox-adaptive": {"test": {"accuracy": 0.5}, "epochs": []}}
    path.write_text(json.dumps({"runs": lone}), encoding="utf-8")
    assert accuracy.RESULT.name == path.name
    assert trained_rows(read_kept(path, "train")) == ()  # no twin in FP32 to compare with
    runs = {f"vgg11-seed0-{name}": {"epochs": []} for name in ("sandbox-adaptive", "fp32")}
    path.write_text(json.dumps({"runs": runs}), encoding="utf-8")
    with pytest.raises(ResultError, match=r"accuracy\.json: is not as it was written"):
        trained_rows(read_kept(path, "train"))


@pytest.mark.accept
def test_the_guide_says_what_the_study_finds() -> None:
    """The whole study, which takes a minute: if this fails, mend the guide's table."""
    found = study()
    guide = (ROOT / "docs" / "guides" / "reproduce.md").read_text(encoding="utf-8")
    rows = {row.label: row for row in found.rows}
    for metric in ("time", "energy"):
        row = rows[f"{metric}, TFLite and MNN in FP32"]
        interval = row.note.removesuffix(" when constants vary")
        assert (
            f"| {row.published}x less {metric} per batch | {row.ours:.1f}x ({interval}) |" in guide
        )
        most = rows[f"{metric}, up to"]
        assert f"| up to {most.published}x " in guide
        assert f" | {most.ours:.1f}x |" in guide
    assert f"| `mandheling` | {len(found.predicted())} | " in guide
    unseen = [100 * -(rows[f"squeezenet1.0/batch{n}/1708.8"].error or 0) for n in (1, 16)]
    assert f"{unseen[0]:.0f} to {unseen[1]:.0f} % too fast" in guide
    assert all(check.met for check in found.checks)
