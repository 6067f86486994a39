"""What changed between two plans, and what undoing a part of it says."""

from __future__ import annotations

import io
import json

import pytest
from rich.console import Console

from experiments.search.why import NONE, Change, effective_choices, explain_change, path_share
from experiments.search.why_text import print_change
from sim import Plan, TrainingGraph, build_plan, load_device, load_model, training_graph
from sim.expected import expect, expected_ns
from sim.plan import PlanError

DEVICE = load_device("snapdragon-865")


@pytest.fixture(scope="module")
def graph() -> TrainingGraph:
    return training_graph(load_model("lenet", batch=64))


@pytest.fixture(scope="module")
def offload(graph: TrainingGraph) -> Plan:
    return build_plan("dsp-int8", graph, DEVICE)


@pytest.fixture(scope="module")
def mandheling(graph: TrainingGraph) -> Plan:
    return build_plan("mandheling", graph, DEVICE)


@pytest.fixture(scope="module")
def change(graph: TrainingGraph, offload: Plan, mandheling: Plan) -> Change:
    return explain_change(graph, DEVICE, offload, mandheling)


def text(change: Change) -> str:
    stream = io.StringIO()
    print_change(Console(file=stream, width=80, color_system=None), change)
    return stream.getvalue()


def test_a_single_group_brings_the_whole_difference_either_way(
    graph: TrainingGraph, offload: Plan
) -> None:
    moves = {("placement", s): "cpu:4" for s in ("conv1", "conv2", "linear1")}
    found = explain_change(graph, DEVICE, offload, offload.update(moves, "moved"))
    (only,) = found.contributions
    assert (only.group, only.changes) == ("placement on cpu", 3)
    assert (only.undone_ns, only.alone_ns) == (found.before_ns, found.after_ns)
    assert found.brings_ns(only) == (found.saved_ns, found.saved_ns)
    assert {m.family for m in found.moved} == {"conv2d.forward", "linear.forward"}
    assert {s for m in found.moved for s in m.subjects} == {"conv1", "conv2", "linear1"}
    assert all(m.before.startswith("dsp") and m.after == "cpu:4" for m in found.moved)
    assert not found.choices


def test_undone_and_alone_are_the_steps_of_plans_with_that_group_changed(
    graph: TrainingGraph, offload: Plan, mandheling: Plan, change: Change
) -> None:
    by_group = {c.group: c for c in change.contributions}
    rules = mandheling.aspect("rescale")
    alone = offload.update({("rescale", s): rule for s, rule in rules.items()})
    undone = mandheling.update({("rescale", s): "every" for s in rules})
    assert by_group["rescale"].changes == len(rules) > 0
    assert by_group["rescale"].alone_ns == expected_ns(graph, alone, DEVICE)
    assert by_group["rescale"].undone_ns == expected_ns(graph, undone, DEVICE)
    costs = [c.undone_ns for c in change.contributions]
    assert costs == sorted(costs, reverse=True)


def test_breakdowns_and_paths_add_up_to_the_steps(change: Change) -> None:
    for ns, breakdown, path in (
        (change.before_ns, change.before_breakdown_ns, change.before_path),
        (change.after_ns, change.after_breakdown_ns, change.after_path),
    ):
        assert sum(breakdown.values()) == ns
        assert sum(path.by_unit_ns.values()) == pytest.approx(ns, abs=len(path.by_unit_ns))
        longest = [task_ns for _, task_ns in path.longest]
        assert longest == sorted(longest, reverse=True)
        assert len(longest) == 5


def test_the_path_names_units_and_joins_micro_batches(graph: TrainingGraph) -> None:
    plan = build_plan("mnn-fp32", graph, DEVICE).replace("batch_split", "conv2", "8")
    path = path_share(expect(graph, plan, DEVICE))
    assert set(path.by_unit_ns) == {"cpu"}
    assert all("#" not in name for name, _ in path.longest)


def test_operators_that_one_plan_alone_has_are_told(graph: TrainingGraph, mandheling: Plan) -> None:
    found = explain_change(graph, DEVICE, build_plan("mnn-fp32", graph, DEVICE), mandheling)
    added = [m for m in found.moved if m.before == NONE]
    assert added
    assert all(m.before_ns == 0 < m.after_ns for m in added)
    assert {m.family for m in added} >= {"transpose.forward"}
    precision = [c for c in found.choices if c.aspect == "precision"]
    assert {(c.before, c.after) for c in precision} == {("fp32", "int8")}
    assert not [c for c in found.choices if c.aspect == "grouping" and c.after == "join"]
    back = explain_change(graph, DEVICE, mandheling, build_plan("mnn-fp32", graph, DEVICE))
    assert back.saved_ns == -found.saved_ns
    assert {m.family for m in back.moved if m.after == NONE} == {m.family for m in added}


def test_only_choices_with_an_effect_count(graph: TrainingGraph, offload: Plan) -> None:
    fp32 = build_plan("mnn-fp32", graph, DEVICE)
    same = fp32.replace("rescale", "conv1", "hindsight")
    assert effective_choices(graph, same, DEVICE) == effective_choices(graph, fp32, DEVICE)
    found = explain_change(graph, DEVICE, fp32, same)
    assert (found.moved, found.choices, found.contributions) == ((), (), ())
    assert found.saved_ns == 0
    assert "make the same choices" in text(found)
    assert ("rescale", "conv1") in effective_choices(graph, offload, DEVICE)


def test_the_text_fits_80_columns_and_the_json_holds_it_all(change: Change) -> None:
    shown = text(change)
    assert max(map(len, shown.splitlines())) <= 80
    for word in ("mandheling saves", "reuse", "rescale", "every -> adaptive:4:64", "weight_grad"):
        assert word in shown
    document = json.loads(json.dumps(change.document()))
    assert document["saved_ns"] == change.saved_ns == change.before_ns - change.after_ns
    row = document["contributions"][0]
    assert row["last_saves_ns"] == row["undone_ns"] - change.after_ns
    assert row["alone_saves_ns"] == change.before_ns - row["alone_ns"]


def test_a_plan_of_another_graph_is_refused(graph: TrainingGraph, offload: Plan) -> None:
    other = Plan.make("other", "0" * 64, {})
    with pytest.raises(PlanError, match="is for graph"):
        explain_change(graph, DEVICE, offload, other)
