"""Each conservation rule holds for the engines' timelines, and fails for one mutated against it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sim import engines
from sim.checks import COST_RULES, RULES, ConservationError, Limits, check
from sim.taskgraph import StaticPower, TaskGraph, Unit, make_task_graph
from sim.testing_tasks import task_graphs
from sim.timeline import Timeline


@settings(
    max_examples=120,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
@given(task_graphs(), st.booleans(), st.sampled_from(engines.ENGINES))
def test_every_timeline_of_an_engine_passes(
    graph: TaskGraph, contention: bool, engine: str
) -> None:
    timeline = engines.run(graph, engine, contention)
    check(timeline, contention)
    # The static evaluator's rows have no masks of their own, and are the event engine's.
    order = engines.dispatch_order(timeline)
    check(engines.run(graph, engine, contention, order), contention)


def graph() -> TaskGraph:
    """a -> b on a CPU of 2 cores; c and d beside each other on a DSP; 1 byte/ns of DDR."""
    return make_task_graph(
        [Unit("cpu", 2), Unit("dsp", 2, 100)],
        [0, 0, 1, 1],
        names=["a", "b", "c", "d"],
        preds=[[], [0], [], []],
        compute_ns=[1000, 2000, 0, 0],
        ddr_bytes=[0, 0, 3000, 3000],
        vtcm_bytes=[0, 0, 50, 50],
        power_mw=7,
        release_ns=[0, 0, 10, 10],
        ddr_rate=1000,
        static_power=[StaticPower("soc", 3)],
        tensors=[(80, 0, [1])],
        resident_bytes=20,
    )


def timeline(**changes: list[int]) -> Timeline:
    # By hand: c and d share DDR from 10 on, 500 B/us each: 6000 ns.
    columns = {
        "start_ns": [0, 1000, 10, 10],
        "end_ns": [1000, 3000, 6010, 6010],
        "slot_mask": [0b01, 0b01, 0b01, 0b10],
        **changes,
    }
    return Timeline(graph(), **{name: np.array(column) for name, column in columns.items()})


def test_the_hand_made_timeline_is_the_engines() -> None:
    check(timeline(), memory_budget_bytes=100)
    assert timeline().sha256 == engines.run(graph()).sha256


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"start_ns": [0, 1000, 10]}, r"rows: start_ns is int64\[3\], not int64\[4\]"),
        ({"end_ns": [1000.0, np.nan, 6010, 6010]}, "rows: end_ns is float64"),
        ({"start_ns": [-1, 1000, 10, 10]}, r"times: task 0 \('a'\) runs from -1 to 1000"),
        ({"end_ns": [1000, 900, 6010, 6010]}, r"times: task 1 \('b'\) runs from 1000 to 900"),
        ({"start_ns": [0, 1000, 9, 10]}, r"release: task 2 \('c'\) starts at 9 ns"),
        ({"start_ns": [0, 999, 10, 10]}, r"dependencies: task 1 \('b'\) starts at 999 ns"),
        ({"slot_mask": [1, 0, 1, 2]}, r"slot_count: task 1 \('b'\) holds slot mask 0b0"),
        ({"slot_mask": [1, 3, 1, 2]}, r"slot_count: task 1 \('b'\) holds slot mask 0b11"),
        ({"slot_mask": [1, 4, 1, 2]}, r"slot_count: task 1 \('b'\) holds slot mask 0b100"),
        ({"slot_mask": [1, 1, 2, 2]}, r"slot_owner: task 3 \('d'\) takes slot 1 of unit 'dsp'"),
        ({"end_ns": [999, 3000, 6010, 6010]}, r"durations: task 0 \('a'\) took 999 ns"),
        ({"end_ns": [1000, 3000, 6009, 6009]}, r"ddr: task 3 \('d'\) ends at 6009 ns"),
    ],
)
def test_broken_rows_are_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConservationError, match=message):
        check(timeline(**changes))


def test_ddr_has_no_bound_without_contention() -> None:
    alone = timeline(end_ns=[1000, 3000, 3010, 3010])
    check(alone, contention=False)
    with pytest.raises(ConservationError, match="ddr"):
        check(alone)


def test_ddr_bound_holds_for_later_intervals() -> None:
    # c leaves at 3010 having had all of DDR; d then cannot begin at 2000 and end at 5500.
    busy = timeline(start_ns=[0, 1000, 10, 2500], end_ns=[1000, 3000, 3010, 6009])
    check(busy, contention=False)
    with pytest.raises(ConservationError, match=r"ddr: task 3 .* begun at 10 ns or later"):
        check(busy)
    late = timeline(start_ns=[0, 1000, 9000, 9000], end_ns=[1000, 3000, 14_999, 14_999])
    with pytest.raises(ConservationError, match=r"ddr: task 3 .* begun at 9000 ns or later"):
        check(late)


def test_vtcm_is_not_shared_by_more_than_fits() -> None:
    crowded = timeline()
    crowded = replace(crowded, graph=replace(graph(), vtcm_bytes=np.array([0, 0, 50, 51])))
    with pytest.raises(ConservationError, match=r"vtcm: task 3 \('d'\) brings .* to 101 bytes"):
        check(crowded)


def test_tensor_is_not_used_before_it_is_made() -> None:
    forgotten = timeline(start_ns=[0, 900, 10, 10], end_ns=[1000, 2900, 6010, 6010])
    bare = replace(graph(), pred=np.array([], np.int64), pred_ptr=np.zeros(5, np.int64))
    with pytest.raises(ConservationError, match=r"tensors: task 1 \('b'\) uses tensor 0 from 900"):
        check(replace(forgotten, graph=bare))


def test_makespan_is_not_below_the_critical_path() -> None:
    limits = Limits()
    assert RULES["critical_path"](timeline(), limits) is None
    early = timeline(end_ns=[1000, 2000, 2999, 2999])  # a -> b takes 3000, c from 10 on 3010
    assert "path to task 2 ('c') takes 3010 ns" in str(RULES["critical_path"](early, limits))


def test_makespan_is_not_below_the_work_of_a_unit() -> None:
    one = make_task_graph([Unit("cpu", 2)], [0, 0, 0], compute_ns=10, slots=[1, 1, 2])
    rows = engines.run(one)
    assert RULES["unit_work"](rows, Limits()) is None
    early = replace(rows, end_ns=np.array([10, 10, 19]))
    assert "unit 'cpu' with 2 slots has 40 slot-ns" in str(RULES["unit_work"](early, Limits()))


def test_zero_makespan_is_refused_even_when_measured() -> None:
    nothing = timeline(start_ns=[0] * 4, end_ns=[0] * 4)
    with pytest.raises(ConservationError, match="makespan is 0 ns although task 2"):
        check(replace(nothing, source="measured"))


def test_energy_is_the_sum_of_its_parts() -> None:
    # 7 mW for 2^62 ns leaves int64: the total is wrong, the parts are not.
    endless = timeline(end_ns=[1000, 3000, 1 << 62, 6010])
    with pytest.raises(ConservationError, match="energy: total is"):
        check(endless)


def test_memory_budget() -> None:
    with pytest.raises(ConservationError, match="memory: peak is 100 bytes; the budget is 99"):
        check(timeline(), memory_budget_bytes=99)


def test_measured_rows_need_not_obey_predicted_costs() -> None:
    faster = timeline(start_ns=[0, 500, 0, 0], end_ns=[500, 900, 700, 700])
    for source in ("simulated", "derived", "mixed"):  # an engine laid them out
        with pytest.raises(ConservationError, match="release"):
            check(replace(faster, source=source))
    check(replace(faster, source="measured"))
    assert set(RULES) > COST_RULES
