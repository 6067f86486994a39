"""Mandheling (MobiCom 2022): gains, baselines, techniques, splits, trainings."""

from __future__ import annotations

from experiments.reproduce.mandheling.baseline import baseline_rows
from experiments.reproduce.mandheling.published import SPLIT_SOURCE
from experiments.reproduce.mandheling.splits import Splits, splits
from experiments.reproduce.mandheling.steps import (
    PHONES,
    average_rows,
    engine_rows,
    expected_steps,
    network_rows,
    technique_rows,
)
from experiments.reproduce.mandheling.trained import kept_runs, trained_rows
from experiments.reproduce.study import Check, Study


def study() -> Study:
    """Re-derive what is published of Mandheling as numbers, and show the rest."""
    kept, split, steps = kept_runs(), splits(PHONES), expected_steps()
    trained = trained_rows(kept)
    what = "Convergence and accuracy"
    return Study(
        "mandheling",
        "Mandheling (MobiCom 2022): gains, baselines, techniques, splits, trainings",
        (
            *average_rows(steps),
            *trained,
            *baseline_rows(),
            *engine_rows(steps),
            *network_rows(steps),
            *technique_rows(steps),
            *split.rows,
        ),
        (*_notes(split), kept.origin(what) if trained else kept.missing(what)),
        (
            Check("micro-batches that differ from the released rule", split.differing, 0),
            Check("splits outside the released 8 < columns <= 16", split.outside, 0),
        ),
        kept.inputs,
    )


def _notes(split: Splits) -> tuple[str, ...]:
    return (
        "Of the paper, the abstract and the released code could be read. Its tables and figures by "
        "network, phone and technique, its context switches, preparation times and powers could "
        "not: rows without a published value show what is simulated, beside nothing.",
        "Phones, networks and batch are those recalled of the evaluation, unverified: which ones "
        "the averages are over is not in the abstract. Which engines are averaged matters as much "
        "as the constants do: see the rows of each alone.",
        "No constant was fitted on the abstract's gains. Most of Mandheling's time rests on "
        "assumed constants, which were written down by people who knew the abstract: a row that "
        "comes near proves little, the interval says how little.",
        "MNN's constants were fitted on LeNet, GoogLeNet and MobileNetV2 at 1708.8 MHz, and the "
        "default governor's clock on GoogLeNet: all rows of these are marked fitted. SqueezeNet "
        "alone is a prediction, and comes out far too fast: a gain over MNN may be off by as much.",
        f"The rule of splitting is taken from the release ({SPLIT_SOURCE}), so that its checks "
        "test our reading, not a prediction. The released loop would also "
        f"split {split.vain} weight gradients that no split makes fit, as the depth of 32 stays; "
        "and it rounds nothing up where 32 divides the batch, so that it never splits a batch of "
        "64. Both are left out here.",
        "How often self-adaptive rescaling scans follows shifts drawn like those of one training "
        "(VGG-11 on CIFAR-10), with periods of ours: the paper's are not known, and the release "
        "has neither this technique nor an eviction rule.",
    )
