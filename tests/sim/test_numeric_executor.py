"""The numeric executor: the lowered items on real tensors, exact and independent of schedule."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from cost_models.device import load_device
from kernels.gemm import available_backends
from kernels.int8.inputs import quantise_input
from kernels.int8.loss import loss_error
from kernels.int8.rescale import rescale
from kernels.operators import channels_last
from kernels.profiles import PROFILES
from kernels.quantised import QTensor, QuantError
from kernels.rounding import ceil_log2, psto
from sim.autodiff import training_graph
from sim.graph import TrainingGraph
from sim.lowering import lowering
from sim.model import INPUT, ForwardModel, ModelBuilder
from sim.numeric import Hyper, NumericError, NumericExecutor, StepInputs, TrainingSession
from sim.numeric.frame import Frame
from sim.numeric.values import Value
from sim.plan import Plan
from sim.policies.build import build_plan
from sim.run import simulate
from sim.state import RecordedShifts
from sim.testing import forward_models
from sim.zoo import load_model, model_names

PHONE = load_device("snapdragon-865")
RATE = 1 << 18


def batch_of(graph: TrainingGraph, seed: int = 0) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Random images and labels that fit a graph."""
    rng = np.random.default_rng(seed)
    shape = channels_last(graph.tensor(INPUT).shape)
    classes = graph.tensor(graph.node("loss").inputs[0]).shape[1]
    images = rng.standard_normal(shape).astype(np.float32)
    return images, rng.integers(0, classes, shape[0])


def trained(
    graph: TrainingGraph, plan: Plan, steps: int = 3, **how: object
) -> tuple[str, list[float]]:
    """Digest of the parameters after some steps, and the losses on the way."""
    session = TrainingSession(graph, plan, PHONE, engine="none", **how)  # type: ignore[arg-type]
    losses = []
    for step in range(steps):
        images, labels = batch_of(graph, step)
        losses.append(session.step(images, labels, rate_q24=RATE).result.loss)
    return session.executor.parameters.sha256(), losses


LENET = training_graph(load_model("lenet", batch=8))
OFFLOAD = build_plan("dsp-int8", LENET, PHONE)
MANDHELING = build_plan("mandheling", LENET, PHONE)
FLOAT = build_plan("mnn-fp32", LENET, PHONE)


def residual(batch: int, *, smooth: bool = False) -> ForwardModel:
    """Batch norm, a residual sum, a join, a strided convolution and an average."""
    b = ModelBuilder("small-residual", (batch, 3, 8, 8), source="this test")

    def bend(x: str) -> str:
        return x if smooth else b.relu(x)

    x = bend(b.batch_norm(b.conv(INPUT, 8, 3, pad=1)))
    y = b.batch_norm(b.conv(x, 8, 3, pad=1))
    x = bend(b.sum([x, y]))
    x = b.concat([x, bend(b.conv(x, 4, 3, pad=1))])
    x = bend(b.conv(x, 8, 3, stride=2, pad=1))
    return b.build(b.linear(b.flatten(b.global_avg_pool(x)), 5, bias=True))


RESIDUAL = training_graph(residual(4))


def test_every_computed_item_is_one_row_of_the_timeline() -> None:
    session = TrainingSession(LENET, MANDHELING, PHONE)
    ready = lowering(LENET, MANDHELING, PHONE)
    modes = ready.modes(session.state)
    items = [item.name for item in ready.draft(modes).items]
    timeline = session.step(*batch_of(LENET), rate_q24=RATE).timeline
    assert timeline is not None
    rows = list(timeline.graph.names)
    assert len(set(rows)) == len(rows)
    assert set(items) <= set(rows)
    services = {name.rpartition(".")[2] for name in set(rows) - set(items)}
    assert services <= {"prepare", "call", "repack", "return"}


@pytest.mark.parametrize("threads", [2, 3])
@pytest.mark.parametrize("graph", [LENET, RESIDUAL], ids=lambda g: g.name)
def test_integer_plans_give_the_same_weights_for_any_number_of_threads(
    graph: TrainingGraph, threads: int
) -> None:
    plan = build_plan("mandheling", graph, PHONE)
    assert trained(graph, plan, threads=1) == trained(graph, plan, threads=threads)


@pytest.mark.parametrize("backend", available_backends())
def test_every_back_end_gives_the_same_weights(backend: str) -> None:
    assert trained(LENET, MANDHELING, backend=backend) == trained(LENET, MANDHELING)


def test_float_plans_give_the_same_bits_for_any_number_of_threads() -> None:
    plan = build_plan("mnn-fp32", RESIDUAL, PHONE)
    assert trained(RESIDUAL, plan, threads=1) == trained(RESIDUAL, plan, threads=3)
    assert trained(RESIDUAL, plan, seed=1)[0] != trained(RESIDUAL, plan, seed=2)[0]


