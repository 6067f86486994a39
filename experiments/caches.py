"""How well the working-set rule agrees with the cache simulator, kernel by kernel.

``python -m experiments.caches`` simulates every distinct kernel of some networks on a Snapdragon
865's caches, and the weight gradients of VGG-16 split into micro-batches; it keeps the bytes that
both give in ``results/caches.json`` and prints errors: median, 90th percentile and worst. With
``--check`` it prints what is kept.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from statistics import median, quantiles
from typing import Any

from cost_models.caches import (
    CacheError,
    Hierarchy,
    device_hierarchy,
    estimate,
    kernel_nests,
    simulate,
    split_point,
)
from cost_models.caches.kernels import UNITS, Unit
from cost_models.cost import KernelCall
from cost_models.device import load_device
from experiments.results import FOLDER, read_result, write_result
from experiments.told import one_line_errors
from kernels.conv import Conv2d
from kernels.operators import Operator, Role
from sim.autodiff import training_graph
from sim.graph import TrainingGraph
from sim.zoo import load_model

RESULT = FOLDER / "caches.json"
DEVICE = "snapdragon-865"
NETWORKS = {"lenet": (32, 28), "vgg16": (2, 32), "mobilenet-v2": (2, 64), "resnet18": (1, 32)}
"""Networks with batch and image side, small enough to simulate each of their kernels in minutes."""
SPLIT_NETWORK, SPLIT_BATCH, MICRO_BATCHES = "vgg16", 64, (16, 32, 64)
VTCM_KIB = (256, 2048, 8192)
MIB = 1 << 20
MAC_KINDS = ("conv2d", "linear")


def call_of(op: Operator, role: Role) -> KernelCall:
    """The INT8 call that is simulated: results are requantised in the store."""
    return KernelCall(op, role, "int8", "fused" if op.work(role).macs else "none")


def distinct(graphs: Sequence[TrainingGraph]) -> Iterator[tuple[str, KernelCall]]:
    """Give each kernel of the graphs once, named after the first node that has it."""
    seen = set()
    for graph in graphs:
        for node in graph.nodes:
            call = call_of(node.op, node.role)
            if call not in seen:
                seen.add(call)
                yield f"{graph.name} {node.name}", call


def compare(name: str, call: KernelCall, unit: Unit, caches: Hierarchy) -> list[dict[str, Any]]:
    """Bytes between each level and the next, simulated and in closed form, where there are any.

    Returns no rows where the unit lacks the kernel.
    """
    try:
        nests = kernel_nests(call, unit, caches.scratchpad_bytes)
    except CacheError:
        return []
    found, expected = simulate(nests, caches), estimate(nests, caches)
    return [
        {
            "kernel": name,
            "kind": call.op.kind,
            "unit": unit,
            "level": level.name,
            "simulated_bytes": level.moved_bytes,
            "analytic_bytes": guess.moved_bytes,
        }
        for level, guess in zip(found.levels, expected.levels, strict=True)
        if level.moved_bytes or guess.moved_bytes
    ]


def splits(caches: Hierarchy) -> Iterator[dict[str, Any]]:
    """Give traffic of weight gradients of VGG-16 by micro-batch, both ways: one layer per map size.

    Of the layers of a size, one that keeps the number of channels. What a split does depends on
    VTCM only by whether a slice fits.
    """
    graph = training_graph(load_model(SPLIT_NETWORK, SPLIT_BATCH))
    seen: set[Conv2d] = set()
    for node in graph.nodes:
        op = node.op
        if node.role is not Role.WEIGHT_GRAD or not isinstance(op, Conv2d) or op in seen:
            continue
        if op.c_in != op.c_out:
            continue
        seen.add(op)
        for size in MICRO_BATCHES:
            done: dict[bool, tuple[int, int]] = {}
            for kib in VTCM_KIB:
                here = replace(caches, scratchpad_bytes=kib * 1024)
                guess = split_point(op, size, here, simulated=False)
                if guess.fits not in done:
                    point = split_point(op, size, here, simulated=True)
                    done[guess.fits] = (point.memory_bytes, guess.memory_bytes)
                yield {
                    "layer": node.layer,
                    "vtcm_kib": kib,
                    "micro_batch": size,
                    "fits": guess.fits,
                    "simulated_bytes": done[guess.fits][0],
                    "analytic_bytes": done[guess.fits][1],
                }


def error(row: dict[str, Any]) -> float:
    """Signed error of the rule against the simulator."""
    return float(row["analytic_bytes"] / max(1, row["simulated_bytes"]) - 1)


def summary(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Number of rows, median and 90th percentile of the error's size, and the worst row."""
    sizes = sorted(abs(error(row)) for row in rows)
    worst = max(rows, key=lambda row: abs(error(row)))
    tenths = quantiles(sizes, n=10) if len(sizes) > 1 else sizes * 9
    return {"rows": len(rows), "median": median(sizes), "p90": tenths[-1], "worst": worst}


