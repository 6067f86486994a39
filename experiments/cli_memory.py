"""``mandheling vtcm``, ``sweep`` and ``reuse``: what fits which memory of the DSP."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from experiments.cli_common import (
    BATCH_LIMIT,
    NOTE,
    BatchOption,
    CliError,
    DeviceOption,
    ImageOption,
    JsonOption,
    ModelOption,
    deliver,
    integer,
    load_built,
    load_device,
    load_graph,
    manifest,
    positive_integers,
    stdout_console,
)

if TYPE_CHECKING:
    from cost_models.device import Device
    from sim.graph import TrainingGraph
    from sim.plan import Plan
    from sim.reuse import Visit

MAPS = (4, 8, 14, 16, 28, 32, 56)
BATCHES = (32, 64, 128)
KIB, MIB = 2**10, 2**20


def vtcm(
    vtcm_kib: Annotated[
        int,
        typer.Option(
            "--vtcm-kib", metavar="N", parser=integer(1, MIB), help="Size of the VTCM in KiB."
        ),
    ] = 256,
    as_json: JsonOption = False,
) -> None:
    """Tabulate the VTCM that weight gradients need."""
    from cost_models.vtcm import largest_fitting_batch, slice_bytes

    size = vtcm_kib * KIB
    rows = []
    for side in MAPS:
        need = {str(batch): slice_bytes(side, side, batch) for batch in BATCHES}
        rows.append(
            {
                "map": side,
                "need_bytes": need,
                "fits": {batch: value <= size for batch, value in need.items()},
                "max_batch": largest_fitting_batch(side, side, size),
            }
        )
    deliver({"vtcm_bytes": size, "rows": rows, "manifest": manifest()}, as_json, None)
    if not as_json:
        _print_vtcm(vtcm_kib, rows)


def _print_vtcm(vtcm_kib: int, rows: list[dict[str, Any]]) -> None:
    from experiments.render import kib, show, table

    cells = [
        (
            f"{row['map']}x{row['map']}",
            *(
                kib(row["need_bytes"][b]) + (" ok" if row["fits"][b] else " --")
                for b in row["fits"]
            ),
            str(row["max_batch"] or "none"),
        )
        for row in rows
    ]
    columns = ("output map", *(f"batch {batch}" for batch in BATCHES), "max batch")
    show(
        stdout_console(),
        table(f"KiB that a weight gradient wants of {vtcm_kib} KiB VTCM", columns, cells),
        "map x map x roundup32(batch) x 32 bytes. Depth rounds up to 32, so that where not even "
        "batch 32 fits, no split helps.",
    )


def sweep(
    model: ModelOption,
    device: DeviceOption,
    batches: Annotated[
        str, typer.Option("--batches", metavar="N,N,...", help="Batch sizes.")
    ] = "8,16,32,64,128",
    image: ImageOption = None,
    as_json: JsonOption = False,
) -> None:
    """Count weight gradients that overflow VTCM, by batch size."""
    phone = load_device(device)
    rows = []
    for batch in positive_integers("--batches", batches, BATCH_LIMIT):
        rows.append(sweep_row(load_graph(model, batch, image), phone))
    document = {
        "model": model,
        "device": phone.name,
        "vtcm_bytes": rows[0]["vtcm_bytes"],
        "rows": [{k: v for k, v in row.items() if k != "vtcm_bytes"} for row in rows],
        "manifest": manifest(device=phone),
    }
    deliver(document, as_json, None)
    if not as_json:
        _print_sweep(document)


def sweep_row(graph: TrainingGraph, device: Device) -> dict[str, Any]:
    """Return the abnormal convolutions of one graph: those a split saves, and the others."""
    from sim.lowering import draft_before
    from sim.policies.numeric import abnormal, weight_grads

    plan = load_built("dsp-int8", graph, device).plan  # refuses a device without a DSP
    draft = draft_before("batch_split", graph, plan, device)
    assert device.dsp is not None
    size = int(device.dsp.vtcm_bytes.value)
    saved, lost = abnormal(draft, size)
    return {
        "vtcm_bytes": size,
        "batch": graph.batch,
        "weight_grads": len(weight_grads(draft)),
        "abnormal": len(saved) + len(lost),
        "saved_by_split": saved,
        "not_saved": lost,
    }


def _print_sweep(document: dict[str, Any]) -> None:
    from experiments.render import kib, line, show, table

    console = stdout_console()
    rows = document["rows"]
    cells = [
        (
            str(row["batch"]),
            str(row["weight_grads"]),
            str(row["abnormal"]),
            str(len(row["saved_by_split"])),
            str(len(row["not_saved"])),
        )
        for row in rows
    ]
    columns = ("batch", "weight gradients", "abnormal", "saved by a split", "not saved")
    title = f"{document['model']} on {document['device']}, {kib(document['vtcm_bytes'])} KiB VTCM"
    show(console, table(title, columns, cells))
    for row in rows:
        if row["not_saved"]:
            line(console, f"batch {row['batch']}, not saved: {', '.join(row['not_saved'])}")


def reuse(
    model: ModelOption,
    device: DeviceOption,
    batch: BatchOption = 64,
    image: ImageOption = None,
    budgets: Annotated[
        str | None,
        typer.Option(
            "--budget-mib",
            metavar="N,N,...",
            help="Budgets in MiB; default: quarters of what all subgraphs hold, and the device's.",
        ),
    ] = None,
    per_layer: Annotated[
        bool,
        typer.Option("--per-layer", help="One subgraph per layer and role, not as planned."),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Count hits on prepared subgraphs by eviction rule and budget."""
    sizes = None if budgets is None else _budgets(budgets)
    phone = load_device(device)
    graph = load_graph(model, batch, image)
    plan = load_built("mandheling", graph, phone).plan
    visits = subgraph_visits(plan, graph, phone, per_layer=per_layer)
    assert phone.dsp is not None
    own = int(phone.dsp.memory_budget_bytes.value)
    held = sum(dict(visits).values())
    document = {
        "note": NOTE,
        "model": graph.name,
        "device": phone.name,
        "batch": graph.batch,
        "subgraphs": "per layer" if per_layer else "as planned",
        "visits": len(visits),
        "distinct": len(dict(visits)),
        "all_bytes": held,
        "device_budget_bytes": own,
        "rows": [reuse_row(visits, size) for size in sizes or _default_budgets(held, own)],
        "manifest": manifest(graph=graph, device=phone, plans={plan.name: plan}),
    }
    deliver(document, as_json, None)
    if not as_json:
        _print_reuse(document)


