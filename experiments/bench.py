"""What ``make bench`` runs: how fast the sandbox itself is.

Engines are measured on the quiet steady step of Mandheling's plan for VGG-16 at batch 64 on
snapdragon-865, interleaved in one run, and compared by ratio: absolute times belong to the
machine. A bound that is missed is printed as such; the benchmark does not fail for it.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict
from time import perf_counter

from cost_models.device import Device
from experiments.bench_engines import COMPILED_RATIO, STATIC_RATIO, measure
from experiments.bench_figure import Figure, table
from experiments.bench_numeric import first_step_figures, product_figures, training_figures
from experiments.bench_search import search_figures
from experiments.results import FOLDER, versions, write_result
from experiments.told import one_line_errors
from sim import build_plan, expect, load_device, load_model, training_graph
from sim.graph import TrainingGraph

MODEL, DEVICE, BATCH = "vgg16", "snapdragon-865", 64
HELP_SECONDS = 0.3
COMPARE_SECONDS = 2.0
PATIENCE_SECONDS = 120
"""Longest that a child process may take."""

_COMPARE = f"""
import sys
from time import perf_counter
begin = perf_counter()
from experiments.compare import compare
from sim import load_device, load_model, training_graph
for model in sys.argv[1:]:
    compare(training_graph(load_model(model, {BATCH})), load_device({DEVICE!r}))
    print(perf_counter() - begin)
    begin = perf_counter()
"""


def engine_figures(graph: TrainingGraph, device: Device, rounds: int) -> list[Figure]:
    """Measure the engines on one training step, interleaved, best of ``rounds``."""
    step = expect(graph, build_plan("mandheling", graph, device), device).graphs[-1]
    found = measure(step, rounds)
    return [
        Figure("tasks in the step", found["tasks"], ""),
        Figure("SimPy engine", found["simpy_us"], "us"),
        Figure("compiled engine", found["compiled_us"], "us"),
        Figure("static evaluator", found["static_us"], "us"),
        Figure("compiled vs SimPy", found["compiled_ratio"], "x", COMPILED_RATIO, at_least=True),
        Figure("static vs SimPy", found["static_ratio"], "x", STATIC_RATIO, at_least=True),
    ]


def help_figure(rounds: int) -> Figure:
    """Time ``mandheling --help`` in processes of its own; the best of ``rounds``."""
    return Figure("mandheling --help", _command_time(["--help"], rounds), "s", HELP_SECONDS)


def _command_time(words: list[str], rounds: int) -> float:
    """Best time of the command with these words, each in a new process, seconds."""
    command = [sys.executable, "-c", "from experiments.cli import main; main()", *words]
    best = float("inf")
    for _ in range(rounds):
        begin = perf_counter()
        subprocess.run(command, check=True, capture_output=True, timeout=PATIENCE_SECONDS)
        best = min(best, perf_counter() - begin)
    return best


def compare_figures(rounds: int) -> list[Figure]:
    """Time the command ``compare``, a comparison in a warm process, and once more in that.

    The command counts from start to exit, imports and all. Warm has compared another network
    before. The last finds its proposals remembered, so it says nothing about how fast plans are
    found.
    """
    options = ["--model", MODEL, "--device", DEVICE, "--batch", str(BATCH), "--json"]
    _, warm, again = _compare_times(["lenet", MODEL, MODEL], rounds)
    return [
        Figure(
            "mandheling compare", _command_time(["compare", *options], rounds), "s", COMPARE_SECONDS
        ),
        Figure("compare, warm process", warm, "s", COMPARE_SECONDS),
        Figure("compare, remembered", again, "s"),
    ]


def _compare_times(models: list[str], rounds: int) -> list[float]:
    """Best times of comparing these models one after the other in a new process, seconds."""
    best = [float("inf")] * len(models)
    for _ in range(rounds):
        command = [sys.executable, "-c", _COMPARE, *models]
        child = subprocess.run(
            command, check=True, capture_output=True, text=True, timeout=PATIENCE_SECONDS
        )
        best = [min(old, float(new)) for old, new in zip(best, child.stdout.split(), strict=True)]
    return best


@one_line_errors()
def main(arguments: Sequence[str] | None = None) -> None:
    """Measure everything, print it, and write ``results/bench.json``."""
    parser = argparse.ArgumentParser(prog="python -m experiments.bench", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    parser.add_argument("--rounds", type=int, default=9, help="rounds; the best counts (9)")
    options = parser.parse_args(arguments)
    if options.rounds < 1:
        parser.error(f"--rounds is {options.rounds}; give 1 or more")
    few = max(1, options.rounds // 3)
    graph, device = training_graph(load_model(MODEL, BATCH)), load_device(DEVICE)
    figures = [*engine_figures(graph, device, options.rounds)]
    figures += [help_figure(options.rounds), *compare_figures(few)]
    figures += search_figures(graph, device, options.rounds)
    figures += [*first_step_figures(), *product_figures(options.rounds)]
    figures += training_figures(options.rounds)
    content = {
        "model": MODEL,
        "device": DEVICE,
        "batch": BATCH,
        "rounds": options.rounds,
        "versions": versions(),
        "figures": [asdict(figure) | {"met": figure.met} for figure in figures],
    }
    write_result(FOLDER / "bench.json", content)
    print(json.dumps(content, indent=1, sort_keys=True) if options.json else table(figures))


if __name__ == "__main__":
    main()
