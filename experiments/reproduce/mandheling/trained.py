"""Convergence and accuracy: trainings that are kept, timed on today's simulated phones."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from statistics import fmean
from typing import Any, Final

from experiments import accuracy
from experiments.reproduce.kept import EVERY, Kept, read_kept
from experiments.reproduce.mandheling.published import ABSTRACT, CONVERGENCE, LOSS_POINTS, OURS
from experiments.reproduce.mandheling.steps import ENGINES, PHONES, gain, step_of
from experiments.reproduce.study import Row
from sim import load_device, load_model, training_graph

COMMAND: Final = "python -m experiments.accuracy --cifar10 DIR --mnist DIR"
ELSEWHERE: Final = "the paper's networks and data are not in its abstract"
Runs = dict[str, dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Race:
    """Epochs until FP32's accuracy less 2 points, of FP32 and of Mandheling's plan."""

    model: str
    seed: str
    fp32: int
    int8: int


def kept_runs() -> Kept:
    """The accuracy study's figures."""
    return read_kept(accuracy.RESULT, COMMAND)


def trained_rows(kept: Kept) -> tuple[Row, ...]:
    """Rows of what was trained; none where nothing was."""
    runs = kept.content.get("runs")
    if not runs:
        return ()
    kept.check_numbers("runs", EVERY, "test", "accuracy")
    kept.check_numbers("runs", EVERY, "epochs", EVERY, "validation_accuracy")
    with kept.reading():
        return (*convergence_rows(races(runs)), *loss_rows(runs))


def races(runs: Runs) -> list[Race]:
    """Every pair of trainings that both came to the accuracy."""
    found = []
    for stem, pair in accuracy.comparisons(runs).items():
        race = pair.get("to_accuracy")
        if race:
            model, _, seed = stem.rpartition("-seed")
            found.append(Race(model, seed, *(epoch + 1 for epoch in race["epochs"])))
    return found


def convergence_rows(found: list[Race]) -> Iterator[Row]:
    """Epochs as trained, times and energies of a step as expected now; the largest first."""
    steps = {}
    for model in dict.fromkeys(race.model for race in found):
        graph = training_graph(load_model(model, accuracy.BATCH))
        for phone in PHONES:
            device = load_device(phone)
            for plan in (*ENGINES, "mandheling"):
                steps[phone, model, plan] = step_of(graph, device, plan)
    group = "until FP32's accuracy less 2 points"
    for metric, published in CONVERGENCE.items():
        each = {
            (race, phone, engine): race.fp32
            / race.int8
            * gain(steps, phone, race.model, engine, metric)
            for race in found
            for phone in PHONES
            for engine in ENGINES
        }
        if not each:
            continue
        race, phone, engine = max(each, key=lambda key: each[key])
        yield Row(
            f"{metric}, up to", published, each[race, phone, engine], False, ABSTRACT, "x", group,
            note=f"{race.model} on {phone} against {engine}; {ELSEWHERE}",
        )  # fmt: skip
        for race in found:
            yield Row(
                f"{metric}, {race.model}, seed {race.seed}", None,
                each[race, accuracy.DEVICE, "mnn-fp32"], False, OURS, "x", group,
                note=f"{accuracy.DEVICE} against mnn-fp32; epochs {race.fp32} and {race.int8}",
            )  # fmt: skip


def loss_rows(runs: Runs) -> Iterator[Row]:
    """Points of test accuracy that INT8 with self-adaptive rescaling loses against FP32."""
    lost: dict[str, list[float]] = {}
    for stem, pair in accuracy.comparisons(runs).items():
        if "adaptive_minus_fp32" in pair:
            points = -pair["adaptive_minus_fp32"]["points"]
            lost.setdefault(stem.rpartition("-seed")[0], []).append(points)
    means = {model: fmean(points) for model, points in lost.items()}
    group = "test accuracy lost against FP32"
    for name, chosen in (("smallest", min), ("largest", max)):
        if means:
            model = chosen(means, key=lambda each: means[each])
            yield Row(
                f"{name} loss", LOSS_POINTS[name], means[model], False, ABSTRACT, "points", group,
                absolute=True, note=f"{model}; {ELSEWHERE}",
            )  # fmt: skip
    for model, points in lost.items():
        released = list(_released_losses(model, runs))
        yield Row(
            f"{model}, adaptive rescaling", None, means[model], False, OURS, "points", group,
            note=f"mean of {len(points)} seeds" if len(points) > 1 else "one seed",
        )  # fmt: skip
        if released:
            yield Row(
                f"{model}, arithmetic of the released code", None, fmean(released), False, OURS,
                "points", group, note="its few bits of gradient, in this short schedule",
            )  # fmt: skip


def _released_losses(model: str, runs: Runs) -> Iterator[float]:
    """Of the released DSP profile, which scans at every step."""
    for name, run in runs.items():
        stem, found, _ = name.partition("-mandheling_dsp-")
        if found and stem.startswith(f"{model}-seed") and f"{stem}-fp32" in runs:
            fp32 = runs[f"{stem}-fp32"]["test"]["accuracy"]
            yield 100 * (fp32 - run["test"]["accuracy"])
