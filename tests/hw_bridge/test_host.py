"""The host backend: two real processes compute what the executor does, and time what they do."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from cost_models.device import load_device
from experiments.host.drawn import drawn_plan
from hw_bridge.backends import Backend, PlanJob, reference
from hw_bridge.host import HostBackend, HostError, HostSession, machine
from hw_bridge.host.memory import Arena
from sim.autodiff import training_graph
from sim.graph import TrainingGraph
from sim.lowering import lower_step, lowering
from sim.model import INPUT, ModelBuilder
from sim.numeric import NumericError
from sim.numeric.executor import NumericExecutor
from sim.plan import Plan
from sim.policies.build import build_plan
from sim.state import StepState
from sim.timeline import Timeline
from sim.zoo import load_model

PHONE = load_device("snapdragon-865")
LENET = training_graph(load_model("lenet", batch=4))
RATE = 1 << 14

pytestmark = pytest.mark.skipif(
    not hasattr(os, "sched_getaffinity") or len(os.sched_getaffinity(0)) < 2,
    reason="needs two cores and Linux: two processes are pinned to them",
)


def residual() -> TrainingGraph:
    """Batch norm, a residual sum, a join and a strided convolution."""
    b = ModelBuilder("small-residual", (4, 3, 8, 8), source="this test")
    x = b.relu(b.batch_norm(b.conv(INPUT, 8, 3, pad=1)))
    y = b.batch_norm(b.conv(x, 8, 3, pad=1))
    x = b.relu(b.sum([x, y]))
    x = b.concat([x, b.relu(b.conv(x, 4, 3, pad=1))])
    x = b.dropout(b.relu(b.conv(x, 8, 3, stride=2, pad=1)))
    return training_graph(b.build(b.linear(b.flatten(b.global_avg_pool(x)), 5, bias=True)))


RESIDUAL = residual()


def job_of(graph: TrainingGraph, seed: int, profile: str = "sandbox", steps: int = 3) -> PlanJob:
    plan = drawn_plan(graph, PHONE, seed)
    return PlanJob(graph, plan, PHONE, steps=steps, seed=seed, profile=profile, rate_q24=RATE)


@pytest.fixture
def shared_before() -> Iterator[None]:
    """Shared memory has no name, so none may appear."""
    folder = Path("/dev/shm")
    before = set(folder.iterdir()) if folder.is_dir() else set()
    yield
    assert (set(folder.iterdir()) if folder.is_dir() else set()) <= before


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("graph", [LENET, RESIDUAL], ids=["lenet", "residual"])
def test_numbers_equal_the_executors_bit_for_bit(graph: TrainingGraph, seed: int) -> None:
    job = job_of(graph, seed)
    results, digest = reference(job)
    run = HostBackend().run(job)
    assert run.results == results
    assert run.parameters_sha256 == digest


@pytest.mark.parametrize("profile", ["niti_v1", "niti_v2", "mandheling_cpu", "mandheling_dsp"])
def test_every_arithmetic_is_the_same_in_two_processes(profile: str) -> None:
    for seed in (11, 12):
        job = job_of(LENET, seed, profile)
        run = HostBackend().run(job)
        assert (run.results, run.parameters_sha256) == reference(job)


def test_timeline_has_the_rows_that_the_simulator_times() -> None:
    job = PlanJob(LENET, build_plan("mandheling", LENET, PHONE), PHONE, steps=2)
    first, second = HostBackend().run(job).timelines
    tasks, _ = lower_step(LENET, job.plan, PHONE, StepState())
    assert first.source == second.source == "measured"
    assert first.graph.names == tasks.names
    assert first.graph.pred.tolist() == tasks.pred.tolist()
    assert len(second.graph) < len(first.graph), "prepared subgraphs are reused"
    assert first.energy_pj == 0, "no energy is measured"


def busy(timeline: Timeline, unit: int) -> int:
    rows = timeline.graph.unit == unit
    return int((timeline.end_ns - timeline.start_ns)[rows].sum())


def test_both_processes_work() -> None:
    job = PlanJob(LENET, build_plan("dsp-int8", LENET, PHONE), PHONE, steps=2)
    timeline = HostBackend().run(job).timelines[1]
    assert 0 < busy(timeline, 0) < timeline.makespan_ns
    assert 0 < busy(timeline, 1) < timeline.makespan_ns
    assert [unit.name for unit in timeline.graph.units] == ["cpu", "dsp", "rpc"]


def test_plans_without_a_dsp_run_too() -> None:
    laptop = load_device("laptop")
    job = PlanJob(LENET, build_plan("mnn-fp32", LENET, laptop), laptop, steps=1)
    run = HostBackend().run(job)
    assert (run.results, run.parameters_sha256) == reference(job)


def test_bases_go_on_from_step_to_step_in_two_processes() -> None:
    base = build_plan("dsp-int8", LENET, PHONE)
    others = {key: c for key, c in base.choices if key[1].partition(".")[0] != "conv2"}
    plan = Plan.make("bases", LENET.hash(), {**others, ("backward", "conv2"): "asi:2:8:6:5"})
    job = PlanJob(LENET, plan, PHONE, steps=4, rate_q24=RATE)
    run = HostBackend().run(job)
    assert (run.results, run.parameters_sha256) == reference(job)
    kinds = {item.op.kind for item in lowering(LENET, plan, PHONE).draft({}).items}
    assert {"subspace_save", "subspace_restore"} <= kinds
    assert any(unit.name == "dsp" for unit in run.timelines[0].graph.units)


def test_it_is_a_backend_that_says_what_it_ran_on() -> None:
    backend = HostBackend()
    assert isinstance(backend, Backend)
    assert backend.fingerprint().backend == "host"
    assert all(step.ok for step in backend.doctor())


def test_a_killed_accelerator_is_told_and_leaves_nothing(shared_before: None) -> None:
    job = PlanJob(LENET, build_plan("dsp-int8", LENET, PHONE), PHONE)
    images, labels = job.batch(0)
    affinity = os.sched_getaffinity(0)
    session = HostSession(LENET, job.plan, PHONE)
    session.step(images, labels, rate_q24=RATE)
    os.kill(session.accelerator_process, signal.SIGKILL)
    with pytest.raises(HostError, match="ended by signal 9"):
        session.step(images, labels, rate_q24=RATE)
    assert session.accelerator_process == 0
    assert os.sched_getaffinity(0) == affinity
    with pytest.raises(HostError, match="closed"):
        session.step(images, labels, rate_q24=RATE)
    session.close()


def test_accelerator_killed_in_the_middle_of_steps(shared_before: None) -> None:
    job = PlanJob(LENET, build_plan("dsp-int8", LENET, PHONE), PHONE)
    images, labels = job.batch(0)
    with HostSession(LENET, job.plan, PHONE) as session:
        killer = subprocess.Popen(
            [sys.executable, "-c", "import os, sys, time; time.sleep(0.3);"
             "os.kill(int(sys.argv[1]), 9)", str(session.accelerator_process)]
        )  # fmt: skip
        begin = time.monotonic()

        def train() -> None:
            while time.monotonic() - begin < 20:
                session.step(images, labels, rate_q24=RATE)

        with pytest.raises(HostError, match="open a new session"):
            train()
    assert killer.wait() == 0


ORPHAN = """
import sys, time, numpy as np
from sim import build_plan, load_device, load_model, training_graph
from hw_bridge.host import HostSession
graph, device = training_graph(load_model("lenet", batch=2)), load_device("snapdragon-865")
session = HostSession(graph, build_plan("dsp-int8", graph, device), device)
print(session.accelerator_process, flush=True)
time.sleep(60)
"""


def test_the_accelerator_ends_when_the_cpu_process_is_killed() -> None:
    parent = subprocess.Popen([sys.executable, "-c", ORPHAN], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    accelerator = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    parent.stdout.close()
    limit = time.monotonic() + 10
    while time.monotonic() < limit and alive(accelerator):
        time.sleep(0.05)
    assert not alive(accelerator)


def alive(process: int) -> bool:
    """Whether a process runs; one that ended and waits to be collected does not."""
    try:
        status = Path(f"/proc/{process}/stat").read_text(encoding="ascii")
    except OSError:
        return False
    return status.rpartition(")")[2].split()[0] != "Z"


def test_one_core_is_too_few() -> None:
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        with pytest.raises(HostError, match="needs 2 cores"):
            HostSession(LENET, build_plan("dsp-int8", LENET, PHONE), PHONE)
        steps = {step.name: step for step in machine.examine()}
    finally:
        os.sched_setaffinity(0, before)
    assert not steps["two cores"].ok  # told, not raised
    assert "needs 2 cores" in steps["two cores"].found
    assert steps["shared memory"].ok


def test_memory_that_nobody_has_is_refused() -> None:
    with pytest.raises(HostError, match="take a smaller batch"):
        Arena(1 << 50)


def test_a_full_arena_says_what_is_left() -> None:
    arena = Arena(4096)
    arena.take((512,), np.int32)
    with pytest.raises(HostError, match="2048 are left"):
        arena.take((1024,), np.int32)


def test_what_is_published_twice_has_one_place() -> None:
    arena = Arena(1 << 16)
    first = arena.publish("x", np.arange(8, dtype=np.int32))
    second = arena.publish("x", np.arange(8, 16, dtype=np.int32))
    assert arena.offset(first) == arena.offset(second)
    assert first.tolist() == list(range(8, 16))
    assert arena.publish("y", second) is second, "what lies there already is not copied"
    assert arena.offset(second[::2]) is None, "strided views are copied"


def test_wrong_images_change_nothing() -> None:
    job = PlanJob(LENET, build_plan("mandheling", LENET, PHONE), PHONE, steps=1)
    images, labels = job.batch(0)
    with HostSession(LENET, job.plan, PHONE) as session:
        with pytest.raises(NumericError, match="images are float32"):
            session.step(images[:2], labels, rate_q24=job.rate_q24)
        session.step(images, labels, rate_q24=job.rate_q24)
        assert session.executor.parameters.sha256() == reference(job)[1]


def test_a_kernel_that_fails_in_the_accelerator_is_told() -> None:
    job = PlanJob(LENET, build_plan("dsp-int8", LENET, PHONE), PHONE)
    images, labels = job.batch(0)
    images[0, 0, 0, 0] = np.nan
    with HostSession(LENET, job.plan, PHONE) as session:
        with pytest.raises(ValueError, match="NaN"):
            session.step(images, labels, rate_q24=RATE)
        assert session.accelerator_process == 0


def test_the_executor_is_untouched_by_memory_that_moves() -> None:
    """Moved parameters are the same parameters."""
    plan = build_plan("mandheling", LENET, PHONE)
    executor = NumericExecutor(LENET, plan, PHONE)
    before = executor.parameters.sha256()
    arena = Arena(1 << 26)
    executor.parameters.move(arena.place)
    assert executor.parameters.sha256() == before
    assert all(
        arena.offset(array) is not None
        for name, array in executor.parameters.arrays().items()
        if array.ndim
    )
