"""Plug-ins of other distributions: found like our own, and refused one by one."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest

from cost_models.device import load_device
from sim.autodiff import training_graph
from sim.encoding import Space
from sim.encoding.space import PALETTES
from sim.expected import expect, scan_share
from sim.plan import PlanError
from sim.plugins import HERE, OWN, PluginError, Plugins
from sim.policies import POLICIES, RECIPES, PolicyError, Recipe, build_plan, decide, plan_names
from sim.policies.numeric import OneRule
from sim.policies.rule_conformance import RuleConformanceError, check_rule
from sim.rescaling import RULES, Adaptive, parse_rule, rule_patterns
from sim.run import simulate
from sim.zoo import load_model

Install = Callable[..., Path]
ROOT = Path(__file__).parents[2]
GRAPH = training_graph(load_model("lenet", batch=4))
PHONE = load_device("snapdragon-865")
GROUPS: tuple[Plugins[Any], ...] = (RECIPES, POLICIES, RULES)

PLAN = """
from sim.policies import Recipe
MINE = Recipe("{name}", "the CPU alone", ("int8", "all-cpu"))
"""
RULE = """
from dataclasses import dataclass
from sim.rescaling import RescaleRule, RescaleState, UNKNOWN

@dataclass(frozen=True)
class Rule(RescaleRule):
    n: int
    def mode(self, state):
        return "dynamic" if state.used == UNKNOWN or state.since + 1 >= self.n else "fused"
    def next(self, state, true_shift):
        {body}
"""
SOUND = """if self.mode(state) != "dynamic":
            return state._replace(since=state.since + 1)
        return RescaleState(min(31, true_shift + 1))"""


def test_what_is_installed_is_what_pyproject_lists() -> None:
    """If this fails, install again: ``pip install --no-deps --no-build-isolation -e .``."""
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]
    assert {known.group for known in GROUPS} <= set(listed)
    for group, entries in listed.items():
        found = {
            e.name: e.value for e in entry_points(group=group) if e.dist and e.dist.name == OWN
        }
        assert found == entries


@pytest.mark.parametrize("known", GROUPS, ids=lambda known: known.noun)
def test_all_of_ours_can_be_used(known: Plugins[Any]) -> None:
    assert known.problems() == {}
    assert set(known.usable()) == set(known)
    assert all(known.origin(name).startswith(OWN) for name in known.built_in())
    assert "nothing" not in known
    with pytest.raises(KeyError):
        known["nothing"]
    with pytest.raises(KeyError):
        known.origin("nothing")


def test_a_plan_of_another_distribution_is_one_of_the_named_ones(installed: Install) -> None:
    text = PLAN.format(name="theirs")
    installed("their-plans", "their_plans", text, RECIPES.group, theirs="MINE")
    assert RECIPES.origin("theirs") == "their-plans 1.5"
    assert "theirs" in plan_names(PHONE)
    plan = build_plan("theirs", GRAPH, PHONE)
    assert plan.name == "theirs"
    assert plan.choices == decide("x", GRAPH, PHONE, ["int8", "all-cpu"]).choices
    assert set(plan.aspect("precision").values()) == {"int8"}
    assert "theirs" not in RECIPES.built_in()


def test_a_plan_leaves_with_its_distribution() -> None:
    assert "theirs" not in plan_names()
    with pytest.raises(PlanError, match="plan 'theirs' is unknown"):
        build_plan("theirs", GRAPH, PHONE)


@pytest.mark.parametrize(
    ("module", "text", "message"),
    [
        ("lacking", "import nowhere_to_be_found", "ModuleNotFoundError: No module named 'nowhere"),
        ("leaving", "raise SystemExit(3)", "SystemExit: 3"),
        ("empty_one", "", "AttributeError: module 'empty_one' has no attribute 'MINE'"),
        ("numeric_one", "MINE = 7", "TypeError: 7 is no Recipe; make one of sim.policies.Recipe"),
        (
            "unsummed",
            PLAN.format(name="broken").replace('"the CPU alone", ', ""),
            "RecipeError: recipe 'broken': summary is ('int8', 'all-cpu'); give a text",
        ),
        ("misnamed", PLAN.format(name="other"), "the recipe calls itself 'other'; give both one"),
    ],
)
def test_a_broken_plug_in_is_told_and_costs_no_other(
    installed: Install, module: str, text: str, message: str
) -> None:
    installed("broken-plans", module, text, RECIPES.group, broken="MINE")
    assert "broken" in RECIPES
    with pytest.raises(PluginError, match=r"plan 'broken' of broken-plans 1\.5") as found:
        build_plan("broken", GRAPH, PHONE)
    assert message in str(found.value)
    assert RECIPES.problems() == {"broken": str(found.value)}
    assert set(plan_names()) == set(RECIPES.built_in())
    assert build_plan("mnn-fp32", GRAPH, PHONE).name == "mnn-fp32"


def test_a_name_that_two_distributions_bring(installed: Install) -> None:
    for number in (1, 2):
        text = PLAN.format(name="twice")
        installed(f"plans-{number}", f"plans_{number}", text, RECIPES.group, twice="MINE")
    wanted = r"plan 'twice' is there twice \(mandheling\.plans: plans-1 1\.5 and plans-2 1\.5\); un"
    with pytest.raises(PluginError, match=wanted):
        build_plan("twice", GRAPH, PHONE)
    assert set(plan_names()) == set(RECIPES.built_in())


def test_a_name_of_ours_is_not_taken_over(installed: Install) -> None:
    text = PLAN.format(name="mnn-fp32")
    installed("a-thief", "a_thief", text, RECIPES.group, **{"mnn-fp32": "MINE"})
    with pytest.raises(PluginError, match=r"'mnn-fp32' is there twice \(.*a-thief 1\.5 and mandh"):
        build_plan("mnn-fp32", GRAPH, PHONE)
    assert build_plan("mandheling", GRAPH, PHONE).name == "mandheling"
    assert "mnn-fp32" not in plan_names()


def test_policies_by_name(installed: Install) -> None:
    text = """
