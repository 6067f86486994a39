"""Backward: filtered gradients in drafts, in memory, in numbers, in both engines and in search."""

from __future__ import annotations

from math import prod

import numpy as np
import pytest
from numpy.typing import NDArray

from cost_models.device import load_device
from kernels import filtered_oracle as oracle
from kernels.conv import Conv2d
from kernels.filtered import FilteredConv
from kernels.fp32 import oracle as fp32_oracle
from kernels.operators import Role
from kernels.profiles import PROFILES
from kernels.quantised import QTensor
from sim import Plan, PlanError, build_plan, decide, load_model, training_graph
from sim.aspects.backward import Backward
from sim.aspects.placement import units_for
from sim.draft import Draft
from sim.encoding import HELD, Evaluator, Space, SpaceError
from sim.encoding.plain import plain_scores
from sim.expected import expected_ns
from sim.graph import TrainingGraph
from sim.kept import kept_bytes
from sim.lowering import draft_before, lowering, validate
from sim.model import INPUT, ModelBuilder
from sim.numeric import NumericError, NumericExecutor, StepInputs
from sim.numeric.calls import Call
from sim.numeric.frame import Frame
from sim.numeric.ranks import ranks_by_energy
from sim.policies import Filtered
from sim.policies.conformance import check_policy
from sim.run import simulate
from tests.sim.test_numeric_executor import RESIDUAL, batch_of, trained

PHONE = load_device("snapdragon-865")
SEARCHED = tuple(name for name in HELD if name != "backward")
"""Held aspects of a space that backward is searched in."""
LENET = training_graph(load_model("lenet", batch=8))
OFFLOAD = build_plan("dsp-int8", LENET, PHONE, (Filtered(2),))


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
        *("svd:8", "hosvd:8:20:12:12"),
    )
    for patch in (2, 3, 8):
        validate(LENET, plan_for(LENET, conv2=f"filter:{patch}"), PHONE)
    for wrong in ("filter:9", "filter:1", "filter:0", "filter:02", "filter", "filter:2:2", "none"):
        with pytest.raises(PlanError, match="choose one of exact, filter:2, filter:4"):
            validate(LENET, plan_for(LENET, conv2=wrong), PHONE)
    with pytest.raises(PlanError, match=r"backward\.linear1 is no subject"):
        validate(LENET, plan_for(LENET, linear1="filter:2"), PHONE)


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


def test_patch_sums_live_on_in_the_place_of_the_input() -> None:
    """VGG's pooled maps are read by one convolution alone: nothing else keeps them."""
    graph = training_graph(load_model("vgg11", batch=8))
    pooled = ("conv2_1", "conv3_1", "conv4_1")
    kept = []
    for choice in ("exact", "filter:2", "filter:4"):
        plan = plan_for(graph, **dict.fromkeys(pooled, choice))
        draft = after_backward(graph, plan)
        readers = [i.name for i in draft.items if "pool1.out" in i.reads]
        if choice == "exact":
            assert readers == ["conv2_1", "conv2_1.weight_grad"]
        else:
            assert readers == ["conv2_1", "conv2_1.patch_sum"]
            whole, saved = draft.buffers["pool1.out"], draft.buffers["conv2_1.patches"]
            assert saved.bytes * int(choice[-1]) ** 2 == whole.bytes
        kept.append(sum(kept_bytes(draft).values()))
    saved = sum(prod(graph.node(name).op.inputs[0]) * 4 for name in pooled)
    assert kept[0] - kept[1] == saved * 3 // 4
    assert kept[0] - kept[2] == saved * 15 // 16


def test_a_relu_keeps_the_input_of_the_convolution_after_it() -> None:
    """The module says so: then patch sums come on top."""
    graph = training_graph(load_model("vgg11", batch=8))
    drafts = [
        after_backward(graph, plan_for(graph, conv3_2=choice)) for choice in ("exact", "filter:2")
    ]
    before, after = map(kept_bytes, drafts)
    assert after["relu3_1.out"] == before["relu3_1.out"]
    assert sum(after.values()) - sum(before.values()) == after["conv3_2.patches"]


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
    with pytest.raises(PlanError, match="patch: 1; allowed: 2 or more"):
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
    with pytest.raises(PlanError, match=r"'filter:2' is not allowed; choose one of exact, svd:2"):
        validate(graph, plan_for(graph, conv2="filter:2"), PHONE)
    plan = build_plan("dsp-int8", graph, PHONE, (Filtered(2),))
    assert plan.aspect("backward") == {"conv1": "filter:2"}


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


