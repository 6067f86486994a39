"""Real training as the judge of finalists: accuracy with its interval, beside the base plan's.

Plans that compute the same values are trained once: where and when a kernel runs changes no bit,
nor does a split of an INT8 kernel where the profile adds micro-batches in INT32. The runs are
ordinary ones (:mod:`experiments.training`): they may be stopped and go on, and are not repeated.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from math import sqrt
from pathlib import Path
from statistics import NormalDist
from typing import Any

from cost_models.device import Device
from experiments.loading import load_device
from experiments.search.why import effective_choices
from experiments.training.compare import LEVEL, accuracy_difference
from experiments.training.config import ConfigError, TrainConfig
from experiments.training.ground import prepare
from experiments.training.loop import Listener, train
from experiments.values import short, whole
from kernels.profiles import PROFILES, NumericProfile, SplitRule
from sim.aspects import ORDER
from sim.files import write_atomic
from sim.graph import TrainingGraph
from sim.lowering import draft_before, validate
from sim.plan import Key, Plan

NUMERIC = tuple(aspect.name for aspect in ORDER if aspect.numeric)
"""Aspects that can change what is computed."""
MOST = 1000
"""Finalists, at most."""


@dataclass(frozen=True, slots=True)
class Verified:
    """What training found for plans of the same numerics.

    Attributes
    ----------
    plans
        Their names.
    numerics
        Digest of what they compute; the run is in the folder of its first 12 digits.
    accuracy, low, high
        Test accuracy, 0 to 1, and its 95 % interval (Wilson's, over images).
    correct, images
        Test images that were right, and all.
    difference, difference_low, difference_high
        To the base plan on the same images, with the interval of a paired bootstrap.
    clear
        Whether that interval leaves out 0.
    saturated_ppm, lost_ppm, stale_share
        Values that were clipped, and non-zero sums that became 0 (those that a true shift loses
        too), of all values; share of rescalings by a shift that was not the true one. None in
        FP32.
    epochs, steps
        Of the training.
    """

    plans: tuple[str, ...]
    numerics: str
    accuracy: float
    low: float
    high: float
    correct: int
    images: int
    difference: float
    difference_low: float
    difference_high: float
    clear: bool
    saturated_ppm: float | None
    lost_ppm: float | None
    stale_share: float | None
    epochs: int
    steps: int


@dataclass(frozen=True, slots=True)
class Verification:
    """Trainings of some finalists and of the base plan.

    Attributes
    ----------
    base
        Name of the plan that differences are to.
    settings
        What was trained, as the runs have it, but for the plan.
    rows
        One per distinct numerics, the base plan's first.
    notes
        What was not trained by itself, and how far intervals go, in sentences.
    """

    base: str
    settings: Mapping[str, Any]
    rows: tuple[Verified, ...]
    notes: tuple[str, ...]

    def row(self, plan: str) -> Verified:
        """Return what was found for a plan; KeyError if it is not there."""
        return {name: row for row in self.rows for name in row.plans}[plan]

    def document(self) -> dict[str, Any]:
        """Return it as plain data."""
        return asdict(self)


def verify_top(
    plans: Sequence[Plan],
    k: int,
    *,
    base: Plan,
    config: TrainConfig,
    out: Path,
    listener: Listener | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> Verification:
    """Train the first ``k`` plans and the base plan, each numerics once; test and compare.

    Parameters
    ----------
    plans
        Finalists, best first, with names that differ.
    base
        What they are compared with.
    config
        Model, data set, budget and profile; its plan is replaced, and no step is timed.
    out
        Folder of the runs; the same call goes on where an earlier one stopped.
    listener, stop
        As for :func:`experiments.training.loop.train`.

    Raises
    ------
    ConfigError
        ``k`` is out of range, two different plans share a name, or a setting is not allowed.
    PlanError
        A plan does not fit the model of ``config`` with as many outputs as the data has classes.
    experiments.training.loop.Stopped
        ``stop`` said so; what is trained is kept.
    """
    if whole(k, 1, MOST) is None:
        raise ConfigError(f"verify-top: {short(k)}; allowed: an integer from 1 to {MOST}")
    device = load_device(config.device)
    finalists = list(plans[:k])
    _check_names([base, *finalists])
    config = replace(config, engine="none")
    graph = prepare(replace(config, plan="mnn-fp32")).graph
    for plan in (base, *finalists):
        validate(graph, plan, device)
    profile = PROFILES[config.profile]
    groups: dict[str, list[str]] = {}
    settings: dict[str, TrainConfig] = {}
    for plan in (base, *finalists):
        choices = numeric_choices(graph, plan, device, profile)
        digest = hashlib.sha256(repr(sorted(choices.items())).encode()).hexdigest()
        names = groups.setdefault(digest, [])
        if plan.name not in names:
            names.append(plan.name)
        if digest not in settings:
            settings[digest] = _settings(config, out, digest, graph, choices)
    results = {
        digest: train(one, out / digest[:12], listener=listener, stop=stop)
        for digest, one in settings.items()
    }
    first = next(iter(results.values()))
    rows = tuple(_verified(groups[d], d, found, first) for d, found in results.items())
    told = {name: v for name, v in config.as_json().items() if name not in ("plan", "data")}
    return Verification(base.name, told, rows, _notes(rows, config))


def _check_names(plans: Sequence[Plan]) -> None:
    known: dict[str, Plan] = {}
    for plan in plans:
        if known.setdefault(plan.name, plan).choices != plan.choices:
            raise ConfigError(
                f"verify-top: two different plans are named {plan.name!r}; give each its own name"
            )


def numeric_choices(
    graph: TrainingGraph, plan: Plan, device: Device, profile: NumericProfile
) -> dict[Key, str]:
    """Return the choices that decide what a plan computes: equal ones give equal bits.

    Defaults are left out, and splits of INT8 kernels where the profile's sums make them exact.
    FP32 splits stay: they are equal within rounding only.
    """
    draft = draft_before("batch_split", graph, plan, device)
    integer = {item.subject for item in draft.items if item.dtype == "int8"}
    exact = profile.split is SplitRule.INT32 and profile.split_gradient_bits is None
    unsplit = str(graph.batch)
    found: dict[Key, str] = {}
    for (aspect, subject), choice in effective_choices(graph, plan, device).items():
        split = aspect == "batch_split"
        same = split and (choice == unsplit or (exact and subject in integer))
        if aspect in NUMERIC and not same:
            found[aspect, subject] = choice
    return found


def _settings(
    config: TrainConfig, out: Path, digest: str, graph: TrainingGraph, choices: Mapping[Key, str]
) -> TrainConfig:
    """Write the plan of these numerics, everything at its default place; return its settings."""
    path = out / f"{digest[:12]}.plan.json"
    plan = Plan.make(f"numerics-{digest[:12]}", graph.hash(), choices)
    out.mkdir(parents=True, exist_ok=True)
    write_atomic(path, plan.to_json())
    return replace(config, plan=str(path))


def _verified(
    names: Sequence[str], digest: str, result: Mapping[str, Any], base: Mapping[str, Any]
) -> Verified:
    test, met = result["test"], result["rescale"]
    low, high = wilson(test["correct"], test["images"])
    to_base = accuracy_difference(dict(base), dict(result))
    return Verified(
        plans=tuple(names),
        numerics=digest,
        accuracy=test["accuracy"],
        low=low,
        high=high,
        correct=test["correct"],
        images=test["images"],
        difference=to_base.difference,
        difference_low=to_base.low,
        difference_high=to_base.high,
        clear=to_base.clear,
        saturated_ppm=None if met is None else round(1e6 * met["saturated_share"], 3),
        lost_ppm=None if met is None else round(1e6 * met["lost_share"], 3),
        stale_share=None if met is None else met["stale"] / met["tensors"],
        epochs=len(result["epochs"]),
        steps=result["steps"],
    )


def wilson(correct: int, images: int, level: float = LEVEL) -> tuple[float, float]:
    """Return the interval of a share (E. B. Wilson, J. Am. Stat. Assoc. 22, 1927).

    Examples
    --------
    >>> [round(end, 3) for end in wilson(90, 100)]
    [0.826, 0.945]
    """
    z = NormalDist().inv_cdf((1 + level) / 2)
    share, spread = correct / images, z * z / images
    middle = (share + spread / 2) / (1 + spread)
    half = z / (1 + spread) * sqrt(share * (1 - share) / images + spread / images / 4)
    return max(0.0, middle - half), min(1.0, middle + half)


def _notes(rows: Sequence[Verified], config: TrainConfig) -> tuple[str, ...]:
    notes = [
        f"{', '.join(row.plans)}: the same numerics, so trained once; they differ only in where "
        "and when they compute."
        for row in rows
        if len(row.plans) > 1
    ]
    notes.append(
        f"One training of {config.epochs} epochs with one seed: intervals are over test images, "
        "not over seeds."
    )
    return tuple(notes)
