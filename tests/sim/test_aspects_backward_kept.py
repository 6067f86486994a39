"""Backward: what is kept for it, as patch sums, in factors, in iterated bases or as bits."""

from __future__ import annotations

from math import prod

import numpy as np
import pytest

from kernels.conv import Conv2d
from kernels.fp32 import oracle as fp32_oracle
from kernels.operators import Role
from sim import Plan, PlanError, build_plan, load_model, training_graph
from sim.encoding import Evaluator, Space
from sim.encoding.plain import plain_scores
from sim.graph import TrainingGraph
from sim.kept import kept_bytes
from sim.lowering import draft_before, validate
from sim.numeric import NumericError, NumericExecutor
from sim.numeric.ranks import ranks_by_energy
from sim.policies import Filtered
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
from tests.sim.test_numeric_executor import RESIDUAL, batch_of, trained


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


@pytest.mark.parametrize("choice", ["svd:2", "hosvd:2:3:4:3", "asi:2:3:4:3", "asi:4:6:11:9"])
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
    kind = "subspace" if choice.startswith("asi") else "tucker"
    assert readers == ["conv2", f"conv2.{kind}_save"]
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
    bases = ranks_by_energy(executor, images, 0.8, kind="asi")
    assert bases == {k: choice.replace("hosvd", "asi") for k, choice in found.items()}
    with pytest.raises(NumericError, match="kind is 'qr'; allowed: hosvd, svd, asi"):
        ranks_by_energy(executor, images, 0.8, kind="qr")


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
