"""``mandheling certify``: what it prints, and what it refuses; the tables of its study."""

from __future__ import annotations

import json
from pathlib import Path

from typer.testing import CliRunner

from experiments.certify.study import table
from experiments.cli import app
from experiments.results import read_result
from sim import Plan, expect, load_device, load_model, training_graph

SMALL = ["certify", "-m", "lenet", "-d", "snapdragon-865", "-b", "4", "--rounds", "1"]


def test_json_holds_plan_bound_and_gap(tmp_path: Path) -> None:
    target = tmp_path / "bound.json"
    result = CliRunner().invoke(app, [*SMALL, "--plan", "latency", "--json", "-o", str(target)])
    assert result.exit_code == 0, result.stderr
    document = json.loads(result.stdout)
    assert json.loads(target.read_text()) == document
    assert 0 < document["bound_ns"] <= document["time_ns"]
    assert document["gap"] == 1 - document["bound_ns"] / document["time_ns"]
    assert document["plan"] == "latency"
    assert document["manifest"]["config"] == {"rounds": 1, "work": 0}


def test_the_table_fits_and_says_what_is_proven() -> None:
    result = CliRunner().invoke(app, SMALL, env={"COLUMNS": "80"})
    assert result.exit_code == 0, result.stderr
    assert "No plan of lenet, batch 4, on snapdragon-865 is below" in result.stdout
    printed = " ".join(result.stdout.split())
    assert "predicted, not measured" in printed
    assert "Limits on risk, memory or energy are left out" in printed
    assert max(map(len, result.stdout.splitlines())) <= 80


def test_rounds_beyond_the_limit_are_refused() -> None:
    result = CliRunner().invoke(app, [*SMALL[:-1], "-1"])
    assert result.exit_code != 0
    assert "give an integer from 0 to 100" in result.stderr


def test_kept_figures_are_of_the_kept_plans_and_the_page_shows_them() -> None:
    content = read_result(Path("results/certify.json"))
    device = load_device("snapdragon-865")
    for row in content["large"]:
        graph = training_graph(load_model(row["model"], batch=64))
        plan = Plan.read(Path(f"results/plans/{row['model']}-snapdragon-865.json"))
        assert expect(graph, plan, device).time_ns == row["best_ns"]
        assert row["bound_ns"] <= row["own_bound_ns"] <= row["best_ns"] < row["mandheling_ns"]
    page = Path("docs/background/certificates.md").read_text(encoding="utf-8")
    for block in table(content).split("\n\n"):
        assert block in page
