"""The plan space: every listed choice can be made, and choosing one changes the plan's answer."""

from __future__ import annotations

from cost_models.device import load_device
from sim.autodiff import training_graph
from sim.choices import choices
from sim.lowering import validate
from sim.policies.build import build_plan
from sim.zoo import load_model


def test_every_listed_choice_is_valid_and_is_what_the_plan_then_says() -> None:
    device = load_device("snapdragon-865")
    graph = training_graph(load_model("lenet", batch=8))
    plan = build_plan("dsp-int8", graph, device)
    space = choices(graph, plan, device)
    assert {aspect for aspect, _ in space} >= {"precision", "placement", "reuse", "grouping"}
    for (aspect, subject), choice in space.items():
        if aspect in ("backward", "precision"):
            continue  # another one has other subjects
        for allowed in choice.allowed:
            if allowed.isupper() or ":N" in allowed or "LOW" in allowed or ":K" in allowed:
                continue  # a pattern, not a choice
            other = plan.replace(aspect, subject, allowed)
            validate(graph, other, device)
            assert choices(graph, other, device)[aspect, subject].chosen == allowed


def test_silence_means_the_default() -> None:
    device = load_device("snapdragon-865")
    graph = training_graph(load_model("lenet", batch=8))
    plan = build_plan("mnn-fp32", graph, device)
    stated = {key for key, _ in plan.choices}
    for key, choice in choices(graph, plan, device).items():
        assert key in stated or choice.chosen == choice.default
