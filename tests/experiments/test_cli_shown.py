"""What tables leave out: rows and notes that could say nothing about this plan and device."""

from __future__ import annotations

import json
from typing import Any

import pytest
from typer.testing import CliRunner

from experiments.cli import app

SMALL = ["-m", "lenet", "-d", "snapdragon-865", "-b", "4"]
RESNET8 = ["-m", "resnet8", "-d", "gap9", "-b", "1"]
SHIFTS, HOT, BUSY = "rescale scans", "throttled steps", "steps with cores taken"


def run(*arguments: str) -> str:
    """Run a command that must succeed; return its stdout."""
    result = CliRunner().invoke(app, list(arguments), env={"COLUMNS": "80"})
    assert result.exit_code == 0, (result.stderr, result.exception)
    return result.stdout


def run_json(*arguments: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(run(*arguments, "--json"))
    return document


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        ([*RESNET8, "-p", "pulp-fp16"], set()),
        ([*SMALL, "-p", "mnn-fp32", "--scenario", "sustained"], {HOT}),
        ([*SMALL, "-p", "dsp-int8"], {SHIFTS}),
        ([*SMALL, "-p", "dsp-int8", "--scenario", "busy"], {SHIFTS, BUSY}),
    ],
)
def test_simulate_shows_only_what_can_happen(arguments: list[str], shown: set[str]) -> None:
    text = run("simulate", *arguments, "-n", "2")
    assert {label for label in (SHIFTS, HOT, BUSY) if label in text} == shown
    assert ("stale shifts" in text) == (SHIFTS in shown)


def test_simulate_tells_the_energy_of_a_step() -> None:
    arguments = ("simulate", *SMALL, "-p", "dsp-int8", "--scenario", "quiet")
    one, three = (run_json(*arguments, "-n", steps) for steps in ("1", "3"))
    assert one["step_pj"] == {"first": one["energy_pj"], "mean": one["energy_pj"]}
    first, mean = three["step_pj"]["first"], three["step_pj"]["mean"]
    assert first == one["energy_pj"] > mean
    assert 0 <= three["energy_pj"] - first - 2 * mean < 2
    assert "energy of a later step" in run(*arguments, "-n", "3")


def test_techniques_are_explained_where_a_plan_was_offered_them() -> None:
    plain = run("compare", *RESNET8)
    assert "pulp-fp16" in plain
    assert "Techniques" not in plain
    reused = run("compare", *SMALL, "-p", "dsp-int8+reuse")
    assert "Techniques: reuse (DSP-compute subgraph reuse)." in reused
