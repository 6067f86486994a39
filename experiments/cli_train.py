"""``mandheling train``: train for real while a phone is simulated."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer

from experiments.cli_common import (
    BATCH_LIMIT,
    SEED_LIMIT,
    CliError,
    JsonOption,
    deliver,
    say,
    stdout_console,
)
from experiments.cli_options import (
    IMAGE_COUNT,
    augmentations,
    count_option,
    pair,
    path_option,
    real_option,
    text_option,
)

if TYPE_CHECKING:
    from experiments.training.config import TrainConfig

RUNS = Path("runs")
"""Folder of the runs that are given no name, from the folder that the command is run in."""
ALSO_RESUMED = {"resume", "data", "threads", "backend", "checkpoint_every", "as_json", "quiet"}
"""Options that may be given with --resume; the others are kept as they were."""
ONE_STOP_S = 1.0
"""Signals this close together are one: ``timeout`` sends its own twice."""
GIVEN = "COMMANDLINE"


def train(
    context: typer.Context,
    model: Annotated[
        str | None, text_option("--model -m", "MODEL", "A model, or an .onnx file.")
    ] = None,
    dataset: Annotated[
        str | None,
        text_option(
            "--dataset", "NAME", "cifar10, digits, fashion-mnist, femnist, mnist or shapes32."
        ),
    ] = None,
    data: Annotated[
        str | None,
        text_option("--data", "DIR", "Folder of the data set's files, where it has any."),
    ] = None,
    plan: Annotated[
        str, text_option("--plan -p", "PLAN", "A plan, or a .json file.")
    ] = "mandheling",
    device: Annotated[
        str, text_option("--device -d", "DEVICE", "A device, or a .yaml file.")
    ] = "snapdragon-865",
    profile: Annotated[
        str, text_option("--profile", "NAME", "Arithmetic of INT8 layers: sandbox, niti_v1, ...")
    ] = "sandbox",
    epochs: Annotated[
        int, count_option("--epochs", 1, 100_000, "Passes over the training set.")
    ] = 10,
    batch: Annotated[int, count_option("--batch -b", 1, BATCH_LIMIT, "Samples per step.")] = 64,
    rate: Annotated[
        float | None, real_option("--rate", "Peak learning rate; default: 0.02.")
    ] = None,
    schedule: Annotated[
        str, text_option("--schedule", "NAME", "one-cycle, step or constant.")
    ] = "one-cycle",
    warmup: Annotated[
        int, count_option("--warmup", 0, 100, "Percent that one-cycle rises for.")
    ] = 25,
    momentum: Annotated[float, real_option("--momentum", "Of SGD.")] = 0.9,
    weight_decay: Annotated[float, real_option("--weight-decay", "Of SGD.")] = 5e-4,
    seed: Annotated[int, count_option("--seed", 0, SEED_LIMIT, "Seed of all random draws.")] = 0,
    augment: Annotated[
        str | None,
        text_option(
            "--augment", "LIST", "crop, flip or both with a comma, or none; default: by set."
        ),
    ] = None,
    validation: Annotated[
        int | None,
        count_option(
            "--validation", 0, IMAGE_COUNT, "Images held out to choose the epoch; default: a tenth."
        ),
    ] = None,
    sizes: Annotated[
        str | None, text_option("--sizes", "N,M", "Of shapes32: images to train and to test on.")
    ] = None,
    split_of_test: Annotated[
        str | None,
        text_option(
            "--split-of-test", "N,M", "mnist without training files: to train and test on."
        ),
    ] = None,
    engine: Annotated[
        str, text_option("--engine", "NAME", "compiled, simpy, or none: compute without timing.")
    ] = "compiled",
    scenario: Annotated[
        str, text_option("--scenario", "NAME", "quiet, sustained (heats up) or busy (other apps).")
    ] = "quiet",
    trace: Annotated[bool, typer.Option("--trace", help="Keep every shift of every step.")] = False,
    out: Annotated[
        Path | None, path_option("--out", "DIR", "Folder of the run; default: one in runs/.")
    ] = None,
    resume: Annotated[
        Path | None,
        path_option("--resume", "DIR", "Go on with the run in a folder, as it was set."),
    ] = None,
    checkpoint_every: Annotated[
        int, count_option("--checkpoint-every", 1, 10**9, "Steps between checkpoints.")
    ] = 200,
    threads: Annotated[
        int | None, count_option("--threads", 1, 1024, "Threads; the result is the same.")
    ] = None,
    backend: Annotated[
        str | None, text_option("--backend", "NAME", "Of INT8 products; the result is the same.")
    ] = None,
    last: Annotated[
        int | None,
        count_option("--last", 1, 1000, "Train only this many of the last convolutions."),
    ] = None,
    start: Annotated[
        str | None,
        text_option("--start", "DIR", "Start from the chosen weights of the run in a folder."),
    ] = None,
    part: Annotated[
        str | None,
        text_option("--part", "NAME", "source or target: the first or last classes only."),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Train a model for real; predict the phone's time and energy.

    Run the same command again to go on after a stop.
    """
    from experiments.training.config import TrainConfig

    given = {name for name in context.params if _is_given(context, name)}
    if resume is not None:
        config, folder = _resumed(context, resume, given), resume
    else:
        if model is None or dataset is None:
            raise CliError(
                f"{'--model' if model is None else '--dataset'} is missing; give both, or --resume"
            )
        config = TrainConfig(
            model=model,
            dataset=dataset,
            data=data,
            plan=plan,
            device=device,
            profile=profile,
            epochs=epochs,
            batch=batch,
            rate=rate,
            schedule=schedule,
            warmup=warmup,
            momentum=momentum,
            weight_decay=weight_decay,
            seed=seed,
            augment=augmentations(augment),
            validation=validation,
            sizes=pair("--sizes", sizes),
            split_of_test=pair("--split-of-test", split_of_test),
            engine=engine,
            scenario=scenario,
            trace=trace,
            threads=threads,
            backend=backend,
            checkpoint_every=checkpoint_every,
            last=last,
            start=start,
            part=part,
        )
        folder = out or RUNS / "-".join((Path(model).stem, dataset, Path(plan).stem, f"s{seed}"))
    _run(config, folder, quiet, as_json)


