"""Baselines: all built-in plans are measured, and who is no rival says why."""

from __future__ import annotations

import sys
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import pytest

from experiments.search.baselines import ALIKE, baselines, comparison_note, rivals_of
from experiments.search.ground import TUNED, Ground
from experiments.search.objectives import SearchError
from experiments.search.problem import Problem
from experiments.search.provenance import versions_of
from experiments.search.result import command_of
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


RECIPE = """
from sim.policies import Recipe
MINE = Recipe("theirs", "the CPU alone, split", ("int8", "all-cpu", "vtcm-rule"))
OTHER = Recipe("elsewhere", "another library", ("all-cpu",), {"library": "tflite"})
"""


@pytest.fixture
def theirs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "their_plans.py").write_text(RECIPE)
    info = tmp_path / "their_plans-1.5.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: their-plans\nVersion: 1.5\n")
    (info / "entry_points.txt").write_text(
        "[mandheling.plans]\ntheirs = their_plans:MINE\nelsewhere = their_plans:OTHER\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "their_plans", raising=False)


@pytest.mark.usefixtures("theirs")
def test_an_installed_plan_joins_only_where_it_is_asked_for() -> None:
    ground = Ground.of(LENET.space(), LENET.objectives, {})
    assert "theirs" not in {start.name for start in ground.starts}
    assert "theirs" not in {one.plan.name for one in baselines(ground)}
    assert "their-plans" not in versions_of(LENET)
    asked = replace(LENET, starts=("theirs",))
    assert Problem.from_json(asked.to_json()) == asked
    assert asked.sha256 != LENET.sha256
    assert "theirs" in {start.name for start in asked.ground().starts}
    found = {one.plan.name: one for one in baselines(asked.ground(), asked.starts)}
    assert not found["theirs"].left_out
    assert versions_of(asked)["their-plans"] == "1.5"
    assert "--start theirs" in command_of(asked, "1-shards")


@pytest.mark.usefixtures("theirs")
def test_starts_that_cannot_be() -> None:
    for name, message in (
        ("thiers", "start 'thiers' is unknown; plans of plug-ins are elsewhere, theirs"),
        ("mandheling", "start 'mandheling' is built in, and all built-in plans are starts; leave"),
    ):
        with pytest.raises(SearchError, match=message):
            replace(LENET, starts=(name,))
    with pytest.raises(SearchError, match=r"starts: plan 'elsewhere' has library.step = 'tflite'"):
        replace(LENET, starts=("elsewhere",)).ground()


def test_what_a_searcher_computes_with_is_kept_with_results() -> None:
    assert "pymoo" not in versions_of(LENET)
    assert versions_of(replace(LENET, searcher="nsga2"))["pymoo"] == version("pymoo")