from sim.policies import GroupingPolicy
class Cut(GroupingPolicy):
    name = "cut-all"
    def decide(self, draft, situation):
        return {i.subject: "cut" for i in draft.items if i.unit.startswith("dsp") and not i.follows}
"""
    installed("their-policies", "their_policies", text, POLICIES.group, **{"cut-all": "Cut"})
    plan = decide("mine", GRAPH, PHONE, ["int8", "all-dsp", "cut-all"])
    assert set(plan.aspect("grouping").values()) == {"cut"}
    with pytest.raises(PlanError, match=r"policy 'cut-al' is unknown \(did you mean 'cut-all'\?\)"):
        decide("mine", GRAPH, PHONE, ["cut-al"])


def test_rules_of_another_distribution_work_everywhere(installed: Install) -> None:
    installed("their-rules", "their_rules", RULE.format(body=SOUND), RULES.group, wider="Rule")
    assert "wider:N" in rule_patterns()
    assert scan_share(parse_rule("wider:16")) == scan_share(Adaptive(16, 16))
    check_rule("wider:4")
    plan = decide("mine", GRAPH, PHONE, ["int8", "all-dsp"])
    ruled = decide("ruled", GRAPH, PHONE, ["int8", "all-dsp", OneRule("wider:3")])
    assert expect(GRAPH, ruled, PHONE).time_ns < expect(GRAPH, plan, PHONE).time_ns
    run = simulate(GRAPH, ruled, PHONE, steps=3)
    assert 0 < run.final.scans < 3 * len(run.final.rescale)
    palette = (*PALETTES["rescale"], "wider:3")
    space = Space.of(GRAPH, PHONE, ruled, palettes={"rescale": palette})
    assert space.decode(space.encode(ruled)).diff(ruled) == []


def test_a_rule_that_cannot_be_used_is_told_where_a_plan_names_it(installed: Install) -> None:
    installed("bad-rules", "bad_rules", "def rule(*, n): ...", RULES.group, bad="rule")
    plan = build_plan("mnn-int8", GRAPH, PHONE).replace("rescale", "conv1", "bad:3")
    with pytest.raises(PluginError, match=r"rescale rule 'bad' of bad-rules 1\.5 .* by position"):
        expect(GRAPH, plan, PHONE)
    assert "bad" not in " ".join(rule_patterns())
    assert parse_rule("fixed:3") == Adaptive(3, 3)


def test_what_makes_no_rule(installed: Install) -> None:
    installed("no-rules", "no_rules", "def make(n):\n    return n", RULES.group, none="make")
    with pytest.raises(PluginError, match=r"'none:3' of no-rules 1\.5 is 3, which is no Rescale"):
        parse_rule("none:3")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("return RescaleState(true_shift)", r"step 1: a fused step sees no true shift, and next"),
        ("raise KeyError('amax')", r"step 0: next raised KeyError: 'amax'"),
        ("return true_shift", r"step 0: the state is \d+; return a RescaleState"),
        ("return RescaleState(true_shift + 0.5)", r"step 0: RescaleState\(used=.*whole numbers"),
        (
            "memory.append(1); return RescaleState(7, len(memory) // 2000)",
            r"not deterministic: followed again after other tensors",
        ),
        ("return RescaleState(99)", r"step 0: the shift in use is 99; allowed: 0 to 31"),
        (
            "memory.append(1); return RescaleState(7, len(memory))",
            r"step 0: it is not deterministic: next differs when repeated",
        ),
    ],
)
def test_broken_rules_are_told_what_is_wrong(installed: Install, body: str, message: str) -> None:
    text = "memory = []\n" + RULE.format(body=body)
    name = f"broken_rules_{sum(map(ord, body))}"
    installed("broken-rules", name, text, RULES.group, bad="Rule")
    with pytest.raises(RuleConformanceError, match=rf"rescale rule 'bad:5': .*{message}"):
        check_rule("bad:5")


def test_a_rule_that_does_not_scan_at_first(installed: Install) -> None:
    text = RULE.format(body=SOUND).replace('"dynamic" if', '"fused" if')
    installed("hasty-rules", "hasty_rules", text, RULES.group, hasty="Rule")
    with pytest.raises(RuleConformanceError, match=r"step 0: no shift is known, and mode is 'fus"):
        check_rule("hasty:5")


def test_a_policy_that_raises_is_named_with_plan_model_and_device(installed: Install) -> None:
    text = """