@pytest.mark.parametrize("size", [1, 2, 4])
@pytest.mark.parametrize("profile", ["sandbox", "niti_v1", "niti_v2"])
@pytest.mark.parametrize("rule", ["every", "fixed:4", "hindsight"])
def test_a_split_batch_gives_the_bits_of_a_whole_one(size: int, profile: str, rule: str) -> None:
    whole = split = OFFLOAD
    for item in lowering(LENET, OFFLOAD, PHONE).head.items:
        if item.has_macs:
            whole = whole.replace("rescale", item.subject, rule)
            split = split.replace("rescale", item.subject, rule)
            split = split.replace("batch_split", item.subject, str(size))
    assert trained(LENET, split, profile=profile) == trained(LENET, whole, profile=profile)


def test_a_split_float_batch_is_equal_within_rounding() -> None:
    split = FLOAT
    for item in lowering(LENET, FLOAT, PHONE).head.items:
        if item.has_macs:
            split = split.replace("batch_split", item.subject, "2")
    whole, parts = trained(LENET, FLOAT)[1], trained(LENET, split)[1]
    assert parts == pytest.approx(whole, rel=1e-4)


def test_mandheling_splits_a_gradient_as_its_code_does() -> None:
    """``NITI_GradientSplitConv_Int8.cpp``: 3 bits for each half, then the narrower is divided."""
    split = OFFLOAD.replace("batch_split", "conv1.weight_grad", "4")
    images, labels = batch_of(LENET)
    session = TrainingSession(LENET, split, PHONE, engine="none", profile="mandheling_cpu")
    kept: dict[str, QTensor] = {}
    put = Frame.put

    def look(frame: Frame, name: str, value: Value) -> None:
        if isinstance(value, QTensor):
            kept[name] = QTensor(value.mantissa.copy(), value.exponent)
        put(frame, name, value)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Frame, "put", look)
        session.step(images, labels, rate_q24=0)
    x, error = kept["input@int8"].int8.astype(np.int64), kept["conv1.out.grad"].int8
    halves = []
    for part in (slice(0, 4), slice(4, 8)):
        sums = np.zeros((20, 5, 5, 1), np.int64)
        for row in range(5):
            for column in range(5):
                seen = x[part, row : row + 24, column : column + 24, 0]
                sums[:, row, column, 0] = np.einsum("nhw,nhwo->o", seen, error[part])
        width = ceil_log2(int(np.abs(sums).max()))
        halves.append((psto(sums, width - 3), width))
    widest = max(width for _, width in halves)
    total = sum(np.trunc(half / 2.0 ** (widest - width)) for half, width in halves)
    assert np.array_equal(kept["conv1.weight.grad"].int8, total)


def test_a_shift_that_is_right_gives_the_bits_of_a_scan() -> None:
    """At rate 0 on one batch nothing changes: the second step's old shifts are the true ones."""
    adaptive = OFFLOAD
    for subject in lowering(LENET, OFFLOAD, PHONE).rules:
        adaptive = adaptive.replace("rescale", subject, "fixed:64")
    images, labels = batch_of(LENET)
    session = TrainingSession(LENET, adaptive, PHONE, engine="none")
    first = session.step(images, labels, rate_q24=0).result
    second = session.step(images, labels, rate_q24=0).result
    assert all(record.scanned for record in first.records.values())
    assert not any(record.scanned for record in second.records.values())
    for subject, record in second.records.items():
        before = first.records[subject]
        assert (record.true, record.used) == (before.true, before.true)
        assert (record.saturated, record.lost) == (before.saturated, before.lost)
    assert second.loss == first.loss


def test_a_stale_shift_saturates_and_is_counted() -> None:
    """Images eight times as bright, quantised at an exponent three higher: equal mantissas.

    So weights eight times as large are what asks for a shift that is three larger.
    """
    plan = OFFLOAD.replace("rescale", "conv1", "fixed:64")
    images, labels = batch_of(LENET)
    session = TrainingSession(LENET, plan, PHONE, engine="none", profile="niti_v2")
    weights = session.executor.parameters.trained["conv1.weight"]
    value = weights.value
    assert isinstance(value, QTensor)
    small = np.clip(value.int8, -15, 15)
    weights.load({"mantissa": small, "exponent": np.array(-9)})
    first = session.step(images, labels, rate_q24=0).result.records["conv1"]
    weights.load({"mantissa": (small * 8).astype(np.int8), "exponent": np.array(-9)})
    second = session.step(images, labels, rate_q24=0).result.records["conv1"]
    assert first.scanned
    assert not second.scanned
    assert (second.used, second.true) == (first.true, first.true + 3)
    assert second.saturated > 0