def _budgets(text: str) -> list[int]:
    """Read budgets in MiB as bytes, sorted, each once."""
    from math import isfinite

    try:
        plain = text.isascii() and "_" not in text  # float would read more than that
        values = sorted({float(part) for part in text.split(",")}) if plain else [0.0]
    except ValueError:
        values = [0.0]
    if not all(isfinite(value) and 0 < value <= MIB for value in values):
        raise CliError(f"--budget-mib {text!r}: give numbers above 0, up to {MIB}, with commas")
    return [round(value * MIB) for value in values]


def _default_budgets(held: int, own: int) -> list[int]:
    return sorted({max(1, held * k // 4) for k in range(1, 5)} | {own})


def subgraph_visits(
    plan: Plan, graph: TrainingGraph, device: Device, *, per_layer: bool
) -> tuple[Visit, ...]:
    """Return the subgraphs that a step of the plan executes, in order, with bytes."""
    from sim.lowering import draft_before, lowering

    if per_layer:
        draft = draft_before("grouping", graph, plan, device)
        plan = plan.update({("grouping", subject): "cut" for subject in layer_heads(draft.items)})
    found = lowering(graph, plan, device).visits
    if not found:
        raise CliError(f"{graph.name} on {device.name}: plan {plan.name!r} leaves the DSP unused")
    return found


def layer_heads(items: Any) -> list[str]:
    """Return the DSP subjects that are the first of their layer and role."""
    from sim.aspects.grouping import on_dsp

    heads: dict[tuple[str, object], str] = {}
    for item in items:
        if on_dsp(item) and not item.follows:
            heads.setdefault((item.layer, item.role), item.subject)
    return list(dict.fromkeys(heads.values()))


def reuse_row(visits: tuple[Visit, ...], budget_bytes: int) -> dict[str, Any]:
    """Return hits over settled cycles by rule, and the bound on the hits of one cycle."""
    from sim.reuse import RULES, hit_bound, steady_hits

    hits = {rule: steady_hits(rule, visits, budget_bytes) for rule in RULES}
    return {
        "budget_bytes": budget_bytes,
        "cycles": hits["none"][1] // len(visits),
        "hits": {rule: found[0] for rule, found in hits.items()},
        "hits_per_cycle": {r: found[0] * len(visits) / found[1] for r, found in hits.items()},
        "bound_per_cycle": hit_bound(visits, budget_bytes),
    }


def _print_reuse(document: dict[str, Any]) -> None:
    from experiments.render import mib, number, show, table
    from sim.reuse import RULES

    cells = [
        (
            mib(row["budget_bytes"]),
            *(number(row["hits_per_cycle"][rule], 3) for rule in RULES),
            str(row["bound_per_cycle"]),
        )
        for row in document["rows"]
    ]
    title = f"{document['model']}, batch {document['batch']}, on {document['device']}"
    show(
        stdout_console(),
        table(f"{title}: hits per step", ("budget MiB", *RULES, "bound"), cells),
        f"{document['visits']} visits per step to {document['distinct']} subgraphs "
        f"({document['subgraphs']}), {mib(document['all_bytes'])} MiB in all; "
        f"the device's budget is {mib(document['device_budget_bytes'])} MiB. Every rule admits "
        "what fits the budget, and sizes differ: more memory need not mean more hits.",
    )
