"""``mandheling caches``: hits, misses and bytes of kernels, level by level."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from experiments.cli_common import (
    NOTE,
    BatchOption,
    CliError,
    DeviceOption,
    ImageOption,
    JsonOption,
    ModelOption,
    deliver,
    load_device,
    load_graph,
    manifest,
    stdout_console,
    working,
)

if TYPE_CHECKING:
    from cost_models.caches import Hierarchy
    from cost_models.caches.kernels import Unit
    from cost_models.device import Device
    from sim.graph import Node

MOST_ACCESSES = 2_000_000_000
"""Accesses of the longest trace that is simulated: about a minute."""


def caches(
    model: ModelOption,
    device: DeviceOption,
    op: Annotated[
        str | None,
        typer.Option("--op", metavar="NAME", help="Simulate one kernel, like conv1_2.weight_grad."),
    ] = None,
    batch: BatchOption = 64,
    image: ImageOption = None,
    as_json: JsonOption = False,
) -> None:
    """Count cache hits, misses and bytes of kernels, by level."""
    phone = load_device(device)
    graph = load_graph(model, batch, image)
    nodes = graph.nodes if op is None else (graph.node(op),)
    rows = []
    with working("Simulating caches" if op is not None else "Estimating"):
        for node in nodes:
            for unit in units(phone):
                row = kernel_row(node, unit, phone, simulated=op is not None)
                if row is not None:
                    rows.append(row)
    document = {
        "note": NOTE,
        "model": graph.name,
        "device": phone.name,
        "batch": graph.batch,
        "kernels": rows,
        "manifest": manifest(graph=graph, device=phone),
    }
    deliver(document, as_json, None)
    if not as_json:
        _print_kernel(document) if op is not None else _print_all(document)


def units(device: Device) -> tuple[Unit, ...]:
    """Return the units of a device that have caches here."""
    return ("cpu",) if device.dsp is None else ("cpu", "dsp")


def kernel_row(node: Node, unit: Unit, device: Device, *, simulated: bool) -> dict[str, Any] | None:
    """Return what a kernel does to the caches of a unit; None where the unit has no such kernel.

    Raises
    ------
    CliError
        The kernel's trace is too long to simulate.
    """
    from cost_models.caches import CacheError, device_hierarchy, estimate, kernel_nests, simulate
    from cost_models.caches.analytic import accesses
    from experiments.caches import call_of

    hierarchy = device_hierarchy(device, unit)
    try:
        nests = kernel_nests(call_of(node.op, node.role), unit, hierarchy.scratchpad_bytes)
    except CacheError:
        return None
    if not nests:
        return None
    expected, length = estimate(nests, hierarchy), accesses(nests)
    row: dict[str, Any] = {
        "op": node.name,
        "unit": unit,
        "accesses": length,
        "vtcm_bytes": expected.scratchpad_read_bytes + expected.scratchpad_written_bytes,
        "levels": [
            {"level": level.name, **_shape(hierarchy, i), "analytic_bytes": level.moved_bytes}
            for i, level in enumerate(expected.levels)
        ],
    }
    if not simulated:
        return row
    if length > MOST_ACCESSES:
        raise CliError(
            f"--op {node.name}: {length} accesses on the {unit}; at most {MOST_ACCESSES} are "
            "simulated; use a smaller --batch or --image"
        )
    found = simulate(nests, hierarchy)
    for shown, level in zip(row["levels"], found.levels, strict=True):
        for name in ("loads", "stores", "hits", "misses", "evictions"):
            shown[name] = getattr(level, name)
        shown["read_bytes"] = level.read_bytes
        shown["written_bytes"] = level.written_bytes
    return row


def _shape(hierarchy: Hierarchy, index: int) -> dict[str, int]:
    level = hierarchy.levels[index]
    return {
        "size_bytes": level.size_bytes,
        "ways": level.ways,
        "line_bytes": level.line_bytes,
    }


def _print_kernel(document: dict[str, Any]) -> None:
    from experiments.render import kib, show, table

    console = stdout_console()
    for row in document["kernels"]:
        cells = []
        for level in row["levels"]:
            moved = level["read_bytes"] + level["written_bytes"]
            off = f"{100 * (level['analytic_bytes'] / moved - 1):+.1f}" if moved else "-"
            counts = (str(level[name]) for name in ("hits", "misses", "evictions"))
            size = kib(level["size_bytes"])
            cells.append(
                (level["level"], size, *counts, kib(moved), kib(level["analytic_bytes"]), off)
            )
        columns = ("level", "KiB", "hits", "misses", "evicted", "KiB out", "rule", "off %")
        title = f"{row['op']} on the {row['unit']} of {document['device']}"
        show(console, table(f"{title}, batch {document['batch']}, INT8", columns, cells))
        if row["vtcm_bytes"]:
            show(console, f"{kib(row['vtcm_bytes'])} KiB to and from VTCM.")
    if not document["kernels"]:
        show(console, "This is a view of memory that no kernel computes.")
        return
    show(
        console,
        "Cold caches, dirty lines written back in the end. 'KiB out' goes to and from the next "
        "level, behind the last one memory; 'rule' is the closed form that searches can afford. "
        "One core of the CPU, all contexts of the DSP.",
    )


def _print_all(document: dict[str, Any]) -> None:
    from experiments.render import kib, show, table

    by_op: dict[str, dict[str, dict[str, Any]]] = {}
    for row in document["kernels"]:
        by_op.setdefault(row["op"], {})[row["unit"]] = row
    cells = []
    for name, rows in by_op.items():
        cpu, dsp = rows["cpu"]["levels"], rows.get("dsp")
        cells.append(
            (
                name,
                *(kib(level["analytic_bytes"]) for level in cpu),
                *(("-",) * 3 if dsp is None else _dsp_cells(dsp)),
            )
        )
    columns = ("kernel", "CPU L1", "L2", "L3", "DSP L1", "L2", "VTCM")
    title = f"{document['model']}, batch {document['batch']}, on {document['device']}"
    show(
        stdout_console(),
        table(f"{title}: KiB to and from the next level, INT8", columns, cells),
        "By the rule in closed form. `--op NAME` simulates one kernel beside it.",
    )


def _dsp_cells(row: dict[str, Any]) -> tuple[str, ...]:
    from experiments.render import kib

    return (*(kib(level["analytic_bytes"]) for level in row["levels"]), kib(row["vtcm_bytes"]))