from sim.policies import PlacementPolicy, Recipe
class Raises(PlacementPolicy):
    name = "raises"
    def decide(self, draft, situation):
        return {}["conv9"]
MINE = Recipe("raising", "", (Raises(),))
"""
    installed("raising-plans", "raising_plans", text, RECIPES.group, raising="MINE")
    wanted = (
        r"plan 'raising' for lenet on snapdragon-865: policy 'raises' \(placement\) raised "
        r"KeyError: 'conv9'"
    )
    with pytest.raises(PolicyError, match=wanted) as found:
        build_plan("raising", GRAPH, PHONE)
    assert isinstance(found.value.__cause__, KeyError)


def test_objects_of_a_script() -> None:
    mine = Recipe("scripted", "")
    known: Plugins[Recipe] = Plugins(RECIPES.group, "plan", lambda name, given: given)  # type: ignore[arg-type, return-value]
    known.add("scripted", mine)
    known.add("scripted", mine)
    assert known["scripted"] is mine
    assert known.origin("scripted") == HERE
    assert len(known) == len(RECIPES) + 1
    with pytest.raises(PluginError, match=r"'scripted' is there already .*choose another name"):
        known.add("scripted", Recipe("scripted", "another"))
    with pytest.raises(PluginError, match=f"'mandheling' is there already .of {OWN}"):
        known.add("mandheling", mine)
    with pytest.raises(PluginError, match="'spam' of this process: TypeError: 'spam' is no Recipe"):
        RECIPES.add("spam", "spam")
    assert "spam" not in RECIPES


def test_metadata_older_than_the_code(tmp_path: Path) -> None:
    about = tmp_path / "mandheling_sandbox-0.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {OWN}\nVersion: 0.0\n")
    code = (
        f"import sys; sys.path[:0] = [{str(tmp_path)!r}, {str(ROOT)!r}]\n"
        "from sim.policies import plan_names\nplan_names()"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ran.stderr.splitlines()[-1].startswith(
        f"sim.plugins.PluginError: mandheling.plans: what is installed of {OWN} lists nothing"
    )
