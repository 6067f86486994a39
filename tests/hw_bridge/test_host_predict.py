"""Predicted timelines of the host: counts of rows, sleeping, and the forms that kernels meet."""

from __future__ import annotations

import numpy as np
import pytest

from cost_models.device import load_device
from cost_models.host import HostLaws, Tiles
from experiments.host.drawn import drawn_plan
from experiments.host.networks import drawn_network
from hw_bridge.host.forms import Tracker
from hw_bridge.host.predict import beside, predicted, slept_ns
from hw_bridge.host.rows import CPU, DSP, RPC, Kind, StepRows, step_rows
from hw_bridge.host.session import measured
from hw_bridge.host.work import row_works
from kernels.operators import Role, channels_last
from kernels.quantised import QTensor
from sim.autodiff import training_graph
from sim.checks import check
from sim.graph import TrainingGraph
from sim.lowering import lowering
from sim.model import INPUT, ModelBuilder
from sim.numeric import NumericExecutor, StepInputs
from sim.numeric.calls import calls_of
from sim.policies.build import build_plan
from sim.reuse import CacheStep
from sim.taskgraph import Unit, make_task_graph
from sim.timeline import Timeline
from sim.zoo import load_model

PHONE = load_device("snapdragon-865")
LENET = training_graph(load_model("lenet", batch=4))


class Constant(HostLaws):
    """Every row takes 1 us, and waking up 10 us."""

    def ns(self, work: object) -> float:
        return 1000.0

    def wake_ns(self, slept_ns: float) -> float:
        return 10_000.0


def works_of(graph: TrainingGraph, plan_name: str) -> tuple[StepRows, list]:  # type: ignore[type-arg]
    ready = lowering(graph, build_plan(plan_name, graph, PHONE), PHONE)
    draft = ready.draft({})
    calls = calls_of(draft.items)
    rows = step_rows(
        draft, calls, ready.expected_tasks({}, CacheStep((True,) * len(ready.visits), ()))
    )
    return rows, row_works(draft, calls, rows, Tiles())


def test_every_row_has_a_process_and_counts() -> None:
    rows, works = works_of(LENET, "dsp-int8")
    assert len(works) == len(rows.rows) == len(rows.graph)
    kinds = {row.kind for row in rows.rows}
    assert {Kind.ITEM, Kind.CALL, Kind.RETURN, Kind.PREPARE, Kind.REPACK} <= kinds
    for row, unit in zip(rows.rows, rows.graph.unit.tolist(), strict=True):
        assert row.process == (CPU if row.kind is Kind.CALL or row.group < 0 else DSP)
        assert unit == (RPC if row.kind is Kind.RETURN else row.process)
    calls = [w for r, w in zip(rows.rows, works, strict=True) if r.kind is Kind.CALL]
    returns = [w for r, w in zip(rows.rows, works, strict=True) if r.kind is Kind.RETURN]
    assert sum(w.counts["bytes"] for w in calls) > 0
    assert sum(w.counts["values"] for w in returns) > 0


def test_only_what_the_other_process_reads_is_sent() -> None:
    rows, _ = works_of(LENET, "dsp-int8")
    first = next(row for row in rows.rows if row.kind is Kind.CALL)
    assert first.sends == ("input@int8",), "weights lie in shared memory from the start"


def test_predictions_are_timelines_of_the_same_rows() -> None:
    rows, works = works_of(LENET, "mandheling")
    timeline = predicted(rows, works, Constant({}))
    check(timeline)
    assert timeline.graph.names == rows.graph.names
    assert timeline.makespan_ns > 1000 * int((rows.graph.unit == DSP).sum())


def test_who_slept_wakes_up_first() -> None:
    rows, works = works_of(LENET, "dsp-int8")
    timeline = predicted(rows, works, Constant({}))
    slept = slept_ns(timeline)
    lasts = timeline.end_ns - timeline.start_ns
    process = rows.graph.unit != RPC
    assert (lasts[process & (slept > 0)] == 11_000).all()
    assert (lasts[process & (slept == 0)] == 1000).all()
    assert slept[process].any()


class Slower(Constant):
    """As above, and a row takes 1.5 times as long beside one of the other process."""


def test_rows_of_both_processes_at_once_take_longer() -> None:
    rows, works = works_of(LENET, "unblock-dsp")
    alone = predicted(rows, works, Constant({}))
    slowed = predicted(rows, works, Slower({}, slowdown=1.5))
    check(slowed)
    share = beside(slowed)
    process = slowed.graph.unit != RPC
    lasts = slowed.end_ns - slowed.start_ns - np.where(slept_ns(slowed) > 0, 10_000, 0)
    assert lasts[process & (share == 0)].max() == 1000
    assert (share > 0).any(), "this plan has work for both at once"
    assert lasts[process].max() <= 1501
    assert slowed.makespan_ns >= alone.makespan_ns


