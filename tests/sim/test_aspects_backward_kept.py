"""Backward: what is kept for it, as patch sums, in factors, in iterated bases or as bits."""

from __future__ import annotations

import json
from math import prod
from typing import Any

import numpy as np
import pytest

from cost_models.cost import KernelCall, UnsupportedKernelError
from kernels.conv import Conv2d
from kernels.fp32 import oracle as fp32_oracle
from kernels.operators import Role
from kernels.tucker import SubspaceSave, TuckerSave
from sim import Plan, PlanError, build_plan, load_model, training_graph
from sim.encoding import Evaluator, Space
from sim.encoding.plain import plain_scores
from sim.graph import TrainingGraph
from sim.kept import kept_bytes
from sim.lowering import draft_before, lowering, validate
from sim.numeric import NumericError, NumericExecutor
from sim.numeric.ranks import ranks_by_energy
from sim.numeric.session import TrainingSession
from sim.numeric.snapshot import Snapshot, SnapshotError, capture, copied, restore
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
from tests.sim.test_numeric_executor import RATE, RESIDUAL, batch_of, trained


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
        palettes={"backward": ("exact", "svd:2", "hosvd:2:4:4:4", "asi:2:4:4:4", "filter:2")},
    )
    rows = space.random(8, seed=3)
    fast = Evaluator(space, memory=True)(rows)
    plain = plain_scores(space, rows, "expected", memory=True)
    assert fast.time_ns.tolist() == plain.time_ns.tolist()
    assert fast.memory_bytes is not None
    assert plain.memory_bytes is not None
    assert fast.memory_bytes.tolist() == plain.memory_bytes.tolist()
    for choice, kind in (("hosvd:2:4:4:4", "tucker"), ("asi:2:4:4:4", "subspace")):
        mine = plan_for(LENET, conv2=choice).replace("placement", f"conv2.{kind}_save", "cpu:1")
        assert space.decode(space.encode(mine)).diff(mine) == []


def test_bases_of_one_vector_each_are_planned_priced_and_trained() -> None:
    """The least ranks, on every trained convolution."""
    least = dict.fromkeys(("conv1", "conv2"), "asi:1:1:1:1")
    plan = plan_for(LENET, **least)
    validate(LENET, plan, PHONE)
    draft = after_backward(LENET, plan)
    kept = kept_bytes(draft)
    assert [kept[f"{layer}.core"] for layer in least] == [4, 4]
    assert kept["conv2.bases.next"] == 4 * (8 + 20 + 12 + 12)
    assert kept["conv1.bases.next"] == 4 * (8 + 28 + 28)  # one channel: that axis has no basis
    two, reference = (
        simulate(LENET, plan, PHONE, steps=2, engine=e) for e in ("compiled", "simpy")
    )
    assert two.sha256 == reference.sha256
    session = session_of(plan, threads=1)
    before = session.executor.parameters.floats()["conv2.weight"].copy()
    assert np.isfinite(steps_of(session, 0, 2)).all()
    assert np.abs(session.executor.parameters.floats()["conv2.weight"] - before).max() > 0
    space = Space.of(
        LENET,
        PHONE,
        build_plan("mnn-fp32", LENET, PHONE),
        held=SEARCHED,
        palettes={"backward": ("exact", "asi:1:1:1:1")},
    )
    assert space.decode(space.encode(plan)).diff(plan) == []
    rows = np.concatenate([space.random(2, seed=2), space.encode(plan)[None]])
    fast = Evaluator(space, memory=True)(rows)
    plain = plain_scores(space, rows, "expected", memory=True)
    for column in ("time_ns", "energy_pj", "memory_bytes"):
        assert getattr(fast, column).tolist() == getattr(plain, column).tolist()


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


ITERATED = plan_for(LENET, conv1="asi:4:1:9:9", conv2="asi:3:8:6:5")
"""The first has one channel; such an axis has no basis."""


def session_of(plan: Plan, **how: Any) -> TrainingSession:
    return TrainingSession(LENET, plan, PHONE, seed=5, **how)


def steps_of(session: TrainingSession, first: int, end: int) -> list[float]:
    return [
        session.step(*batch_of(LENET, step), rate_q24=RATE).result.loss
        for step in range(first, end)
    ]


def test_bases_live_from_step_to_step_beside_a_core_that_does_not() -> None:
    draft = after_backward(LENET, ITERATED)
    op = draft.first("conv2.subspace_save").op
    assert isinstance(op, SubspaceSave)
    assert (op.core, op.bases) == (3 * 8 * 6 * 5, 8 * 3 + 20 * 8 + 12 * 6 + 12 * 5)
    assert draft.buffers["conv2.bases"].resident
    kept, hosvd = (
        kept_bytes(after_backward(LENET, plan_for(LENET, conv2=choice)))
        for choice in ("asi:3:8:6:5", "hosvd:3:8:6:5")
    )
    assert kept["conv2.core"] == 4 * op.core
    assert kept["conv2.bases.next"] == 4 * op.bases
    assert sum(kept.values()) == sum(hosvd.values())
    resident = [
        simulate(LENET, plan, PHONE, steps=1).timelines[0].graph.resident_bytes
        for plan in (ITERATED, plan_for(LENET))
    ]
    assert resident[0] - resident[1] == 4 * (op.bases + 8 * 4 + 28 * 9 + 28 * 9)


