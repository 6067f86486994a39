"""Incremental training: one group after the other, the earlier ones left as they are.

``python -m experiments.dynamic.increments --dataset cifar10 --data DIR --out DIR`` trains the four
groups of ``dynamic-alexnet`` and writes ``result.json``: accuracy and confidence with 25, 50, 75
and 100 % of the network, and what a step of each increment costs. A run that was stopped goes on
after its last whole increment; ``--keep FILE`` keeps the small result, with the command, beside
others.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass, fields
from importlib.metadata import version
from pathlib import Path
from time import monotonic
from typing import Any

from experiments.cli_common import check_target
from experiments.cli_options import pair
from experiments.dynamic.loops import Data, Settings, score, train_epoch
from experiments.loading import load_device
from experiments.results import read_own_result, versions, write_result
from experiments.told import STOPPED, one_line_errors
from experiments.training import checkpoint
from experiments.training.checkpoint import Checkpoint, CheckpointError
from experiments.training.config import ConfigError, differences
from experiments.training.folder import RESULT, claimed
from kernels.operators import Role
from sim import build_plan, expect
from sim.autodiff import training_graph
from sim.graph import TrainingGraph
from sim.numeric.session import TrainingSession
from sim.numeric.values import Floats
from sim.zoo.grouped import GROUPS, frozen_groups, group_of, grouped_alexnet

Weights = dict[str, Floats]


@dataclass(frozen=True, slots=True)
class IncrementSettings(Settings):
    """Settings of an incremental training; ``epochs`` are those of each increment.

    Attributes
    ----------
    plan
        How it trains: a named plan.
    """

    plan: str = "mnn-fp32"


def increment_graph(active: int, batch: int, classes: int = 10) -> TrainingGraph:
    """The step that trains group ``active`` while the groups before it run as they are."""
    model = grouped_alexnet(batch, active, classes=classes)
    return training_graph(model, frozen_groups(model, active - 1))


def step_macs(graph: TrainingGraph) -> dict[str, int]:
    """Multiply-accumulates of one sample in each role."""
    roles = (Role.FORWARD, Role.INPUT_GRAD, Role.WEIGHT_GRAD)
    return {role.value: graph.macs(role) // graph.batch for role in roles}


def train_increments(settings: IncrementSettings, out: Path) -> dict[str, Any]:
    """Train all increments, or go on after the last that is whole.

    Parameters
    ----------
    out
        Folder of the run: ``checkpoint.npz`` and, at the end, ``result.json``.

    Returns
    -------
    dict
        Content of ``result.json``.

    Raises
    ------
    ConfigError
        The folder holds a run with other settings.
    CheckpointError
        The checkpoint is damaged.
    TrainingError
        The loss is no number any more.
    """
    data = Data.load(settings, (32, 32, 3))
    identity = settings.identity() | {"plan": settings.plan, "groups": GROUPS} | data.digests()
    identity |= {name: version(name) for name in ("mandheling-sandbox", "numpy")}
    with claimed(out):
        rows, weights = _before(out, identity)
        for active in range(len(rows) + 1, GROUPS + 1):
            row, weights = _increment(settings, data, active, weights)
            rows.append(row)
            _save(out, settings, identity, rows, weights)
            print(_said(row), file=sys.stderr, flush=True)
        if (out / RESULT).exists():
            return read_own_result(out / RESULT, identity)
        result = {"identity": identity, "increments": rows, "versions": versions()}
        write_result(out / RESULT, result)
        return result


def _increment(
    settings: IncrementSettings, data: Data, active: int, weights: Weights
) -> tuple[dict[str, Any], Weights]:
    """Train one group on top of the weights of the earlier ones."""
    graph = increment_graph(active, settings.batch, len(data.train.classes))
    device = load_device(settings.device)
    plan = build_plan(settings.plan, graph, device)
    session = TrainingSession(
        graph, plan, device, seed=settings.seed, engine="none", threads=settings.threads
    )
    parameters = session.executor.parameters
    parameters.load_floats(parameters.floats() | weights)
    begin, losses, validated = monotonic(), [], []
    schedule = settings.schedule(len(data.epoch(settings, 0)))
    for epoch in range(settings.epochs):
        losses.append(train_epoch(session, data.epoch(settings, epoch), schedule, epoch))
        if data.validation is not None:
            validated.append(score(session, data.validation, settings.batch).document())
    expected = expect(graph, plan, device)
    row = {
        "active": active,
        "loss": losses,
        "validation": validated,
        "test": score(session, data.test, settings.batch).document(),
        "macs": step_macs(graph),
        "step_ns": expected.time_ns,
        "step_pj": expected.energy_pj,
        "peak_bytes": expected.peak_bytes,
        "wall_s": round(monotonic() - begin, 1),
        "parameters_sha256": parameters.sha256(),
    }
    return row, parameters.floats()


def _before(out: Path, identity: dict[str, Any]) -> tuple[list[dict[str, Any]], Weights]:
    """Rows and weights of the increments that are done."""
    path = out / checkpoint.NAME
    if not path.exists():
        return [], {}
    stored = checkpoint.load(path)
    found = differences(stored.identity, identity)
    if found:
        raise ConfigError(
            f"out: {out} holds another run: {'; '.join(found)}. Repeat its settings to go on, or "
            "choose another folder"
        )
    rows, weights = stored.progress.get("increments"), stored.arrays.get("weights")
    if not isinstance(rows, list) or not weights:
        raise CheckpointError(f"{path}: holds no increments; remove it to start anew")
    groups = {group_of(name) for name in weights}
    if groups != set(range(1, len(rows) + 1)):
        raise CheckpointError(f"{path}: weights and increments differ; remove it to start anew")
    return rows, weights


def _save(
    out: Path,
    settings: IncrementSettings,
    identity: dict[str, Any],
    rows: list[dict[str, Any]],
    weights: Weights,
) -> None:
    config = settings.identity() | {"plan": settings.plan}
    checkpoint.save(
        out / checkpoint.NAME,
        Checkpoint(
            identity=identity,
            config=config,
            progress={"increments": rows},
            session={},
            arrays={"weights": weights},
        ),
    )


def _said(row: dict[str, Any]) -> str:
    percent = 100 * row["active"] // GROUPS
    accuracy = 100 * row["test"]["accuracy"]
    return f"{percent} % of the network: test accuracy {accuracy:.2f} %, {row['wall_s']:.0f} s"


def kept(result: dict[str, Any], command: str) -> dict[str, Any]:
    """What of a result is worth keeping beside others, with the command that repeats it."""
    rows = [{k: v for k, v in row.items() if k != "validation"} for row in result["increments"]]
    return {**result, "increments": rows, "command": command}


@one_line_errors(STOPPED)
def main(arguments: Sequence[str] | None = None) -> int:
    """Train as the command line says."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.dynamic.increments", description=__doc__
    )
    add_options(parser)
    parser.add_argument("--plan", default="mnn-fp32", help="how it trains (mnn-fp32)")
    parser.add_argument("--out", type=Path, required=True, help="folder of the run")
    parser.add_argument("--keep", type=Path, help="file to keep the small result in")
    options = parser.parse_args(arguments)
    check_target("--keep", options.keep)
    settings = IncrementSettings(**given(options, IncrementSettings))
    result = train_increments(settings, options.out)
    if options.keep is not None:
        command = (
            f"python -m experiments.dynamic.increments --dataset {settings.dataset} --data DIR "
            f"--epochs {settings.epochs} --batch {settings.batch} --rate {settings.rate:g} "
            f"--seed {settings.seed} --validation {settings.validation} --plan {settings.plan} "
            "--out DIR"
        )
        write_result(options.keep, kept(result, command))
    for row in result["increments"]:
        print(_said(row))
    return 0


def given(options: argparse.Namespace, settings: type[Settings]) -> dict[str, Any]:
    """Values of the settings that a command line gave."""
    values = {field.name: getattr(options, field.name) for field in fields(settings)}
    return values | {"sizes": pair("--sizes", options.sizes)}


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of :class:`~experiments.dynamic.loops.Settings`."""
    defaults = Settings("")
    parser.add_argument("--dataset", required=True, help="cifar10, digits, shapes32...")
    parser.add_argument("--data", help="folder of its files, where it has any")
    parser.add_argument("--device", default=defaults.device, help="whose times are expected")
    for name, text in (
        ("epochs", "passes over the training images"),
        ("batch", "images per step"),
        ("seed", "of all random draws"),
        ("validation", "images held out"),
        ("threads", "threads of the kernels"),
    ):
        default = getattr(defaults, name)
        parser.add_argument(f"--{name}", type=int, default=default, help=f"{text} ({default})")
    parser.add_argument("--sizes", help="N,M: images of shapes32 to train and to test on")
    parser.add_argument("--rate", type=float, default=defaults.rate, help="peak learning rate")


if __name__ == "__main__":
    sys.exit(main())
