"""``mandheling hw``: HVX kernels in the emulator, verified and counted."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from experiments.cli_common import (
    BATCH_LIMIT,
    CliError,
    JsonOption,
    SeedOption,
    deliver,
    integer,
    manifest,
    progress,
    say,
    stdout_console,
)
from experiments.cli_hw_board import (
    TargetOption,
    TransportOption,
    open_board,
    refuse_board_options,
    sample,
    verify_board,
)
from experiments.cli_hw_run import run
from experiments.cli_options import path_option

if TYPE_CHECKING:
    from hw_bridge.hexagon.packets import Rescaling, Row
    from hw_bridge.hexagon.protocol import Kernel
    from hw_bridge.hexagon.verify import KernelVerdict

app = typer.Typer(help="Plans on real kernels; HVX kernels, emulated or on a board.")
app.command()(run)
app.command()(sample)
BACKENDS = ("hexagon", "board")
CASE_LIMIT = 10_000_000
PACKETS_BATCH = 32
NOTE = "packets counted by the emulator; they are not cycles"

BackendOption = Annotated[
    str, typer.Option("--backend", metavar="B", help="What runs the kernels: hexagon or board.")
]
ALL = "v66,v68,v73"
ArchesOption = Annotated[
    str | None,
    typer.Option("--arch", metavar="V,...", help=f"Hexagon versions of the builds: {ALL}."),
]
ArchOption = Annotated[
    str, typer.Option("--arch", metavar="V", help="Hexagon version of the build.")
]


def _arches(text: str) -> list[str]:
    from hw_bridge.hexagon.toolchain import ARCHITECTURES

    parts = list(dict.fromkeys(text.split(",")))
    if not {*parts} <= {*ARCHITECTURES}:
        raise CliError(f"--arch {text!r}: allowed: {', '.join(ARCHITECTURES)}, separated by commas")
    return parts


def _check_backend(backend: str) -> None:
    if backend not in BACKENDS:
        raise CliError(f"--backend {backend!r}: allowed: {', '.join(BACKENDS)}")


def _kernels(names: list[str] | None) -> list[Kernel]:
    from hw_bridge.hexagon.expected import CHECKS

    known = {kernel.name.lower(): kernel for kernel in CHECKS}
    for name in names or ():
        if name not in known:
            raise CliError(f"--kernel {name!r}: allowed: {', '.join(known)}")
    return [known[name] for name in dict.fromkeys(names or known)]


@app.command()
def verify(
    cases: Annotated[
        int,
        typer.Option(
            "--cases",
            metavar="N",
            parser=integer(1, CASE_LIMIT),
            help="Cases per build, shared out among the kernels.",
        ),
    ] = 1000,
    backend: BackendOption = "hexagon",
    transport: TransportOption = None,
    target: TargetOption = None,
    arch: ArchesOption = None,
    kernel: Annotated[
        list[str] | None,
        typer.Option("--kernel", metavar="K", help="Only this kernel; may be repeated."),
    ] = None,
    seed: SeedOption = 0,
    as_json: JsonOption = False,
) -> None:
    """Compare HVX kernels with this repository's, bit for bit."""
    from hw_bridge.hexagon.verify import verify as run

    _check_backend(backend)
    kernels = _kernels(kernel)
    if backend == "board":
        if arch is not None:
            raise CliError(f"--arch {arch!r}: a board gets the build of its DSP; leave it out")
        with progress("verifying", cases) as advance:
            verdicts = verify_board(open_board(transport, target), cases, kernels, seed, advance)
    else:
        refuse_board_options(transport, target)
        arches, verdicts = _arches(ALL if arch is None else arch), []
        with progress("verifying", cases * len(arches)) as advance:
            for one in arches:
                verdicts += run(one, cases, kernels, seed, advance)
    document = verdict_document(verdicts, backend, seed)
    deliver(document, as_json, None)
    if not as_json:
        _print_verdicts(document)
    if document["mismatches"]:
        raise typer.Exit(1)


def verdict_document(verdicts: list[KernelVerdict], backend: str, seed: int) -> dict[str, Any]:
    """Return what ``hw verify --json`` prints."""
    rows = [
        {
            "arch": v.arch,
            "kernel": v.kernel,
            "cases": v.cases,
            "mismatches": v.mismatches,
            "packets": v.packets,
            "examples": v.examples,
        }
        for v in verdicts
    ]
    return {
        "backend": backend,
        "cases": sum(v.cases for v in verdicts),
        "mismatches": sum(v.mismatches for v in verdicts),
        "rows": rows,
        "manifest": manifest(seed=seed, config={"note": NOTE}),
    }


def _print_verdicts(document: dict[str, Any]) -> None:
    from experiments.render import line, show, table

    cells = [
        (row["arch"], row["kernel"], str(row["cases"]), str(row["mismatches"]), str(row["packets"]))
        for row in document["rows"]
    ]
    columns = ("build", "kernel", "cases", "mismatches", "packets")
    console = stdout_console()
    show(console, table("HVX kernels against kernels/", columns, cells), NOTE)
    examples = [one for row in document["rows"] for one in row["examples"]]
    line(console, f"cases = {document['cases']}, mismatches = {document['mismatches']}")
    for one in examples:
        line(console, f"differs: {one}")