def test_an_iteration_costs_less_than_eigenproblems() -> None:
    graph = training_graph(load_model("vgg11", batch=32))
    ready = lowering(graph, plan_for(graph), PHONE)
    for layer in ("conv2_1", "conv3_2", "conv5_1"):
        n, c, h, w = graph.node(layer).op.inputs[0]
        ranks = n // 4, c // 4, max(h // 4, 1), max(w // 4, 1)
        cycles = []
        for op in (SubspaceSave(n, c, h, w, ranks), TuckerSave(n, c, h, w, ranks)):
            cost = ready.costs.cost(KernelCall(op, Role.FORWARD, "fp32"), "cpu:4")
            cycles.append(cost.cycles)
            assert any("efficiency" in path for path in cost.parameters)
            with pytest.raises(UnsupportedKernelError, match="no fp32 kernel"):
                ready.costs.cost(KernelCall(op, Role.FORWARD, "fp32"), "gpu")
        assert cycles[0] < 0.7 * cycles[1], layer


def test_a_restored_session_goes_on_from_the_same_bases() -> None:
    one, other = session_of(ITERATED), session_of(ITERATED)
    start = copied(one.executor.parameters.arrays())
    steps_of(one, 0, 3)
    taken = capture(one)
    moved = {n: a for n, a in taken.arrays.items() if n.endswith(":bases")}
    assert sorted(moved) == ["conv1:bases", "conv2:bases"]
    assert not any(np.array_equal(array, start[name]) for name, array in moved.items())
    taken = Snapshot(copied(taken.arrays), json.loads(json.dumps(taken.meta)))
    cold = Snapshot(taken.arrays | {name: start[name] for name in moved}, taken.meta)
    with pytest.raises(SnapshotError, match="the arrays are damaged"):
        restore(other, cold)
    other = session_of(ITERATED)
    restore(other, taken)
    assert steps_of(one, 3, 6) == steps_of(other, 3, 6)
    assert one.executor.parameters.sha256() == other.executor.parameters.sha256()


def test_what_a_step_computes_depends_on_the_bases_of_the_last() -> None:
    warm, cold = session_of(ITERATED, engine="none"), session_of(ITERATED, engine="none")
    steps_of(warm, 0, 3)
    steps_of(cold, 0, 3)
    for bases in cold.executor.parameters.bases.values():
        bases.restart()
    assert steps_of(warm, 3, 4) == steps_of(cold, 3, 4)  # the forward pass is exact
    one, other = (each.executor.parameters.floats()["conv2.weight"] for each in (warm, cold))
    assert not np.array_equal(one, other)


def test_weights_that_are_loaded_begin_with_drawn_bases() -> None:
    """Else a client of federated training would go on from the images of another."""
    used, fresh = session_of(ITERATED), session_of(ITERATED)
    weights = fresh.executor.parameters.floats()
    steps_of(used, 0, 2)
    used.executor.parameters.load_floats(weights)
    used.restart(5)
    assert used.executor.parameters.sha256() == fresh.executor.parameters.sha256()
    other = TrainingSession(LENET, ITERATED, PHONE, seed=6).executor.parameters.bases["conv2"]
    assert not np.array_equal(other.values, fresh.executor.parameters.bases["conv2"].values)


@pytest.mark.parametrize(("recipe", "unit"), [("mnn-fp32-gpu", "gpu"), ("dsp-int8", "dsp:4")])
def test_both_engines_time_iterated_plans_alike(recipe: str, unit: str) -> None:
    base = build_plan(recipe, LENET, PHONE)
    others = {k: c for k, c in base.choices if k[1].partition(".")[0] != "conv2"}
    mine = Plan.make("iterated", LENET.hash(), {**others, ("backward", "conv2"): "asi:3:8:6:5"})
    assert unit in mine.aspect("placement").values()
    one = simulate(LENET, mine, PHONE, steps=2)
    assert one.sha256 == simulate(LENET, mine, PHONE, steps=2, engine="simpy").sha256
    assert trained(LENET, mine, threads=1) == trained(LENET, mine, threads=2)


def test_ranks_of_an_iteration_are_checked() -> None:
    for wrong in ("asi:9:20:12:12", "asi:0:20:12:12", "asi:2", "asi:2:2:2:2:2", "asi"):
        with pytest.raises(PlanError, match=rf"'{wrong}' is not allowed; .* N 1 to 8, C 1 to 20"):
            validate(LENET, plan_for(LENET, conv2=wrong), PHONE)
    integer = ITERATED.update({("precision", "conv2"): "int8"})
    with pytest.raises(PlanError, match=r"precision.conv2 = 'int8' is not allowed; .* fp32"):
        validate(LENET, integer, PHONE)
    frozen = training_graph(load_model("lenet", batch=8), frozen=("conv1", "conv2"))
    with pytest.raises(PlanError, match=r"backward\.conv2 is no subject"):
        validate(frozen, plan_for(frozen, conv2="asi:2:2:2:2"), PHONE)
