"""Whole plans on the emulated DSP equal the numeric executor, and their times follow packets."""

from __future__ import annotations

from dataclasses import replace
from math import ceil
from typing import Any

import numpy as np
import pytest
from hexagon_cases import need_tools

from cost_models.dsp import repacked_bytes
from hw_bridge.backends import Backend, BackendError, PlanJob, reference
from hw_bridge.hexagon import arithmetic
from hw_bridge.hexagon.arithmetic import HexagonArithmetic
from hw_bridge.hexagon.backend import HexagonKernels
from hw_bridge.hexagon.errors import HexagonError
from hw_bridge.hexagon.plans import DERIVED, HexagonBackend, HexagonSession, notes_without
from hw_bridge.hexagon.runner import Runner
from kernels.conv import Conv2d
from kernels.int8 import conv_oracle
from kernels.int8.rescale import rescale
from kernels.int8.sums import add
from kernels.layout import LayoutTranspose
from kernels.operators import Role
from kernels.profiles import PROFILES, TensorRole, rule_of
from kernels.quantised import QTensor
from sim import build_plan, load_device, load_model, training_graph
from sim.checks import check
from sim.engines import run as run_engine
from sim.lowering import lowering
from sim.numeric.arithmetic import Arithmetic, channel_sums
from sim.numeric.values import Accumulator
from sim.state import StepState
from sim.taskgraph import TaskGraph
from sim.timeline import Timeline

DEVICE = load_device("snapdragon-865")
RULE = rule_of(PROFILES["sandbox"], TensorRole.ACTIVATION)


def job(plan: str, *, batch: int = 4, steps: int = 2, profile: str = "sandbox") -> PlanJob:
    graph = training_graph(load_model("lenet", batch=batch))
    chosen = build_plan(plan, graph, DEVICE)
    return PlanJob(graph, chosen, DEVICE, steps=steps, profile=profile)


@pytest.mark.parametrize(
    ("plan", "batch", "profile"),
    [
        ("mandheling", 4, "sandbox"),
        ("dsp-int8+rescale", 3, "mandheling_dsp"),
        ("dsp-int8+split", 6, "niti_v2"),
    ],
)
def test_every_bit_is_the_executors(plan: str, batch: int, profile: str) -> None:
    need_tools()
    work = job(plan, batch=batch, profile=profile)
    found = HexagonBackend().run(work)
    results, digest = reference(work)
    assert found.results == results
    assert found.parameters_sha256 == digest
    assert not any("no HVX kernel" in note for note in found.notes)


def one_step(work: PlanJob, runner: Runner) -> tuple[HexagonSession, Timeline, TaskGraph]:
    """A session after its first step, that step's timeline, and the tasks as simulated."""
    session = HexagonSession(work, runner)
    images, labels = work.batch(0)
    timeline = session.step(images, labels, rate_q24=work.rate_q24).timeline
    assert timeline is not None
    ready = lowering(work.graph, work.plan, work.device)
    tasks, _ = ready.step(ready.first_state(StepState(seed=0)))
    assert timeline.graph.names == tasks.names
    return session, timeline, tasks


def streams_beside(timeline: Timeline, row: int) -> bool:
    """Whether another row moves bytes while this one runs."""
    start, end, moves = timeline.start_ns, timeline.end_ns, timeline.graph.ddr_bytes > 0
    beside = moves & (start < end[row]) & (end > start[row])
    beside[row] = False
    return bool(beside.any())


