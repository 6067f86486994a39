"""The conformance kit accepts our policies and names what is wrong with broken ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from cost_models.device import load_device
from sim.autodiff import training_graph
from sim.draft import Draft
from sim.policies import recipes
from sim.policies.base import (
    BatchSplitPolicy,
    GroupingPolicy,
    PlacementPolicy,
    Policy,
    PolicyError,
    PrecisionPolicy,
    RescalePolicy,
    Situation,
)
from sim.policies.build import decide
from sim.policies.conformance import (
    PolicyConformanceError,
    check_policy,
    check_recipe,
    default_graphs,
)
from sim.policies.numeric import AllHalf, AllInt8, Compensated, CostSplit, OneRule, VtcmSplit
from sim.policies.placing import (
    AllCpu,
    AllDsp,
    AllGpu,
    CutForCpu,
    CutToFit,
    Faster,
    Heft,
    Released,
    deciders,
)
from sim.policies.recipes import Recipe, RecipeError
from sim.zoo import load_model

PHONE = load_device("snapdragon-865")
SMALL = (training_graph(load_model("lenet", batch=4)),)

OURS: tuple[Policy, ...] = (
    AllInt8(),
    OneRule("fixed:3"),
    VtcmSplit(),
    CostSplit(),
    AllCpu(),
    AllDsp(),
    AllGpu(),
    Faster(),
    Heft(),
    Released(),
    CutForCpu(),
    CutToFit(50_000),
)


@pytest.mark.parametrize("policy", OURS, ids=lambda policy: policy.name)
def test_our_policies_conform(policy: Policy) -> None:
    check_policy(policy)


def test_the_policy_of_microcontrollers_conforms_on_one() -> None:
    """Its format has no kernels on a phone, so other devices refuse its plans."""
    graph = training_graph(load_model("resnet8", 1))
    check_policy(AllHalf("fp16"), [graph], [load_device("gap9")])
    check_policy(Compensated(), [graph])  # elsewhere there is nothing to compensate
    check_recipe(recipes.RECIPES["pulp-fp16-kahan"], [graph], [load_device("gap9")])


def test_every_policy_of_a_recipe_is_among_them() -> None:
    recipe = [recipes.RECIPES[name] for name in recipes.RECIPES.built_in()]
    named = [recipes.POLICIES[name] for name in recipes.POLICIES.built_in()]
    used = {type(p) for p in (*named, *(p for each in recipe for p in each.policies))}
    assert used <= {type(policy) for policy in OURS} | {AllHalf, Compensated}


def test_default_networks_hold_what_policies_differ_on() -> None:
    kinds = {node.op.kind for graph in default_graphs() for node in graph.nodes}
    assert {"batch_norm", "add", "concat", "dropout", "max_pool", "relu6"} <= kinds


class Fickle(PlacementPolicy):
    """Answers by how often it was asked."""

    name = "fickle"

    def __init__(self) -> None:
        self.asked = 0

    def decide(self, draft: Draft, situation: Situation) -> Mapping[str, str]:
        self.asked += 1
        return {"conv1": f"cpu:{1 + self.asked % 2}"}


class Learner(RescalePolicy):
    """Gives the same answer twice, but not after it has seen another network."""

    name = "learner"

    def __init__(self) -> None:
        self.seen: set[str] = set()

    def decide(self, draft: Draft, situation: Situation) -> Mapping[str, str]:
        self.seen.add(situation.device.name)
        return {"conv1": f"fixed:{len(self.seen)}"}


class Stranger(GroupingPolicy):
    """Decides on something that is not there."""

    name = "stranger"

    def decide(self, draft: Draft, situation: Situation) -> Mapping[str, str]:
        return {"conv99": "cut"}


class Optimist(PlacementPolicy):
    """Puts everything on a DSP, whether or not it has the kernel."""

    name = "optimist"

    def decide(self, draft: Draft, situation: Situation) -> Mapping[str, str]:
        return {item.subject: "dsp:1" for item in deciders(draft)}


class Editor(PrecisionPolicy):
    """Changes what it was shown."""

    name = "editor"

    def decide(self, draft: Draft, situation: Situation) -> Mapping[str, str]:
        draft.items.pop()
        return {}


class Listing(BatchSplitPolicy):
    """Returns something else than a mapping."""

    name = "listing"

    def decide(self, draft: Draft, situation: Situation) -> Mapping[str, str]:
        return [("conv1", "1")]  # type: ignore[return-value]


class Numbers(BatchSplitPolicy):
    """Returns numbers where choices are strings."""

    name = "numbers"

    def decide(self, draft: Draft, situation: Situation) -> Mapping[str, str]:
        return {"conv1": 1}  # type: ignore[dict-item]


class Lost(Policy):
    """Decides an aspect that does not exist."""

    aspect = "colour"
    name = "lost"

    def decide(self, draft: Draft, situation: Situation) -> Mapping[str, str]:
        return {}


class Presuming(PlacementPolicy):
    """Takes it that there is a DSP."""

    name = "presuming"

    def decide(self, draft: Draft, situation: Situation) -> Mapping[str, str]:
        assert situation.device.dsp is not None, "where is the DSP?"
        return {}


class Nameless(AllCpu):
    """Has no name."""

    def __init__(self) -> None:
        object.__setattr__(self, "name", "")


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        (Fickle(), r"'fickle' \(placement; lenet on snapdragon-865, FP32 .* not deterministic: "
                   r"asked twice, conv1 went from 'cpu:2' to 'cpu:1'; keep no state"),
        (Stranger(), r"'stranger' \(grouping; .*'conv99' is no subject; .* like .*conv1"),
        (Optimist(), r"'optimist' .*conv1 = 'dsp:1' is not allowed; choose one of cpu:4"),
        (Editor(), r"'editor' .*changed the draft; policies only read it"),
        (Listing(), r"'listing' .*returned \[\('conv1', '1'\)\]; return a mapping"),
        (Numbers(), r"'numbers' .*conv1 = 1 is not allowed; choose one of 4, 2, 1"),
        (Lost(), r"'lost': aspect is 'colour'; choose one of backward, precision"),
        (Nameless(), r"Nameless: name is ''; give it a name"),
        ("cpu", r"'cpu' is no Policy; subclass one of the bases"),
    ],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_broken_policies_are_told_what_is_wrong(policy: Policy, message: str) -> None:
    with pytest.raises(PolicyConformanceError, match=message):
        check_policy(policy, SMALL, [PHONE])


def test_a_policy_that_breaks_on_a_device_without_a_dsp() -> None:
    check_policy(Presuming(), SMALL, [PHONE])
    wanted = (
        r"'presuming' \(placement; lenet on laptop, FP32 .*\): it raised AssertionError: where is"
    )
    with pytest.raises(PolicyConformanceError, match=wanted):
        check_policy(Presuming(), SMALL, [PHONE, load_device("laptop")])


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        (Stranger(), r"policy 'stranger' \(grouping\) chose what is .*conv99 is no sub"),
        (Optimist(), r"policy 'optimist' \(placement\) chose .*conv1 = 'dsp:1' is not allowed"),
        (Editor(), r"policy 'editor' \(precision\) changed the draft; policies only read it"),
        (Listing(), r"policy 'listing' \(batch_split\) returned \[\('conv1', '1'\)\]; return"),
        (Numbers(), r"policy 'numbers' \(batch_split\) returned {'conv1': 1}; return a mapping"),
    ],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_no_plan_is_made_of_broken_choices(policy: Policy, message: str) -> None:
    before = decide("mine", SMALL[0], PHONE, ["int8", "all-dsp"])
    with pytest.raises(PolicyError, match=rf"plan 'mine' for lenet on snapdragon-865: {message}"):
        decide("mine", SMALL[0], PHONE, [policy])
    assert decide("mine", SMALL[0], PHONE, ["int8", "all-dsp"]) == before


def test_recipes_conform_or_say_what_is_wrong() -> None:
    check_recipe(recipes.RECIPES["heft"], SMALL, [PHONE, load_device("laptop")])
    with pytest.raises(PolicyConformanceError, match=r"policy 'optimist' .*conv1 = 'dsp:1' is not"):
        check_recipe(Recipe("mine", "", (Optimist(),)), SMALL, [PHONE])
    with pytest.raises(PolicyConformanceError, match=r"plan 'mine' .lenet on .*setting 'colour'"):
        check_recipe(Recipe("mine", "", (), {"colour": "red"}), SMALL, [PHONE])
    with pytest.raises(PolicyConformanceError, match=r"'mine' is no Recipe"):
        check_recipe("mine", SMALL, [PHONE])  # type: ignore[arg-type]
    with pytest.raises(PolicyConformanceError, match=r"'mine': policy 'int9' .*mean 'int8'"):
        check_recipe(Recipe("mine", "", ("int9",)), SMALL, [PHONE])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            ("m", ("int8", "heft")),
            r"'m': summary is \('int8', 'heft'\); give a text; pol",
        ),
        ((7, ""), "recipe 7: name is 7; give a text"),
        (("m", "", "int8"), "policies is 'int8'; give a tuple, like"),
        (("m", "", ["int8"]), r"policies is \['int8'\]; give a tuple"),
        (("m", "", (AllInt8,)), r"policies is <class .*; each is a Policy \(an instance"),
        (("m", "", (), {"reuse": 1}), r"settings is \{'reuse': 1\}; give a mapping .*texts"),
        (("m", "", (), ("reuse", "mru")), r"settings is \('reuse', 'mru'\); give a mapping"),
        (
            ("m", "", (), {}, ("quick",)),
            r"techniques is \('quick',\); give a tuple of some",
        ),
        (("m", "", (), {}, None), "techniques is None; give a tuple"),
        (("m", "", (), {}, "reuse"), "techniques is 'reuse'; give a tuple"),
        (("m", "", (), {}, (["reuse"],)), "techniques is .*; give a tuple"),
        (("m", "", (), {}, (), "npu"), "needs is 'npu'; choose one of dsp, gpu, mcu, or ''"),
        (("m", "", (), {}, (), None), "needs is None; give a text"),
    ],
    ids=str,
)
def test_a_recipe_of_wrong_parts_is_refused(fields: tuple[Any, ...], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        Recipe(*fields)


def test_state_kept_between_devices_is_found() -> None:
    devices = [PHONE, load_device("snapdragon-888")]
    wanted = r"asked again after other models and devices, conv1 went from 'fixed:1' to 'fixed:2'"
    with pytest.raises(PolicyConformanceError, match=wanted):
        check_policy(Learner(), SMALL, devices)
