"""Memory over a step: hand-made lifetimes, and a slow oracle over drawn graphs."""

from __future__ import annotations

import numpy as np
from hypothesis import HealthCheck, given, settings

from sim import engines
from sim.memory import memory_profile, peak_bytes
from sim.taskgraph import TaskGraph, Unit, make_task_graph
from sim.testing_tasks import task_graphs
from sim.timeline import Timeline

CHAIN = {"preds": [[], [0], [1]], "compute_ns": 10}


def chain(tensors: list[tuple[int, int, list[int]]], resident: int = 0) -> Timeline:
    graph = make_task_graph(
        [Unit("cpu", 1)], [0] * 3, tensors=tensors, resident_bytes=resident, **CHAIN
    )
    return engines.run(graph)


def test_profile_of_a_chain() -> None:
    # x (-1 -> 0) is freed at 10, y (0 -> 1) lives 0..20, z (1 -> 2) 10..30, out (2) stays.
    line = chain([(1, -1, [0]), (10, 0, [1]), (100, 1, [2]), (1000, 2, [])], resident=5000)
    times, used = memory_profile(line)
    # At an instant allocations come first: 10: +100, then -1; 20: +1000, then -10; 30: -100.
    assert times.tolist() == [0, 10, 10, 20, 20, 30]
    assert used.tolist() == [5011, 5111, 5110, 6110, 6100, 6000]
    assert peak_bytes(line) == 6110


def test_freed_after_the_last_of_several_users() -> None:
    assert memory_profile(chain([(7, 0, [1, 2])]))[0].tolist() == [0, 30]


def test_only_resident() -> None:
    assert peak_bytes(chain([], resident=42)) == 42
    assert peak_bytes(engines.run(make_task_graph([Unit("cpu", 1)], [], resident_bytes=3))) == 3


def slow_usage(timeline: Timeline, instant: int, after_frees: bool) -> int:
    graph = timeline.graph
    used = graph.resident_bytes
    for tensor, size in enumerate(graph.tensor_bytes.tolist()):
        producer = int(graph.tensor_producer[tensor])
        born = 0 if producer < 0 else int(timeline.start_ns[producer])
        low, high = graph.tensor_user_ptr[tensor : tensor + 2]
        ends = [int(timeline.end_ns[user]) for user in graph.tensor_users[low:high]]
        dead = bool(ends) and (max(ends) < instant or (after_frees and max(ends) == instant))
        used += size if born <= instant and not dead else 0
    return used


@settings(
    max_examples=100,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
@given(task_graphs(12))
def test_profile_equals_slow_usage(graph: TaskGraph) -> None:
    timeline = engines.run(graph)
    times, used = memory_profile(timeline)
    assert times[0] == 0
    assert bool((np.diff(times) >= 0).all())
    instants = sorted({0, *timeline.start_ns.tolist(), *timeline.end_ns.tolist()})
    assert peak_bytes(timeline) == max(slow_usage(timeline, at, False) for at in instants)
    for at in instants:
        last = int(np.searchsorted(times, at, side="right")) - 1
        assert used[last] == slow_usage(timeline, at, True)
