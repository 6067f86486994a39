"""Whether a technique that was kept ever lengthens the step, judged on draws it was not chosen by.

Techniques are adopted by the expected step. Here each plan is judged by steps of the steady state
drawn under seeds of their own, with against without the technique on common random numbers: each
technique alone on the naive offload, and one after the other as Mandheling adopts them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import sqrt

import numpy as np

from cost_models.device import Device
from experiments.accept_common import Outcome, Size, dsp_devices, graph_of, in_parallel
from experiments.compare import MANDHELING, OFFLOAD, geometric_mean
from sim import Plan, TrainingGraph, build_plan, load_device, sample_steady
from sim.policies.build import adopt_all, build
from sim.policies.recipes import TECHNIQUES
from sim.taskgraph import I64

NOTICED = 1.001
"""Ratio of mean steps beyond which a case is counted as slower."""

SAMPLES = 4
"""Steps drawn for each seed, apart enough to share few scans."""

Sampler = Callable[[Plan], I64]


@dataclass(frozen=True, slots=True)
class Case:
    """One technique kept on one model and device: steps with it against steps without.

    ``ratio`` is that of the mean steps; ``difference_ns`` the mean of the paired differences (with
    less without), ``error_ns`` its standard error.
    """

    where: str
    ratio: float
    difference_ns: float
    error_ns: float

    @property
    def slower(self) -> bool:
        """Whether the mean step is longer by more than the standard error of the difference."""
        return self.difference_ns > self.error_ns


@dataclass(frozen=True, slots=True)
class Judged:
    """All cases of one model on one device, and which techniques fell back to doing nothing."""

    cases: tuple[Case, ...]
    declined_alone: tuple[str, ...]
    declined_in_turn: tuple[str, ...]
    speedup: float


def paired(where: str, before: I64, after: I64) -> Case:
    """Compare steps drawn with the same keys.

    Parameters
    ----------
    before, after
        ``(seeds, steps)`` step times, nanoseconds; one step per seed where a plan draws nothing.
    """
    difference = after - before
    error = float(difference.std(ddof=1)) / sqrt(difference.size) if difference.size > 1 else 0.0
    ratio = float(after.mean() / before.mean())
    return Case(where, ratio, float(difference.mean()), error)


def judge(model: str, name: str, seeds: int) -> Judged:
    """Judge each technique on one model and device, over ``seeds`` seeds."""
    graph, device = graph_of(model), load_device(name)
    drawn = _sampler(graph, device, seeds)
    naive = build_plan(OFFLOAD, graph, device)
    cases, declined = [], []
    for technique in TECHNIQUES:
        alone = adopt_all(naive, graph, device, [technique])
        if alone.adoptions[0].adopted:
            where = f"{model}, {name}: {technique} alone"
            cases.append(paired(where, drawn(naive), drawn(alone.plan)))
        else:
            declined.append(technique)
    plan = naive
    for technique in TECHNIQUES:
        built = adopt_all(plan, graph, device, [technique])
        if built.adoptions[0].adopted:
            where = f"{model}, {name}: {technique} in turn"
            cases.append(paired(where, drawn(plan), drawn(built.plan)))
            plan = built.plan
    whole = build(MANDHELING, graph, device)
    kept = {adoption.technique for adoption in whole.adoptions if adoption.adopted}
    both = paired(f"{model}, {name}: all", drawn(naive), drawn(whole.plan))
    in_turn = tuple(technique for technique in TECHNIQUES if technique not in kept)
    return Judged((*cases, both), tuple(declined), in_turn, 1 / both.ratio)


def _sampler(graph: TrainingGraph, device: Device, seeds: int) -> Sampler:
    """Return a function that draws a plan's steps, ``(seeds, steps)``, each plan once."""
    known: dict[object, I64] = {}

    def draw(plan: Plan) -> I64:
        if plan.choices not in known:
            runs = [
                sample_steady(graph, plan, device, seed=seed, samples=SAMPLES)
                for seed in range(seeds)
            ]
            known[plan.choices] = np.array([run.step_ns for run in runs])
        return known[plan.choices]

    return draw


def _job(job: tuple[str, str, int]) -> Judged:
    return judge(*job)


def techniques(size: Size) -> Outcome:
    """Techniques on held-out draws: passed if none is slower beyond its standard error."""
    jobs = [(model, name, size.seeds) for model in size.models for name in dsp_devices(size)]
    found = list(in_parallel(_job, jobs, size, "models x devices"))
    cases = [case for judged in found for case in judged.cases]
    worst = max(cases, key=lambda case: case.ratio)
    slower = [case.where for case in cases if case.slower]
    speedups = [judged.speedup for judged in found]
    return {
        "pairs": len(jobs),
        "seeds": size.seeds,
        "cases": len(cases),
        "slower_beyond_a_thousandth": sum(case.ratio > NOTICED for case in cases),
        "slower_beyond_standard_error": len(slower),
        "slower": slower,
        "worst_ratio": round(worst.ratio, 6),
        "worst": worst.where,
        "declined_alone": {t: sum(t in one.declined_alone for one in found) for t in TECHNIQUES},
        "declined_in_turn": {
            t: sum(t in one.declined_in_turn for one in found) for t in TECHNIQUES
        },
        "speedup_over_naive_geomean": round(geometric_mean(speedups), 3),
        "speedup_over_naive_least": round(min(speedups), 3),
        "passed": not slower,
    }
