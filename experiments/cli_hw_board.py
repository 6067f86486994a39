"""``mandheling hw sample`` and what the other ``hw`` commands do on a board."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from experiments.cli_common import (
    BATCH_LIMIT,
    CliError,
    JsonOption,
    SeedOption,
    check_target,
    deliver,
    integer,
    manifest,
    progress,
    stdout_console,
)
from experiments.cli_options import count_option, path_option, text_option

if TYPE_CHECKING:
    from hw_bridge.board.board import Board
    from hw_bridge.board.sampling import Campaign, Progress
    from hw_bridge.hexagon.protocol import Kernel
    from hw_bridge.hexagon.verify import KernelVerdict

CALLS = 10_000
MOST_CORNER, MOST_CPU = 255, 1023
MOST_REPETITIONS = 4096
THREADS = 8

TransportOption = Annotated[
    str | None,
    text_option("--transport", "T", "How to reach a board: adb (default), ssh or local."),
]
TargetOption = Annotated[
    str | None,
    text_option("--target", "X", "Which board: adb's serial number, or user@host[:port]."),
]


def open_board(transport: str | None, target: str | None) -> Board:
    """Give the board that options name; nothing is asked of it yet."""
    from hw_bridge.board import Board, transport_of

    return Board(transport_of(transport or "adb", target or ""))


def refuse_board_options(transport: str | None, target: str | None) -> None:
    """Refuse options of a board for another backend, rather than leave them unread."""
    for option, value in (("--transport", transport), ("--target", target)):
        if value is not None:
            raise CliError(f"{option} {value!r}: only for --backend board")


def verify_board(
    board: Board, cases: int, kernels: list[Kernel], seed: int, advance: Callable[[], None]
) -> list[KernelVerdict]:
    """Compare kernels on a board's DSP with this repository's."""
    from hw_bridge.hexagon.verify import MOST_THREADS, verify_on

    with board.session() as launcher:
        contexts = launcher.tell().hvx_contexts or MOST_THREADS
        return verify_on(launcher, board.arch, cases, kernels, seed, advance, contexts)


def _threads(text: str) -> tuple[int, ...]:
    parse = integer(1, THREADS)
    try:
        return tuple(dict.fromkeys(parse(part) for part in text.split(",")))
    except typer.BadParameter as error:
        raise CliError(f"--threads {text!r}: {error}; separate several by commas") from None


def sample(
    store: Annotated[
        Path, path_option("--store", "FILE", "Samples are kept here; an old file is continued.")
    ],
    backend: Annotated[
        str, typer.Option("--backend", metavar="B", help="What is sampled: board.")
    ] = "board",
    transport: TransportOption = None,
    target: TargetOption = None,
    null_calls: Annotated[
        int, count_option("--null-calls", 0, CALLS, "Calls of each null-call sample; 0: none.")
    ] = 1000,
    copies: Annotated[
        int, count_option("--copies", 0, CALLS, "Calls of each buffer size; 0: none.")
    ] = 50,
    repetitions: Annotated[
        int,
        count_option("--repetitions", 0, MOST_REPETITIONS, "Of each kernel on a shape; 0: none."),
    ] = 10,
    model: Annotated[
        str, text_option("--model -m", "MODEL", "The network whose layers give the shapes.")
    ] = "lenet",
    batch: Annotated[
        int, count_option("--batch -b", 1, BATCH_LIMIT, "Samples per step of its layers.")
    ] = 32,
    threads: Annotated[str, text_option("--threads", "N,...", "HVX threads of each kernel.")] = "1",
    corner: Annotated[
        int,
        count_option("--corner", 0, MOST_CORNER, "Voltage corner that clocks are held at; 0: no."),
    ] = 6,
    cpu: Annotated[
        int | None, count_option("--cpu", 0, MOST_CPU, "CPU that the launcher is pinned to.")
    ] = None,
    seed: SeedOption = 0,
    as_json: JsonOption = False,
) -> None:
    """Take samples of a board: null calls, copies, kernels; the same command resumes."""
    from experiments.packet_shapes import model_shapes
    from hw_bridge.board.sampling import Campaign
    from hw_bridge.board.sampling import sample as take

    if backend != "board":
        raise CliError(f"--backend {backend!r}: allowed: board")
    check_target("--store", store)
    if not (null_calls or copies or repetitions):
        raise CliError(
            "--null-calls 0 --copies 0 --repetitions 0: nothing to sample; give one of them 1 or "
            "more"
        )
    campaign = Campaign(
        null_calls=null_calls,
        copies=copies,
        repetitions=repetitions,
        shapes=tuple(model_shapes(model, batch)) if repetitions else (),
        threads=_threads(threads),
        corner=corner,
        cpu=cpu,
        seed=seed,
    )
    with ExitStack() as shown:
        found = take(
            open_board(transport, target),
            campaign,
            store,
            lambda count: shown.enter_context(progress("sampling", count)),
        )
    document = sample_document(store, campaign, found)
    deliver(document, as_json, None)
    if not as_json:
        _print(document)


def sample_document(store: Path, campaign: Campaign, found: Progress) -> dict[str, Any]:
    """Return what ``hw sample --json`` prints: medians; the store has every repetition."""
    from dataclasses import asdict

    from hw_bridge.samples import read_samples

    config = {**asdict(campaign), "shapes": [shape.key for shape in campaign.shapes]}

    rows = [
        {"key": one.key, "kind": one.kind, "unit": one.unit, "median": one.median}
        for one in read_samples(store).samples
    ]
    return {
        "store": str(store),
        "taken": found.taken,
        "samples": len(rows),
        "notes": found.notes,
        "rows": rows,
        "manifest": manifest(seed=campaign.seed, config=config),
    }


def _print(document: dict[str, Any]) -> None:
    from experiments.render import line, show, table

    cells = [
        (row["key"], f"{row['median']:.0f}", row["unit"])
        for row in sorted(document["rows"], key=lambda row: str(row["key"]))
    ]
    console = stdout_console()
    show(console, table("Samples, measured", ("sample", "median", "unit"), cells))
    for note in document["notes"]:
        line(console, f"note: {note}")
    line(
        console,
        f"{document['taken']} samples taken, {document['samples']} in {document['store']}",
    )