def parts(content: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """Rows by what is summed up: all, MAC kernels by unit and level, others, splits."""
    rows = content["kernels"]
    macs = [row for row in rows if row["kind"] in MAC_KINDS]
    found = {"all kernels": rows, "MAC kernels": macs}
    for unit, level in sorted({(row["unit"], row["level"]) for row in macs}):
        found[f"MAC kernels, {unit} {level}"] = [
            row for row in macs if (row["unit"], row["level"]) == (unit, level)
        ]
    found["other kernels"] = [row for row in rows if row["kind"] not in MAC_KINDS]
    found["splits"] = content["splits"]
    return {name: chosen for name, chosen in found.items() if chosen}


def shown(content: dict[str, Any]) -> str:
    """The summaries as a Markdown table, worst rows included."""
    lines = ["| rows | number | median | p90 | worst | where |", "|---|---|---|---|---|---|"]
    for name, rows in parts(content).items():
        found = summary(rows)
        worst = found["worst"]
        if "layer" in worst:
            place = f"{worst['layer']}, {worst['micro_batch']} of {SPLIT_BATCH}"
        else:
            place = f"{worst['kernel']}, {worst['unit']} {worst['level']}"
        lines.append(
            f"| {name} | {found['rows']} | {found['median']:.1%} | {found['p90']:.1%} "
            f"| {error(worst):+.0%} | {place} |"
        )
    return "\n".join(lines)


def splits_shown(content: dict[str, Any]) -> str:
    """The splits as a Markdown table: MiB simulated (and by the rule), a star where slices fit."""
    head = ("layer", "VTCM KiB", *(f"{size} at a time" for size in MICRO_BATCHES))
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for layer in dict.fromkeys(row["layer"] for row in content["splits"]):
        for kib in VTCM_KIB:
            rows = [r for r in content["splits"] if (r["layer"], r["vtcm_kib"]) == (layer, kib)]
            cells = [
                f"{row['simulated_bytes'] / MIB:.1f} ({row['analytic_bytes'] / MIB:.1f})"
                + (" *" if row["fits"] else "")
                for row in rows
            ]
            lines.append(f"| {layer} | {kib} | {' | '.join(cells)} |")
    return "\n".join(lines)


@one_line_errors()
def main(arguments: Sequence[str] | None = None) -> None:
    """Simulate, keep and print; or print what is kept."""
    parser = argparse.ArgumentParser(prog="python -m experiments.caches", description=__doc__)
    parser.add_argument("--check", action="store_true", help="print what is kept")
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    options = parser.parse_args(arguments)
    content = read_result(RESULT)
    if not options.check:
        device = load_device(DEVICE)
        graphs = [training_graph(load_model(name, *size)) for name, size in NETWORKS.items()]
        kernels = [
            row
            for name, call in distinct(graphs)
            for unit in UNITS
            for row in compare(name, call, unit, device_hierarchy(device, unit))
        ]
        found = list(splits(device_hierarchy(device, "dsp")))
        content = {"device": DEVICE, "networks": NETWORKS, "kernels": kernels, "splits": found}
        write_result(RESULT, content)
    if not content:
        parser.error("no figures are kept yet; run without --check")
    print(json.dumps(content, indent=1) if options.json else shown(content))


if __name__ == "__main__":
    main()
