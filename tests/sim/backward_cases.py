"""Networks and plans that the tests of backward rules share."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cost_models.device import load_device
from kernels.quantised import QTensor
from sim import Plan, load_model, training_graph
from sim.draft import Draft
from sim.encoding import HELD
from sim.graph import TrainingGraph
from sim.lowering import draft_before, lowering
from sim.model import INPUT, ModelBuilder
from sim.numeric import NumericExecutor, StepInputs
from sim.numeric.calls import Call
from sim.numeric.frame import Frame
from tests.sim.test_numeric_executor import batch_of

PHONE = load_device("snapdragon-865")
SEARCHED = tuple(name for name in HELD if name != "backward")
"""Held aspects of a space that backward is searched in."""
LENET = training_graph(load_model("lenet", batch=8))


def plan_for(graph: TrainingGraph, **choices: str) -> Plan:
    """A plan of backward choices alone."""
    return Plan.make("filtered", graph.hash(), {("backward", k): c for k, c in choices.items()})


def after_backward(graph: TrainingGraph, plan: Plan) -> Draft:
    return draft_before("precision", graph, plan, PHONE)


def small(**conv: int) -> TrainingGraph:
    """Two convolutions with biases, the second as given."""
    b = ModelBuilder("small", (4, 3, 11, 10), source="this test")
    x = b.conv(INPUT, 6, 3, pad=1, bias=True)
    x = b.conv(x, 6, 3, bias=True, **conv)
    return training_graph(b.build(b.linear(b.flatten(b.global_avg_pool(x)), 5, bias=True)))


def captured(
    graph: TrainingGraph, plan: Plan, names: tuple[str, ...]
) -> dict[str, NDArray[np.float64]]:
    """Values of some buffers in the first step, as floats."""
    executor = NumericExecutor(graph, plan, PHONE, seed=3)
    images, labels = batch_of(graph)
    found: dict[str, NDArray[np.float64]] = {}

    def compute(call: Call, frame: Frame) -> None:
        call.compute(frame)
        for name in {*call.item.reads, *call.item.writes} & set(names):
            value = frame.get(name)
            if isinstance(value, QTensor):
                found[name] = value.dequantise()
            elif isinstance(value, np.ndarray):
                found[name] = value.astype(np.float64)

    draft = lowering(graph, plan, PHONE).draft({})
    executor.step(draft, images, labels, StepInputs(rate_q24=1), compute)
    return found