def test_no_error_passes_what_a_clip_holds() -> None:
    """In the sandbox a saturated logit or ReLU gets no error that pushes it on."""
    logits = QTensor(np.array([[127, 3], [-127, 3], [100, 3]], np.int8), -3)
    labels = np.array([0, 1, 1])
    stopped = loss_error(logits, labels, PROFILES["sandbox"]).int8
    free = loss_error(logits, labels, PROFILES["niti_v1"]).int8
    assert stopped[0].tolist()[0] == 0  # the right class would go further up
    assert stopped[1].tolist()[0] == 0  # the wrong one further down
    assert (stopped[2] != 0).all()
    assert free.shape == stopped.shape


def test_the_trace_replays_to_the_same_timelines() -> None:
    session = TrainingSession(LENET, MANDHELING, PHONE, seed=3)
    digests, true = [], {}
    for step in range(6):
        done = session.step(*batch_of(LENET, step), rate_q24=RATE)
        assert done.timeline is not None
        digests.append(done.timeline.sha256)
        for subject, record in done.result.records.items():
            true.setdefault(subject, []).append(record.true)
    shifts = RecordedShifts({s: tuple(values) for s, values in true.items()})
    replay = simulate(LENET, MANDHELING, PHONE, steps=6, seed=3, shifts=shifts)
    assert [t.sha256 for t in replay.timelines] == digests


def test_simpy_and_compiled_time_a_session_alike() -> None:
    found = []
    for engine in ("simpy", "compiled"):
        session = TrainingSession(LENET, MANDHELING, PHONE, engine=engine)
        timeline = session.step(*batch_of(LENET), rate_q24=RATE).timeline
        assert timeline is not None
        found.append(timeline.sha256)
    assert found[0] == found[1]


@pytest.mark.parametrize("name", PROFILES)
def test_one_integer_step_by_hand(name: str) -> None:
    """Two linear layers without activation, worked out in Python integers."""
    b = ModelBuilder("two-linear", (2, 3), source="this test")
    graph = training_graph(b.build(b.linear(b.linear(INPUT, 4, name="a"), 2, name="b")))
    plan = build_plan("mnn-int8", graph, PHONE)
    executor = NumericExecutor(graph, plan, PHONE, profile=name)
    images = np.array([[1.0, -2.0, 0.5], [0.25, 1.5, -1.0]], np.float32)
    profile = PROFILES[name]
    x = quantise_input(images, profile.input_rule)
    logits = x
    for layer in ("a", "b"):
        weight = executor.parameters.value(f"{layer}.weight")
        assert isinstance(weight, QTensor)
        sums = [
            [
                sum(int(p) * int(q) for p, q in zip(row, column, strict=True))
                for column in weight.mantissa
            ]
            for row in logits.mantissa
        ]
        logits = rescale(
            np.array(sums, np.int32), logits.exponent + weight.exponent, profile.activation
        ).tensor
    expected = logits.dequantise().astype(np.float32)
    assert np.array_equal(executor.predict(images), expected)


def test_float_gradients_are_the_slopes_of_the_loss() -> None:
    """Every parameter of a small residual network, against central differences.

    Without ReLU: a difference across its bend is no slope.
    """
    graph = training_graph(residual(4, smooth=True))
    plan = build_plan("mnn-fp32", graph, PHONE)
    images, labels = batch_of(graph)
    hyper = Hyper(momentum=0.0, weight_decay=0.0)

    def executor() -> NumericExecutor:
        return NumericExecutor(graph, plan, PHONE, hyper=hyper, seed=5)

    draft = lowering(graph, plan, PHONE).draft({})

    def loss_with(values: dict[str, NDArray[np.float32]]) -> float:
        run = executor()
        run.parameters.load_floats(values)
        return run.step(draft, images, labels, StepInputs(rate_q24=0)).loss

    start = executor()
    before = start.parameters.floats()
    start.step(draft, images, labels, StepInputs(rate_q24=1 << 24))
    after = start.parameters.floats()
    rng = np.random.default_rng(0)
    for name, values in before.items():
        gradient = (values - after[name]).astype(np.float64)
        direction = rng.standard_normal(values.shape).astype(np.float32)
        reach = 1e-2
        ends = [
            loss_with({**before, name: values + np.float32(side * reach) * direction})
            for side in (1, -1)
        ]
        slope = (ends[0] - ends[1]) / (2 * reach)
        assert float((gradient * direction).sum()) == pytest.approx(slope, rel=0.01, abs=1e-4), name


