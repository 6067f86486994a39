"""What a run trains with beyond what is simulated, in its notes."""

from __future__ import annotations

import numpy as np
import pytest

from experiments.training.notes import cost_notes
from kernels.profiles import PROFILES
from sim import Plan, build_plan, load_device, load_model, training_graph
from sim.numeric.session import TrainingSession
from sim.numeric.trained import Hyper
from sim.numeric.trained_floats import FloatTrained
from sim.numeric.trained_integers import WideTrained

PHONE = load_device("snapdragon-865")
GRAPH = training_graph(load_model("lenet", batch=4))
FLOAT = build_plan("mnn-fp32", GRAPH, PHONE)
INT8 = build_plan("mandheling", GRAPH, PHONE)


def notes(plan: Plan, profile: str = "sandbox", momentum: float = 0.9) -> list[str]:
    return cost_notes(GRAPH, plan, PHONE, profile=PROFILES[profile], momentum=momentum)


def test_a_velocity_that_no_choice_counts_is_told() -> None:
    (note,) = notes(FLOAT)
    assert "momentum 0.9, but the velocity of 4 layers (fp32) is in no simulated time" in note
    assert "optimiser_state.step = momentum" in note
    for choice in ("momentum", "momentum8"):
        assert notes(FLOAT.replace("optimiser_state", "step", choice)) == []
    assert notes(FLOAT, momentum=0.0) == []


def test_wide_weights_are_told_and_those_of_released_profiles_have_nothing_to_tell() -> None:
    velocity, masters = notes(INT8)
    assert "4 layers (int8)" in velocity
    assert "no choice of a plan counts it" in velocity
    assert masters.startswith("the wide integer weights of 4 layers in int8")
    assert notes(INT8, momentum=0.0) == [masters]
    assert notes(INT8, "niti_v1") == []


def test_fp16_has_a_velocity_that_no_choice_counts() -> None:
    graph = training_graph(load_model("resnet8", batch=1))
    board = load_device("gap9")
    plan = build_plan("pulp-fp16", graph, board)
    (note,) = cost_notes(graph, plan, board, profile=PROFILES["sandbox"], momentum=0.5)
    assert "(fp16)" in note
    assert "momentum 0.5" in note
    assert "no choice of a plan counts it" in note
    kept = build_plan("pulp-fp16-kahan", graph, board)
    (same,) = cost_notes(graph, kept, board, profile=PROFILES["sandbox"], momentum=0.5)
    assert same == note
    mixed = kept.update({("precision", "stack1/conv1"): "fp32"})
    (both,) = cost_notes(graph, mixed, board, profile=PROFILES["sandbox"], momentum=0.5)
    assert "no choice of a plan counts it beside compensated updates" in both


@pytest.mark.parametrize("plan", [FLOAT, INT8])
def test_the_notes_are_true(plan: Plan) -> None:
    """What they name is what a step changes."""
    session = TrainingSession(GRAPH, plan, PHONE, hyper=Hyper(momentum=0.9), engine="none")
    images = np.random.default_rng(0).normal(size=(4, 28, 28, 1)).astype(np.float32)
    session.step(images, np.arange(4), rate_q24=1 << 18)
    trained = session.executor.parameters.trained.items()
    moved = set()
    for name, one in trained:
        assert isinstance(one, FloatTrained | WideTrained)
        velocity = one.velocity if isinstance(one, FloatTrained) else one.wide.velocity
        if velocity.any():
            moved.add(name.partition(".")[0])
    assert f"velocity of {len(moved)} layers" in notes(plan)[0]
