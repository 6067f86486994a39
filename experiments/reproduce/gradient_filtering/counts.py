"""Operations and saved memory of the backward pass, from the zoo's graphs and lowered plans."""

from __future__ import annotations

from functools import lru_cache
from math import prod

from cost_models.device import load_device
from experiments.reproduce.gradient_filtering.published import COUNTED, KIB, MEGA, Counted
from experiments.reproduce.study import Row
from kernels.conv import Conv2d
from kernels.filtered import FilteredConv
from kernels.operators import Role
from sim.aspects.backward import FILTER
from sim.autodiff import training_graph
from sim.draft import Draft
from sim.graph import TrainingGraph
from sim.lowering import draft_before
from sim.plan import Plan
from sim.zoo import load_model

KNOWN = "known to differ"
"""Marks the rows that no reading of the published counter gives."""


def count_rows() -> tuple[Row, ...]:
    """Operations of every published row."""
    return tuple(
        Row(
            _label(each),
            each.operations / MEGA,
            operations(each) / MEGA,
            fitted=False,
            source=each.source,
            unit="Mop",
            group=f"operations, {each.classes} classes",
            note=_note(each),
        )
        for each in COUNTED
    )


def memory_rows() -> tuple[Row, ...]:
    """Saved memory of every published row."""
    return tuple(
        Row(
            _label(each),
            each.saved / KIB,
            saved_bytes(each) / KIB,
            fitted=False,
            source=each.source,
            unit="KB",
            group="saved memory",
            note=_note(each),
        )
        for each in COUNTED
        if each.saved is not None
    )


def _label(each: Counted) -> str:
    layers = f"last {each.layers}" if each.layers else "all layers"
    how = f"patch {each.patch}" if each.patch > 1 else "exact"
    return f"{each.model}, {layers}, {how}"


def _note(each: Counted) -> str:
    return KNOWN if each.model == "mobilenet-v2" and not each.layers else ""


@lru_cache(maxsize=16)
def graph_of(model: str, classes: int, layers: int) -> TrainingGraph:
    """One sample's training graph with the last convolutions and the classifier trained.

    Batch norm stays as it is; so do the projections of shortcuts, but where all layers train.
    """
    made = load_model(model, batch=1, classes=classes)
    convs = [each.name for each in made.layers if isinstance(each.op, Conv2d)]
    counted = [name for name in convs if not name.endswith("/down")]
    trained = set(counted[-layers:] if layers else convs)
    weighted = [layer for layer in made.layers if layer.op.weights]
    kept = [each.name for each in weighted if each.name not in trained and each.op.kind != "linear"]
    return training_graph(made, frozen=kept)


def digits_off() -> float:
    """Largest difference of saved memory in units of the last published digit."""
    return max(
        abs(saved_bytes(each) - each.saved) / each.digit
        for each in COUNTED
        if each.saved is not None and not _note(each)
    )


def operations(each: Counted) -> int:
    """Operations of the backward pass of one sample, counted as the paper's tables do."""
    graph = graph_of(each.model, each.classes, each.layers)
    total = 0
    for node in graph.nodes:
        if isinstance(node.op, Conv2d) and node.role in (Role.INPUT_GRAD, Role.WEIGHT_GRAD):
            total += gradient_operations(node.op, node.role, each.patch)
        elif node.op.kind == "linear" and node.role is Role.WEIGHT_GRAD:
            classes, features = node.op.weights[0][:2]
            total += 3 * features * classes + features
    return total


def gradient_operations(op: Conv2d, role: Role, patch: int) -> int:
    """Operations of one gradient of a convolution on one sample.

    Multiplications and additions count one each. A vanilla dW multiplies at each of the ``k^2``
    taps and adds once; the sum of errors of a trained layer, an addition per error, is with its dW.
    """
    pairs = op.c_in * op.c_out // op.groups
    taps, places = op.k_h * op.k_w, op.h_out * op.w_out
    errors = op.c_out * places
    if patch == 1:
        if role is Role.WEIGHT_GRAD:
            return pairs * (taps * places + places - 1) + errors
        return 2 * taps * places * pairs
    spec = FilteredConv(op, patch)
    coarse = spec.rows * spec.columns
    if role is Role.WEIGHT_GRAD:
        return pairs * (2 * coarse - 1) + errors
    reduced = op.c_out // op.groups
    return coarse * op.c_in * (2 * reduced - 1) + (taps - 1) * pairs


def saved_bytes(each: Counted) -> int:
    """Bytes that the lowered step keeps for the weight gradients of trained convolutions."""
    graph = graph_of(each.model, each.classes, each.layers)
    layers = [
        node.layer
        for node in graph.nodes
        if isinstance(node.op, Conv2d) and node.role is Role.WEIGHT_GRAD
    ]
    choices = {("backward", layer): f"{FILTER}:{each.patch}" for layer in layers}
    plan = Plan.make("counted", graph.hash(), choices if each.patch > 1 else {})
    draft = draft_before("precision", graph, plan, load_device("snapdragon-865"))
    return sum(_kept(draft, layer) for layer in layers)


def _kept(draft: Draft, layer: str) -> int:
    """Bytes that a layer's weight gradient reads from the forward pass."""
    name = draft.first(f"{layer}.weight_grad").reads[0]
    return prod(draft.buffers[name].shape) * draft.buffers[name].item_bytes
