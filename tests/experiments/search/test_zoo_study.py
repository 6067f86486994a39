"""The study of the zoo: its rows hold what a search finds, and the page shows what is kept."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from experiments.search import zoo_study
from experiments.search.budget import Budget
from experiments.search.problem import Problem
from experiments.search.zoo_study import PHONES, RESULT, searched, shown
from sim.zoo import model_names

ROOT = Path(__file__).parents[3]


def test_a_row_is_at_least_as_quick_as_every_built_in_plan() -> None:
    problem = Problem("lenet", batch=8, evaluations_per_shard=128)
    row = searched(problem, Budget(shards=1), workers=1)
    assert row["found_ns"] <= row["built_in_ns"] <= row["mandheling_ns"]
    assert (row["shards"], row["evaluations"]) == (1, 128)
    assert "lenet" in shown({"rows": [row], "budget": "1-shards", "workers": 1})


def test_the_page_shows_what_is_kept() -> None:
    kept = json.loads((ROOT / RESULT).read_text(encoding="utf-8"))
    page = (ROOT / "docs/background/searched-plans.md").read_text(encoding="utf-8")
    block = re.search(
        r"^\$ python -m experiments.search.zoo_study --table\n(.*?)^```$", page, re.M | re.S
    )
    assert block is not None
    assert block[1] == shown(kept) + "\n", "put what --table prints into the page"
    assert {(r["model"], r["device"]) for r in kept["rows"]} == {
        (model, phone) for model in model_names() for phone in PHONES
    }


def test_nothing_kept_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit):
        zoo_study.main(["--table"])
    assert "run it without --table first" in capsys.readouterr().err
