"""The contract of ``sim.taskgraph``, rule by rule, on cases worked out by hand.

``both`` runs both engines, so each expectation is put on each of them.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence

import numpy as np
import pytest
from numba import njit, prange

from sim import engines
from sim.engines.static import StaticEvaluator, StaticTables, static_makespan, static_tables
from sim.taskgraph import TaskGraph, Unit, make_task_graph
from sim.timeline import Timeline

CPU2 = [Unit("cpu", 2)]


def both(
    graph: TaskGraph, contention: bool = True, order: Sequence[int] | None = None
) -> list[list[int]]:
    """Start, end and slot mask, the same from both engines."""
    rows = [
        [column.tolist() for column in (line.start_ns, line.end_ns, line.slot_mask)]
        for line in (engines.run(graph, name, contention, order) for name in engines.ENGINES)
    ]
    assert rows[0] == rows[1]
    return rows[0]


def test_two_streams_share_equally() -> None:
    # 1000 B/us: 500 each. The small one ends at 1000 B / 500 = 2 us, when the other has
    # moved 1000 of 3000; its last 2000 B go at 1000 B/us: 2 us more.
    graph = make_task_graph(CPU2, [0, 0], ddr_bytes=[3000, 1000], ddr_rate=1000)
    assert both(graph)[1] == [4000, 2000]
    assert both(graph, contention=False)[1] == [3000, 1000]


def test_what_a_capped_stream_leaves_goes_to_the_other() -> None:
    # Caps 100 and 1000 of 1000: rates 100 and 900. At 1 us the first is through (100 B),
    # the second has moved 900 of 1800 and has 1000 B/us to itself: 0.9 us more.
    graph = make_task_graph(
        CPU2, [0, 0], ddr_bytes=[100, 1800], rate_cap=[100, 1000], ddr_rate=1000
    )
    assert both(graph)[1] == [1000, 1900]


def test_integer_shares_and_rounding() -> None:
    # 7 B/us for two: 7 // 2 = 3, then min(7, 4 // 1) = 4. The second ends at ceil(10000 / 4) =
    # 2500; the first has moved 3 * 2500 // 1000 = 7 (of 7.5), its last 3 take ceil(3000 / 7) = 429.
    graph = make_task_graph(CPU2, [0, 0], ddr_bytes=10, ddr_rate=7)
    assert both(graph)[1] == [2929, 2500]


def test_three_streams_arrive_and_leave() -> None:
    # 900 B/us. 0: A alone (900). 1000: B comes: A has 900 of 2700 moved; 450 each. 2000: C comes:
    # A 1350 left, B 450 of 900 left; 300 each. B and C (450 B) end at 2000 + 1500 = 3500;
    # A has 1350 - 450 = 900 left, alone: 1000 more.
    graph = make_task_graph(
        [Unit("cpu", 3)],
        [0, 0, 0],
        ddr_bytes=[2700, 900, 450],
        lead_ns=[0, 1000, 2000],
        ddr_rate=900,
    )
    assert both(graph)[1] == [4500, 3500, 3500]


def test_stream_whose_rate_stays_keeps_its_end() -> None:
    # The first goes at its cap of 3 whoever comes: ceil(10000 / 3) = 3334. Re-timed at 500
    # it would have moved 1 (of 1.5) and end at 500 + 3000 = 3500.
    graph = make_task_graph(
        CPU2, [0, 0], ddr_bytes=10, lead_ns=[0, 500], rate_cap=[3, 5], ddr_rate=1000
    )
    assert both(graph)[1] == [3334, 2500]


def test_shares_are_settled_once_per_instant() -> None:
    # At 2000 the first stream ends and its successor's begins (no lead): the other sees two
    # streams before and after, its rate never changes: 2000 B at 500 B/us.
    graph = make_task_graph(
        CPU2, [0, 0, 0], preds=[[], [], [0]], ddr_bytes=[1000, 2000, 1000], ddr_rate=1000
    )
    assert both(graph)[1] == [2000, 4000, 4000]


@pytest.mark.parametrize(("compute_ns", "end_ns"), [(5000, 5010), (400, 1010)])
def test_lead_then_compute_beside_transfer(compute_ns: int, end_ns: int) -> None:
    # Transfer: 10 to 1010.
    graph = make_task_graph(
        CPU2, [0], lead_ns=10, compute_ns=compute_ns, ddr_bytes=1000, ddr_rate=1000
    )
    assert both(graph)[1] == [end_ns]


def test_priority_then_id_and_lowest_slots() -> None:
    # Order 2, 0, 1, 3: task 2 takes slots 0 and 1, task 0 slot 2; at 5 task 2 gives 0 and 1 back.
    graph = make_task_graph(
        [Unit("dsp", 3)], [0] * 4, slots=[1, 1, 2, 1], compute_ns=[9, 4, 5, 4], priority=[1, 1, 0,
        1]
    )  # fmt: skip
    assert both(graph) == [[0, 5, 0, 5], [9, 9, 5, 9], [0b100, 0b001, 0b011, 0b010]]


def test_task_that_does_not_fit_holds_back_those_behind() -> None:
    # Task 0 runs; 1 needs both slots and waits for it; 2 would fit beside 0 but waits behind 1.
    graph = make_task_graph(CPU2, [0] * 3, slots=[1, 2, 1], compute_ns=10)
    assert both(graph)[0] == [0, 10, 20]


def test_vtcm_holds_back() -> None:
    graph = make_task_graph([Unit("dsp", 4, 100)], [0] * 3, vtcm_bytes=[60, 60, 40], compute_ns=10)
    assert both(graph)[0] == [0, 10, 10]


def test_release_makes_ready_no_sooner() -> None:
    # Task 0 would go first by priority, but is ready only at 7, in the midst of task 1.
    graph = make_task_graph(
        [Unit("cpu", 1)], [0] * 3, compute_ns=5, priority=[0, 1, 2], release_ns=[7, 3, 0]
    )
    assert both(graph)[0] == [10, 5, 0]


def test_tasks_of_no_duration_run_within_an_instant() -> None:
    # 0 -> 1 -> 2 across units in no time; 3 and 4 queue behind 2 on one slot, still at 0.
    graph = make_task_graph(
        [Unit("cpu", 1), Unit("rpc", 1)],
        [0, 1, 0, 0, 0],
        preds=[[], [0], [1], [2], [2]],
        compute_ns=[0, 0, 0, 6, 1],
    )
    assert both(graph)[:2] == [[0, 0, 0, 0, 6], [0, 0, 0, 6, 7]]


def test_ready_within_an_instant_comes_before_less_urgent() -> None:
    # At 0 task 0 (no time) makes task 1 ready, but task 2 is dispatched in the first round.
    graph = make_task_graph(
        [Unit("cpu", 1), Unit("rpc", 1)],
        [1, 0, 0],
        preds=[[], [0], []],
        compute_ns=[0, 5, 5],
        priority=[0, 0, 9],
    )
    assert both(graph)[0] == [0, 5, 0]


def test_strict_order_waits_for_the_next_one() -> None:
    # Task 2 is ready at 0, but the order has 1 before it, which waits for 0 on the other unit.
    graph = make_task_graph(
        [Unit("cpu", 1), Unit("dsp", 1)], [1, 0, 0], preds=[[], [0], []], compute_ns=[10, 2, 3]
    )
    assert both(graph)[0] == [0, 10, 0]
    assert both(graph, order=[0, 1, 2])[0] == [0, 10, 12]


def test_dead_lock_is_named() -> None:
    graph = make_task_graph([Unit("cpu", 1)], [0, 0], preds=[[], [0]], names=["first", "second"])
    for engine in engines.ENGINES:
        with pytest.raises(engines.EngineError, match=r"dead-locks: task 0 \('first'\)"):
            engines.run(graph, engine, order=[1, 0])
    with pytest.raises(engines.EngineError, match="'second' at position 0"):
        engines.static_times(graph, [1, 0])


@pytest.mark.parametrize("order", [[0], [0, 0], [0, 2], [0.0, 1.0], [-1, 0]])
def test_what_is_no_permutation_is_refused(order: list[int]) -> None:
    graph = make_task_graph([Unit("cpu", 1)], [0, 0])
    for engine in engines.ENGINES:
        with pytest.raises(engines.EngineError, match="Give each task id once"):
            engines.run(graph, engine, order=order)
    with pytest.raises(engines.EngineError, match="Give each task id once"):
        engines.static_times(graph, order)


def test_unknown_engine_is_refused() -> None:
    with pytest.raises(engines.EngineError, match="'magic'; allowed: compiled, simpy"):
        engines.run(make_task_graph(CPU2, []), "magic")


def test_engines_are_imported_when_used() -> None:
    code = "import sys, sim.engines; assert not {'numba', 'simpy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_dispatch_order_of_tasks_that_start_together() -> None:
    # 1 takes no time and both slots; it is more urgent than 0 and holds it back behind 2, so that
    # both start at 9. Sorted by (start, id) 0 would come before 1, and start at 0 in a strict run.
    graph = make_task_graph(
        CPU2, [0] * 3, slots=[1, 2, 1], compute_ns=[4, 0, 9], priority=[2, 1, 0]
    )
    timeline = engines.run(graph)
    assert timeline.start_ns.tolist() == [9, 9, 0]
    order = engines.dispatch_order(timeline)
    assert order.tolist() == [2, 1, 0]
    assert both(graph, order=order)[0] == [9, 9, 0]
    assert both(graph, order=[2, 0, 1])[0] == [0, 9, 0]


def test_dispatch_order_of_a_measured_timeline() -> None:
    # By start; at 4 the task of no duration first, then by priority.
    graph = make_task_graph([Unit("cpu", 4)], [0] * 4, priority=[2, 1, 0, 0])
    start, end = np.array([4, 4, 4, 0]), np.array([9, 9, 4, 4])
    timeline = Timeline(graph, start, end, np.array([1, 2, 4, 8]), source="measured")
    assert engines.dispatch_order(timeline).tolist() == [3, 2, 1, 0]


def test_static_evaluator_can_be_used_again() -> None:
    graph = make_task_graph([Unit("cpu", 1)], [0, 0], compute_ns=[5, 7], release_ns=[0, 100])
    evaluator = StaticEvaluator(graph)
    assert [evaluator.makespan(order) for order in ([0, 1], [1, 0], [0, 1])] == [107, 112, 107]
    assert [rows.tolist() for rows in evaluator.times([1, 0])] == [[107, 100], [112, 107]]
    with pytest.raises(engines.EngineError):
        evaluator.makespan([0, 0])
    assert evaluator.makespan([0, 1]) == 107


def test_static_evaluator_vtcm_waits_for_the_right_task() -> None:
    # 50 and 30 of 100 are in use until 20 and 10; 60 fit once the 50 have gone, 30 beside them.
    graph = make_task_graph(
        [Unit("dsp", 4, 100)],
        [0] * 4,
        vtcm_bytes=[50, 30, 60, 30],
        compute_ns=[20, 10, 5, 5],
    )
    assert engines.static_times(graph, [0, 1, 2, 3])[0].tolist() == [0, 0, 20, 20]
    assert both(graph, contention=False, order=[0, 1, 2, 3])[0] == [0, 0, 20, 20]


@njit(parallel=True)
def _many(orders, task, pred, unit, slot, row):  # type: ignore[no-untyped-def]
    makespans = np.empty(len(orders), np.int64)
    for i in prange(len(orders)):
        tables = StaticTables(task, pred, unit[i], slot[i], row[i])
        makespans[i] = static_makespan(orders[i], tables)
    return makespans


def test_static_makespan_within_prange() -> None:
    graph = make_task_graph(CPU2, [0] * 6, compute_ns=[9, 8, 7, 6, 5, 4], slots=[1, 2, 1, 1, 2, 1])
    rng = np.random.default_rng(3)
    orders = np.array([rng.permutation(6) for _ in range(32)])
    tables = static_tables(graph)
    scratch = [np.stack([rows] * len(orders)) for rows in (tables.unit, tables.slot, tables.row)]
    evaluator = StaticEvaluator(graph)
    expected = [evaluator.makespan(order) for order in orders]
    assert _many(orders, tables.task, tables.pred, *scratch).tolist() == expected
    assert len(set(expected)) > 3
