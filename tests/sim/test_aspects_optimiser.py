"""Optimiser state as a choice: memory, time, numerics, and its equality in every evaluator."""

from __future__ import annotations

import numpy as np
import pytest

from kernels.fp16.formats import BF16, FP16, encode, round_to
from kernels.operators import Role
from kernels.update import MomentumUpdate
from sim import Plan, PlanError, build_plan, expect, load_device, load_model, training_graph
from sim.encoding import Evaluator, Space
from sim.encoding.plain import plain_scores
from sim.engines import run as run_engine
from sim.lowering import lowering, validate
from sim.numeric.session import TrainingSession
from sim.numeric.snapshot import capture, restore
from sim.numeric.trained import Hyper
from sim.numeric.trained_floats import BlockwiseTrained, CompensatedTrained, FloatTrained
from sim.state import StepState

PHONE = load_device("snapdragon-865")
MODEL = load_model("lenet", batch=8)
GRAPH = training_graph(MODEL)
GAP9 = load_device("gap9")
SINGLE = training_graph(load_model("lenet", batch=1))
FLOAT = build_plan("mnn-fp32", GRAPH, PHONE)


def with_state(plan: Plan, choice: str) -> Plan:
    return plan.replace("optimiser_state", "step", choice)


def test_memory_of_each_state() -> None:
    found = {
        c: expect(GRAPH, with_state(FLOAT, c), PHONE).peak_bytes
        for c in ("sgd", "momentum", "momentum8")
    }
    sizes = [layer.op.params for layer in MODEL.layers if layer.op.params]
    assert found["momentum"] - found["sgd"] == 4 * MODEL.params
    assert found["momentum8"] - found["sgd"] == sum(MomentumUpdate(n, 8).state_bytes for n in sizes)


def test_states_take_time() -> None:
    times = {
        c: expect(GRAPH, with_state(FLOAT, c), PHONE).time_ns
        for c in ("sgd", "momentum", "momentum8")
    }
    assert times["sgd"] < times["momentum"]
    assert times["sgd"] < times["momentum8"]


@pytest.mark.parametrize("choice", ["momentum", "momentum8"])
def test_both_engines_give_the_same_rows(choice: str) -> None:
    ready = lowering(GRAPH, with_state(FLOAT, choice), PHONE)
    tasks, _ = ready.step(StepState())
    assert run_engine(tasks).sha256 == run_engine(tasks, "simpy").sha256


def test_int8_layers_keep_the_state_of_their_profile() -> None:
    plan = with_state(build_plan("mnn-int8", GRAPH, PHONE), "momentum8")
    draft = lowering(GRAPH, plan.replace("precision", "linear2", "fp32"), PHONE).draft({})
    kinds = {(i.layer, i.dtype, i.op.kind) for i in draft.items if i.role is Role.UPDATE}
    assert ("linear2", "fp32", "momentum_update") in kinds
    assert ("linear1", "int8", "sgd_update") in kinds


@pytest.mark.parametrize("choice", ["momentum", "momentum8"])
def test_a_state_that_no_layer_would_have_is_refused(choice: str) -> None:
    plan = with_state(build_plan("mandheling", GRAPH, PHONE), choice)
    with pytest.raises(PlanError, match=rf"optimiser_state\.step = '{choice}' .* one of sgd$"):
        lowering(GRAPH, plan, PHONE)


def test_updates_in_16_bits_alone_are_compensated() -> None:
    with pytest.raises(PlanError, match=r"'compensated' .* one of sgd, momentum, momentum8$"):
        lowering(GRAPH, with_state(FLOAT, "compensated"), PHONE)
    plan = build_plan("pulp-fp16", SINGLE, GAP9)
    with pytest.raises(PlanError, match=r"'momentum' .* one of sgd, compensated$"):
        lowering(SINGLE, with_state(plan, "momentum"), GAP9)
    both = with_state(plan, "compensated").update({("precision", "linear2"): "fp32"})
    draft = lowering(SINGLE, both, GAP9).draft({})
    kinds = {i.layer: i.op.kind for i in draft.items if i.role is Role.UPDATE}
    assert kinds["linear2"] == "sgd_update"
    assert {kind for layer, kind in kinds.items() if layer != "linear2"} == {"compensated_update"}


def test_what_compensated_updates_cost() -> None:
    plain, kept = (
        expect(SINGLE, build_plan(name, SINGLE, GAP9), GAP9)
        for name in ("pulp-fp16", "pulp-fp16-kahan")
    )
    assert kept.peak_bytes - plain.peak_bytes == 2 * MODEL.params
    assert plain.time_ns < kept.time_ns < 1.2 * plain.time_ns
    ready = lowering(SINGLE, build_plan("pulp-fp16-kahan", SINGLE, GAP9), GAP9)
    tasks, _ = ready.step(StepState())
    assert run_engine(tasks).sha256 == run_engine(tasks, "simpy").sha256


def on_board(plan: str, steps: int) -> TrainingSession:
    """Small steps, each of less than half a unit of most weights in FP16."""
    session = TrainingSession(
        SINGLE, build_plan(plan, SINGLE, GAP9), GAP9, engine="none", threads=1,
        hyper=Hyper(momentum=0.0, weight_decay=0.0),
    )  # fmt: skip
    image = np.random.default_rng(0).standard_normal((1, 28, 28, 1)).astype(np.float32)
    for _ in range(steps):
        session.step(image, np.array([3]), rate_q24=1 << 10)
    return session


