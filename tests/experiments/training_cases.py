"""Small runs of LeNet that the tests of training share."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from experiments.training.config import TrainConfig

ROOT = Path(__file__).parents[2]
SMALL = TrainConfig(
    "lenet",
    "digits",
    plan="mandheling",
    epochs=2,
    batch=64,
    rate=0.02,
    augment=("flip",),
    checkpoint_every=4,
    trace=True,
)
BATCHES = 20
"""Steps of an epoch: 1294 images are left to train on."""
STEPS = 2 * BATCHES
LIBRARY = {config.plan: config for config in (SMALL, replace(SMALL, plan="mnn-fp32", trace=False))}
Whole = tuple[TrainConfig, Path, dict[str, Any]]
"""A run that nothing stopped: its settings, folder and result."""


def outcome(result: dict[str, Any]) -> dict[str, Any]:
    """What threads, stops and kills must not change on one machine: all but the clock reading."""
    return {**result, "wall_ms": None}


def after(steps: int) -> Callable[[], bool]:
    """Return a question that is answered with True from the given number of askings on."""
    asked = iter(range(10**9))
    return lambda: next(asked) >= steps


def command(config: TrainConfig, out: Path) -> list[str]:
    """Return the command line of a run with these settings."""
    options = {
        "model": config.model,
        "dataset": config.dataset,
        "plan": config.plan,
        "epochs": config.epochs,
        "batch": config.batch,
        "rate": config.rate,
        "augment": ",".join(config.augment or ()),
        "checkpoint-every": config.checkpoint_every,
        "out": out,
    }
    words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    start = [sys.executable, "-m", "experiments.cli", "train", *words]
    return [*start, "--trace"] if config.trace else start
