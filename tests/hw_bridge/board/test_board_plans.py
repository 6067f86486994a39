"""Plans whose DSP part runs on an emulated board: the executor's bits, and what is timed."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from board_cases import Device, board

from cost_models.device import load_device
from experiments import cli
from hw_bridge.backends import BackendError, PlanJob, reference
from hw_bridge.board.plans import BoardBackend, BoardSession, TimedKernels
from sim.autodiff import training_graph
from sim.policies.build import build
from sim.zoo import load_model


def job_of(model: str, batch: int, steps: int, image: int | None = None) -> PlanJob:
    device = load_device("snapdragon-865")
    graph = training_graph(load_model(model, batch, image))
    return PlanJob(graph, build("mandheling", graph, device).plan, device, steps=steps, seed=3)


def test_a_plan_gives_the_executor_s_bits(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_TIMER", "1")
    job = job_of("lenet", 1, 2, image=20)
    run = BoardBackend(board("ssh", "me@b")).run(job)
    results, digest = reference(job)
    assert run.parameters_sha256 == digest
    assert [r.loss for r in run.results] == [r.loss for r in results]
    assert [dict(r.records) for r in run.results] == [dict(r.records) for r in results]
    assert {timeline.source for timeline in run.timelines} == {"mixed"}
    assert run.fingerprint.facts["soc"] == "QCS6490"
    told = " ".join(run.notes)
    assert "on 4 threads of the board, timed by the DSP's timer" in told
    assert "the board's CPU part does not run plans yet" in told


def test_rows_last_as_long_as_the_board_says(
    device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEST_TIMER", "1")
    job = job_of("lenet", 1, 1, image=20)
    with board("local").session() as launcher:
        session = BoardSession(job, launcher, threads=2)
        images, labels = job.batch(0)
        timeline = session.step(images, labels, rate_q24=job.rate_q24).timeline
        assert timeline is not None
        lasts = dict(
            zip(timeline.graph.names, (timeline.end_ns - timeline.start_ns).tolist(), strict=True)
        )
        measured = {name: session.item_ns(name) for name in session.work.spent}
    assert len(measured) > 20
    assert {name: lasts[name] for name in measured} == measured
    assert max(measured.values()) > 10**7  # of the emulated timer
    repacks = [lasts[name] for name in lasts if name.endswith(".repack")]
    assert repacks
    assert not any(repacks)


def test_whole_calls_are_timed_without_fastrpc(device: Device) -> None:
    """The emulated timer stands still."""
    x = np.arange(-100, 100, dtype=np.int8)
    with board("local").session() as launcher:
        kernels = TimedKernels(launcher, 1)
        assert not kernels.by_dsp
        assert kernels.null_ns > 0
        kernels.relu_forward(x)
        assert kernels.take() == max(launcher.timed().call_ns - kernels.null_ns, 0)
        kernels.null_ns = 10**12  # a call cannot take less than nothing
        kernels.relu_forward(x)
        assert kernels.take() == 0


def test_a_lost_board_is_told(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_CRASH_AFTER", "20")
    with pytest.raises(BackendError, match="the DSP's process died"):
        BoardBackend(board("adb")).run(job_of("lenet", 1, 1))


def test_a_device_without_a_dsp(device: Device) -> None:
    job = job_of("lenet", 1, 1)
    with pytest.raises(BackendError, match="has no DSP"):
        BoardBackend(board("adb")).run(
            replace(job, device=job.device.model_copy(update={"dsp": None}))
        )


def test_the_command(device: Device, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["hw", "run", "--backend", "board", "--transport", "local", "-m", "lenet", "-b", "1"]
    with pytest.raises(SystemExit) as end:
        cli.app([*words, "-n", "1", "--check", "--json"], prog_name="mandheling")
    assert end.value.code == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["equals_executor"], said["times"]) == (True, ["mixed"])
