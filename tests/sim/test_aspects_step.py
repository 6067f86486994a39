"""Placement's units, and the choices about the step as a whole."""

from __future__ import annotations

import pytest

from cost_models.device import load_device
from sim.aspects import ORDER, STEP, STEP_ASPECTS
from sim.aspects.base import StepContext
from sim.aspects.placement import PlacementAspect, default_unit, units_for
from sim.aspects.precision import Precision
from sim.autodiff import training_graph
from sim.draft import draft_of
from sim.plan import Plan, PlanError
from sim.zoo import load_model

PHONE, LAPTOP = load_device("snapdragon-865"), load_device("laptop")
GRAPH = training_graph(load_model("lenet", batch=4))
CPU = ("cpu:4", "cpu:3", "cpu:2", "cpu:1")
LITTLE = ("little:4", "little:3", "little:2", "little:1")
DSP = ("dsp:4", "dsp:3", "dsp:2", "dsp:1")


def test_order_of_rewriting() -> None:
    names = [aspect.name for aspect in ORDER]
    assert names == [
        *("backward", "precision", "optimiser_state", "batch_split"),
        *("rescale", "placement", "grouping"),
    ]


def test_units_by_type_and_device() -> None:
    draft = Precision().rewrite(draft_of(GRAPH), {"conv1": "int8"}, StepContext(PHONE, {}))
    units = {item.name: units_for(item, PHONE) for item in draft.items}
    assert units["conv1"] == CPU + LITTLE + DSP
    assert units["input.quantise"] == CPU + LITTLE  # neither DSP nor GPU converts
    assert units["relu1"] == (*CPU, *LITTLE, "gpu")  # FP32
    assert units_for(draft.first("conv1"), LAPTOP) == CPU
    assert units_for(draft.first("relu1"), LAPTOP) == CPU
    two = load_device("qcs6490")
    assert units_for(draft.first("conv1"), two)[-2:] == ("dsp:2", "dsp:1")


def test_followers_take_the_unit_of_their_kernel() -> None:
    aspect = PlacementAspect()
    draft = draft_of(GRAPH)
    scan = draft.items[0]._replace(name="conv1.scan", subject="conv1.scan", follows="conv1")
    draft = draft.with_items([*draft.items, scan])
    assert "conv1.scan" not in aspect.subjects(draft, PHONE)
    placed = aspect.rewrite(draft, {"conv1": "cpu:1"}, StepContext(PHONE, {}))
    at = {item.name: item.unit for item in placed.items}
    assert at["conv1"] == at["conv1.scan"] == "cpu:1"
    assert at["relu1"] == default_unit(PHONE) == "cpu:4"


def resolved(choices: dict[tuple[str, str], str], device: str = "snapdragon-865") -> dict[str, str]:
    plan = Plan.make("mine", "h", choices)
    return {aspect.key: aspect.resolve(plan, load_device(device)) for aspect in STEP_ASPECTS}


def test_defaults_of_the_step() -> None:
    assert resolved({}) == {
        "reuse": "none",
        "operating_point.cpu": "max",
        "operating_point.dsp": "max",
        "gpu_clock": "max",
        "rpc_qos": "default",
        "dispatch": "topological",
        "library": "mnn",
        "input": "none",
    }


@pytest.mark.parametrize("device", ["snapdragon-865", "laptop"])
def test_every_offered_choice_is_accepted(device: str) -> None:
    for aspect in STEP_ASPECTS:
        for choice in aspect.offered(load_device(device)):
            assert resolved({(aspect.name, aspect.subject): choice}, device)[aspect.key] == choice


def test_fastrpc_modes_are_those_of_the_device() -> None:
    qos = next(aspect for aspect in STEP_ASPECTS if aspect.name == "rpc_qos")
    assert qos.offered(PHONE) == ("default", "none", "adaptive", "pm_qos")
    assert qos.offered(LAPTOP) == ("default",)


def test_choices_that_are_not_offered() -> None:
    with pytest.raises(PlanError, match=r"'mine': library\.step = 'onnx' .*865; .* mnn, tflite"):
        resolved({("library", STEP): "onnx"})
    with pytest.raises(PlanError, match=r"rpc_qos\.step = 'pm_qos' is not offered by laptop"):
        resolved({("rpc_qos", STEP): "pm_qos"}, "laptop")
    with pytest.raises(PlanError, match=r"dispatch\.conv1 is no subject; choose one of step"):
        resolved({("dispatch", "conv1"): "topological"})