@app.command()
def packets(
    arch: ArchOption = "v66",
    batch: Annotated[
        int,
        typer.Option(
            "--batch", "-b", metavar="N", parser=integer(1, BATCH_LIMIT), help="Samples per step."
        ),
    ] = PACKETS_BATCH,
    store: Annotated[
        Path | None,
        path_option("--store", "FILE", "Count all shapes of the packet model into this store."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Count MAC per packet of the HVX kernels on VGG-16's layers."""
    from hw_bridge.hexagon.packets import FAMILIES, compare_rescaling, layers_of, measure

    (one,) = _arches(arch) if "," not in arch else [""]
    if not one:
        raise CliError(f"--arch {arch!r}: give one version")
    if store is not None:
        if batch != PACKETS_BATCH:
            raise CliError("--batch: the shapes of --store have batches of their own; leave it out")
        _count_shapes(one, store, as_json)
        return
    with progress("counting", len(layers_of("vgg16", batch)) * len(FAMILIES)) as advance:
        rows = measure(one, "vgg16", batch, advance=advance)
    document = packet_document(one, batch, rows, compare_rescaling(one, "vgg16", batch))
    deliver(document, as_json, None)
    if not as_json:
        _print_packets(document)


def _count_shapes(arch: str, path: Path, as_json: bool) -> None:
    """Count what a store lacks; an interrupted run goes on where it was."""
    from experiments.packet_shapes import all_shapes
    from hw_bridge.hexagon.build import runner_path
    from hw_bridge.hexagon.counting import fingerprint, sample_packets
    from hw_bridge.samples import SampleStore

    shapes = [*all_shapes()]
    runner_path(arch)  # whatever fails here leaves no store without samples behind
    with SampleStore.open(path, fingerprint(arch)) as store:
        with progress("counting", len({shape.key for _, shape in shapes})) as advance:
            taken = sample_packets(store, arch, shapes, advance=advance)
        document = {"arch": arch, "counted": taken, "samples": len(store.samples)}
    deliver({**document, "manifest": manifest(config={"note": NOTE})}, as_json, None)
    say(f"counted {taken} kernels on {arch}; {path} has {document['samples']}")


def packet_document(
    arch: str, batch: int, rows: list[Row], rescaling: list[Rescaling]
) -> dict[str, Any]:
    """Return what ``hw packets --json`` prints."""
    from hw_bridge.hexagon.packets import FAMILIES, mean_macs_per_packet

    return {
        "arch": arch,
        "model": "vgg16",
        "batch": batch,
        "mean_macs_per_packet": {f: mean_macs_per_packet(rows, f) for f in FAMILIES},
        "rows": [
            {
                "kernel": row.family,
                "shape": row.shape,
                "layers": row.layers,
                "counted": row.counted,
                "macs": row.macs,
                "packets": row.packets,
                "instructions": row.instructions,
                "hvx_instructions": row.hvx,
                "macs_per_packet": row.macs_per_packet,
            }
            for row in rows
        ],
        "rescaling": [
            {
                "shape": r.shape,
                "fused_packets": r.fused_packets,
                "dynamic_packets": r.dynamic_packets,
                "packet_ratio": r.dynamic_packets / r.fused_packets,
                "fused_bytes": r.fused_bytes,
                "dynamic_bytes": r.dynamic_bytes,
            }
            for r in rescaling
        ],
        "manifest": manifest(config={"note": NOTE}),
    }


def _print_packets(document: dict[str, Any]) -> None:
    from experiments.render import line, show, table

    console = stdout_console()
    cells = [
        (
            row["kernel"],
            row["shape"],
            str(row["layers"]),
            str(row["packets"]),
            f"{row['macs_per_packet']:.1f}" + ("" if row["counted"] else " (not in the mean)"),
        )
        for row in document["rows"]
    ]
    columns = ("kernel", "shape", "layers", "packets", "MAC per packet")
    title = f"vgg16, batch {document['batch']}, {document['arch']}, one thread"
    show(console, table(title, columns, cells), NOTE)
    for family, mean in document["mean_macs_per_packet"].items():
        line(console, f"{family}: {mean:.1f} MAC per packet, weighted by MAC")
    for row in document["rescaling"]:
        line(
            console,
            f"{row['shape']}: dynamic rescaling takes {row['packet_ratio']:.3f} times the packets"
            f" and {row['dynamic_bytes'] // row['fused_bytes']} times the output bytes",
        )


@app.command()
def doctor(
    backend: BackendOption = "hexagon",
    transport: TransportOption = None,
    target: TargetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say what running HVX kernels needs, and what is missing here or on a board."""
    from hw_bridge.hexagon.doctor import examine

    _check_backend(backend)
    if backend == "board":
        from hw_bridge.board.doctor import examine as climb

        steps = climb(open_board(transport, target))
    else:
        refuse_board_options(transport, target)
        steps = examine()
    rows = [{"step": s.name, "ok": s.ok, "found": s.found, "remedy": s.remedy} for s in steps]
    ok = all(step.ok for step in steps)
    deliver({"ok": ok, "steps": rows, "manifest": manifest()}, as_json, None)
    if not as_json:
        from experiments.render import line

        console = stdout_console()
        for step in steps:
            told = f"{'ok     ' if step.ok else 'missing'}  {step.name}: {step.found}"
            line(console, told, wrapped=False)  # a remedy is to be copied
            if step.remedy and step.remedy not in step.found:
                line(console, f"         {step.remedy}", wrapped=False)
    if not ok:
        raise typer.Exit(1)
