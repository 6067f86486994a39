"""``mandheling hw``: exit codes, JSON, and errors in one line."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hexagon_cases import need_tools

from cost_models.bundle import Bundle
from experiments import cli
from experiments.packets import STORE
from hw_bridge.hexagon import doctor, packets, verify
from hw_bridge.hexagon.packets import Row, mean_macs_per_packet
from hw_bridge.hexagon.protocol import Kernel
from hw_bridge.hexagon.verify import KernelVerdict, share
from hw_bridge.samples import Fingerprint, SampleStore

TARGETS = {"gemm": 200, "forward": 150, "input_grad": 150, "weight_grad": 120}
"""MAC per packet on v66, weighted by MAC over VGG-16's layers of 32 input channels and more."""


def run(*arguments: str) -> int:
    """Exit code of a command line."""
    with pytest.raises(SystemExit) as end:
        cli.app(list(arguments), prog_name="mandheling")
    return int(str(end.value.code))


def test_verify_in_the_emulator(capsys: pytest.CaptureFixture[str]) -> None:
    need_tools()
    words = ["--arch", "v66", "--cases", "4", "--kernel", "gemm", "--kernel", "amax", "--json"]
    assert run("hw", "verify", *words) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["cases"], said["mismatches"]) == (4, 0)
    assert {row["kernel"] for row in said["rows"]} == {"gemm", "amax"}
    assert all(row["packets"] > 0 for row in said["rows"])


def test_a_mismatch_exits_with_1(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def differs(arch: str, cases: int, *_: object) -> list[KernelVerdict]:
        return [KernelVerdict(arch, "gemm", cases, 1, 10, ["seed 0, gemm, case 3"])]

    monkeypatch.setattr(verify, "verify", differs)
    assert run("hw", "verify", "--arch", "v66", "--cases", "5") == 1
    assert "differs: seed 0, gemm, case 3" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--backend", "phone"], "allowed: hexagon, board"),
        (["--arch", "v65"], "--arch 'v65': allowed: v66, v68, v73"),
        (["--arch", ""], "--arch '': allowed: v66, v68, v73, separated by commas"),
        (["--kernel", "fft"], "allowed: gemm"),
        (["--cases", "0"], "give an integer from 1"),
    ],
)
def test_bad_words_are_told(
    words: Sequence[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("hw", "verify", *words) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.startswith("error: ")
    assert error.count("\n") == 1


def test_doctor(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("MANDHELING_CACHE", str(tmp_path / "cache"))
    assert run("hw", "doctor", "--json") == 1
    steps = {step["step"]: step for step in json.loads(capsys.readouterr().out)["steps"]}
    assert not steps["emulator"]["ok"]
    assert steps["emulator"]["remedy"] == "apt-get install qemu-user"
    assert "runner for v66" not in steps


def test_an_install_line_is_printed_once_and_unwrapped(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("COLUMNS", "50")
    monkeypatch.setenv("MANDHELING_CACHE", str(tmp_path / "cache"))
    assert run("hw", "doctor") == 1
    said = capsys.readouterr().out
    assert said.count("qemu-user") == 1
    assert "emulator: qemu-hexagon is missing; install it: apt-get install qemu-user\n" in said


def test_doctor_finds_all_that_is_there() -> None:
    need_tools()
    assert all(step.ok for step in doctor.examine())


def test_the_mean_is_weighted_by_work() -> None:
    rows = [
        Row("gemm", "a", 1, 1000, 10, 0, 0, True),
        Row("gemm", "b", 2, 300, 10, 0, 0, True),
        Row("gemm", "c", 1, 9, 9, 0, 0, False),
    ]
    assert mean_macs_per_packet(rows, "gemm") == 1600 / 30


def test_cases_are_shared_out_evenly() -> None:
    counts = [count for _, count in share(10, list(Kernel)[:4])]
    assert sum(counts) == 10
    assert np.ptp(counts) <= 1


@pytest.mark.accept
def test_packets_reach_their_targets() -> None:
    need_tools()
    rows = packets.measure("v66")
    means = {family: mean_macs_per_packet(rows, family) for family in TARGETS}
    assert [family for family, target in TARGETS.items() if means[family] < target] == []


def test_a_plan_runs_on_the_emulated_dsp(capsys: pytest.CaptureFixture[str]) -> None:
    need_tools()
    words = ("--backend", "hexagon", "--batch", "2", "--steps", "1", "--check", "--json")
    assert run("hw", "run", "--model", "lenet", *words) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["times"] == ["derived"]
    assert said["equals_executor"] is True
    assert said["fingerprint"]["backend"] == "hexagon"


def test_rates_are_fitted_to_a_given_store(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = tmp_path / "counts.jsonl"
    store.write_bytes(STORE.read_bytes())
    assert run("calibrate", "packet-rates", "--store", str(store), "--json") == 0
    (bundle,) = json.loads(capsys.readouterr().out)["bundles"]
    assert bundle["table"] == "counts.jsonl"
    committed = Bundle.load("packet-rates").model_dump(mode="json")
    assert bundle["coefficients"] == committed["coefficients"]


def test_counting_that_cannot_begin_leaves_no_store(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    need_tools()
    store, closed = tmp_path / "new.jsonl", tmp_path / "file"
    closed.touch()
    monkeypatch.setenv("MANDHELING_CACHE", str(closed / "cache"))
    assert run("hw", "packets", "--store", str(store)) == 2
    assert str(closed) in capsys.readouterr().err
    assert not store.exists()


def test_a_store_of_another_build_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    need_tools()
    path, other = tmp_path / "counts.jsonl", Fingerprint("hexagon", {"build": "another"})
    SampleStore.open(path, other).close()
    content = path.read_bytes()
    assert run("hw", "packets", "--store", str(path)) == 2
    said = capsys.readouterr().err
    assert "was measured on something else" in said
    assert "build:" in said
    assert path.read_bytes() == content
