"""``mandheling hw run``: a plan on real kernels, with the timeline that comes back."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from experiments.cli_common import (
    BATCH_LIMIT,
    CliError,
    DeviceOption,
    JsonOption,
    ModelOption,
    PlanOption,
    SeedOption,
    check_target,
    deliver,
    integer,
    load_built,
    load_device,
    load_graph,
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
)
from experiments.cli_options import path_option, text_option

if TYPE_CHECKING:
    from hw_bridge.backends import Backend, PlanJob, PlanRun
    from sim.numeric.executor import StepResult
    from sim.timeline import Timeline

STEPS = 1000
"""Most steps of a run: real kernels take their time, and every row is kept."""


def _host() -> Backend:
    from hw_bridge.host import HostBackend

    return HostBackend()


def _hexagon() -> Backend:
    from hw_bridge.hexagon.plans import HexagonBackend

    return HexagonBackend()


PLAN_BACKENDS: dict[str, Callable[[], Backend]] = {"host": _host, "hexagon": _hexagon}


def open_backend(name: str, transport: str | None, target: str | None) -> Backend:
    """Give the backend of a name; only a board is somewhere else."""
    if name == "board":
        from hw_bridge.board.plans import BoardBackend

        return BoardBackend(open_board(transport, target))
    if name not in PLAN_BACKENDS:
        raise CliError(f"--backend {name!r}: allowed: {', '.join([*PLAN_BACKENDS, 'board'])}")
    refuse_board_options(transport, target)
    return PLAN_BACKENDS[name]()


def run(
    model: ModelOption,
    backend: Annotated[
        str,
        text_option(
            "--backend",
            "B",
            "host: two processes on this machine; hexagon: DSP kernels in an emulator; board: DSP "
            "kernels on a board.",
        ),
    ] = "host",
    transport: TransportOption = None,
    target: TargetOption = None,
    plan: PlanOption = "mandheling",
    device: DeviceOption = "snapdragon-865",
    batch: Annotated[
        int,
        typer.Option(
            "--batch", "-b", metavar="N", parser=integer(1, BATCH_LIMIT), help="Samples per step."
        ),
    ] = 8,
    steps: Annotated[
        int,
        typer.Option(
            "--steps", "-n", metavar="N", parser=integer(1, STEPS), help="Steps from a cold start."
        ),
    ] = 3,
    seed: SeedOption = 0,
    profile: Annotated[
        str, text_option("--profile", "NAME", "Arithmetic of INT8 layers: sandbox, niti_v1, ...")
    ] = "sandbox",
    check: Annotated[
        bool, typer.Option("--check", help="Compute it here as well, and compare every bit.")
    ] = False,
    trace: Annotated[
        Path | None, path_option("--trace", "FILE", "Write the steps as a Perfetto trace.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Run training steps of a plan on real kernels; images are drawn from the seed."""
    from hw_bridge.backends import PlanJob

    check_target("--trace", trace)
    runs = open_backend(backend, transport, target)
    phone = load_device(device)
    graph = load_graph(model, batch)
    chosen = load_built(plan, graph, phone).plan
    job = PlanJob(graph, chosen, phone, steps=steps, seed=seed, profile=profile)
    with progress("running", steps) as advance:
        found = runs.run(job, advance)
    document = run_document(job, found, backend, _equals(job, found) if check else None)
    if trace is not None:
        from sim.trace import write_trace

        write_trace(trace, found.timelines, f"{graph.name}, {chosen.name}, {backend}")
    deliver(document, as_json, None)
    if not as_json:
        _print(document)
    if trace is not None:
        say(f"wrote {trace}; open it at https://ui.perfetto.dev or in chrome://tracing")
    if document["equals_executor"] is False:
        raise typer.Exit(1)


def _equals(job: PlanJob, found: PlanRun) -> bool:
    """Whether results, and the parameters after the last step, are the executor's."""
    from hw_bridge.backends import reference

    results, digest = reference(job)
    same = all(map(_same, results, found.results))
    return same and digest == found.parameters_sha256


def _same(one: StepResult, other: StepResult) -> bool:
    """Equality under which a loss that is no number equals itself."""
    loss = repr(one.loss) == repr(other.loss)
    return loss and one.correct == other.correct and dict(one.records) == dict(other.records)


def run_document(job: PlanJob, found: PlanRun, backend: str, equals: bool | None) -> dict[str, Any]:
    """Return what ``hw run --json`` prints; ``equals_executor`` is null where nobody looked."""
    steps = [
        {
            "step": number,
            "makespan_ns": timeline.makespan_ns,
            "busy_ns": busy_ns(timeline),
            "loss": result.loss,
            "scans": sum(record.scanned for record in result.records.values()),
        }
        for number, (timeline, result) in enumerate(
            zip(found.timelines, found.results, strict=True)
        )
    ]
    return {
        "backend": backend,
        "times": sorted({timeline.source for timeline in found.timelines}),
        "model": job.graph.name,
        "batch": job.graph.batch,
        "plan": job.plan.name,
        "device": job.device.name,
        "profile": job.profile,
        "steps": steps,
        "parameters_sha256": found.parameters_sha256,
        "equals_executor": equals,
        "fingerprint": found.fingerprint.document(),
        "notes": list(found.notes),
        "manifest": manifest(
            graph=job.graph,
            device=job.device,
            plans={job.plan.name: job.plan},
            seed=job.seed,
            config={"backend": backend, "steps": job.steps, "profile": job.profile},
        ),
    }


def busy_ns(timeline: Timeline) -> dict[str, int]:
    """Time that each unit worked, over all its slots, nanoseconds."""
    spans = timeline.end_ns - timeline.start_ns
    units = timeline.graph.unit
    return {u.name: int(spans[units == k].sum()) for k, u in enumerate(timeline.graph.units)}


def _print(document: dict[str, Any]) -> None:
    from experiments.render import line, ms, show, table

    units = [unit for unit in document["steps"][0]["busy_ns"] if _used(document, unit)]
    cells = [
        (
            str(row["step"]),
            f"{row['loss']:.4f}",
            ms(row["makespan_ns"]),
            *(ms(row["busy_ns"][unit]) for unit in units),
        )
        for row in document["steps"]
    ]
    title = f"{document['model']}, batch {document['batch']}, {document['plan']}"
    columns = ("step", "loss", "ms", *(f"{unit} busy" for unit in units))
    console = stdout_console()
    what = f"{' and '.join(document['times'])} times"
    show(console, table(f"{title}, on {document['backend']}: {what}", columns, cells))
    for note in document["notes"]:
        line(console, note)
    if document["equals_executor"] is not None:
        verdict = "every bit" if document["equals_executor"] else "DIFFERS: not the bits"
        line(console, f"against the numeric executor: {verdict}")
    line(console, f"parameters sha256 {document['parameters_sha256']}")


def _used(document: dict[str, Any], unit: str) -> bool:
    return any(row["busy_ns"][unit] for row in document["steps"])
