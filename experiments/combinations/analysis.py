"""What the trainings say: the front of accuracy against energy, and what each technique brings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from math import sqrt
from statistics import fmean, variance
from typing import Any

import numpy as np

from experiments.combinations.combination import REMOVABLE, Combination, named
from experiments.combinations.settings import PJ_PER_J
from experiments.intervals import half_width, student_95
from experiments.search.front import undominated

Content = Mapping[str, Any]
PARTS_PER_BILLION = 10**9


@dataclass(frozen=True, slots=True)
class Tested:
    """A combination at a rung.

    Attributes
    ----------
    accuracies, validations
        Of test and of validation images, 0 to 1, one for each seed.
    diverged
        How many of these trainings had diverged by then.
    """

    combination: Combination
    rung_pj: int
    energy_pj: int
    steps: int
    accuracies: tuple[float, ...]
    validations: tuple[float, ...]
    diverged: int

    @property
    def accuracy(self) -> float:
        """Mean of the test accuracies."""
        return fmean(self.accuracies)

    @property
    def validation(self) -> float:
        """Mean of the validation accuracies: what is chosen by."""
        return fmean(self.validations)


@dataclass(frozen=True, slots=True)
class Gain:
    """What a technique brings at equal energy, in points of test accuracy.

    Attributes
    ----------
    points
        Mean difference, with the technique less without.
    half_width
        Of its 95 % interval; None where there is too little to tell.
    pairs
        Differences that it is the mean of.
    helped
        How many of them are above 0.
    diverged
        How many of them have a training that had diverged by then, at chance.
    most, least
        Name of the combination, with the technique, where it brings most and least.
    """

    technique: str
    rung_pj: int
    points: float
    half_width: float | None
    pairs: int
    helped: int
    diverged: int
    most: str
    least: str

    @property
    def verdict(self) -> str:
        """``earns``, ``costs`` or ``open``: whether the interval leaves out 0."""
        if self.half_width is None or abs(self.points) <= self.half_width:
            return "open"
        return "earns" if self.points > 0 else "costs"


def diverged_by(kept: Mapping[str, Any], rung_pj: int) -> bool:
    """Whether a training had diverged when it was tested at a rung.

    No step follows the one that a training diverges in. So rungs tested before that step are as
    they were, however far the training went on afterwards.
    """
    return bool(kept["diverged"] and kept["tested"][str(rung_pj)]["steps"] == kept["steps"])


def validated(content: Content, one: Combination, rung_pj: int, seed: int) -> float:
    """Validation accuracy at a rung: what is selected by; -1 for one that had diverged by then."""
    kept = content["trainings"][f"{one.name}-seed{seed}"]
    if diverged_by(kept, rung_pj):
        return -1.0
    return float(kept["tested"][str(rung_pj)]["validation"])


def all_tested(content: Content) -> tuple[Tested, ...]:
    """Every combination at every rung that it was tested at."""
    rows: dict[tuple[str, int], list[Mapping[str, Any]]] = {}
    lost: Counter[tuple[str, int]] = Counter()
    for name, kept in content.get("trainings", {}).items():
        for rung, row in kept["tested"].items():
            key = name.rpartition("-seed")[0], int(rung)
            rows.setdefault(key, []).append(row)
            lost[key] += diverged_by(kept, int(rung))
    return tuple(
        Tested(
            named(name),
            rung,
            round(fmean(row["energy_pj"] for row in found)),
            round(fmean(row["steps"] for row in found)),
            tuple(row["accuracy"] for row in found),
            tuple(row["validation"] for row in found),
            lost[name, rung],
        )
        for (name, rung), found in sorted(rows.items(), key=lambda pair: (pair[0][1], pair[0][0]))
    )


def front(tested: tuple[Tested, ...]) -> tuple[Tested, ...]:
    """Those that no other one beats by validation images for no more energy. Sorted by energy.

    Energies are compared by rung: trainings end within a step of it. A combination with a training
    that had diverged is not on it.
    """
    whole = [one for one in tested if not one.diverged]
    wrong = [round(PARTS_PER_BILLION * (1 - one.validation)) for one in whole]
    pairs = [(one.rung_pj, errors) for one, errors in zip(whole, wrong, strict=True)]
    kept = undominated(np.array(pairs, dtype=np.int64).reshape(len(pairs), 2))
    return tuple(one for one, keep in zip(whole, kept, strict=True) if keep)


def gains_everywhere(content: Content) -> tuple[Gain, ...]:
    """What each technique brings at each rung, over all pairs that differ in it alone.

    The trainings of the first seed. The interval is that of the mean over the pairs: they are
    contexts of one study, some share a training, and more of them were trained at lower rungs. A
    training that diverged counts as it was tested, at chance; pairs with one are counted.
    """
    found = []
    first = {n: k for n, k in content.get("trainings", {}).items() if n.endswith("-seed0")}
    trained = {(one.combination, one.rung_pj): one for one in all_tested({"trainings": first})}
    for rung in sorted({rung for _, rung in trained}):
        for technique in REMOVABLE:
            pairs = [
                (one, trained[one.combination.without(technique), rung])
                for (combination, at), one in trained.items()
                if at == rung
                and combination.uses(technique)
                and (combination.without(technique), rung) in trained
            ]
            if pairs:
                gaps = {a.combination: 100 * (a.accuracy - b.accuracy) for a, b in pairs}
                half = half_width([*gaps.values()]) if len(gaps) > 1 else None
                lost = sum(bool(a.diverged or b.diverged) for a, b in pairs)
                found.append(_gain(technique, rung, gaps, half, lost))
    return tuple(found)


def gains_at_the_best(content: Content) -> tuple[Gain, ...]:
    """What each technique brings to the best combination: removed, or added where it has it not.

    Means over seeds. The interval follows from the spread between seeds at the rung, pooled over
    all combinations that were trained with several. A training that diverged counts as it was
    tested, at chance: its spread widens all intervals of the rung.
    """
    if "best" not in content:
        return ()
    best = named(content["best"])
    rows = {(one.combination, one.rung_pj): one for one in all_tested(content)}
    found = []
    for rung in sorted({rung for _, rung in rows}):
        noise, freedom = noise_points(content, rung)
        for technique in REMOVABLE:
            uses = best.uses(technique)
            other = best.without(technique) if uses else best.with_(technique)
            if (other, rung) not in rows or (best, rung) not in rows:
                continue
            here, there = rows[best, rung], rows[other, rung]
            gap = 100 * (here.accuracy - there.accuracy) * (1 if uses else -1)
            counts = sum(1 / len(one.accuracies) for one in (here, there))
            half = student_95(freedom) * noise * sqrt(counts) if freedom else None
            lost = int(here.diverged + there.diverged > 0)
            found.append(_gain(technique, rung, {best if uses else other: gap}, half, lost))
    return tuple(found)


def noise_points(content: Content, rung_pj: int) -> tuple[float, int]:
    """Spread of a training between seeds at a rung, in points, and its degrees of freedom.

    Trainings that could have switched and did not are left out: they are those of INT8 again.
    """
    several = [
        one
        for one in all_tested(content)
        if one.rung_pj == rung_pj
        and len(one.accuracies) > 1
        and (one.combination.precision != "switch" or _switched(content, one.combination))
    ]
    freedom = sum(len(one.accuracies) - 1 for one in several)
    if not freedom:
        return 0.0, 0
    total = sum(variance(one.accuracies) * (len(one.accuracies) - 1) for one in several)
    return 100 * sqrt(total / freedom), freedom


def _switched(content: Content, one: Combination) -> bool:
    trainings = content["trainings"].items()
    return any(kept["switched"] for name, kept in trainings if name.startswith(f"{one.name}-seed"))


def split_savings(content: Content) -> Iterator[tuple[Combination, int, float, bool]]:
    """What searched micro-batches bring to each schedule, without any training.

    Yields
    ------
    combination, kernels, share, only
        One precision; kernels that its schedule splits; energy of a step saved, as a share of that
        of whole batches (where both fit the memory budget, else 0); and whether it fits the memory
        budget only when split. Without a split kernel the share is chance of the two searches.
    """
    rows = content.get("schedules", {})
    limit = content["identity"]["memory_mib"] * 2**20
    for name, row in rows.items():
        one = named(name)
        whole = rows.get(replace(one, split="whole").name)
        if one.split == "split" and whole and row["memory_bytes"] <= limit:
            only = whole["memory_bytes"] > limit
            share = 0.0 if only else 1 - row["energy_pj"] / whole["energy_pj"]
            yield one, row["split_kernels"], share, only


def joules(energy_pj: int) -> str:
    """An energy of a rung, as it is printed."""
    return f"{energy_pj / PJ_PER_J:.4g} J"


def _gain(
    technique: str,
    rung: int,
    gaps: Mapping[Combination, float],
    half: float | None,
    diverged: int,
) -> Gain:
    order = sorted(gaps, key=lambda one: (gaps[one], one.name))
    values = list(gaps.values())
    return Gain(
        technique,
        rung,
        fmean(values),
        half,
        len(values),
        sum(value > 0 for value in values),
        diverged,
        order[-1].name,
        order[0].name,
    )