@pytest.mark.parametrize("choice", ["svd:2", "hosvd:2:3:4:3"])
def test_an_input_in_factors_is_restored_for_an_exact_weight_gradient(choice: str) -> None:
    graph = small(pad=1)
    plan = plan_for(graph, conv2=choice)
    x, e, again, dw = "conv1.out", "conv2.out.grad", "conv2.restored", "conv2.weight.grad"
    got = captured(graph, plan, (x, e, again, dw))
    op = graph.node("conv2").op
    assert isinstance(op, Conv2d)
    want = fp32_oracle.conv_weight_grad(got[again], got[e], op)
    np.testing.assert_allclose(got[dw], want, rtol=1e-4, atol=1e-6)
    assert 0 < np.linalg.norm(got[x] - got[again]) < np.linalg.norm(got[x])
    draft = after_backward(graph, plan)
    readers = [i.name for i in draft.items if x in i.reads]
    assert readers == ["conv2", "conv2.tucker_save"]
    assert simulate(graph, plan, PHONE, steps=1).sha256 == (
        simulate(graph, plan, PHONE, steps=1, engine="simpy").sha256
    )


def test_a_layer_in_factors_computes_in_fp32() -> None:
    plan = plan_for(LENET, conv2="svd:4").update({("precision", "conv2"): "int8"})
    with pytest.raises(PlanError, match=r"precision.conv2 = 'int8' is not allowed; .* fp32"):
        validate(LENET, plan, PHONE)
    with pytest.raises(PlanError, match="'svd:9' is not allowed"):
        validate(LENET, plan_for(LENET, conv2="svd:9"), PHONE)
    space = Space.of(
        LENET,
        PHONE,
        build_plan("mnn-fp32", LENET, PHONE),
        held=SEARCHED,
        palettes={"backward": ("exact", "svd:2", "hosvd:2:4:4:4", "filter:2")},
    )
    rows = space.random(8, seed=3)
    fast, plain = Evaluator(space)(rows), plain_scores(space, rows, "expected")
    assert fast.time_ns.tolist() == plain.time_ns.tolist()
    mine = plan_for(LENET, conv2="hosvd:2:4:4:4").replace("placement", "conv2.tucker_save", "cpu:1")
    assert space.decode(space.encode(mine)).diff(mine) == []


def test_ranks_hold_the_energy_that_is_asked_for() -> None:
    graph = training_graph(load_model("lenet", batch=16))
    executor = NumericExecutor(graph, build_plan("mnn-fp32", graph, PHONE), PHONE, seed=1)
    images, _ = batch_of(graph)
    found = ranks_by_energy(executor, images, 0.8)
    assert list(found) == ["conv1", "conv2"]
    validate(graph, plan_for(graph, **found), PHONE)
    whole = ranks_by_energy(executor, images, 1.0, kind="svd")
    assert whole == {"conv1": "svd:16", "conv2": "svd:16"}
    ranks = [int(r) for r in found["conv1"].split(":")[1:]]
    shares = np.linalg.svd(images.reshape(16, -1).astype(np.float64), compute_uv=False) ** 2
    assert shares[: ranks[0]].sum() >= 0.8 * shares.sum() > shares[: ranks[0] - 1].sum()
    with pytest.raises(NumericError, match="images are 3; allowed: 16"):
        ranks_by_energy(executor, images[:3], 0.8)
    with pytest.raises(NumericError, match="kind is 'asi'"):
        ranks_by_energy(executor, images, 0.8, kind="asi")


@pytest.mark.parametrize("recipe", ["mnn-fp32", "dsp-int8"])
@pytest.mark.parametrize("graph", [LENET, RESIDUAL], ids=["lenet", "residual"])
def test_bits_in_the_place_of_outputs_change_no_bit_of_training(
    graph: TrainingGraph, recipe: str
) -> None:
    plan = build_plan(recipe, graph, PHONE)
    relus = [n.layer for n in graph.nodes if n.op.kind == "relu" and n.role is Role.INPUT_GRAD]
    choices = {("backward", layer): "mask" for layer in relus}
    moved = {k: c for k, c in plan.choices if k[0] != "placement"}
    bits = Plan.make("bits", graph.hash(), {**moved, **choices})
    assert trained(graph, bits)[0] == trained(graph, plan)[0]
    assert simulate(graph, bits, PHONE, steps=1).sha256 == (
        simulate(graph, bits, PHONE, steps=1, engine="simpy").sha256
    )


@pytest.mark.parametrize("recipe", ["mnn-fp32", "mnn-int8"])
def test_with_bits_filtered_inputs_can_go(recipe: str) -> None:
    """Inputs of maximum poolings stay: VGG keeps a fifth less, not three quarters."""
    graph = training_graph(load_model("vgg11", batch=8))
    kept = []
    for policies in ((), (Filtered(2),), (Filtered(2, masks=True),)):
        plan = build_plan(recipe, graph, PHONE, policies)
        draft = draft_before("batch_split", graph, plan, PHONE)
        kept.append(kept_bytes(draft))
    relu = prod(graph.node("relu3_1").op.output)
    assert kept[2]["relu3_1.signs"] == relu // 8
    assert "relu3_1.out" in kept[1]
    assert "relu3_1.out" not in kept[2]
    assert sum(kept[2].values()) < sum(kept[1].values()) < sum(kept[0].values())
