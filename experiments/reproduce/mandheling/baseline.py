"""The baseline's training steps: MNN in FP32, measured by the paper's group on a Snapdragon 855."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from cost_models.device import Device
from cost_models.fitting import read_table
from experiments.calibration import FOLDER, NO_RELU, STUDIES
from experiments.reproduce.study import Row
from sim import build_plan, expect, load_device, load_model, training_graph
from sim.model import INPUT, ForwardModel, Layer

PHONE: Final = "snapdragon-855"
FITTED: Final = frozenset({"lenet", "googlenet", "mobilenet-v2"})
"""Networks whose rows MNN's constants were fitted on (``cost_models/libraries/mnn.yaml``)."""
CLIFF_BATCH: Final = 32
"""Batch at which SqueezeNet is 5.6 times as slow as at half of it: it pages."""
PLAIN: Final = frozenset({"relu", "batch_norm", "dropout"})
"""Kinds of layers that the benchmark's GoogLeNet and SqueezeNet do not have."""
ABSENT: Final = ("googlenet", "conv2")
"""A 1x1 convolution of 64 to 64 channels that its GoogLeNet does not have either.

``tools/train/source/models/GoogLeNet.cpp``; its 5x5 branch is one of 5x5, the zoo's of 3x3.
"""


def baseline_rows() -> Iterator[Row]:
    """Each published step beside ours.

    A row of a fitted network counts as fitted at either clock: its other clock's rows are behind
    it, and the default governor's clock is itself derived from GoogLeNet.
    """
    study = STUDIES["training-sd855"]
    table = read_table(FOLDER / study.file, study.schema)
    device = settable(load_device(PHONE))
    columns = (table.labels["network"], table.labels["setting"], table.numbers["batch"])
    for index, (network, setting, batch) in enumerate(zip(*columns, strict=True)):
        beyond = network not in FITTED and int(batch) >= CLIFF_BATCH
        yield Row(
            str(table.names[index]), float(table.values[index]),
            step_ms(str(network), int(batch), str(setting), device), str(network) in FITTED,
            str(table.sources[index]), "ms", "MNN in FP32, Snapdragon 855, by batch and MHz",
            note="it pages, which no model here knows" if beyond else "",
        )  # fmt: skip


def settable(device: Device) -> Device:
    """The phone with its clocks held, as the benchmark did."""
    return device.model_copy(update={"cpu": device.cpu.model_copy(update={"settable": True})})


def step_ms(network: str, batch: int, setting: str, device: Device) -> float:
    """Expected step of MNN, milliseconds; ``setting`` is a clock in MHz, or ``default``."""
    bare = network in NO_RELU
    model = load_model(network, batch, None, 10 if bare else None)
    graph = training_graph(as_benchmarked(model) if bare else model)
    clock = "sustained" if setting == "default" else f"{setting}MHz"
    plan = build_plan("mnn-fp32", graph, device).replace("operating_point", "cpu", clock)
    return expect(graph, plan, device).time_ns / 1e6


def as_benchmarked(model: ForwardModel) -> ForwardModel:
    """The model without layers of :data:`PLAIN` kinds and :data:`ABSENT`: shapes stay."""
    behind = {INPUT: INPUT}
    layers = []
    for layer in model.layers:
        inputs = tuple(behind[name] for name in layer.inputs)
        if layer.op.kind in PLAIN or (model.name, layer.name) == ABSENT:
            behind[layer.name] = inputs[0]
        else:
            behind[layer.name] = layer.name
            layers.append(Layer(layer.name, layer.op, inputs))
    return ForwardModel(model.name, tuple(layers), model.input_shape, model.classes, model.source)
