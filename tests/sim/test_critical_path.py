"""The critical path covers the makespan exactly, and its shares add up to it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sim import engines
from sim.critical import IDLE, breakdown_ns, critical_path, parameter_shares
from sim.taskgraph import CATEGORIES, TaskGraph, Unit, make_task_graph
from sim.testing_tasks import task_graphs
from sim.timeline import Timeline


def segments(timeline: Timeline) -> list[tuple[int, int, int]]:
    return [(part.start_ns, part.end_ns, part.task) for part in critical_path(timeline)]


@settings(
    max_examples=150,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
@given(task_graphs(), st.booleans(), st.booleans())
def test_path_and_shares_are_exact(graph: TaskGraph, contention: bool, strict: bool) -> None:
    timeline = engines.run(graph, contention=contention)
    if strict:
        timeline = engines.run(graph, contention=contention, order=np.arange(len(graph)))
    path = critical_path(timeline)

    edges = [0, *(part.end_ns for part in path)]
    assert [part.start_ns for part in path] == edges[:-1]
    assert edges[-1] == timeline.makespan_ns
    tasks = [part.task for part in path if part.task != IDLE]
    assert len(set(tasks)) == len(tasks)
    for part in path:
        if part.task == IDLE:
            assert part.duration_ns > 0
        else:
            row = (int(timeline.start_ns[part.task]), int(timeline.end_ns[part.task]))
            assert row == (part.start_ns, part.end_ns)

    breakdown = breakdown_ns(timeline)
    assert tuple(breakdown) == CATEGORIES
    assert min(breakdown.values()) >= 0
    assert sum(breakdown.values()) == timeline.makespan_ns
    idle = sum(part.duration_ns for part in path if part.task == IDLE)
    assert sum(parameter_shares(timeline).values()) == timeline.makespan_ns - idle


def test_without_releases_and_orders_nothing_is_idle() -> None:
    rng = np.random.default_rng(11)
    preds = [sorted(set(rng.integers(0, i, min(i, 2)).tolist())) for i in range(80)]
    graph = make_task_graph(
        [Unit("cpu", 2), Unit("dsp", 3, 100)],
        (np.arange(80) % 2).tolist(),
        preds=preds,
        compute_ns=rng.integers(1, 90, 80).tolist(),
        ddr_bytes=rng.integers(0, 900, 80).tolist(),
        slots=(1 + rng.integers(0, 2, 80)).tolist(),
    )
    assert breakdown_ns(engines.run(graph))["idle"] == 0


def test_predecessor_before_unit_and_lowest_id() -> None:
    # Task 3 starts at 10, when its predecessors 1 and 2 and task 0 of its unit all end.
    graph = make_task_graph(
        [Unit("cpu", 1), Unit("dsp", 2)],
        [0, 1, 1, 0],
        preds=[[], [], [], [1, 2]],
        compute_ns=[10, 10, 10, 5],
    )
    assert segments(engines.run(graph)) == [(0, 10, 1), (10, 15, 3)]


def test_unit_then_release() -> None:
    # Task 1 waits for the unit; task 2 for its release at 30, after 1 ended at 14.
    graph = make_task_graph(
        [Unit("cpu", 1)], [0, 0, 0], compute_ns=[9, 5, 4], release_ns=[0, 0, 30]
    )
    expected = [(0, 9, 0), (9, 14, 1), (14, 30, IDLE), (30, 34, 2)]
    assert segments(engines.run(graph)) == expected
    assert breakdown_ns(engines.run(graph))["idle"] == 16


def test_release_of_the_first_task() -> None:
    graph = make_task_graph([Unit("cpu", 1)], [0], compute_ns=4, release_ns=3)
    assert segments(engines.run(graph)) == [(0, 3, IDLE), (3, 7, 0)]


def test_tasks_of_no_duration_do_not_loop() -> None:
    # 0 runs to 6; then 1..4 take no time on one slot, in a chain and beside it; then 5.
    graph = make_task_graph(
        [Unit("cpu", 1), Unit("rpc", 1)],
        [0, 1, 1, 1, 1, 0],
        preds=[[], [0], [0], [2], [0], [3]],
        compute_ns=[6, 0, 0, 0, 0, 5],
    )
    path = segments(engines.run(graph))
    assert path == [(0, 6, 0), (6, 6, 2), (6, 6, 3), (6, 11, 5)]


def test_strict_order_leads_to_what_another_unit_waited_for() -> None:
    # In the order 1 before 2 on the CPU's two slots, 2 starts with 1, which waited for 0 on the
    # DSP. Nothing ended on the CPU, 2 has no predecessor: the path goes on with 0, not idle.
    graph = make_task_graph(
        [Unit("cpu", 2), Unit("dsp", 1)], [1, 0, 0], preds=[[], [0], []], compute_ns=[10, 2, 3]
    )
    timeline = engines.run(graph, order=[0, 1, 2])
    assert segments(timeline) == [(0, 10, 0), (10, 13, 2)]


def test_waiting_for_bytes_of_a_compute_task_is_memory() -> None:
    # Lead 10, computing 100, transfer 10..510: 400 ns beyond. Then an rpc task of 50 that waits 30
    # for its bytes, which stays rpc.
    graph = make_task_graph(
        [Unit("cpu", 1)],
        [0, 0],
        preds=[[], [0]],
        lead_ns=[10, 20],
        compute_ns=[100, 30],
        ddr_bytes=[500, 60],
        ddr_rate=1000,
        category=[CATEGORIES.index("compute"), CATEGORIES.index("rpc")],
        parameters=("lead", "mac_rate", "ddr"),
        groups=[[0, 1, 2]] * 2,
    )
    timeline = engines.run(graph)
    nonzero = {name: ns for name, ns in breakdown_ns(timeline).items() if ns}
    assert nonzero == {"compute": 110, "memory": 400, "rpc": 80}
    assert parameter_shares(timeline) == {"ddr": 430, "lead": 30, "mac_rate": 130}


def test_measured_task_faster_than_its_costs() -> None:
    graph = make_task_graph([Unit("cpu", 1)], [0], lead_ns=10, compute_ns=100)
    fast = replace(engines.run(graph), end_ns=np.array([40]), source="measured")
    assert breakdown_ns(fast)["compute"] == 40
    assert parameter_shares(fast) == {"unattributed": 40}


def test_empty_graph() -> None:
    timeline = engines.run(make_task_graph([Unit("cpu", 1)], []))
    assert critical_path(timeline) == []
    assert breakdown_ns(timeline) == dict.fromkeys(CATEGORIES, 0)
