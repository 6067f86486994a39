"""How many plans a second the batch evaluator scores, interleaved in one run.

Two kinds of rows, all of one frame (what Mandheling's plan computes): *near* ones, each schedule
gene of Mandheling's plan redrawn with a probability of 3 %, which is what a search meets; and rows
*drawn* uniformly, whose branches no processor foresees. Decoding is part of every evaluation.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from time import perf_counter

import numpy as np

from cost_models.device import Device
from experiments.bench_figure import Figure
from sim import build_plan
from sim.encoding import Evaluator, Genes, Space
from sim.engines import run as run_engine
from sim.expected import quiet_tasks
from sim.graph import TrainingGraph

STATIC_RATE = 100_000
"""Plans per second and core that the static fidelity is to score."""
EVENT_RATE = 10_000
"""The same for the event engine with contention."""
TWO_CORES = 1.8
"""Two cores are to be at least so many times as fast as one."""
NEAR = 0.03
PLANS = 8000
FRAMES = 12
SIMPY_PLANS = 12


def near_rows(space: Space, plans: int, seed: int, share: float = NEAR) -> Genes:
    """Return rows with the base plan's frame and some schedule genes redrawn."""
    base, drawn = space.encode(space.base), space.random(plans, seed)
    kept = np.random.default_rng(seed).random(drawn.shape) > share
    rows = np.where(kept, base, drawn).astype(np.int16)
    rows[:, : space.frame_genes] = base[: space.frame_genes]
    return rows


def _best(actions: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Least seconds of each action, taking turns."""
    best = dict.fromkeys(actions, float("inf"))
    for _ in range(rounds):
        for name, action in actions.items():
            begin = perf_counter()
            action()
            best[name] = min(best[name], perf_counter() - begin)
    return best


def search_figures(graph: TrainingGraph, device: Device, rounds: int) -> list[Figure]:
    """Measure the evaluator on one model and device; the best of ``rounds`` (at least 5)."""
    space = Space.of(graph, device, build_plan("mandheling", graph, device))
    near, drawn = near_rows(space, PLANS, 1), near_rows(space, PLANS, 2, share=1.0)
    actions: dict[str, Callable[[], object]] = {}
    for kind, rows in (("near", near), ("drawn", drawn)):
        for fidelity in ("static", "quiet", "expected"):
            for threads in (1, 2):
                evaluator = Evaluator(space, fidelity, threads=threads)
                evaluator(rows[:8])
                actions[f"{fidelity} {kind} {threads}"] = partial(evaluator, rows)
    plans = [space.decode(row) for row in near[:SIMPY_PLANS]]
    actions["simpy"] = lambda: [
        run_engine(quiet_tasks(graph, plan, device), "simpy").makespan_ns for plan in plans
    ]
    seconds = _best(actions, max(5, rounds))

    def rate(name: str) -> float:
        return PLANS / seconds[name]

    tasks = float(np.mean([len(quiet_tasks(graph, plan, device)) for plan in plans]))
    simpy = SIMPY_PLANS / seconds["simpy"]
    figures = [Figure("tasks in a near plan", tasks, "")]
    for fidelity, bound in (("static", STATIC_RATE), ("quiet", EVENT_RATE), ("expected", None)):
        one, two = rate(f"{fidelity} near 1"), rate(f"{fidelity} near 2")
        figures += [
            Figure(f"{fidelity}, one core", one, "plans/s", bound, at_least=True),
            Figure(f"{fidelity}, drawn plans", rate(f"{fidelity} drawn 1"), "plans/s"),
            Figure(f"{fidelity}, two cores", two / one, "x", TWO_CORES, at_least=True),
        ]
    figures += [
        Figure("static, tasks", rate("static near 1") * tasks, "tasks/s"),
        Figure("static vs one-by-one SimPy", rate("static near 1") / simpy, "x"),
        Figure("quiet vs one-by-one SimPy", rate("quiet near 1") / simpy, "x"),
        Figure("a new frame", _frame_seconds(space) * 1e3, "ms"),
    ]
    return figures


def _frame_seconds(space: Space) -> float:
    """Time to make a frame that differs from the base plan's in one gene, new costs included."""
    rows = near_rows(space, FRAMES, 3)
    layers = sum(gene.aspect == "precision" for gene in space.genes)
    for k, row in enumerate(rows):
        gene = layers + k * (space.frame_genes - layers) // FRAMES
        row[gene] = (row[gene] + 1) % space.counts[gene]
    evaluator = Evaluator(space, "quiet")
    begin = perf_counter()
    evaluator(rows)
    return (perf_counter() - begin) / FRAMES
