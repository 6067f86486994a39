"""Techniques in combination under one budget of memory and of energy, on one phone.

``python -m experiments.combinations --cifar10 DIR`` searches a schedule for every combination of
width, precision, gradient filter and batch split, trains the candidates for real, goes on where it
was stopped, and keeps all figures in ``results/combinations.json``. ``--table`` prints what is
kept; ``--plan-only`` searches the schedules alone, and says how long the trainings will take.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from experiments.cli_options import pair
from experiments.combinations.drawn import draw
from experiments.combinations.projection import projected_s
from experiments.combinations.settings import StudySettings
from experiments.combinations.shown import combinations_table, renew, report
from experiments.combinations.study import RESULT, CombinationStudy
from experiments.told import STOPPED, one_line_errors, say
from experiments.training.config import ConfigError
from sim.files import write_atomic


@one_line_errors(STOPPED)
def main(arguments: Sequence[str] | None = None) -> int:
    """Do as the command line says."""
    options = _parser().parse_args(arguments)
    settings = _settings(options)
    study = CombinationStudy(
        settings,
        options.runs,
        options.result,
        options.cifar10 if settings.dataset == "cifar10" else None,
        options.threads,
        say,
    )
    _do(study, options)
    return 0


def _do(study: CombinationStudy, options: argparse.Namespace) -> None:
    if options.plan_only:
        study.schedules()
        print(combinations_table(study.content, study.settings))
        minutes = projected_s(study) / 60
        print(f"projected: {minutes:.0f} core-minutes of training (half of it on two idle cores)")
        return
    if not options.table:
        study.run()
    content = study.content
    if content.get("schedules"):
        print(combinations_table(content, study.settings))
        print()
    print(report(content))
    if options.page is not None:
        renew(options.page, content)
    if options.picture is not None:
        write_atomic(options.picture, draw(content).decode())


def _settings(options: argparse.Namespace) -> StudySettings:
    return StudySettings(
        dataset=options.dataset,
        sizes=pair("--sizes", options.sizes),
        energy_j=options.energy_j,
        memory_mib=options.memory_mib,
        widths=_numbers("widths", options.widths),
        precisions=tuple(options.precisions.split(",")),
        patches=_numbers("patches", options.patches),
        batch=options.batch,
        rate=options.rate,
        seeds=options.seeds,
        validation=options.validation,
    )


def _numbers(name: str, given: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in given.split(","))
    except ValueError:  # no number, or more digits than Python reads
        told = "give whole numbers with commas between, like 1,2"
        raise ConfigError(f"{name}: {given[:40]!r}; {told}") from None


def _parser() -> argparse.ArgumentParser:
    default = StudySettings()
    parser = argparse.ArgumentParser(prog="python -m experiments.combinations", description=__doc__)
    add = parser.add_argument
    add("--cifar10", default="data/cifar10", help="folder of CIFAR-10's files")
    add("--runs", type=Path, default=Path("runs/combinations"), help="folder of the trainings")
    add("--result", type=Path, default=RESULT, help=f"file of the figures ({RESULT})")
    add("--table", action="store_true", help="print what is kept; train nothing")
    add("--plan-only", action="store_true", help="search schedules and project; train nothing")
    add("--threads", type=int, help="threads of the kernels")
    add("--dataset", default=default.dataset, help="cifar10, or digits or shapes32 for trials")
    add("--sizes", help="N,M: images of shapes32 to train and to test on")
    for name, kind, text in (
        ("energy_j", float, "joules of a whole training"),
        ("memory_mib", float, "MiB that a step may hold"),
        ("batch", int, "images per step"),
        ("seeds", int, "trainings of the best combination and of its neighbours"),
        ("rate", float, "learning rate after warming up"),
        ("validation", int, "images held out"),
    ):
        value = getattr(default, name)
        option = f"--{name.replace('_', '-')}"
        add(option, type=kind, default=value, help=f"{text} ({value:g})")
    for name in ("widths", "precisions", "patches"):
        shown = ",".join(map(str, getattr(default, name)))
        add(f"--{name}", default=shown, help=f"some of {shown} (all)")
    add("--page", type=Path, help="page of documentation whose marked block is renewed")
    add("--picture", type=Path, help="SVG to draw accuracy against energy in")
    return parser


if __name__ == "__main__":
    sys.exit(main())
