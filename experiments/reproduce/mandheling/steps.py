"""Gains of a training step: six networks at batch 64 on three phones, against MNN and TFLite."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Final

from cost_models.device import Device
from experiments.compare import MANDHELING, OFFLOAD, geometric_mean, uncollected
from experiments.demo import BATCH, MODELS
from experiments.reproduce.mandheling.published import ABSTRACT, OURS, STEP
from experiments.reproduce.study import Row
from sim import TrainingGraph, build_plan, expect, load_device, load_model, training_graph
from sim.lowering import cost_model
from sim.policies.recipes import TECHNIQUES
from sim.uncertainty import Shared, Worlds, interval, resampled

PHONES: Final = ("snapdragon-888", "snapdragon-865", "snapdragon-750g")
ENGINES: Final = ("tflite-fp32", "mnn-fp32")
"""The engines that the abstract names, in the precision that both train in."""
OTHERS: Final = ("mnn-int8",)
WORLDS: Final = 256
"""Worlds behind an interval: 12 lie beyond either end."""
SPENT: Final = ("rescale", "prepare", "rpc")
"""Where a naive offload loses its time: what three of the techniques are against."""


@dataclass(frozen=True, slots=True)
class Step:
    """An expected step, and the same in each world; ``worlds`` is empty where no interval is."""

    time_ns: int
    energy_pj: int
    breakdown_ns: Mapping[str, int]
    over_budget: bool
    worlds: Worlds

    def value(self, metric: str) -> int:
        """``time`` in ns or ``energy`` in pJ."""
        return self.time_ns if metric == "time" else self.energy_pj

    def drawn(self, metric: str) -> tuple[int, ...]:
        """The same in each world."""
        return self.worlds.times_ns if metric == "time" else self.worlds.energies_pj


Steps = Mapping[tuple[str, str, str], Step]
"""By phone, network and plan."""


@uncollected()
def expected_steps(
    models: Sequence[str] = MODELS, phones: Sequence[str] = PHONES, batch: int = BATCH
) -> Steps:
    """Expect a step of every network, phone and plan."""
    timed = (*ENGINES, *OTHERS, MANDHELING)
    alone = (OFFLOAD, *(f"{OFFLOAD}+{technique}" for technique in TECHNIQUES))
    found = {}
    for model in models:
        graph = training_graph(load_model(model, batch))
        for phone in phones:
            device = load_device(phone)
            for plan in (*timed, *alone):
                worlds = WORLDS if plan in (*ENGINES, MANDHELING) else 0
                found[phone, model, plan] = step_of(graph, device, plan, worlds)
    return found


def step_of(graph: TrainingGraph, device: Device, name: str, worlds: int = 0) -> Step:
    """Expect a step of one plan; all plans and networks of a phone are in the same worlds."""
    plan = build_plan(name, graph, device)
    expected = expect(graph, plan, device)
    costs = cost_model(device, plan.get("library", "step", "mnn"))
    budget = int(device.memory.training_budget_bytes.value)
    return Step(
        expected.time_ns,
        expected.energy_pj,
        expected.breakdown_ns,
        expected.peak_bytes > budget,
        resampled(expected, costs.quantities(), Shared.of(device), worlds),
    )


def subjects(steps: Steps) -> list[tuple[str, str]]:
    """Phones and networks, in order."""
    return list(dict.fromkeys((phone, model) for phone, model, _ in steps))


def gain(steps: Steps, phone: str, model: str, engine: str, metric: str) -> float:
    """How many times as much an engine takes as Mandheling's plan."""
    base, ours = steps[phone, model, engine], steps[phone, model, MANDHELING]
    return base.value(metric) / ours.value(metric)


def average_rows(steps: Steps) -> Iterator[Row]:
    """The abstract's averages, with the interval in which all constants vary."""
    group = "training step, average over phones, networks and engines"
    cells = [(*each, engine) for each in subjects(steps) for engine in ENGINES]
    for metric, published in STEP.items():
        ours = {cell: gain(steps, *cell, metric) for cell in cells}
        low, high = _interval(steps, cells, metric)
        yield Row(
            f"{metric}, TFLite and MNN in FP32", published, fmean(ours.values()), False, ABSTRACT,
            "x", group, note=f"90 %: {low:.1f} to {high:.1f} when constants vary",
        )  # fmt: skip
        for engine in ENGINES:
            alone = fmean(value for cell, value in ours.items() if cell[2] == engine)
            yield Row(f"{metric}, {engine} alone", None, alone, False, OURS, "x", group)


def _interval(
    steps: Steps, cells: Iterable[tuple[str, str, str]], metric: str
) -> tuple[float, float]:
    drawn = []
    for phone, model, engine in cells:
        base = steps[phone, model, engine].drawn(metric)
        ours = steps[phone, model, MANDHELING].drawn(metric)
        drawn.append([a / b for a, b in zip(base, ours, strict=True)])
    return interval([fmean(world) for world in zip(*drawn, strict=True)])


def engine_rows(steps: Steps) -> Iterator[Row]:
    """Geometric means over the networks, by phone and engine."""
    group = "training step, geometric mean over the networks"
    for metric in STEP:
        for phone in dict.fromkeys(phone for phone, _ in subjects(steps)):
            for engine in (*ENGINES, *OTHERS):
                models = [model for at, model in subjects(steps) if at == phone]
                ours = [gain(steps, phone, model, engine, metric) for model in models]
                label = f"{metric}, {phone}, against {engine}"
                yield Row(label, None, geometric_mean(ours), False, OURS, "x", group)


def network_rows(steps: Steps) -> Iterator[Row]:
    """Every network on every phone, against MNN in FP32."""
    group = "training step, against mnn-fp32"
    for metric in STEP:
        for phone, model in subjects(steps):
            ours = gain(steps, phone, model, "mnn-fp32", metric)
            pair = [steps[phone, model, plan] for plan in ("mnn-fp32", MANDHELING)]
            over = any(one.over_budget for one in pair)
            note = "needs more than the phone's memory budget" if over else ""
            label = f"{metric}, {model}, {phone}"
            yield Row(label, None, ours, False, OURS, "x", group, note=note)


def technique_rows(steps: Steps) -> Iterator[Row]:
    """Each technique alone on the naive offload, and where that offload's time goes."""
    for phone in dict.fromkeys(phone for phone, _ in subjects(steps)):
        naive = [step for (at, _, plan), step in steps.items() if (at, plan) == (phone, OFFLOAD)]
        for technique, what in TECHNIQUES.items():
            name = f"{OFFLOAD}+{technique}"
            alone = [step for (at, _, plan), step in steps.items() if (at, plan) == (phone, name)]
            gains = [a.time_ns / b.time_ns for a, b in zip(naive, alone, strict=True)]
            yield Row(
                f"{what}, {phone}", None, geometric_mean(gains), False, OURS, "x",
                "time, one technique alone on the naive offload",
                note=f"{min(gains):.2f} to {max(gains):.2f} by network",
            )  # fmt: skip
    group = "share of the naive offload's time, mean over the networks"
    for phone in dict.fromkeys(phone for phone, _ in subjects(steps)):
        naive = [step for (at, _, plan), step in steps.items() if (at, plan) == (phone, OFFLOAD)]
        for category in SPENT:
            shares = [100 * step.breakdown_ns[category] / step.time_ns for step in naive]
            yield Row(f"{category}, {phone}", None, fmean(shares), False, OURS, "%", group)