def _run(config: TrainConfig, folder: Path, quiet: bool, as_json: bool) -> None:
    from experiments.render import show
    from experiments.render_train import epochs_table, listening, summary
    from experiments.training.curves import draw_curves
    from experiments.training.folder import CURVES
    from experiments.training.loop import Stopped
    from experiments.training.loop import train as train_run

    with heeding_signals() as asked:
        try:
            with listening(quiet) as listener:
                result = train_run(config, folder, listener=listener, stop=lambda: bool(asked))
        except Stopped as stopped:
            say(f"{stopped}; go on with: mandheling train --resume {folder}")
    if asked:
        signal.raise_signal(asked[0])  # to whoever had it before
    drawn = draw_curves(result, folder / CURVES)
    deliver(result, as_json, None)
    if not as_json:
        show(stdout_console(), epochs_table(result), summary(result, str(folder), drawn))


@contextmanager
def heeding_signals() -> Iterator[list[signal.Signals]]:
    """Give a list that Ctrl-C and SIGTERM are noted in; a second one, later, acts at once."""
    asked: list[signal.Signals] = []
    since = 0.0

    def ask(number: int, frame: FrameType | None) -> None:
        nonlocal since
        if not asked:
            asked.append(signal.Signals(number))
            since = monotonic()
            say("stopping after this step; once more to stop at once")
        elif monotonic() - since >= ONE_STOP_S:
            raise KeyboardInterrupt

    signals = (signal.SIGINT, signal.SIGTERM)
    before = {s: b for s in signals if (b := signal.getsignal(s)) != signal.SIG_IGN}
    for one in before:
        signal.signal(one, ask)
    try:
        yield asked
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)


def _is_given(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name == GIVEN


def _resumed(context: typer.Context, folder: Path, given: set[str]) -> TrainConfig:
    """Return the settings of a run that is continued, with those changed that change no bit."""
    from dataclasses import replace

    from experiments.training.loop import saved_config

    others = sorted(given - ALSO_RESUMED)
    if others:
        raise CliError(
            f"--{others[0].replace('_', '-')}: cannot be given with --resume, which goes on with "
            "the settings of the run; leave it out"
        )
    changed = {"data", "threads", "backend", "checkpoint_every"} & given
    return replace(saved_config(folder), **{name: context.params[name] for name in changed})
