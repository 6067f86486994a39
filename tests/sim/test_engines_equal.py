"""The compiled engine and the static evaluator give the rows of the SimPy reference."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sim import engines
from sim.engines.order import dispatch_order
from sim.taskgraph import TaskGraph, Unit, make_task_graph
from sim.testing_tasks import task_graphs
from sim.timeline import Timeline


def assert_same_rows(one: Timeline, other: Timeline) -> None:
    assert one.start_ns.tolist() == other.start_ns.tolist()
    assert one.end_ns.tolist() == other.end_ns.tolist()
    assert one.slot_mask.tolist() == other.slot_mask.tolist()
    assert dispatch_order(one).tolist() == dispatch_order(other).tolist()
    assert one.sha256 == other.sha256


def assert_engines_agree(graph: TaskGraph, contention: bool) -> None:
    compiled = engines.run(graph, "compiled", contention)
    assert_same_rows(compiled, engines.run(graph, "simpy", contention))

    order = dispatch_order(compiled)
    assert_same_rows(compiled, engines.run(graph, "compiled", contention, order))
    assert_same_rows(compiled, engines.run(graph, "simpy", contention, order))
    if not contention:
        start_ns, end_ns = engines.static_times(graph, order)
        assert start_ns.tolist() == compiled.start_ns.tolist()
        assert end_ns.tolist() == compiled.end_ns.tolist()


def assert_topological_orders_agree(graph: TaskGraph, seed: int) -> None:
    order = random_topological_order(graph, seed)
    for contention in (False, True):
        compiled = engines.run(graph, "compiled", contention, order)
        assert_same_rows(compiled, engines.run(graph, "simpy", contention, order))
    start_ns, end_ns = engines.static_times(graph, order)
    event = engines.run(graph, "simpy", contention=False, order=order)
    assert start_ns.tolist() == event.start_ns.tolist()
    assert end_ns.tolist() == event.end_ns.tolist()


def assert_any_permutation_agrees(graph: TaskGraph, seed: int) -> None:
    """Most permutations dead-lock: then both engines must say so, and name the same task."""
    order = np.random.default_rng(seed).permutation(len(graph))
    outcomes = []
    for engine in engines.ENGINES:
        try:
            outcomes.append(engines.run(graph, engine, True, order).sha256)
        except engines.EngineError as error:
            outcomes.append(str(error))
    assert outcomes[0] == outcomes[1]


def random_topological_order(graph: TaskGraph, seed: int) -> list[int]:
    rng = np.random.default_rng(seed)
    left = {
        task: set(graph.pred[graph.pred_ptr[task] : graph.pred_ptr[task + 1]].tolist())
        for task in range(len(graph))
    }
    order: list[int] = []
    while left:
        ready = [task for task, preds in left.items() if preds <= set(order)]
        order.append(int(rng.choice(ready)))
        del left[order[-1]]
    return order


def property_test(max_examples: int) -> Callable[..., Callable[..., None]]:
    return settings(
        max_examples=max_examples,
        derandomize=True,
        deadline=None,
        database=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )


def check_engines(max_examples: int, max_tasks: int = 40) -> None:
    """All comparisons on ``max_examples`` drawn graphs."""

    @property_test(max_examples)
    @given(task_graphs(max_tasks), st.booleans(), st.integers(0, 2**20))
    def compare(graph: TaskGraph, contention: bool, seed: int) -> None:
        assert_engines_agree(graph, contention)
        assert_topological_orders_agree(graph, seed)
        assert_any_permutation_agrees(graph, seed)

    compare()


def test_engines_agree_on_drawn_graphs() -> None:
    check_engines(320)


@pytest.mark.accept
def test_engines_agree_on_many_drawn_graphs() -> None:
    check_engines(2_500, max_tasks=60)


def test_engines_agree_on_a_large_crowded_graph() -> None:
    rng = np.random.default_rng(7)
    n = 600
    units = [Unit("cpu", 4), Unit("dsp", 4, 4096), Unit("rpc", 1)]
    unit = rng.integers(0, 3, n)
    graph = make_task_graph(
        units,
        unit.tolist(),
        preds=[sorted({int(p) for p in rng.integers(max(0, i - 30), i, 2)}) if i else []
               for i in range(n)],
        slots=np.where(unit == 2, 1, rng.integers(1, 5, n)).tolist(),
        vtcm_bytes=np.where(unit == 1, rng.integers(0, 4097, n), 0).tolist(),
        lead_ns=rng.integers(0, 4, n).tolist(),
        compute_ns=rng.integers(0, 2_000, n).tolist(),
        ddr_bytes=(rng.integers(0, 2, n) * rng.integers(0, 100_000, n)).tolist(),
        rate_cap=rng.integers(1_000, 20_000, n).tolist(),
        priority=rng.integers(0, 5, n).tolist(),
        ddr_rate=14_000,
    )  # fmt: skip
    assert_engines_agree(graph, contention=True)
    assert_engines_agree(graph, contention=False)


def test_same_graph_gives_same_bytes() -> None:
    graph = make_task_graph([Unit("cpu", 2)], [0] * 5, compute_ns=[3, 3, 0, 9, 1], ddr_bytes=40)
    digests = {engines.run(graph, engine).sha256 for engine in engines.ENGINES for _ in range(3)}
    assert len(digests) == 1


def test_tasks_of_graphs_with_nothing_in_them() -> None:
    graph = make_task_graph([Unit("cpu", 1)], [])
    for engine in engines.ENGINES:
        assert engines.run(graph, engine).makespan_ns == 0
        assert engines.run(graph, engine, order=[]).makespan_ns == 0
    assert [len(rows) for rows in engines.static_times(graph, [])] == [0, 0]