@settings(max_examples=15, deadline=None)
@given(forward_models(max_batch=3, max_image=8, max_blocks=4), st.sampled_from(list(PROFILES)))
def test_any_network_trains_in_integers_and_in_floats(model: ForwardModel, profile: str) -> None:
    graph = training_graph(model)
    images, labels = batch_of(graph)
    for plan_name in ("mandheling", "mnn-fp32"):
        session = TrainingSession(
            graph, build_plan(plan_name, graph, PHONE), PHONE, profile=profile
        )
        for _ in range(2):
            try:
                done = session.step(images, labels, rate_q24=1 << 14)
            except QuantError as error:
                if profile.startswith("niti") and "where NITI's" in str(error):
                    return  # logits that NITI's loss cannot take
                raise
            assert np.isfinite(done.result.loss)
        logits = session.executor.predict(images[:1])
        assert logits.shape == (1, graph.tensor(graph.node("loss").inputs[0]).shape[1])


def test_evaluation_takes_any_batch_and_changes_nothing() -> None:
    executor = TrainingSession(RESIDUAL, build_plan("mandheling", RESIDUAL, PHONE), PHONE).executor
    before = executor.parameters.sha256()
    images = batch_of(training_graph(residual(7)))[0]
    assert executor.predict(images).shape == (7, 5)
    assert executor.parameters.sha256() == before


def test_both_precisions_learn_the_same_simple_task() -> None:
    """Which quarter is bright: LeNet gets it right after a few steps."""
    rng = np.random.default_rng(0)
    for plan in (MANDHELING, FLOAT):
        session = TrainingSession(LENET, plan, PHONE, engine="none")
        for _ in range(60):
            labels = rng.integers(0, 4, 8)
            images = rng.standard_normal((8, 28, 28, 1)).astype(np.float32) * 0.3
            for n, label in enumerate(labels):
                row, column = 14 * (label // 2), 14 * (label % 2)
                images[n, row : row + 14, column : column + 14] += 1
            done = session.step(images, labels, rate_q24=1 << 18)
        assert done.result.loss < 0.1
        assert done.result.correct == 8


def test_what_cannot_be_computed_is_refused_by_name() -> None:
    with pytest.raises(NumericError, match=r"profile 'niti_v3' is unknown; choose one of niti_v1"):
        NumericExecutor(LENET, OFFLOAD, PHONE, profile="niti_v3")


def test_batches_that_do_not_fit_are_refused() -> None:
    session = TrainingSession(LENET, FLOAT, PHONE, engine="none")
    images, labels = batch_of(LENET)
    wrong = [
        (images[:4], labels, r"images are float32 \(4, 28, 28, 1\); allowed: float32 \(8, 28"),
        (images.astype(np.float64), labels, "images are float64"),
        (images.transpose(0, 3, 1, 2), labels, r"\(8, 1, 28, 28\); allowed"),
        (images, labels[:4], r"labels are int64 \(4,\); allowed: integers \(8,\)"),
        (images, labels.astype(np.float32), "labels are float32"),
        (images, labels + 10, r"labels hold 1\d .. 1\d; allowed: 0 .. 9"),
        (images, labels - 10, r"allowed: 0 .. 9"),
    ]
    before = session.executor.parameters.sha256()
    for some, others, message in wrong:
        with pytest.raises(NumericError, match=message):
            session.step(some, others, rate_q24=RATE)
    with pytest.raises(NumericError, match=r"allowed: float32 \(any, 28, 28, 1\)"):
        session.executor.predict(images[:, :20])
    assert session.executor.parameters.sha256() == before
    assert session.state.step == 0


@pytest.mark.parametrize("plan", ["dsp-int8", "mnn-fp32"])
@pytest.mark.parametrize("name", ["vgg-small-7", "squeezenet1.1", "mobilenet-v2", "googlenet"])
def test_networks_with_dropout_joins_and_mapped_logits_train(name: str, plan: str) -> None:
    """A dropout or a loss behind a flatten, joins, depthwise convolutions, averages."""
    graph = training_graph(load_model(name, batch=2))
    session = TrainingSession(graph, build_plan(plan, graph, PHONE), PHONE, engine="none")
    before = session.executor.parameters.sha256()
    images, labels = batch_of(graph)
    assert np.isfinite(session.step(images, labels, rate_q24=1 << 12).result.loss)
    assert session.executor.parameters.sha256() != before
    assert session.executor.predict(images[:1]).shape[0] == 1


@pytest.mark.accept
@pytest.mark.parametrize("plan", ["dsp-int8", "mnn-fp32"])
@pytest.mark.parametrize("name", model_names())
def test_every_network_of_the_zoo_trains(name: str, plan: str) -> None:
    test_networks_with_dropout_joins_and_mapped_logits_train(name, plan)
