"""Training that starts in INT8 and goes on in FP32 when gradients say so: MuPPET's rule, for real.

``python -m experiments.dynamic.switching --model vgg11 --dataset cifar10 --data DIR --out FILE``
trains with the plan of each precision in turn (INT8 as ``mandheling``, FP32 as ``mnn-fp32``). The
diversity is that of real gradients: those of the last batch of each epoch, of every layer. The
result holds the precision, diversity and loss of each epoch, and the time and energy that the
device is expected to take.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.cli_common import check_target
from experiments.dynamic.increments import add_options, given
from experiments.dynamic.levels import Levels
from experiments.dynamic.loops import Data, Settings, score, train_epoch
from experiments.loading import load_device, load_graph
from experiments.results import versions, write_result
from experiments.told import one_line_errors
from experiments.training.config import ConfigError
from experiments.training.ground import wide_enough
from sim import build_plan, expect
from sim.graph import TrainingGraph
from sim.model import INPUT
from sim.numeric.session import TrainingSession
from sim.policies.switching import PrecisionSwitching, SwitchState

PLANS = {"int8": "mandheling", "fp32": "mnn-fp32"}
"""Plan of each precision."""


@dataclass(frozen=True, slots=True)
class SwitchSettings(Settings):
    """Settings of a training that switches; ``epochs`` are those of the whole training.

    Attributes
    ----------
    model
        What is trained.
    start
        Precision to begin with: one that the rule has.
    """

    model: str = "lenet"
    device: str = "snapdragon-865"
    start: str = "int8"


def train_switching(
    settings: SwitchSettings, rule: PrecisionSwitching | None = None
) -> dict[str, Any]:
    """Train and return what happened in each epoch.

    Raises
    ------
    ConfigError
        ``start`` or a level of the rule is no precision that there is a plan for.
    TrainingError
        The loss is no number any more.
    """
    rule = PrecisionSwitching() if rule is None else rule
    for name in rule.levels:
        if name not in PLANS:
            raise ConfigError(f"levels: {name!r}; allowed: {', '.join(PLANS)}")
    if settings.start not in rule.levels:
        raise ConfigError(f"start: {settings.start!r}; allowed: {', '.join(rule.levels)}")
    graph = load_graph(settings.model, settings.batch)
    _, channels, height, width = graph.tensor(INPUT).shape
    data = Data.load(settings, (height, width, channels))
    graph = wide_enough(graph, settings.model, len(data.train.classes))
    run = _Run(settings, rule, graph, data)
    for epoch in range(settings.epochs):
        run.epoch(epoch)
    test = score(run.levels.session, data.test, settings.batch).document()
    identity = settings.identity() | {"model": settings.model, "start": settings.start}
    return {
        "identity": identity | data.digests(),
        "rule": {name: getattr(rule, name) for name in ("levels", "resolution", "patience")}
        | {"alpha": rule.alpha, "beta": rule.beta},
        "epochs": run.rows,
        "time_ns": sum(row["time_ns"] for row in run.rows),
        "energy_pj": sum(row["energy_pj"] for row in run.rows),
        "test": test,
        "versions": versions(),
    }


class _Run:
    """A training between two epochs."""

    def __init__(
        self, settings: SwitchSettings, rule: PrecisionSwitching, graph: TrainingGraph, data: Data
    ) -> None:
        self.settings, self.rule, self.graph, self.data = settings, rule, graph, data
        self.device = load_device(settings.device)
        start = SwitchState(level=rule.levels.index(settings.start))
        self.levels = Levels(rule, self._begun, start)
        self.rows: list[dict[str, Any]] = []
        self.schedule = settings.schedule(len(data.epoch(settings, 0)))

    def _begun(self, level: int) -> TrainingSession:
        plan = build_plan(PLANS[self.rule.levels[level]], self.graph, self.device)
        self.expected = expect(self.graph, plan, self.device)
        return TrainingSession(
            self.graph,
            plan,
            self.device,
            seed=self.settings.seed,
            engine="none",
            threads=self.settings.threads,
        )

    def epoch(self, epoch: int) -> None:
        """Train one epoch; afterwards ask the rule."""
        batches, session = self.data.epoch(self.settings, epoch), self.levels.session
        loss = train_epoch(session, batches, self.schedule, epoch, before_last=self.levels.watch)
        row: dict[str, Any] = {
            "precision": self.levels.precision,
            "loss": loss,
            "time_ns": len(batches) * self.expected.time_ns,
            "energy_pj": len(batches) * self.expected.energy_pj,
        }
        if self.data.validation is not None:
            held = score(session, self.data.validation, self.settings.batch)
            row["validation"] = held.document()
        diversity = self.levels.ask(epoch + 1)
        if diversity is not None:
            row["diversity"] = diversity
        self.rows.append(row)


@one_line_errors()
def main(arguments: Sequence[str] | None = None) -> int:
    """Train as the command line says."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.dynamic.switching", description=__doc__
    )
    add_options(parser)
    parser.set_defaults(device="snapdragon-865")
    parser.add_argument("--model", default="lenet", help="what is trained (lenet)")
    parser.add_argument("--start", default="int8", help="precision to begin with (int8)")
    parser.add_argument("--resolution", type=int, default=3, help="epochs of a diversity (3)")
    parser.add_argument("--patience", type=int, default=2, help="times it may fall short (2)")
    parser.add_argument("--out", type=Path, required=True, help="file of the result")
    options = parser.parse_args(arguments)
    check_target("--out", options.out)
    rule = PrecisionSwitching(resolution=options.resolution, patience=options.patience)
    result = train_switching(SwitchSettings(**given(options, SwitchSettings)), rule)
    write_result(options.out, result)
    for number, row in enumerate(result["epochs"], 1):
        diversity = f", diversity {row['diversity']:.3f}" if "diversity" in row else ""
        print(f"epoch {number}: {row['precision']}, loss {row['loss']:.4f}{diversity}")
    print(f"test accuracy {100 * result['test']['accuracy']:.2f} %")
    return 0


if __name__ == "__main__":
    sys.exit(main())