def test_share_beside_the_other_process() -> None:
    graph = make_task_graph([Unit("cpu", 1), Unit("dsp", 1), Unit("rpc", 2)], [0, 0, 1, 2])
    start, end = np.array([0, 10, 5, 0]), np.array([10, 20, 15, 30])
    timeline = Timeline(graph, start, end, np.ones(4, np.int64), source="measured")
    assert beside(timeline).tolist() == [0.5, 0.5, 1.0, 0.0]
    assert slept_ns(timeline).tolist() == [0, 0, 5, 0]


def test_measured_rows_begin_when_they_could() -> None:
    rows, _ = works_of(LENET, "dsp-int8")
    order = [[], []]  # type: ignore[var-annotated]
    ends = np.arange(1, len(rows.rows) + 1, dtype=np.int64) * 100
    for index, row in enumerate(rows.rows):
        if row.kind is not Kind.RETURN:
            order[row.process].append(index)
    timeline = measured(rows, ends + 5000, 5000, (order[0], order[1]))
    check(timeline)
    assert timeline.source == "measured"
    assert timeline.end_ns.tolist() == ends.tolist()
    for index in range(1, len(rows.rows)):
        before = rows.graph.pred[rows.graph.pred_ptr[index] : rows.graph.pred_ptr[index + 1]]
        free = [timeline.end_ns[p] for p in before.tolist()]
        row = rows.rows[index]
        if row.kind is not Kind.RETURN:
            mine = order[row.process]
            place = mine.index(index)
            free += [timeline.end_ns[mine[place - 1]]] if place else [0]
        assert timeline.start_ns[index] == max(free, default=0)


def normed() -> TrainingGraph:
    b = ModelBuilder("normed", (4, 3, 8, 8), source="this test")
    x = b.relu(b.batch_norm(b.conv(INPUT, 8, 3, pad=1)))
    y = b.batch_norm(b.conv(x, 8, 3, pad=1))
    x = b.relu(b.sum([x, y]))
    return training_graph(b.build(b.linear(b.flatten(b.max_pool(x, 2, 2)), 5)))


@pytest.mark.parametrize("seed", range(6))
def test_forms_are_those_that_kernels_meet(seed: int) -> None:
    """Compare with a real step in draft order, item by item (one process: no DSP)."""
    laptop, graph = load_device("laptop"), normed()
    plan = drawn_plan(graph, laptop, seed)
    executor = NumericExecutor(graph, plan, laptop, threads=1)
    draft = lowering(graph, plan, laptop).draft({})
    calls = executor.program(draft)
    forms = Tracker(draft).run(calls)
    images = np.random.default_rng(seed).standard_normal(
        channels_last(graph.tensor(INPUT).shape), dtype=np.float32
    )
    frame = executor.start(draft, images, np.arange(4) % 5, StepInputs(rate_q24=1))
    told = 0
    for call in calls:
        item, found = call.item, forms[call.item.name]
        narrow = {n for n in item.reads if n in frame.values and frame.handed_on(n) is not None}
        call.compute(frame)
        if item.op.kind == "quantise":
            assert found.handed_on == (item.reads[0] in narrow), item.name
        elif item.op.kind == "batch_norm" and item.role in (Role.FORWARD, Role.INPUT_GRAD):
            between = isinstance(frame.values[item.writes[0]], QTensor)
            assert found.between == between, item.name
        if item.dtype == "fp32" and not found.handed_on and not found.between:
            still = {n for n in narrow if isinstance(frame.values[n], QTensor)}
            widened = sum(frame.values[n].size for n in narrow - still)  # type: ignore[union-attr]
            assert found.widened == widened, item.name
        told += found != type(found)()
        for name in call.dead:
            frame.release(name)
    assert told or all(item.dtype == "fp32" for item in draft.items)


def test_drawn_networks_and_plans_are_the_same_for_the_same_seed() -> None:
    one, two = (training_graph(drawn_network(3, 8, 24)) for _ in range(2))
    assert one.hash() == two.hash()
    assert drawn_plan(one, PHONE, 5) == drawn_plan(two, PHONE, 5)
    assert drawn_plan(one, PHONE, 5) != drawn_plan(one, PHONE, 6)
