"""The tour of the sandbox, in the order of the README: read it from top to bottom."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from experiments.compare import Comparison, compare
from sim import (
    Plan,
    PlanError,
    TrainingGraph,
    build_plan,
    expect,
    load_device,
    load_model,
    run_engine,
    simulate,
    training_graph,
)
from sim.trace import write_trace

PHONE = load_device("snapdragon-865")


@pytest.fixture(scope="module")
def graph() -> TrainingGraph:
    """A model of the zoo, as one training step at batch 64."""
    return training_graph(load_model("lenet", batch=64))


@pytest.fixture(scope="module")
def plan(graph: TrainingGraph) -> Plan:
    return build_plan("mandheling", graph, PHONE)


@pytest.fixture(scope="module")
def table(graph: TrainingGraph) -> Comparison:
    return compare(graph, PHONE, worlds=8, samples=4)


def test_a_model_becomes_a_training_graph(graph: TrainingGraph) -> None:
    names = [node.name for node in graph.nodes]
    assert names.index("conv1") < names.index("loss") < names.index("conv1.weight_grad")
    assert names[-1] == "conv1.update"
    assert "conv1.input_grad" not in names  # nothing upstream of it is trained


def test_a_plan_is_data_made_for_one_graph(graph: TrainingGraph, plan: Plan) -> None:
    assert plan.aspect("precision")["conv2"] == "int8"
    assert Plan.from_json(plan.to_json()) == plan
    other = training_graph(load_model("lenet", batch=32))
    with pytest.raises(PlanError, match="make it again for this model, batch and image size"):
        expect(other, plan, PHONE)


def test_steps_are_simulated_from_a_cold_start(graph: TrainingGraph, plan: Plan) -> None:
    run = simulate(graph, plan, PHONE, steps=20, seed=1)
    cold, later = run.step_ns[0], run.step_ns[1:]
    assert cold > later.max()  # the first step builds and prepares every DSP subgraph
    assert run.sha256 == simulate(graph, plan, PHONE, steps=20, seed=1).sha256
    assert run.sha256 != simulate(graph, plan, PHONE, steps=20, seed=2).sha256


def test_two_engines_give_the_same_rows(graph: TrainingGraph, plan: Plan) -> None:
    tasks = expect(graph, plan, PHONE).graphs[0]
    assert run_engine(tasks, "simpy").sha256 == run_engine(tasks, "compiled").sha256


def test_plans_compare_by_expected_steps(table: Comparison) -> None:
    naive, whole = table.row("dsp-int8"), table.row("mandheling")
    assert whole.time_ns < naive.time_ns
    low, high = whole.time_interval_ns
    assert low <= whole.time_ns <= high
    assert sum(whole.breakdown_ns.values()) == whole.time_ns
    assert sum(whole.evidence.values()) == pytest.approx(1)


def test_a_waterfall_adds_up(table: Comparison) -> None:
    stated, reverse = table.waterfalls
    assert stated.names[:4] == reverse.names[:4][::-1]  # what is declined is offered again after
    assert stated.times_ns[0] + sum(stated.deltas_ns) == stated.times_ns[-1]
    assert stated.times_ns[0] == reverse.times_ns[0]


def test_one_choice_can_be_changed(graph: TrainingGraph, plan: Plan) -> None:
    changed = plan.replace("reuse", "step", "none")
    assert plan.diff(changed) == [("reuse", "step", "mru", "none")]
    with_reuse, without = expect(graph, plan, PHONE), expect(graph, changed, PHONE)
    assert without.breakdown_ns["prepare"] > with_reuse.breakdown_ns["prepare"]
    assert without.time_ns > with_reuse.time_ns


def test_a_wrong_choice_is_refused_with_what_is_allowed(graph: TrainingGraph, plan: Plan) -> None:
    with pytest.raises(PlanError, match=r"conv2 = 'int4' is not allowed; choose one of fp32, int8"):
        expect(graph, plan.replace("precision", "conv2", "int4"), PHONE)


def test_a_timeline_becomes_a_trace(graph: TrainingGraph, plan: Plan, tmp_path: Path) -> None:
    run = simulate(graph, plan, PHONE, steps=2)
    write_trace(tmp_path / "steps.json", run.timelines)
    events = json.loads((tmp_path / "steps.json").read_text())["traceEvents"]
    names = {event["name"] for event in events if event["ph"] == "X"}
    assert {"conv2", "conv2.weight_grad"} <= names
