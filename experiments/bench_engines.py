"""How fast the engines are, as ratios to the SimPy reference measured in one interleaved run.

Ratios of best times are what a bound can be put on: absolute times depend on the machine, and
a machine's mood hits neighbours in a round alike.
"""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter

from sim import engines
from sim.engines.order import checked_order
from sim.engines.static import StaticEvaluator, static_makespan
from sim.taskgraph import TaskGraph, Unit, make_task_graph

COMPILED_RATIO = 100.0
"""The compiled engine is to be at least so many times as fast as SimPy."""
STATIC_RATIO = 1000.0
"""So is one call of the static evaluator."""


def step_like_graph(layers: int = 75) -> TaskGraph:
    """A graph with the shape of a training step, 6 tasks per layer; the numbers are made up.

    Forward and input_grad chains on a DSP with a FastRPC call in front of each, weight_grad
    beside them on the DSP, update on a CPU of 4 cores.
    """
    rpc, forward, input_grad, weight_grad, update = 0, 1, 2, 3, 4
    rows: list[tuple[int, int, list[int]]] = []  # (role, layer, preds)
    chain: list[int] = []
    for layer in range(layers):
        rows.append((rpc, layer, chain))
        rows.append((forward, layer, [len(rows) - 1]))
        chain = [len(rows) - 1]
    for layer in reversed(range(layers)):
        rows.append((rpc, layer, chain))
        call = len(rows) - 1
        rows.append((input_grad, layer, [call]))
        chain = [len(rows) - 1]
        rows.append((weight_grad, layer, [call]))
        rows.append((update, layer, [len(rows) - 1]))
    return make_task_graph(
        [Unit("cpu", 4), Unit("dsp", 4, 256 * 1024), Unit("rpc", 1)],
        [{rpc: 2, update: 0}.get(role, 1) for role, _, _ in rows],
        preds=[preds for _, _, preds in rows],
        slots=[1 if role in (rpc, update) else 2 for role, _, _ in rows],
        lead_ns=[90_000 if role == rpc else 2_000 for role, _, _ in rows],
        compute_ns=[0 if role == rpc else 100_000 + layer * 7_001 for role, layer, _ in rows],
        ddr_bytes=[0 if role == rpc else 400_000 + layer * 30_011 for role, layer, _ in rows],
        rate_cap=[5_000 if role == update else 9_000 for role, _, _ in rows],
        priority=[role for role, _, _ in rows],
        ddr_rate=14_000,
    )


def _seconds(action: Callable[[], object], calls: int) -> float:
    begin = perf_counter()
    for _ in range(calls):
        action()
    return (perf_counter() - begin) / calls


def measure(task_graph: TaskGraph, rounds: int = 7) -> dict[str, float]:
    """Best time of each engine over ``rounds`` interleaved rounds, and the ratios.

    Returns
    -------
    dict
        ``tasks``; ``simpy_us``, ``compiled_us`` (contention on), ``static_us`` (one
        ``static_makespan`` call) and ``static_checked_us`` (through ``StaticEvaluator``), each
        per graph in microseconds; ``compiled_ratio`` and ``static_ratio``, SimPy's time over
        theirs, where SimPy's for ``static_ratio`` ran the same order with contention off.
    """
    evaluator = StaticEvaluator(task_graph)
    timeline = engines.run(task_graph)
    order = checked_order(task_graph, engines.dispatch_order(timeline))
    actions: dict[str, tuple[Callable[[], object], int]] = {
        "simpy": (lambda: engines.run(task_graph, "simpy"), 1),
        "simpy_strict": (lambda: engines.run(task_graph, "simpy", False, order), 1),
        "compiled": (lambda: engines.run(task_graph, "compiled"), 20),
        "static": (lambda: static_makespan(order, evaluator.tables), 200),
        "static_checked": (lambda: evaluator.makespan(order), 200),
    }
    for action, _ in actions.values():  # compile, and fill caches
        action()
    best = dict.fromkeys(actions, float("inf"))
    for _ in range(rounds):
        for name, (action, calls) in actions.items():
            best[name] = min(best[name], _seconds(action, calls))
    result = {f"{name}_us": seconds * 1e6 for name, seconds in best.items()}
    return {
        "tasks": float(len(task_graph)),
        **result,
        "compiled_ratio": best["simpy"] / best["compiled"],
        "static_ratio": best["simpy_strict"] / best["static"],
    }


if __name__ == "__main__":
    for key, value in measure(step_like_graph()).items():
        print(f"{key:20s} {value:12.2f}")
