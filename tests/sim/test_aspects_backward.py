"""Backward: filtered gradients in drafts, in numbers, in both engines and in search."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from cost_models.device import load_device
from kernels import filtered_oracle as oracle
from kernels.conv import Conv2d
from kernels.filtered import FilteredConv
from kernels.operators import Role
from kernels.profiles import PROFILES
from sim import PlanError, build_plan, decide, load_model, training_graph
from sim.aspects.backward import Backward
from sim.aspects.placement import units_for
from sim.encoding import Evaluator, Space, SpaceError
from sim.encoding.plain import plain_scores
from sim.expected import expected_ns
from sim.graph import TrainingGraph
from sim.lowering import draft_before, lowering, validate
from sim.model import INPUT, ModelBuilder
from sim.policies import Filtered
from sim.policies.conformance import check_policy
from sim.run import simulate
from tests.sim.backward_cases import (
    LENET,
    PHONE,
    SEARCHED,
    after_backward,
    captured,
    plan_for,
    small,
)
from tests.sim.test_numeric_executor import RESIDUAL, trained

OFFLOAD = build_plan("dsp-int8", LENET, PHONE, (Filtered(2),))


def test_a_filtered_layer_has_passes_around_its_products() -> None:
    draft = after_backward(LENET, plan_for(LENET, conv2="filter:4"))
    items = {i.name: (i.op.kind, i.reads, i.writes) for i in draft.items if i.layer == "conv2"}
    assert list(items.items())[:-1] == [
        ("conv2", ("conv2d", ("pool1.out", "conv2.weight"), ("conv2.out",))),
        ("conv2.patch_sum", ("patch_sum", ("pool1.out",), ("conv2.patches",))),
        ("conv2.patch_mean", ("patch_mean", ("conv2.out.grad",), ("conv2.patch_error",))),
        ("conv2.tap_sum", ("tap_sum", ("conv2.weight",), ("conv2.taps",))),
        (
            "conv2.input_grad",
            ("conv2d", ("conv2.patch_error", "conv2.taps"), ("conv2.patch_grad",)),
        ),
        ("conv2.patch_expand", ("patch_expand", ("conv2.patch_grad",), ("pool1.out.grad",))),
        (
            "conv2.weight_grad",
            ("conv2d", ("conv2.patches", "conv2.patch_error"), ("conv2.tap_grad",)),
        ),
        (
            "conv2.tap_broadcast",
            ("tap_broadcast", ("conv2.tap_grad",), ("conv2.weight.grad",)),
        ),
    ]


def test_what_a_pass_writes_has_its_own_shape() -> None:
    draft = after_backward(RESIDUAL, plan_for(RESIDUAL, conv4="filter:2", conv2="filter:3"))
    for item in draft.items:
        if item.op.kind.startswith(("patch", "tap")):
            (name,) = item.writes
            assert draft.buffers[name].shape == item.op.output, item.name
            assert draft.buffers[item.reads[0]].shape == item.op.inputs[0], item.name


def test_patches_up_to_the_map_are_allowed() -> None:
    aspect_draft = draft_before("backward", LENET, plan_for(LENET), PHONE)
    aspect = Backward()
    assert aspect.subjects(aspect_draft, PHONE) == ["conv1", "relu1", "conv2", "relu2", "relu3"]
    assert aspect.allowed(aspect_draft, "relu3", PHONE) == ("exact", "mask")
    allowed = aspect.allowed(aspect_draft, "conv2", PHONE)
    assert allowed == (
        *("exact", "filter:2", "filter:4", "filter:7", "filter:8"),
        *("svd:8", "hosvd:8:20:12:12", "asi:8:20:12:12"),
    )
    for patch in (2, 3, 8):
        validate(LENET, plan_for(LENET, conv2=f"filter:{patch}"), PHONE)
    for wrong in ("filter:9", "filter:1", "filter:0", "filter:02", "filter", "filter:2:2", "none"):
        with pytest.raises(PlanError) as refusal:
            validate(LENET, plan_for(LENET, conv2=wrong), PHONE)
        assert str(refusal.value).endswith(
            "choose one of exact, filter:2 to filter:8, svd:1 to svd:8, hosvd:N:C:H:W with N 1 to "
            "8, C 1 to 20, H 1 to 12, W 1 to 12, asi:N:C:H:W with N 1 to 8, C 1 to 20, H 1 to 12, "
            "W 1 to 12"
        )
    with pytest.raises(PlanError, match=r"backward\.linear1 is no subject"):
        validate(LENET, plan_for(LENET, linear1="filter:2"), PHONE)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"patch": "2"}, "patch: '2'; allowed: a whole number, 2 or more"),
        ({"patch": 2.5}, r"patch: 2\.5; allowed: a whole number"),
        ({"patch": 1}, "patch: 1; allowed: a whole number, 2 or more; 1 is exact"),
        ({"patch": True}, "patch: True; allowed"),
        ({"patch": 2, "last": "1"}, "last: '1'; allowed: a whole number, 1 or more, or None"),
        ({"patch": 2, "last": 0}, "last: 0; allowed"),
        ({"patch": 2, "masks": "yes"}, "masks: 'yes'; allowed: True or False"),
    ],
)
def test_a_filter_of_anything_but_whole_numbers_is_refused(
    given: dict[str, Any], message: str
) -> None:
    with pytest.raises(PlanError, match=message):
        Filtered(**given)


def test_frozen_layers_are_no_subjects_and_the_deepest_trained_one_has_no_input_gradient() -> None:
    model = load_model("vgg11", batch=4)
    names = [layer.name for layer in model.layers if layer.op.weights]
    graph = training_graph(model, frozen=names[:-4])
    plan = build_plan("mnn-fp32", graph, PHONE, (Filtered(2),))
    layers = list(plan.aspect("backward"))
    assert layers
    assert set(layers) <= set(names[-4:])
    first = layers[0]
    steps = [i.name for i in after_backward(graph, plan).items if i.layer == first]
    assert f"{first}.weight_grad" in steps
    assert f"{first}.input_grad" not in steps
    assert f"{first}.patch_expand" not in steps


@pytest.mark.parametrize(
    "conv",
    [
        {"pad": 1},
        {"pad": 0},
        {"pad": 1, "stride": 2},
        {"pad": 1, "groups": 0},
        {"pad": 3, "dilation": 3},
        {"pad": 1, "groups": 2},
    ],
)
@pytest.mark.parametrize("dtype", ["fp32", "int8"])
def test_gradients_of_a_step_come_near_the_oracle(conv: dict[str, int], dtype: str) -> None:
    graph = small(**conv)
    plan = plan_for(graph, conv2="filter:3").update(
        {("precision", layer): dtype for layer in ("conv1", "conv2", "pool1", "linear1")}
    )
    x, w, e, dx, dw, db = (
        *("conv1.out", "conv2.weight", "conv2.out.grad"),
        *("conv1.out.grad", "conv2.weight.grad", "conv2.bias.grad"),
    )
    names = {x, w, e, dx, dw, db}
    got = captured(graph, plan, tuple(names))
    op = graph.node("conv2").op
    assert isinstance(op, Conv2d)
    wanted = {
        dx: oracle.filtered_input_grad(got[e], got[w], op, 3),
        dw: oracle.filtered_weight_grad(got[x], got[e], op, 3),
    }
    loose = 0.06 if dtype == "int8" else 1e-5  # three roundings to 7 bits on the way
    for name, want in wanted.items():
        assert np.abs(got[name] - want).max() <= loose * np.abs(want).max(), name
    if dtype == "fp32":  # in INT8 it stays a sum until the update
        np.testing.assert_allclose(got[db], got[e].sum((0, 1, 2)), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("profile", sorted(PROFILES))
def test_split_equals_unsplit_in_every_profile_that_says_so(profile: str) -> None:
    subjects = ("conv1.weight_grad", "conv2.weight_grad", "conv2.input_grad", "conv2")
    split = OFFLOAD.update({("batch_split", s): "2" for s in subjects})
    whole, losses = trained(LENET, OFFLOAD, profile=profile)
    parts, _ = trained(LENET, split, profile=profile)
    assert np.isfinite(losses).all()
    assert (whole == parts) is (PROFILES[profile].split == "int32")


def test_the_bits_depend_on_neither_placement_nor_threads() -> None:
    mine = build_plan("mandheling", LENET, PHONE, (Filtered(2),))
    rules = OFFLOAD.update({("rescale", s): c for s, c in mine.aspect("rescale").items()})
    splits = rules.update({("batch_split", s): c for s, c in mine.aspect("batch_split").items()})
    assert trained(LENET, mine)[0] == trained(LENET, splits)[0]
    assert trained(LENET, OFFLOAD, threads=1) == trained(LENET, OFFLOAD, threads=2)
    exact = build_plan("dsp-int8", LENET, PHONE)
    assert trained(LENET, OFFLOAD)[0] != trained(LENET, exact)[0]


@pytest.mark.parametrize("recipe", ["mnn-fp32", "mnn-fp32-gpu", "dsp-int8", "mandheling"])
@pytest.mark.parametrize("graph", [LENET, RESIDUAL], ids=["lenet", "residual"])
def test_both_engines_time_a_filtered_plan_alike(graph: TrainingGraph, recipe: str) -> None:
    plan = build_plan(recipe, graph, PHONE, (Filtered(3),))
    one = simulate(graph, plan, PHONE, steps=2)
    other = simulate(graph, plan, PHONE, steps=2, engine="simpy")
    assert one.sha256 == other.sha256


def test_search_takes_filters_up_by_itself() -> None:
    base = build_plan("mandheling", LENET, PHONE)
    assert not [g for g in Space.of(LENET, PHONE, base).genes if g.aspect == "backward"]
    space = Space.of(LENET, PHONE, base, held=SEARCHED)
    mine = build_plan("mandheling", LENET, PHONE, (Filtered(4),))
    again = space.decode(space.encode(mine))
    assert again.aspect("backward") == mine.aspect("backward")
    assert expected_ns(LENET, again, PHONE) == expected_ns(LENET, mine, PHONE)
    moved = mine.replace("placement", "conv2.patch_sum", "cpu:1")
    assert space.decode(space.encode(moved)).aspect("placement")["conv2.patch_sum"] == "cpu:1"
    genes = {g.subject: g.choices for g in space.genes if g.aspect == "backward"}
    assert genes["conv2"] == ("exact", "filter:2", "filter:4", "filter:7")
    rows = space.random(12, seed=1)
    kept = np.random.default_rng(2).random(rows.shape) > 0.1
    near = np.where(kept, space.encode(moved), rows).astype(np.int16)
    for batch in (rows, near):
        fast, plain = Evaluator(space, memory=True)(batch), plain_scores(space, batch, "expected")
        assert fast.time_ns.tolist() == plain.time_ns.tolist()
    narrow = Space.of(
        LENET, PHONE, base, held=SEARCHED, palettes={"backward": ("exact", "filter:24")}
    )
    assert [g.subject for g in narrow.genes if g.aspect == "backward"] == ["conv1"]
    with pytest.raises(SpaceError, match="'filter:99' is not allowed for any subject"):
        Space.of(LENET, PHONE, base, held=SEARCHED, palettes={"backward": ("exact", "filter:99")})


def test_with_placement_held_backward_is_held_too() -> None:
    held = ("library", "input", "rpc_qos", "precision", "placement")
    space = Space.of(LENET, PHONE, build_plan("dsp-int8", LENET, PHONE), held=held)
    assert "backward" in space.held
    assert not [g for g in space.genes if g.aspect == "backward"]


def test_policy_filters_what_it_can() -> None:
    check_policy(Filtered(4))
    draft = draft_before("backward", LENET, plan_for(LENET), PHONE)
    last = decide("last", LENET, PHONE, (Filtered(40, last=1),))
    assert last.aspect("backward") == {"conv2": "filter:8"}
    assert draft.first("conv2").op == LENET.node("conv2").op
    with pytest.raises(PlanError, match="patch: 1; allowed: a whole number, 2 or more"):
        Filtered(1)
    with pytest.raises(PlanError, match="last: 0"):
        Filtered(2, last=0)


def test_every_kernel_has_a_cost_wherever_it_may_be_placed() -> None:
    for name in ("snapdragon-865", "laptop"):
        device = load_device(name)
        plan = build_plan("mnn-int8", LENET, device, (Filtered(2),))
        ready = lowering(LENET, plan, device)
        draft = draft_before("placement", LENET, plan, device)
        passes = [i for i in draft.items if i.op.kind.startswith(("patch", "tap"))]
        assert len(passes) == 3 + 5  # nothing below conv1 needs a gradient
        for item in passes:
            for unit in units_for(item, device):
                cost = ready.costs.cost(item.call, unit)
                assert cost.cycles > 0, (item.name, unit)
                assert cost.lead_ns > 0


def test_a_small_map_has_no_filter() -> None:
    b = ModelBuilder("tiny", (2, 3, 3, 3), source="this test")
    x = b.conv(b.conv(INPUT, 4, 3, pad=1), 4, 3)
    graph = training_graph(b.build(b.linear(b.flatten(x), 3)))
    with pytest.raises(PlanError, match="'filter:2' is not allowed; choose one of exact, svd:1 to"):
        validate(graph, plan_for(graph, conv2="filter:2"), PHONE)
    plan = build_plan("dsp-int8", graph, PHONE, (Filtered(2),))
    assert plan.aspect("backward") == {"conv1": "filter:2"}


@pytest.mark.parametrize("kind", ["filter", "svd", "hosvd:2:2:2", "asi:2:2:2"])
def test_a_number_too_long_to_be_read_is_not_allowed(kind: str) -> None:
    """Python refuses to make an integer of more than 4300 digits."""
    choice = f"{kind}:{'9' * 5000}"
    with pytest.raises(PlanError, match=rf"backward.conv2 = '{choice}' is not allowed; choose"):
        validate(LENET, plan_for(LENET, conv2=choice), PHONE)


def test_filtered_products_are_what_the_spec_says() -> None:
    plan = plan_for(RESIDUAL, conv2="filter:4")
    draft = after_backward(RESIDUAL, plan)
    op = RESIDUAL.node("conv2").op
    assert isinstance(op, Conv2d)
    spec = FilteredConv(op, 4)
    made = {i.role: i.op for i in draft.items if i.layer == "conv2" and i.has_macs}
    assert made == {
        Role.FORWARD: op,
        Role.INPUT_GRAD: spec.input_product,
        Role.WEIGHT_GRAD: spec.weight_product,
    }
