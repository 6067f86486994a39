"""``mandheling hw run``: a plan on two processes, checked bit for bit; bad words in one line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from experiments import cli, cli_hw_run
from hw_bridge.backends import Backend, PlanJob, PlanRun
from hw_bridge.host import HostBackend


def run(*words: str) -> int:
    with pytest.raises(SystemExit) as end:
        cli.app(["hw", "run", *words], prog_name="mandheling")
    return int(str(end.value.code))


def test_a_run_gives_measured_rows_and_the_executors_bits(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trace = tmp_path / "trace.json"
    words = ("--model", "lenet", "--batch", "4", "--steps", "2", "--check", "--json")
    assert run(*words, "--trace", str(trace)) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["times"] == ["measured"]
    assert said["equals_executor"] is True
    assert [row["step"] for row in said["steps"]] == [0, 1]
    for row in said["steps"]:
        assert 0 < row["busy_ns"]["dsp"] < row["makespan_ns"]
    assert said["fingerprint"]["backend"] == "host"
    assert "lenet, mandheling, host" in trace.read_text()


class _OneBitOff(HostBackend):
    def run(self, job: PlanJob, *arguments: object) -> PlanRun:
        found = super().run(job)
        wrong = f"{int(found.parameters_sha256, 16) ^ 1:064x}"
        return PlanRun(found.timelines, found.results, wrong, found.fingerprint)


def test_a_difference_exits_with_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(cli_hw_run.PLAN_BACKENDS, "host", _OneBitOff)
    assert run("--model", "lenet", "--batch", "2", "--steps", "1", "--check") == 1
    assert "DIFFERS" in capsys.readouterr().out


def test_the_host_is_a_backend() -> None:
    assert isinstance(HostBackend(), Backend)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--backend", "fpga"), "--backend 'fpga': allowed: host"),
        (("--profile", "niti"), "profile 'niti'"),
        (("--steps", "0"), "give an integer from 1 to 1000"),
        (("--plan", "no-such-plan"), "no-such-plan"),
        (("--trace", "/no/such/folder/t.json"), "does not exist; create it first"),
    ],
)
def test_bad_words_are_told(
    words: tuple[str, str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("--model", "lenet", "--batch", "2", *words) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert said.count("\n") == 1
    assert message in said
