"""The figures of docs/background/certificates.md: ``python -m experiments.certify.study``.

Small graphs: drawn training steps of 24 to 60 tasks, each with a choice of two units, with and
without contention for the memory. Large spaces: the bound over all plans of a network, beside
Mandheling's plan and the best one that is kept in ``results/plans``.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from time import process_time
from typing import Any

from experiments.certify.bounds import energy_bound, lower_bound, quick_bound
from experiments.certify.choices import training_instance
from experiments.certify.exact import certify_graph
from experiments.certify.obstacles import obstacles
from experiments.results import FOLDER, read_result, versions, write_result
from experiments.told import one_line_errors
from sim import Plan, build_plan, expect, load_device, load_model, training_graph
from sim.encoding import Space

NETWORKS = ("vgg11", "vgg16", "resnet18")
DEVICE = "snapdragon-865"
BATCH = 64
LAYERS = (8, 10, 12, 14, 16, 18, 20)
INSTANCES = 30
WORK = 20.0


def small_graphs(count: int = INSTANCES) -> list[dict[str, Any]]:
    """Certify drawn graphs; every second one has contention for the memory."""
    rows = []
    for seed in range(count):
        memory = bool(seed % 2)
        graph = training_instance(LAYERS[seed % len(LAYERS)], seed, memory=memory)
        begin = process_time()
        proof = certify_graph(graph)
        row = {
            "seed": seed,
            "tasks": len(graph),
            "contention": memory,
            "time_ns": proof.time_ns,
            "bound_ns": proof.bound_ns,
            "optimal": proof.optimal,
            "gap": round(proof.gap, 5),
            "examined": proof.examined,
            "seconds": round(proof.seconds, 1),
            "cpu_seconds": round(process_time() - begin, 1),
        }
        print(row, file=sys.stderr, flush=True)
        rows.append(row)
    return rows


def large_spaces(networks: Sequence[str] = NETWORKS) -> list[dict[str, Any]]:
    """Bound all plans of each network and compare Mandheling's plan and the best one kept."""
    rows = []
    device = load_device(DEVICE)
    for name in networks:
        graph = training_graph(load_model(name, batch=BATCH))
        base = build_plan("mandheling", graph, device)
        space = Space.of(graph, device, base)
        quick, bound = quick_bound(space), lower_bound(space, work=WORK)
        path = FOLDER / "plans" / f"{name}-{DEVICE}.json"
        best = Plan.read(path) if path.exists() else base
        found = expect(graph, best, device)
        parts = obstacles(space, best, bound.time_ns)
        row = {
            "model": name,
            "genes": len(space.genes),
            "mandheling_ns": expect(graph, base, device).time_ns,
            "best_ns": found.time_ns,
            "bound_ns": bound.time_ns,
            "gap": round(bound.gap(found.time_ns), 4),
            "schedule": round(parts.schedule, 4),
            "choice": round(parts.choice, 4),
            "own_bound_ns": parts.own_bound_ns,
            "without_contention_ns": parts.without_contention_ns,
            "without_rpc_ns": parts.without_rpc_ns,
            "without_packing_ns": parts.without_packing_ns,
            "parts_ns": dict(bound.parts),
            "best_breakdown_ns": found.breakdown_ns,
            "seconds": round(bound.seconds, 2),
            "quick_ns": quick.time_ns,
            "quick_seconds": round(quick.seconds, 2),
            "best_pj": found.energy_pj,
            "energy_bound_pj": energy_bound(space),
        }
        print(row, file=sys.stderr, flush=True)
        rows.append(row)
    return rows


PARTS: dict[str, Callable[[], list[dict[str, Any]]]] = {
    "large": large_spaces,
    "small": small_graphs,
}


def table(content: dict[str, Any]) -> str:
    """Return both tables as Markdown."""
    lines = [
        "| network, batch 64 | `mandheling` | best known | bound | gap | of it choice | schedule |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for row in content["large"]:
        times = (f"{row[name] / 1e6:.2f} ms" for name in ("mandheling_ns", "best_ns", "bound_ns"))
        shares = (f"{100 * row[name]:.1f} %" for name in ("gap", "choice", "schedule"))
        lines.append(f"| {row['model']} | {' | '.join((*times, *shares))} |")
    lines += [
        "",
        "| drawn graphs | instances | proven optimal | largest gap | median, longest CPU time |",
        "|---|---:|---:|---:|---:|",
    ]
    for contention in (False, True):
        rows = [row for row in content["small"] if row["contention"] is contention]
        spent = sorted(row["cpu_seconds"] for row in rows)
        gap = max(1 - row["bound_ns"] / row["time_ns"] for row in rows)
        lines.append(
            f"| {'with' if contention else 'without'} contention | {len(rows)} "
            f"| {sum(row['optimal'] for row in rows)} | {100 * gap:.4f} % "
            f"| {spent[len(spent) // 2]:.1f} s, {spent[-1]:.1f} s |"
        )
    return "\n".join(lines)


@one_line_errors()
def main(arguments: Sequence[str] | None = None) -> int:
    """Compute what was asked for, keep it in results/certify.json, and print both tables."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.certify.study", description=__doc__
    )
    parser.add_argument("--part", action="append", choices=list(PARTS), help="compute only this")
    parser.add_argument("--table", action="store_true", help="compute nothing, print the tables")
    options = parser.parse_args(arguments)
    path = FOLDER / "certify.json"
    content = read_result(path)
    for name in [] if options.table else options.part or list(PARTS):
        content[name] = PARTS[name]()
        write_result(path, content | {"versions": versions()})
    print(table(content))
    return 0


if __name__ == "__main__":
    sys.exit(main())
