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
from hw_bridge.board.plans import BoardBackend
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
    assert {timeline.source for timeline in run.timelines} == {"derived"}
    assert run.fingerprint.facts["soc"] == "QCS6490"
    told = " ".join(run.notes)
    assert "on 4 threads of the board, timed by the DSP's timer" in told
    assert "the board's CPU part does not run plans yet" in told
    (first, _) = run.timelines
    units = first.graph.unit
    dsp = [k for k, unit in enumerate(first.graph.units) if unit.name.startswith("dsp")]
    spans = (first.end_ns - first.start_ns)[np.isin(units, dsp)]
    assert spans.max() > 10**7  # of the emulated timer; no simulated kernel here takes 10 ms


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
    assert (said["equals_executor"], said["times"]) == (True, ["derived"])