def test_compensated_updates_follow_fp32_where_plain_ones_stand_still() -> None:
    wide, plain, kept = (
        on_board(f"pulp-{name}", 24).executor.parameters.floats()
        for name in ("fp32", "fp16", "fp16-kahan")
    )
    start = on_board("pulp-fp32", 0).executor.parameters.floats()
    name = "linear1.weight"
    moved = wide[name] - start[name]
    rounded = round_to(start[name], FP16)
    stood = np.mean((plain[name] == rounded)[moved != 0])
    assert stood > 0.5
    far, near = (np.abs(w[name] - start[name] - moved).sum() for w in (plain, kept))
    assert near < 0.5 * far


@pytest.mark.parametrize("held", ["pulp-fp16-kahan", "pulp-fp16"])
def test_search_moves_precision_beside_compensated_updates(held: str) -> None:
    space = Space.of(SINGLE, GAP9, build_plan(held, SINGLE, GAP9))
    rows = space.random(8, seed=2)
    for place, gene in enumerate(space.genes):
        if gene.aspect == "precision":  # rows without, with, and only with 16-bit updates
            rows[0][place] = gene.choices.index("fp32")
            rows[1][place] = gene.choices.index("bf16")
    fast = Evaluator(space, "expected", memory=True)(rows)
    plain = plain_scores(space, rows, "expected", memory=True)
    assert fast.time_ns.tolist() == plain.time_ns.tolist()
    assert fast.memory_bytes is not None
    assert plain.memory_bytes is not None
    assert fast.memory_bytes.tolist() == plain.memory_bytes.tolist()


def test_bfloat16_and_momentum_are_compensated_too() -> None:
    plan = with_state(build_plan("pulp-bf16", SINGLE, GAP9), "compensated")
    session = TrainingSession(
        SINGLE, plan, GAP9, engine="none", threads=1, hyper=Hyper(momentum=0.9)
    )
    image = np.random.default_rng(0).standard_normal((1, 28, 28, 1)).astype(np.float32)
    losses = [session.step(image, np.array([3]), rate_q24=1 << 17).result.loss for _ in range(12)]
    assert losses[-1] < 0.5 * losses[0]
    tensor = session.executor.parameters.trained["linear1.weight"]
    assert isinstance(tensor, CompensatedTrained)
    for values in (tensor.weight, tensor.velocity, tensor.lost):
        encode(values, BF16)  # refuses what is not in the format
        assert np.abs(values).max() > 0


def test_a_checkpoint_holds_what_was_lost() -> None:
    session, other = on_board("pulp-fp16-kahan", 3), on_board("pulp-fp16-kahan", 1)
    tensor = session.executor.parameters.trained["conv1.weight"]
    assert isinstance(tensor, CompensatedTrained)
    assert np.abs(tensor.lost).max() > 0
    restore(other, capture(session))
    assert other.executor.parameters.sha256() == session.executor.parameters.sha256()
    tensor.load_floats(tensor.floats())
    assert np.abs(tensor.lost).max() == 0


def test_a_held_state_is_left_out_where_precision_leaves_no_room() -> None:
    base = with_state(FLOAT, "momentum8")
    space = Space.of(GRAPH, PHONE, base)
    whole = space.encode(base)
    assert space.decode(whole).aspect("optimiser_state") == {"step": "momentum8"}
    for place, gene in enumerate(space.genes):
        if gene.aspect == "precision":
            whole[place] = gene.choices.index("int8")
    plan = space.decode(whole)
    assert not plan.aspect("optimiser_state")
    validate(GRAPH, plan, PHONE)


def test_an_unknown_state_is_refused() -> None:
    with pytest.raises(
        PlanError, match=r"optimiser_state\.step = 'adam' .* sgd, momentum, momentum8"
    ):
        expect(GRAPH, with_state(FLOAT, "adam"), PHONE)


def trained(choice: str, steps: int = 12) -> tuple[TrainingSession, list[float]]:
    session = TrainingSession(GRAPH, with_state(FLOAT, choice), PHONE, engine="none", threads=1)
    rng = np.random.default_rng(0)
    images = rng.standard_normal((8, 28, 28, 1)).astype(np.float32)
    losses = [
        session.step(images, np.arange(8), rate_q24=1 << 16).result.loss for _ in range(steps)
    ]
    return session, losses


def test_it_trains_nearly_as_the_exact_state_does() -> None:
    (plain, first), (exact, same), (coarse, near) = map(trained, ("sgd", "momentum", "momentum8"))
    assert first == same  # the simulated cost of a state changes no number
    assert near[0] == same[0]
    assert near != same
    assert near == pytest.approx(same, rel=0.1)
    kinds = [
        type(next(iter(s.executor.parameters.trained.values()))) for s in (plain, exact, coarse)
    ]
    assert kinds == [FloatTrained, FloatTrained, BlockwiseTrained]


def test_a_checkpoint_holds_codes_and_scales() -> None:
    session, _ = trained("momentum8", 3)
    other, _ = trained("momentum8", 1)
    taken = capture(session)
    assert any(name.endswith(":codes") for name in taken.arrays)
    restore(other, taken)
    assert other.executor.parameters.sha256() == session.executor.parameters.sha256()


def test_a_velocity_of_8_bits_starts_again_at_rest() -> None:
    session, _ = trained("momentum8", 2)
    parameters = session.executor.parameters
    tensor = parameters.trained["conv1.weight"]
    assert isinstance(tensor, BlockwiseTrained)
    assert np.abs(tensor.velocity).max() > 0
    parameters.load_floats(parameters.floats())
    assert np.abs(tensor.velocity).max() == 0
