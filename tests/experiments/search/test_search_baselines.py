"""Baselines: all built-in plans are measured, and who is no rival says why."""

from __future__ import annotations

from dataclasses import replace

import pytest

from experiments.search.baselines import ALIKE, baselines, comparison_note, rivals_of
from experiments.search.ground import TUNED
from experiments.search.problem import Problem
from sim import build_plan
from sim.encoding import HELD
from sim.expected import expect
from sim.policies.build import plan_names

LENET = Problem("lenet", batch=8, objectives=("energy", "time"))


def test_every_built_in_plan_is_measured_be_it_in_the_space_or_not() -> None:
    ground = LENET.ground()
    found = {one.plan.name: one for one in baselines(ground)}
    assert set(found) - {"mandheling" + TUNED} == set(plan_names(ground.device))
    reason = r"outside of the space: plan 'tflite-fp32' has library.step = 'tflite'"
    assert found["tflite-fp32"].left_out.startswith(reason)
    assert [n for n, one in found.items() if one.left_out] == ["tflite-fp32"]
    known = {s.name: tuple(v) for s, v in zip(ground.starts, ground.values, strict=True)}
    for name in plan_names(ground.device):
        plan = build_plan(name, ground.graph, ground.device)
        assert found[name].values[0] == expect(ground.graph, plan, ground.device).time_ns
        assert found[name].values == known.get(name, found[name].values)


def test_plans_that_held_aspects_or_limits_exclude_say_which() -> None:
    ground = replace(LENET, held=(*HELD, "precision"), limits={"risk": 0}).ground()
    found = {one.plan.name: one.left_out for one in baselines(ground)}
    assert "has precision." in found["mnn-fp32"]
    assert found["latency"].startswith("beyond the limits: risk_ppm ")
    assert found["latency"].endswith(" > 0")
    assert found["mnn-int8"] == ""
    rivals = rivals_of(baselines(ground), "energy")
    energies = [one.values[1] for one in rivals]
    assert energies == sorted(energies)
    assert not {one.plan.name for one in rivals} & {"mnn-fp32", "latency", "tflite-fp32"}


@pytest.mark.parametrize("first", ["time", "energy"])
def test_one_baseline_differs_from_mandheling_in_clocks_and_rules_alone(first: str) -> None:
    ground = replace(LENET, objectives=(first,)).ground()
    found = {one.plan.name: one for one in baselines(ground)}
    plain, tuned = found["mandheling"], found["mandheling" + TUNED]
    before, after = (ground.space.encode(one.plan) for one in (plain, tuned))
    genes = zip(ground.space.genes, before != after, strict=True)
    assert {g.aspect for g, differs in genes if differs} <= {"operating_point", "rescale"}
    column = ("time", "energy").index(first)
    assert tuned.values[column] < plain.values[column]
    assert not tuned.left_out
    row = next(s.row for s in ground.starts if s.name == tuned.plan.name)
    assert ground.measurer(row[None], "expected", memory=True).tolist() == [list(tuned.values)]


def test_where_neither_clocks_nor_rules_are_searched_nothing_is_unlike() -> None:
    ground = replace(LENET, held=(*HELD, "operating_point", "rescale")).ground()
    found = baselines(ground)
    assert "mandheling" + TUNED not in {one.plan.name for one in found}
    assert comparison_note(ground, found) == ""
    free = LENET.ground()
    assert comparison_note(free, baselines(free)).startswith(ALIKE)
