"""``mandheling federated``: local training on simulated phones, averages on a server."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from experiments.cli_common import (
    BATCH_LIMIT,
    SEED_LIMIT,
    DeviceOption,
    JsonOption,
    PlanOption,
    deliver,
    say,
    stdout_console,
)
from experiments.cli_options import (
    augmentations,
    count_option,
    pair,
    path_option,
    real_option,
    text_option,
)
from experiments.cli_train import RUNS, heeding_signals

if TYPE_CHECKING:
    from experiments.federated.config import FederatedConfig


def federated(
    model: Annotated[str, text_option("--model -m", "MODEL", "A model, or an .onnx file.")],
    dataset: Annotated[
        str,
        text_option("--dataset", "NAME", "femnist (its users are the clients), digits, mnist, ..."),
    ],
    data: Annotated[
        str | None,
        text_option("--data", "DIR", "Folder of the data set's files, where it has any."),
    ] = None,
    clients: Annotated[
        int | None, count_option("--clients", 1, 10**6, "How many; default: all users, or 20.")
    ] = None,
    per_round: Annotated[int, count_option("--per-round", 1, 10**6, "Clients of each round.")] = 5,
    rounds: Annotated[int, count_option("--rounds", 1, 10**6, "Rounds of the server.")] = 20,
    local_epochs: Annotated[
        int, count_option("--local-epochs", 1, 100_000, "Passes over a client's images in a round.")
    ] = 1,
    alpha: Annotated[
        float,
        real_option("--alpha", "Dirichlet; small: clients see few classes. Without users only."),
    ] = 0.5,
    aggregate: Annotated[
        str | None,
        text_option(
            "--aggregate", "RULE", "int8, fp32-global or fp32; default: what suits the plan."
        ),
    ] = None,
    plan: PlanOption = "mandheling",
    device: DeviceOption = "snapdragon-865",
    profile: Annotated[
        str, text_option("--profile", "NAME", "Arithmetic of INT8 layers: sandbox, niti_v1, ...")
    ] = "sandbox",
    batch: Annotated[int, count_option("--batch -b", 1, BATCH_LIMIT, "Samples per step.")] = 16,
    rate: Annotated[
        float | None, real_option("--rate", "Peak learning rate; default: 0.01.")
    ] = None,
    schedule: Annotated[
        str, text_option("--schedule", "NAME", "Over the rounds: constant, step or one-cycle.")
    ] = "constant",
    momentum: Annotated[float, real_option("--momentum", "Of SGD; at rest in each round.")] = 0.9,
    weight_decay: Annotated[float, real_option("--weight-decay", "Of SGD.")] = 5e-4,
    seed: Annotated[int, count_option("--seed", 0, SEED_LIMIT, "Seed of all random draws.")] = 0,
    augment: Annotated[
        str | None,
        text_option(
            "--augment", "LIST", "crop, flip or both with a comma, or none; default: by set."
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
    down_mbps: Annotated[
        int, count_option("--down-mbps", 1, 10**6, "Link to each phone, Mbit/s (assumed).")
    ] = 100,
    up_mbps: Annotated[
        int, count_option("--up-mbps", 1, 10**6, "Link from each phone, Mbit/s (assumed).")
    ] = 20,
    test_every: Annotated[int, count_option("--test-every", 1, 10**6, "Rounds between tests.")] = 1,
    engine: Annotated[
        str, text_option("--engine", "NAME", "compiled, simpy, or none: compute without timing.")
    ] = "compiled",
    scenario: Annotated[
        str, text_option("--scenario", "NAME", "quiet, sustained (heats up) or busy (other apps).")
    ] = "quiet",
    out: Annotated[
        Path | None, path_option("--out", "DIR", "Folder of the run; default: one in runs/.")
    ] = None,
    threads: Annotated[
        int | None, count_option("--threads", 1, 1024, "Threads; the result is the same.")
    ] = None,
    backend: Annotated[
        str | None, text_option("--backend", "NAME", "Of INT8 products; the result is the same.")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Train one model on many simulated phones."""
    from experiments.federated.config import FederatedConfig
    from experiments.training.config import TrainConfig

    training = TrainConfig(
        model=model,
        dataset=dataset,
        data=data,
        plan=plan,
        device=device,
        profile=profile,
        epochs=local_epochs,
        batch=batch,
        rate=rate,
        schedule=schedule,
        momentum=momentum,
        weight_decay=weight_decay,
        seed=seed,
        augment=augmentations(augment),
        validation=0,
        sizes=pair("--sizes", sizes),
        split_of_test=pair("--split-of-test", split_of_test),
        engine=engine,
        scenario=scenario,
        threads=threads,
        backend=backend,
    )
    config = FederatedConfig(
        training=training,
        rounds=rounds,
        clients=clients,
        per_round=per_round,
        alpha=alpha,
        aggregate=aggregate,
        down_mbps=down_mbps,
        up_mbps=up_mbps,
        test_every=test_every,
    )
    names = ("federated", Path(model).stem, dataset, Path(plan).stem, aggregate, f"s{seed}")
    _run(config, out or RUNS / "-".join(filter(None, names)), quiet, as_json)


def _run(config: FederatedConfig, folder: Path, quiet: bool, as_json: bool) -> None:
    from experiments.federated.curves import draw_curves
    from experiments.federated.loop import Stopped, federate
    from experiments.federated.shown import listening, rounds_table, summary
    from experiments.render import show
    from experiments.training.folder import CURVES

    with heeding_signals() as asked:
        try:
            with listening(quiet) as listener:
                result = federate(config, folder, listener=listener, stop=lambda: bool(asked))
        except Stopped as stopped:
            say(f"{stopped}; give the same command to go on in {folder}")
    if asked:
        signal.raise_signal(asked[0])  # to whoever had it before
    drawn = draw_curves(result, folder / CURVES)
    deliver(result, as_json, None)
    if not as_json:
        show(stdout_console(), rounds_table(result), summary(result, str(folder), drawn))