def test_rows_last_as_long_as_their_packets_or_their_traffic(runner: Runner) -> None:
    session, timeline, tasks = one_step(job("mandheling", steps=1), runner)
    check(timeline)
    assert timeline.source == DERIVED
    spent, alone = session.work.spent, 0
    for row, name in enumerate(tasks.names):
        lasts = int(timeline.end_ns[row] - timeline.start_ns[row])
        if name in spent:
            packets = spent[name].busiest
            assert spent[name].packets / int(tasks.slots[row]) <= packets <= spent[name].packets
            rate = min(int(tasks.rate_cap[row]), tasks.ddr_rate)
            traffic = -(-int(tasks.ddr_bytes[row]) * 1000 // rate)
            least = max(ceil(packets * 2 / session.clock_hz * 1e9), traffic)
            assert lasts >= least - 1
            if not streams_beside(timeline, row):
                assert lasts == pytest.approx(least, abs=1)
                alone += 1
        elif name.endswith(".repack"):
            assert lasts == 0  # their packets are those of the kernels
        else:
            assert timeline.graph.compute_ns[row] == tasks.compute_ns[row]
            assert timeline.graph.lead_ns[row] == tasks.lead_ns[row]
    assert len(spent) > 40
    assert alone > 30
    assert timeline.makespan_ns != run_engine(tasks, "compiled").makespan_ns


def test_an_item_computed_in_part_here_is_simulated_as_a_whole(
    runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sums of more products than a limit allows, which is lower here, are added in this process."""
    monkeypatch.setattr(arithmetic, "MOST_PRODUCTS", 600)
    work = job("mandheling", batch=4, steps=1)
    session, timeline, tasks = one_step(work, runner)
    mixed = {name for name, one in session.work.spent.items() if one.without and one.kernels}
    name = next(n for n in mixed if session.work.items[n].role is Role.WEIGHT_GRAD)
    assert session.work.spent[name].without == ("INT64 sums",)
    for one in mixed:
        row = tasks.names.index(one)
        for column in ("lead_ns", "compute_ns", "ddr_bytes"):
            assert getattr(timeline.graph, column)[row] == getattr(tasks, column)[row]
    item = session.work.items[name]
    kept = 2 * sum(
        repacked_bytes(session.work.items[n].op, session.work.items[n].role)
        for n in mixed
        if session.work.items[n].group == item.group
    )
    assert kept > 0
    repacks = [r for r, n in enumerate(tasks.names) if n.endswith(".repack")]
    assert kept in timeline.graph.ddr_bytes[repacks].tolist()
    (note,) = notes_without([session.work])
    assert f"{min(mixed, key=list(session.work.spent).index)} (INT64 sums)" in note


def test_a_run_says_what_it_is() -> None:
    need_tools()
    backend = HexagonBackend()
    assert isinstance(backend, Backend)
    first, again = (backend.run(job("dsp-int8", steps=1)) for _ in range(2))
    assert [t.sha256 for t in first.timelines] == [t.sha256 for t in again.timelines]
    assert first.fingerprint == backend.fingerprint()
    assert first.fingerprint.facts["threads"] == "of each item, in turn"
    assert any("derived, not measured" in note for note in first.notes)
    assert any("one framed call" in note for note in first.notes)


def test_a_wrong_kernel_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The comparison itself: one value of one ReLU off by one changes the results."""
    need_tools()
    right = HexagonKernels.relu_forward

    def wrong(self: HexagonKernels, x: np.ndarray) -> Any:
        ran = right(self, x)
        flat = ran.result.reshape(-1)
        flat[flat.argmax()] -= 1
        return ran

    monkeypatch.setattr(HexagonKernels, "relu_forward", wrong)
    work = job("dsp-int8")
    found = HexagonBackend().run(work)
    assert found.parameters_sha256 != reference(work)[1]


def test_a_missing_build_is_one_refusal() -> None:
    with pytest.raises(BackendError, match="arch is 'v99'"):
        HexagonBackend("v99").run(job("dsp-int8", steps=1))


def test_the_table_replaces_every_function(runner: Runner) -> None:
    table, plain = HexagonArithmetic(HexagonKernels(runner)).table(), Arithmetic()
    for name in Arithmetic.__slots__:
        assert getattr(table, name) != getattr(plain, name)


def test_sums_beyond_int32_are_added_in_int64(
    runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Chunks of samples, as many as a limit lower than the real one allows; an odd rest."""
    monkeypatch.setattr(arithmetic, "MOST_PRODUCTS", 150)
    hvx, rng = HexagonArithmetic(HexagonKernels(runner)), np.random.default_rng(0)
    op = Conv2d(n=5, c_in=3, h=8, w=8, c_out=2, k=3, pad=1)
    x = rng.integers(-128, 128, (5, 8, 8, 3), np.int8)
    e = rng.integers(-128, 128, (5, 8, 8, 2), np.int8)
    into = np.full((2, 3, 3, 3), 2**37, np.int64)
    for given in (None, into):
        found = hvx.conv_weight_grad(x, e, op, into=given, wide=True)
        want = conv_oracle.conv_weight_grad(x, e, op) + (0 if given is None else given)
        assert found.values.dtype == np.int64
        assert np.array_equal(found.values, want)
        assert found.amax == np.abs(want).max()
    took = hvx.take()
    assert (took.kernels, took.without) == (2 * 3, ("INT64 sums",))
    assert hvx.scan(Accumulator(found.values, 0, found.amax)) == found.amax
    done = hvx.rescale(found.values, 0, RULE)
    assert np.array_equal(done.tensor.int8, rescale(found.values, 0, RULE).tensor.int8)
    assert hvx.take().without == ("a scan of INT64 sums", "rescaling of INT64 sums")


def test_a_map_that_no_int32_sum_holds_is_refused(runner: Runner) -> None:
    hvx = HexagonArithmetic(HexagonKernels(runner))
    op = Conv2d(n=1, c_in=1, h=400, w=400, c_out=1, k=1)
    x = np.zeros((1, 400, 400, 1), np.int8)
    with pytest.raises(HexagonError, match="place it on the CPU"):
        hvx.conv_weight_grad(x, x, op)


def test_sums_of_terms_and_channels(runner: Runner) -> None:
    hvx, rng = HexagonArithmetic(HexagonKernels(runner)), np.random.default_rng(4)
    terms = [
        QTensor(rng.integers(-128, 128, (3, 5), np.int8), exponent) for exponent in (-3, 4, -30)
    ]
    terms.append(QTensor(np.zeros((3, 5), np.int8), -90))
    for shift in (None, 3):
        got, want = hvx.add(terms, RULE, shift=shift), add(terms, RULE, shift=shift)
        assert np.array_equal(got.tensor.int8, want.tensor.int8)
        got, want = (replace(one, tensor=QTensor(np.zeros(1, np.int8), one.tensor.exponent))
                     for one in (got, want))  # fmt: skip
        assert (got.shift, got.amax, got.saturated, got.lost, got.tensor.exponent) == (
            want.shift, want.amax, want.saturated, want.lost, want.tensor.exponent,
        )  # fmt: skip
    error = rng.integers(-128, 128, (70_000, 2, 3), np.int8)  # two chunks
    hvx.take()
    assert np.array_equal(hvx.channel_sums(error), channel_sums(error))
    assert hvx.take().without == ("INT64 sums",)
    assert np.array_equal(hvx.channel_sums(error[:9]), channel_sums(error[:9]))
    assert hvx.take().without == ()


def test_a_transposition_that_changes_a_byte_is_noticed(
    runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    hvx, x = HexagonArithmetic(HexagonKernels(runner)), np.arange(24, dtype=np.int8)
    op, x = LayoutTranspose((2, 3, 2, 2), (1, 0, 2, 3)), x.reshape(2, 2, 2, 3)
    hvx.move(op, x)
    assert hvx.take().kernels == 1
    right = HexagonKernels.transpose

    def wrong(self: HexagonKernels, x: np.ndarray) -> Any:
        ran = right(self, x)
        ran.result[0, 0, 0] ^= 1
        return ran

    monkeypatch.setattr(HexagonKernels, "transpose", wrong)
    with pytest.raises(HexagonError, match="came back changed"):
        hvx.move(op, x)


@pytest.mark.accept
@pytest.mark.parametrize("model", ["vgg11", "resnet18"])
def test_larger_networks_are_the_executors(model: str) -> None:
    """All of VGG-11, and of ResNet-18 with its strides, sums and batch norms on the CPU."""
    need_tools()
    graph = training_graph(load_model(model, batch=2))
    work = PlanJob(graph, build_plan("dsp-int8", graph, DEVICE), DEVICE)
    found = HexagonBackend().run(work)
    assert (found.results, found.parameters_sha256) == reference(work)
