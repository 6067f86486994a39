"""The example of a searcher of one's own runs as it is shown."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest

from experiments.search.conformance import check_searcher

SCRIPT = Path(__file__).parents[2] / "examples" / "custom_search.py"


def test_the_custom_search_beats_the_built_in_plans_and_conforms(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), "lenet", "2000"])
    names = runpy.run_path(str(SCRIPT))
    lines = capsys.readouterr().out.splitlines()
    times = [float(line.split()[0]) for line in lines]
    assert "climbed" in lines[-1]
    assert times[-1] < min(times[:-1])
    check_searcher(names["Climb"])
