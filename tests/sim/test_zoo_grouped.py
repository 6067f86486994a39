"""Networks in groups: linear costs, prefixes that run alone, increments that freeze the rest."""

from __future__ import annotations

import numpy as np
import pytest

from kernels.conv import Conv2d
from kernels.operators import Role
from sim import build_plan, load_device, load_model, training_graph
from sim.autodiff import inference_graph
from sim.graph import TrainingGraph
from sim.model import ModelError
from sim.numeric.session import TrainingSession
from sim.zoo.grouped import WIDTHS, frozen_groups, group_of, grouped_alexnet, groups_of

BOARD = load_device("odroid-xu3")


def counts_by_hand(active: int, groups: int) -> tuple[int, int]:
    """Parameters and MACs of a sample, multiplied out."""
    params = macs = 0
    channels, places = 3, 32 * 32
    for number, width in enumerate(WIDTHS, 1):
        k, own = 5 if number == 1 else 3, width // groups
        params += own * (channels * k * k + 1)
        macs += own * channels * k * k * places
        channels = own
        if number in (1, 2, 5):
            places //= 4
    hidden = 1024 // groups
    for before, after in ((channels * places, hidden), (hidden, 10)):
        params += after * (before + 1)
        macs += after * before
    return active * params, active * macs


@pytest.mark.parametrize("groups", [1, 2, 4, 8])
def test_parameters_and_macs_are_linear_in_the_active_groups(groups: int) -> None:
    for active in range(1, groups + 1):
        model = grouped_alexnet(2, active, groups=groups)
        assert (model.params, model.macs) == counts_by_hand(active, groups)
        assert groups_of(model) == active


def test_activations_are_linear_but_for_what_is_shared() -> None:
    def own(active: int) -> int:
        graph = inference_graph(grouped_alexnet(1, active))
        shared = {"input", "logits.out"}
        kept = (t for t in graph.tensors.values() if t.kind != "weight" and t.name not in shared)
        return sum(tensor.elements for tensor in kept)

    assert [own(active) for active in (2, 3, 4)] == [2 * own(1), 3 * own(1), 4 * own(1)]


def test_zoo_entries_are_its_prefixes() -> None:
    for active in (1, 2, 3, 4):
        assert load_model(f"dynamic-alexnet-{25 * active}", 3) == grouped_alexnet(3, active)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"active": 2, "groups": 3}, r"groups = 3 does not divide 64 channels; take a divisor"),
        ({"active": 5}, r"active = 5; allowed: 1 to groups = 4"),
        ({"active": 0}, r"active = 0; allowed: an int of 1 or more"),
        ({"active": 1, "image": 36}, r"image: the last map has 36 rows.* multiple of 8"),
        ({"active": 1, "batch": 0}, r"batch = 0"),
    ],
)
def test_what_cannot_be_built(arguments: dict[str, int], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        grouped_alexnet(**{"batch": 1, **arguments})


@pytest.mark.parametrize("count", [-1, 3, 4])
def test_freezing_leaves_a_group(count: int) -> None:
    with pytest.raises(ModelError, match=rf"cannot freeze {count} of 3 groups; allowed: 0 to 2"):
        frozen_groups(grouped_alexnet(1, 3), count)
    with pytest.raises(ModelError, match="cannot freeze 0 of 0 groups; load a model in groups"):
        frozen_groups(load_model("lenet", 1), 0)


def increment(active: int, batch: int) -> TrainingGraph:
    model = grouped_alexnet(batch, active)
    return training_graph(model, frozen_groups(model, active - 1))


@pytest.mark.parametrize("active", [1, 2, 3, 4])
def test_an_increment_runs_all_forward_and_one_backward(active: int) -> None:
    graph = increment(active, 2)
    params, macs = counts_by_hand(1, 4)
    first = 16 * 3 * 5 * 5 * 32 * 32  # images need no gradient
    assert graph.macs(Role.FORWARD) == active * 2 * macs
    assert graph.macs(Role.WEIGHT_GRAD) == 2 * macs
    assert graph.macs(Role.INPUT_GRAD) == 2 * (macs - first)
    updates = [node for node in graph.nodes if node.role is Role.UPDATE]
    assert {group_of(node.layer) for node in updates} == {active}
    assert sum(node.op.params for node in updates) == params


def test_training_a_group_changes_no_bit_of_the_earlier_ones() -> None:
    rng = np.random.default_rng(0)
    images = rng.standard_normal((4, 32, 32, 3)).astype(np.float32)
    graph = increment(2, 4)
    session = TrainingSession(
        graph, build_plan("mnn-fp32", graph, BOARD), BOARD, engine="none", threads=1
    )
    parameters = session.executor.parameters
    before = parameters.floats()
    for _ in range(2):
        session.step(images, np.arange(4), rate_q24=1 << 18)
    after = parameters.floats()
    changed = {name for name in before if not np.array_equal(before[name], after[name])}
    assert changed == {name for name in before if group_of(name) == 2}
    # the first group alone gives what it gave: a prefix needs no retraining
    alone = increment(1, 4)
    prefix = TrainingSession(
        alone, build_plan("mnn-fp32", alone, BOARD), BOARD, engine="none", threads=1
    )
    names = prefix.executor.parameters.floats()
    prefix.executor.parameters.load_floats({name: before[name] for name in names})
    first = prefix.executor.predict(images)
    prefix.executor.parameters.load_floats({name: after[name] for name in names})
    assert np.array_equal(first, prefix.executor.predict(images))


def test_inference_graphs_hold_the_forward_pass_alone() -> None:
    model = grouped_alexnet(1, 2)
    graph, training = inference_graph(model), training_graph(model)
    assert {node.role for node in graph.nodes} == {Role.FORWARD}
    forward = [n for n in training.nodes if n.role is Role.FORWARD and n.layer != "loss"]
    assert list(graph.nodes) == forward
    assert "label" not in graph.tensors


def test_the_source_names_the_filters_that_are_chosen_here() -> None:
    model = grouped_alexnet(batch=1)
    sizes = [layer.op.k_h for layer in model.layers if isinstance(layer.op, Conv2d)]
    assert set(sizes[::5]) == {5}
    assert {k for place, k in enumerate(sizes) if place % 5} == {3}
    assert "chosen here: 5x5, then 3x3" in model.source
