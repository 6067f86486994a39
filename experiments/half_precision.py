"""ResNet8 in FP16 and in FP32 on a microcontroller's arithmetic: is it as accurate?

``python -m experiments.half_precision --cifar10 DIR`` trains ResNet8 on CIFAR-10 one image at a
time, as the cluster does: in FP32, in FP16 as released, and in FP16 with compensated updates, in
the folders ``fp32``, ``fp16`` and ``fp16-kahan`` of ``--runs``. It goes on where it was stopped,
takes runs that ``mandheling train`` has finished there with the same settings as they are, and
keeps small figures of each, with the command that repeats it, for ``mandheling reproduce
pulp-fp16``. ``--table`` prints what is kept and trains nothing.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from experiments.results import read_result, write_result
from experiments.told import STOPPED, one_line_errors
from experiments.training.compare import accuracy_difference
from experiments.training.config import TrainConfig
from experiments.training.loop import train

RESULT: Final = Path(__file__).parent / "reproduce" / "trained_resnet8.json"
COMMAND: Final = "python -m experiments.half_precision --cifar10 DIR"
PLANS: Final = {"fp32": "pulp-fp32", "fp16": "pulp-fp16", "fp16-kahan": "pulp-fp16-kahan"}
"""Folder of each run, and the plan that it trains by."""
WIDE: Final = "fp32"
"""What the others are compared with."""


def settings(precision: str, data: str | None, epochs: int = 4) -> TrainConfig:
    """Settings of one run: released code knows neither momentum nor decay.

    The rate lies between 0.02 and 0.04, which FP32 learnt from alike in one epoch (50.3 and 51.0 %
    of the test images right); it was set before FP16 was trained.
    """
    return TrainConfig(
        "resnet8",
        "cifar10",
        data=data,
        plan=PLANS[precision],
        device="gap9",
        epochs=epochs,
        batch=1,
        rate=0.03,
        momentum=0.0,
        weight_decay=0.0,
        engine="none",
    )


def command(config: TrainConfig) -> str:
    """The command that repeats a run, but for the folder of the data."""
    return (
        f"mandheling train --model {config.model} --dataset {config.dataset} --data DIR "
        f"--plan {config.plan} --device {config.device} --epochs {config.epochs} "
        f"--batch {config.batch} --rate {config.rate:g} --momentum {config.momentum:g} "
        f"--weight-decay {config.weight_decay:g} --seed {config.seed} --engine {config.engine}"
    )


def figures(config: TrainConfig, result: dict[str, Any]) -> dict[str, Any]:
    """What is kept of a finished run: enough to compare it image by image, and to repeat it."""
    rows = ("loss", "train_accuracy", "validation_accuracy")
    return {
        "command": command(config),
        "epochs": [{name: row[name] for name in rows} for row in result["epochs"]],
        "chosen_epoch": result["chosen_epoch"],
        "test": result["test"],
        "overflowed": result["overflowed"],
        "identity": result["identity"],
        "chosen_sha256": result["chosen_sha256"],
        "versions": result["manifest"]["versions"],
        "wall_ms": result["wall_ms"],
    }


def run_all(
    configs: dict[str, TrainConfig],
    folder: Path,
    result: Path = RESULT,
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Train what is missing and keep its figures; return all that is kept.

    Kept runs with other settings are dropped: they would be compared with these.

    Parameters
    ----------
    configs
        Settings of each run by the name of its folder.
    folder
        Of the runs.
    result
        File of the figures, written after each run.

    Raises
    ------
    ConfigError
        A folder holds a run with other settings; the message names them.
    """
    wanted = {name: command(config) for name, config in configs.items()}
    for name, config in configs.items():
        say(name)
        (folder / name).mkdir(parents=True, exist_ok=True)
        made = figures(config, train(config, folder / name))
        before = read_result(result).get("runs", {}).items()
        alike = {other: run for other, run in before if run["command"] == wanted.get(other)}
        runs = {**alike, name: made}
        write_result(result, {"command": COMMAND, "versions": made["versions"], "runs": runs})
    return read_result(result)


def shown(content: dict[str, Any]) -> str:
    """A line for each run, and their difference where both are there."""
    runs = content.get("runs", {})
    lines = [
        f"{name}: {100 * run['test']['accuracy']:.2f} % of {run['test']['images']} test images "
        f"right after {len(run['epochs'])} epochs, {run['overflowed']} results overflowed"
        for name, run in runs.items()
    ]
    for name in [n for n in PLANS if n != WIDE and {n, WIDE} <= runs.keys()]:
        gap = accuracy_difference(runs[WIDE], runs[name])
        low, high = 100 * gap.low, 100 * gap.high
        lines.append(
            f"{name.upper()} less {WIDE.upper()}: {100 * gap.difference:+.2f} points "
            f"(95 %: {low:+.2f} to {high:+.2f})"
        )
    return "\n".join(lines) or "no runs yet"


@one_line_errors(STOPPED)
def main(arguments: Sequence[str] | None = None) -> None:
    """Train what is missing, keep the figures, print them."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.half_precision", description=__doc__
    )
    parser.add_argument("--cifar10", default="data/cifar10", help="folder of CIFAR-10's files")
    parser.add_argument(
        "--runs", type=Path, default=Path("runs/half-precision"), help="folder of the runs"
    )
    parser.add_argument("--epochs", type=int, default=4, help="passes over the images (4)")
    parser.add_argument("--threads", type=int, default=None, help="threads of each run")
    parser.add_argument("--table", action="store_true", help="print what is kept; train nothing")
    options = parser.parse_args(arguments)
    if not options.table:
        configs = {
            name: replace(settings(name, options.cifar10, options.epochs), threads=options.threads)
            for name in PLANS
        }
        run_all(configs, options.runs)
    print(shown(read_result(RESULT)))


if __name__ == "__main__":
    main()
