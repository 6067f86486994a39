"""``mandheling compare`` and ``mandheling demo``: plans side by side."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from experiments.cli_common import (
    HVX_ONLY,
    NOTE,
    BatchOption,
    CliError,
    DeviceOption,
    ImageOption,
    JsonOption,
    ModelOption,
    OutputOption,
    SeedOption,
    check_target,
    deliver,
    fail,
    hvx_only,
    integer,
    is_plan_file,
    library_sha256,
    load_built,
    load_device,
    load_graph,
    manifest,
    plan_sha256,
    print_text,
    say,
    stdout_console,
    working,
)

if TYPE_CHECKING:
    from cost_models.device import Device
    from experiments.compare import Comparison, Row
    from experiments.demo import Result
    from experiments.fairness import Terms
    from sim.graph import TrainingGraph
    from sim.plan import Plan


def compare(
    model: ModelOption,
    device: DeviceOption,
    batch: BatchOption = 64,
    plan: Annotated[
        list[str] | None,
        typer.Option(
            "--plan",
            "-p",
            metavar="PLAN",
            help="Plan to compare with mnn-fp32, a name or a .json file; may be repeated. "
            "Default: the baselines, each technique alone, and mandheling.",
        ),
    ] = None,
    image: ImageOption = None,
    seed: SeedOption = 0,
    fairness: Annotated[
        bool,
        typer.Option("--fairness", help="Also list units, precision, layout, library, constants."),
    ] = False,
    as_json: JsonOption = False,
    output: OutputOption = None,
) -> None:
    """Compare plans in time, energy and memory, and say what helped."""
    check_target("--output", output)
    phone = load_device(device)
    graph = load_graph(model, batch, image)
    names, extra = _selected(plan or [], graph, phone)

    from experiments import compare as comparing
    from experiments.fairness import terms

    with working(f"comparing plans for {graph.name}"):
        found = comparing.compare(
            graph,
            phone,
            names=[comparing.reference_of(phone), *names] if plan else None,
            with_waterfalls=not plan or "mandheling" in names,
            seed=seed,
            extra=extra,
        )
    gc.freeze()  # plans and drafts by the million, here to stay: not for collection, nor at exit
    conditions = [terms(row.name, row.plan, graph, phone) for row in found.rows] if fairness else []
    facts = manifest(
        graph=graph,
        device=phone,
        plans={row.name: row.plan for row in found.rows},
        seed=seed,
        config={"worlds": comparing.WORLDS, "samples": comparing.SAMPLES},
    )
    result = {**comparison_document(found), "hvx_only": hvx_only(phone), "manifest": facts}
    if fairness:
        result["fairness"] = [terms_document(one) for one in conditions]
    deliver(result, as_json, output)
    if not as_json:
        from experiments.render_compare import print_comparison, print_fairness

        console = stdout_console()
        print_comparison(console, found, found.reference)
        if fairness:
            print_fairness(console, conditions, found.rows)
        if result["hvx_only"]:
            print_text(f"{HVX_ONLY}\n")
    if output is not None:
        say(f"wrote {output}")
    for name, reason in found.failed.items():
        fail(f"plan {name!r} failed, the others are compared: {reason}")
    if found.failed:
        raise typer.Exit(1)


def _selected(
    plans: Sequence[str], graph: TrainingGraph, device: Device
) -> tuple[list[str], list[Plan]]:
    """Split ``--plan`` into names and plans from files, each under a name of its own."""
    from dataclasses import replace

    from sim.policies.build import plan_names

    names: list[str] = []
    extra: list[Plan] = []
    for text in plans:
        if not is_plan_file(text):
            _refuse_impossible(text, device)
            names.append(text)
            continue
        read = load_built(text, graph, device).plan
        taken = {*plan_names(), *(one.name for one in extra)}
        label = read.name if read.name not in taken else f"{read.name} ({Path(text).stem})"
        if label in taken:
            raise CliError(f"--plan {text}: a plan called {label!r} is there already; rename it")
        extra.append(replace(read, name=label))
    return names, extra


def _refuse_impossible(name: str, device: Device) -> None:
    """Refuse a plan that is unknown or lacks its unit; one that fails is told of later."""
    from contextlib import suppress

    from sim.plugins import PluginError
    from sim.policies.build import recipe_of, require

    with suppress(PluginError):
        require(recipe_of(name), device)


def comparison_document(found: Comparison) -> dict[str, Any]:
    """Return a comparison for JSON; times in ns, energies in pJ, memory in bytes, all integers."""
    return {
        "note": NOTE,
        "model": found.model,
        "device": found.device,
        "batch": found.batch,
        "reference": found.reference,
        "budget_bytes": found.budget_bytes,
        "rows": [row_document(row) for row in found.rows],
        "missing": found.missing,
        "failed": found.failed,
        "calibration_notes": list(found.notes),
        "waterfalls": [
            {
                "order": list(fall.names),
                "times_ns": list(fall.times_ns),
                "deltas_ns": list(fall.deltas_ns),
            }
            for fall in found.waterfalls
        ],
    }


def row_document(row: Row) -> dict[str, Any]:
    """Return one row for JSON."""
    return {
        "name": row.name,
        "summary": row.summary,
        "time_ns": row.time_ns,
        "time_interval_ns": list(row.time_interval_ns),
        "energy_pj": row.energy_pj,
        "peak_bytes": row.peak_bytes,
        "over_budget": row.over_budget,
        "speedup": row.speedup,
        "speedup_interval": list(row.speedup_interval),
        "energy_ratio": row.energy_ratio,
        "energy_ratio_interval": list(row.energy_ratio_interval),
        "breakdown_ns": row.breakdown_ns,
        "evidence": row.evidence,
        "first_step_ns": row.first_step_ns,
        "p50_ns": row.p50_ns,
        "p95_ns": row.p95_ns,
        "adoptions": [
            {
                "technique": one.technique,
                "adopted": one.adopted,
                "before_ns": one.before_ns,
                "proposed_ns": one.proposed_ns,
            }
            for one in row.adoptions
        ],
    }


def terms_document(one: Terms) -> dict[str, Any]:
    """Return the terms of one plan for JSON."""
    return {
        "name": one.name,
        "units": one.units,
        "precision": one.precision,
        "int8_macs": one.int8_macs,
        "libraries": one.libraries,
        "constants": [
            {
                "path": constant.path,
                "share": constant.share,
                "value": constant.quantity.value,
                "unit": constant.quantity.unit,
                "kind": constant.quantity.kind,
                "source": constant.quantity.source,
            }
            for constant in one.constants
        ],
    }


def demo(
    seed: SeedOption = 0,
    workers: Annotated[
        int,
        typer.Option(
            "--workers",
            metavar="N",
            parser=integer(1, 64),
            help="Processes; results do not depend on it.",
        ),
    ] = 2,
    as_json: JsonOption = False,
    output: OutputOption = None,
) -> None:
    """Compare six networks on a Snapdragon 865 at batch 64."""
    check_target("--output", output)

    from experiments import demo as story

    results = story.compare_all(story.MODELS, seed=seed, workers=workers, say=say)
    rows = {one.model: one.comparison for one in results}
    result = {
        **story.summary_document(results),
        "models": {name: comparison_document(found) for name, found in rows.items()},
        "manifest": demo_manifest(results, seed),
    }
    deliver(result, as_json, output)
    if not as_json:
        story.print_story(stdout_console(), results)
    if output is not None:
        say(f"wrote {output}")


def demo_manifest(results: Sequence[Result], seed: int) -> dict[str, Any]:
    """Say what the demo follows from; graphs and plans by network."""
    from experiments.compare import SAMPLES
    from experiments.demo import WORLDS

    phone = load_device(results[0].comparison.device)
    facts = manifest(device=phone, seed=seed, config={"worlds": WORLDS, "samples": SAMPLES})
    plans = {one.model: {row.name: row.plan for row in one.comparison.rows} for one in results}
    facts["graph_sha256"] = {one.model: one.graph_hash for one in results}
    facts["plan_sha256"] = {
        model: {name: plan_sha256(plan) for name, plan in named.items()}
        for model, named in plans.items()
    }
    everything = [plan for named in plans.values() for plan in named.values()]
    facts["library_sha256"] = library_sha256(phone, everything)
    return facts
