"""The demo's arithmetic and processes, on small networks."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from math import prod
from pathlib import Path

import pytest
from typer.testing import CliRunner

from experiments import demo
from experiments.cli import app
from experiments.render_compare import shares


@pytest.fixture(scope="module")
def results() -> list[demo.Result]:
    return [demo.compare_one(name, seed=1, batch=2) for name in ("lenet", "vgg11")]


def test_workers_change_nothing(results: list[demo.Result]) -> None:
    said: list[str] = []
    found = demo.compare_all(["lenet", "vgg11"], seed=1, workers=2, batch=2, say=said.append)
    assert found == results
    assert [line.split("(")[1] for line in said] == ["1 of 2)", "2 of 2)"]


def test_means_are_geometric(results: list[demo.Result]) -> None:
    summary = demo.summary_document(results)["geometric_means"]
    for reference in ("mnn-fp32", "tflite-fp32"):
        rows = [
            (one.comparison.row(reference), one.comparison.row("mandheling")) for one in results
        ]
        time_gain = prod(base.time_ns / ours.time_ns for base, ours in rows) ** 0.5
        energy_gain = prod(base.energy_pj / ours.energy_pj for base, ours in rows) ** 0.5
        assert summary[reference]["time"] == pytest.approx(time_gain)
        assert summary[reference]["energy"] == pytest.approx(energy_gain)


def test_headline_ratios_have_intervals_in_common_worlds(results: list[demo.Result]) -> None:
    summary = demo.summary_document(results)["geometric_means"]
    for reference in demo.REFERENCES:
        time, energy = demo.gains(results, reference)
        assert summary[reference]["time_interval"] == list(time.interval)
        assert summary[reference]["energy_interval"] == list(energy.interval)
        for gain in (time, energy):
            low, high = gain.interval
            assert low < gain.mean < high
    # Of one network it is the interval of that network's ratio.
    row = results[1].comparison.row("mandheling")
    time, energy = demo.gains(results[1:], "mnn-fp32")
    assert time.interval == pytest.approx(row.speedup_interval)
    assert energy.interval == pytest.approx(row.energy_ratio_interval)


def test_shares_of_evidence_add_up_to_a_hundred(results: list[demo.Result]) -> None:
    thirds = {"measured": 1 / 3, "published": 1 / 3, "derived": 1 / 3, "assumed": 0.0}
    assert shares(thirds) == "34/33/33/0"
    for result in results:
        for row in result.comparison.rows:
            assert sum(row.evidence.values()) == pytest.approx(1)
            assert sum(map(int, shares(row.evidence).split("/"))) == 100


def test_demo_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "MODELS", ("lenet",))
    target = tmp_path / "demo.json"
    arguments = ["demo", "--workers", "1", "-o", str(target)]
    result = CliRunner().invoke(app, arguments, env={"COLUMNS": "80"})
    assert result.exit_code == 0, result.stderr
    assert "compared lenet (1 of 1)" in result.stderr
    says = ("What each time rests on, %", "Calibrations that were fitted on something else")
    for words in ("predicted, not measured", "5.5 x", "8.9 x", "against tflite-fp32", *says):
        assert words in result.stdout
    assert max(map(len, result.stdout.splitlines())) <= 80
    found = json.loads(target.read_text())
    assert found["paper"]["time"] == 5.5
    assert [row["name"] for row in found["models"]["lenet"]["rows"]] == list(demo.PLANS)


def alive(group: int) -> int:
    """Return how many processes of a process group run."""
    count = 0
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, its_group = entry.read_text().rpartition(")")[2].split()[:3]
        except OSError:
            continue  # it has ended meanwhile
        count += int(its_group) == group and state != "Z"
    return count


def started_demo() -> subprocess.Popen[str]:
    """Start the demo as a process group of its own; return when its workers run."""
    process = subprocess.Popen(
        [sys.executable, "-m", "experiments.cli", "demo"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    begin = time.monotonic()
    while alive(process.pid) < 4 and time.monotonic() - begin < 30:
        time.sleep(0.05)  # the parent, two workers and the tracker of their resources
    assert alive(process.pid) >= 4
    time.sleep(1)
    return process


def gone(group: int, seconds: float) -> bool:
    """Wait until no process of a group runs."""
    begin = time.monotonic()
    while alive(group) and time.monotonic() - begin < seconds:
        time.sleep(0.05)
    return alive(group) == 0


NEEDS_PROC = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs Linux's /proc")


@NEEDS_PROC
def test_ctrl_c_ends_the_demo_and_its_workers() -> None:
    process = started_demo()
    os.killpg(process.pid, signal.SIGINT)
    stdout, stderr = process.communicate(timeout=30)
    assert process.returncode == 130
    assert stdout == ""
    assert stderr.splitlines()[-1] == "interrupted"
    assert "Traceback" not in stderr
    assert gone(process.pid, 20)


@NEEDS_PROC
def test_sigterm_ends_the_demo_and_its_workers() -> None:
    process = started_demo()
    process.terminate()  # the parent alone
    stdout, stderr = process.communicate(timeout=30)
    assert process.returncode == 143
    assert stdout == ""
    assert stderr.splitlines()[-1] == "terminated"
    assert "Traceback" not in stderr
    assert gone(process.pid, 20)


@NEEDS_PROC
def test_workers_do_not_outlive_a_killed_parent() -> None:
    process = started_demo()
    process.kill()
    process.wait(timeout=30)
    assert gone(process.pid, 3)
    stdout, stderr = process.communicate(timeout=30)
    assert stdout == ""
    assert "Traceback" not in stderr
