"""Recipes on every device: what can be built is, and runs; what cannot is refused by name."""

from __future__ import annotations

import pytest

from cost_models.device import device_names, load_device
from sim.autodiff import training_graph
from sim.checks import check
from sim.expected import expected_ns
from sim.plan import PlanError
from sim.policies.build import adopt_all, build, build_plan, decide, plan_names, propose
from sim.policies.numeric import AllInt8
from sim.policies.recipes import BASELINES, RECIPES, TECHNIQUES
from sim.run import simulate
from sim.zoo import load_model

GRAPH = training_graph(load_model("lenet", batch=8))
PHONE = load_device("snapdragon-865")


@pytest.mark.parametrize("device", device_names())
def test_every_recipe_that_a_device_can_run(device: str) -> None:
    phone = load_device(device)
    for name in plan_names(phone):
        plan = build_plan(name, GRAPH, phone)
        assert (plan.name, plan.graph_hash) == (name, GRAPH.hash())
        run = simulate(GRAPH, plan, phone, steps=2)
        for timeline in run.timelines:
            check(timeline)
        if name in ("dsp-int8", "released"):  # the others may prefer the CPU for all of LeNet
            names = [unit.name for unit in run.timelines[0].graph.units]
            assert names.index("dsp") in run.timelines[0].graph.unit


def test_units_decide_what_a_device_can_run() -> None:
    assert plan_names()[: len(BASELINES)] == BASELINES
    assert set(plan_names()) == set(RECIPES.built_in())
    assert plan_names(load_device("laptop")) == ("tflite-fp32", "mnn-fp32", "mnn-int8")
    clusters = {name for name in RECIPES.built_in() if RECIPES[name].needs == "mcu"}
    assert plan_names(PHONE) == tuple(name for name in plan_names() if name not in clusters)
    assert clusters == {"pulp-fp32", "pulp-fp16", "pulp-fp16-kahan", "pulp-bf16"}
    assert set(plan_names(load_device("gap9"))) == clusters


@pytest.mark.parametrize(("name", "unit"), [("mandheling", "dsp"), ("mnn-fp32", "phone")])
def test_on_a_microcontroller_a_phone_s_plan_is_refused_with_what_works(
    name: str, unit: str
) -> None:
    message = rf"plan '{name}' needs a {unit} and gap9 has none; .*, at batch 1: -p pulp-fp16 -b 1$"
    with pytest.raises(PlanError, match=message):
        build_plan(name, GRAPH, load_device("gap9"))


@pytest.mark.parametrize(
    ("name", "unit"), [("mandheling", "dsp"), ("mnn-fp32-gpu", "gpu"), ("heft", "dsp")]
)
def test_recipes_that_need_a_missing_unit(name: str, unit: str) -> None:
    message = rf"plan '{name}' needs a {unit} and laptop has none; .* tflite-fp32, mnn-fp32"
    with pytest.raises(PlanError, match=message):
        build(name, GRAPH, load_device("laptop"))


def test_unknown_recipe() -> None:
    with pytest.raises(PlanError, match=r"'mandhelling' is unknown \(did you mean 'mandheling'\?"):
        build_plan("mandhelling", GRAPH, PHONE)
    with pytest.raises(PlanError, match=r"plan 'zzz' is unknown; choose one of tflite-fp32"):
        build_plan("zzz", GRAPH, PHONE)


def test_a_technique_that_does_not_help_is_declined() -> None:
    # On the CPU in FP32 there is nothing to rescale, to reuse or to split.
    plan = build_plan("mnn-fp32", GRAPH, PHONE)
    built = adopt_all(plan, GRAPH, PHONE, ("rescale", "reuse", "split"))
    assert built.plan == plan
    assert not any(adoption.adopted for adoption in built.adoptions)
    for adoption in built.adoptions:
        assert adoption.proposed_ns >= adoption.before_ns == expected_ns(GRAPH, plan, PHONE)


def test_adoptions_tell_the_story_of_the_plan() -> None:
    plan = build_plan("dsp-int8", GRAPH, PHONE)
    built = adopt_all(plan, GRAPH, PHONE, tuple(TECHNIQUES))
    now = expected_ns(GRAPH, plan, PHONE)
    for adoption in built.adoptions:
        assert adoption.before_ns == now
        now = adoption.proposed_ns if adoption.adopted else now
    assert now == expected_ns(GRAPH, built.plan, PHONE) < expected_ns(GRAPH, plan, PHONE)
    offered = [adoption.technique for adoption in built.adoptions]
    assert offered[: len(TECHNIQUES)] == list(TECHNIQUES)
    assert built.plan.choices == build_plan("mandheling", GRAPH, PHONE).choices


def test_what_each_technique_proposes() -> None:
    plan = build_plan("dsp-int8", GRAPH, PHONE)
    changed = {
        technique: {aspect for aspect, *_ in plan.diff(propose(technique, plan, GRAPH, PHONE))}
        for technique in ("reuse", "rescale", "split")
    }
    assert "reuse" in changed["reuse"]
    assert changed["rescale"] == {"rescale"}
    assert changed["split"] <= {"batch_split"}
    with pytest.raises(PlanError, match="technique 'magic' is unknown"):
        propose("magic", plan, GRAPH, PHONE)


def test_building_twice_gives_the_same_plan() -> None:
    for name in ("mandheling", "heft", "released"):
        assert build_plan(name, GRAPH, PHONE) == build_plan(name, GRAPH, PHONE)


def test_plans_of_your_own_policies() -> None:
    plan = decide("mine", GRAPH, PHONE, [AllInt8()], {"library": "tflite"})
    assert plan.aspect("library") == {"step": "tflite"}
    assert set(plan.aspect("precision").values()) == {"int8"}
    assert plan.aspect("placement") == {}


def test_settings_are_named_as_in_the_step_aspects() -> None:
    plan = decide("mine", GRAPH, PHONE, [], {"operating_point.cpu": "75%", "reuse": "mru"})
    assert plan.aspect("operating_point") == {"cpu": "75%"}
    assert plan.aspect("reuse") == {"step": "mru"}
    with pytest.raises(PlanError, match=r"setting 'clock' is unknown; choose of reuse, operating"):
        decide("mine", GRAPH, PHONE, [], {"clock": "max"})


def test_two_policies_for_one_aspect() -> None:
    with pytest.raises(PlanError, match="'int8' and 'int8' both decide precision: give one"):
        decide("mine", GRAPH, PHONE, [AllInt8(), AllInt8()])


def test_a_policy_for_no_aspect() -> None:
    class Painter(AllInt8):
        aspect = "colour"

    with pytest.raises(PlanError, match=r"policy 'int8' decides 'colour', which is no aspect"):
        decide("mine", GRAPH, PHONE, [Painter()])
