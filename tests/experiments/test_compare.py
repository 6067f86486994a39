"""The comparison's rows and waterfalls add up, exactly where they are integers."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from cost_models.device import load_device
from experiments import cli
from experiments.compare import (
    Comparison,
    Waterfall,
    compare,
    geometric_mean,
    plan_list,
    ratios,
    waterfall,
)
from experiments.demo import WORLDS
from sim.autodiff import training_graph
from sim.expected import expect, expected_ns
from sim.lowering import cost_model
from sim.plan import PlanError
from sim.policies.build import build_plan
from sim.policies.recipes import RECIPES, TECHNIQUES
from sim.uncertainty import Shared, interval, resampled
from sim.zoo import load_model

CapSys = pytest.CaptureFixture[str]
PHONE = load_device("snapdragon-865")
GRAPH = training_graph(load_model("lenet", batch=8))


@pytest.fixture(scope="module")
def comparison() -> Comparison:
    mine = build_plan("latency", GRAPH, PHONE).update({}, name="mine")
    return compare(GRAPH, PHONE, worlds=6, samples=2, extra=[mine])


def test_all_plans_are_there_in_order(comparison: Comparison) -> None:
    assert tuple(row.name for row in comparison.rows) == (*plan_list(), "mine")
    assert comparison.missing == {}
    assert (comparison.model, comparison.device, comparison.batch) == ("lenet", PHONE.name, 8)
    assert comparison.row("mandheling").name == "mandheling"
    with pytest.raises(KeyError):
        comparison.row("nothing")


def test_breakdowns_add_up_to_the_time(comparison: Comparison) -> None:
    for row in comparison.rows:
        assert sum(row.breakdown_ns.values()) == row.time_ns
        assert sum(row.evidence.values()) == pytest.approx(1)


def test_rows_are_the_expectations_of_their_plans(comparison: Comparison) -> None:
    for row in comparison.rows:
        assert row.time_ns == expected_ns(GRAPH, row.plan, PHONE)
        low, high = row.time_interval_ns
        assert 0 < low < high
        assert row.first_step_ns > 0
        assert 0 < row.p50_ns <= row.p95_ns
        assert not row.over_budget


def test_the_reference_is_compared_with_itself(comparison: Comparison) -> None:
    base = comparison.row("mnn-fp32")
    assert (base.speedup, base.speedup_interval, base.energy_ratio) == (1.0, (1.0, 1.0), 1.0)
    for row in comparison.rows:
        assert row.speedup == base.time_ns / row.time_ns
        assert row.energy_ratio == base.energy_pj / row.energy_pj


def test_first_steps_are_cold(comparison: Comparison) -> None:
    row = comparison.row("mandheling")
    assert row.first_step_ns > row.p50_ns


def test_adoptions_are_counted_by_technique(comparison: Comparison) -> None:
    assert comparison.row("mnn-fp32").adoptions == ()
    for technique in TECHNIQUES:
        row = comparison.row(f"dsp-int8+{technique}")
        assert [adoption.technique for adoption in row.adoptions] == [technique]
        adoption = row.adoptions[0]
        wanted = adoption.proposed_ns if adoption.adopted else adoption.before_ns
        assert row.time_ns == wanted <= adoption.before_ns
    adoptions = comparison.row("mandheling").adoptions
    again = [a.technique for a in adoptions[:3] if not a.adopted]  # the last has just been offered
    assert [a.technique for a in adoptions] == [*TECHNIQUES, *again]


def test_waterfalls_telescope_in_both_orders(comparison: Comparison) -> None:
    forward, backward = comparison.waterfalls
    naive = comparison.row("dsp-int8").time_ns
    for fall in (forward, backward):
        assert fall.times_ns[0] == naive
        assert len(fall.deltas_ns) == len(fall.names) == len(fall.times_ns) - 1
        assert sum(fall.deltas_ns) == fall.times_ns[-1] - fall.times_ns[0]
        assert max(fall.deltas_ns) <= 0
    assert list(forward.names[:4]) == list(TECHNIQUES)
    assert list(backward.names[:4]) == list(TECHNIQUES)[::-1]
    assert forward.times_ns[-1] == comparison.row("mandheling").time_ns


def test_declined_techniques_change_nothing() -> None:
    plan = build_plan("mnn-fp32", GRAPH, PHONE)
    fall = waterfall(plan, GRAPH, PHONE, ("rescale", "reuse"))
    assert set(fall.deltas_ns) == {0}
    assert set(fall.times_ns) == {expected_ns(GRAPH, plan, PHONE)}


def test_deltas_by_hand() -> None:
    assert Waterfall(("a", "b"), (100, 70, 75)).deltas_ns == (-30, 5)


def test_devices_without_the_unit_say_so() -> None:
    found = compare(GRAPH, load_device("laptop"), worlds=2, samples=1)
    assert [row.name for row in found.rows] == ["tflite-fp32", "mnn-fp32", "mnn-int8"]
    assert found.missing["mandheling"] == "laptop has no dsp"
    assert found.missing["mnn-fp32-gpu"] == "laptop has no gpu"
    assert found.waterfalls == ()


def test_some_plans_and_another_reference() -> None:
    found = compare(
        GRAPH,
        PHONE,
        names=["mnn-int8"],
        reference="tflite-fp32",
        with_waterfalls=False,
        worlds=2,
        samples=1,
    )
    assert [row.name for row in found.rows] == ["mnn-int8", "tflite-fp32"]
    assert found.row("tflite-fp32").speedup == 1.0
    assert found.waterfalls == ()


def test_an_extra_plan_has_a_name_of_its_own() -> None:
    with pytest.raises(PlanError, match="extra plan 'mnn-int8' has the name of another"):
        compare(GRAPH, PHONE, names=["mnn-fp32"], extra=[build_plan("mnn-int8", GRAPH, PHONE)])


def test_geometric_mean() -> None:
    assert geometric_mean([2.0, 8.0]) == pytest.approx(4.0)
    assert geometric_mean([5.0]) == pytest.approx(5.0)


def test_two_halves_of_the_worlds_print_one_interval() -> None:
    """As printed, to one decimal, the ends of a gain's interval move by a unit at most."""
    graph = training_graph(load_model("vgg11", batch=64))
    quantities, shared = cost_model(PHONE, "mnn").quantities(), Shared.of(PHONE)
    base, ours = (
        resampled(expect(graph, plan, PHONE), quantities, shared, WORLDS).times_ns
        for plan in (build_plan(name, graph, PHONE) for name in ("mnn-fp32", "mandheling"))
    )
    gains = ratios(base, ours)
    first, second = (interval(gains[: WORLDS // 2]), interval(gains[WORLDS // 2 :]))
    assert first == pytest.approx(second, abs=0.1)


BROKEN = """
from sim.policies import PlacementPolicy, Recipe
class Raises(PlacementPolicy):
    name = "raises"
    def decide(self, draft, situation):
        raise RuntimeError("out of ideas")
MINE = Recipe("raising", "", (Raises(),))
"""


def test_a_plan_that_fails_costs_no_other(installed: Callable[..., Path]) -> None:
    installed("broken", "compare_broken", BROKEN, RECIPES.group, raising="MINE")
    installed("absent", "compare_absent", "import nowhere", RECIPES.group, lacking="MINE")
    names = ["raising", "lacking", "dsp-int8"]
    found = compare(GRAPH, PHONE, names=names, worlds=2, samples=1, with_waterfalls=False)
    assert {row.name for row in found.rows} == {"dsp-int8", "mnn-fp32"}
    assert (
        "policy 'raises' (placement) raised RuntimeError: out of ideas" in found.failed["raising"]
    )
    assert "plan 'lacking' of absent 1.5 cannot be imported" in found.failed["lacking"]
    with pytest.raises(PlanError, match=r"reference 'raising': .* out of ideas"):
        compare(GRAPH, PHONE, names=["dsp-int8"], reference="raising", worlds=2, samples=1)


def test_the_command_tells_which_plan_failed(
    installed: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, capsys: CapSys
) -> None:
    installed("broken", "compare_broken", BROKEN, RECIPES.group, raising="MINE")
    words = "compare -m lenet -b 4 -d snapdragon-865 -p raising -p mnn-int8 --json"
    monkeypatch.setattr(sys, "argv", ["mandheling", *words.split()])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 1
    told = capsys.readouterr()
    document = json.loads(told.out)
    assert {row["name"] for row in document["rows"]} == {"mnn-fp32", "mnn-int8"}
    assert "out of ideas" in document["failed"]["raising"]
    assert told.err.startswith("error: plan 'raising' failed, the others are compared: plan 'rais")
