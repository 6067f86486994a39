"""The accuracy study: the committed file holds together, and its pages show what it holds."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import pytest

from experiments import accuracy
from experiments.accuracy import (
    RULES,
    Planned,
    command,
    comparisons,
    figures,
    pairs_table,
    runs_of,
    shown,
    studies,
    table,
    with_rule,
)
from experiments.cli_common import STOPPED
from experiments.results import read_result, write_result
from experiments.training.config import TrainConfig
from sim import build_plan, load_device, load_model, training_graph
from sim.lowering import lowering
from sim.plan import Plan
from sim.policies.recipes import ADAPTIVE

ROOT = Path(__file__).parents[2]
CONFIG = TrainConfig("lenet", "digits", batch=16)
STUDIES = studies("CIFAR", "MNIST")
PLANNED = {planned.name: planned for study in STUDIES.values() for planned in runs_of(study)}
PAGE = (ROOT / "docs/background/accuracy.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def committed() -> dict[str, Any]:
    return read_result(ROOT / accuracy.RESULT)


def run(valid: tuple[float, ...], right: str, images: int = 8, step: int = 10) -> dict[str, Any]:
    """What the study keeps of a run: validation accuracy by epoch, test bits, time of an epoch."""
    bits = bin(int(right, 16)).count("1")
    rows = [
        {
            "epoch": epoch,
            "validation_accuracy": accuracy,
            "time_ns": step * (epoch + 1),
            "energy_pj": 2 * step * (epoch + 1),
            "rescale": None,
        }
        for epoch, accuracy in enumerate(valid)
    ]
    return {
        "test": {"accuracy": bits / images, "images": images, "right_hex": right},
        "identity": {"test_sha256": "same"},
        "epochs": rows,
        "skipped_after_first_epoch": None,
    }


def rescaled(of: dict[str, Any], skipped: float, clipped: float) -> dict[str, Any]:
    """The same run with shares of rescaling in every epoch."""
    rows = [{**row, "rescale": {"saturated_share": clipped}} for row in of["epochs"]]
    return {**of, "epochs": rows, "skipped_after_first_epoch": skipped}


# -- the committed file ------------------------------------------------------------------------


def test_the_comparisons_kept_are_those_of_the_runs_kept(committed: dict[str, Any]) -> None:
    assert comparisons(committed["runs"]) == committed["comparisons"]


def test_the_page_shows_the_tables_of_the_file(committed: dict[str, Any]) -> None:
    block = re.search(r"^\$ python -m experiments\.accuracy --table\n(.*?)^```$", PAGE, re.M | re.S)
    assert block is not None
    assert block[1] == shown(committed) + "\n", "put what --table prints into the page"


def test_the_page_says_which_networks_were_not_run(committed: dict[str, Any]) -> None:
    state = re.search(r"^\| state \| (.*) \|$", PAGE, re.M)
    assert state is not None
    told = dict(zip(STUDIES, state[1].split(" | "), strict=True))
    trained = {name.split("-")[0] for name in committed["runs"]}
    assert {name for name, text in told.items() if text == "not yet run here"} == (
        STUDIES.keys() - trained
    )


def test_every_run_kept_is_one_of_the_study_and_complete(committed: dict[str, Any]) -> None:
    assert committed["runs"].keys() <= PLANNED.keys()
    for name, kept in committed["runs"].items():
        planned = PLANNED[name]
        config = planned.config
        assert kept["rule"] == (None if planned.rule is None else RULES[planned.rule])
        assert kept["seed"] == config.seed
        assert [row["epoch"] for row in kept["epochs"]] == list(range(config.epochs))
        counts = [row["validation_correct"] for row in kept["epochs"]]
        assert kept["chosen_epoch"] == counts.index(max(counts))
        test = kept["test"]
        assert test["accuracy"] == test["correct"] / test["images"]
        assert bin(int(test["right_hex"], 16)).count("1") == test["correct"]
        met = [row["rescale"] for row in kept["epochs"][1:]]
        if planned.rule is None:
            assert met == [None] * len(met)
            assert kept["skipped_after_first_epoch"] is None
        else:
            scans, tensors = (sum(row[what] for row in met) for what in ("scans", "tensors"))
            assert kept["skipped_after_first_epoch"] == 1 - scans / tensors


def test_all_runs_of_a_network_saw_the_same_test_images(committed: dict[str, Any]) -> None:
    seen: dict[str, set[tuple[str, int]]] = {}
    for name, kept in committed["runs"].items():
        digest = kept["identity"]["test_sha256"], kept["test"]["images"]
        seen.setdefault(name.split("-")[0], set()).add(digest)
    assert all(len(digests) == 1 for digests in seen.values())


# -- tables and pairs --------------------------------------------------------------------------


def test_the_table_has_means_deviations_and_differences_over_seeds() -> None:
    runs = {
        "net-seed0-fp32": run((0.5, 0.9), "ff"),
        "net-seed1-fp32": run((0.5, 0.8), "7f"),
        "net-seed0-sandbox-every": rescaled(run((0.5, 0.7), "0f"), 0.5, 1e-6),
        "net-seed1-sandbox-every": rescaled(run((0.9, 0.1), "1f"), 0.7, 3e-6),
        "other-seed0-sandbox-every": run((0.5,), "01"),
    }
    head, fp32, every, other = table(runs).splitlines()
    names = ["run", "seeds", "test", "%", "dev.", "-", "FP32", "worst", "end", "skipped", "%"]
    assert head.split() == [*names, "clipped"]
    assert fp32.split() == ["net", "fp32", "2", "93.75", f"{stdev([100, 87.5]):.2f}", "+0.00", "80.00"]  # noqa: E501  # fmt: skip
    gap = f"{100 * mean([4 / 8, 5 / 8]) - 93.75:+.2f}"
    assert every.split() == [
        "net", "sandbox-every", "2", "56.25", f"{stdev([50, 62.5]):.2f}", gap, "10.00", "60.0",
        "3.0e-06",
    ]  # fmt: skip
    assert other.split() == ["other", "sandbox-every", "1", "12.50", "-", "-", "50.00"]


def test_pairs_are_compared_where_both_were_run() -> None:
    runs = {
        "net-seed0-fp32": run((0.5, 0.9, 0.95), "ff", step=40),
        "net-seed0-sandbox-every": run((0.5, 0.9), "f0"),
        "net-seed0-sandbox-adaptive": run((0.5, 0.93), "f8"),
        "net-seed1-sandbox-adaptive": run((0.5, 0.93), "f8"),
    }
    found = comparisons(runs)
    pair = found["net-seed0"]
    assert pair["adaptive_minus_every"]["points"] == 12.5
    assert pair["adaptive_minus_fp32"]["points"] == -37.5
    assert pair["adaptive_minus_fp32"]["low"] < -37.5 < pair["adaptive_minus_fp32"]["high"] <= 0
    race = pair["to_accuracy"]  # 0.95 - 0.02: the third epoch in FP32, the second in INT8
    assert race["accuracy"] == pytest.approx(0.93)
    assert race["epochs"] == [2, 1]
    assert race["time_ratio"] == race["energy_ratio"] == 3 * 40 / (2 * 10)
    assert found["net-seed1"] == {}
    first, second = pairs_table(found).splitlines()[1:]
    assert first.startswith("net-seed0")
    assert first.split()[1] == "+12.50"
    assert first.endswith("6.00 x  6.00 x")
    assert second.split() == ["net-seed1", "-", "-", "-", "-"]


def test_an_accuracy_that_int8_never_reaches_has_no_ratio() -> None:
    runs = {
        "net-seed0-fp32": run((0.99,), "ff"),
        "net-seed0-sandbox-adaptive": run((0.5, 0.96), "ff"),
    }
    found = comparisons(runs)
    assert found["net-seed0"]["to_accuracy"] is None
    assert pairs_table(found).splitlines()[1].split()[-2:] == ["-", "-"]


def test_figures_count_scans_after_the_first_epoch() -> None:
    rows = [
        {"rescale": {"scans": 9, "tensors": 9}},
        {"rescale": {"scans": 1, "tensors": 9}},
        {"rescale": {"scans": 2, "tensors": 9}},
    ]
    result = {
        "epochs": rows,
        "test": {"accuracy": 0.5, "correct": 4, "images": 8, "right_hex": "0f", "more": 1},
        "identity": {"test_sha256": "same", "more": 1},
        "chosen_epoch": 1,
        "simulated": None,
        "weights_sha256": "w",
        "wall_ms": 3,
        "manifest": {"versions": {"numpy": "2"}},
    }
    kept = figures(Planned("lenet-seed3-x", replace(CONFIG, seed=3), "delayed"), result)
    assert kept["skipped_after_first_epoch"] == 1 - 3 / 18
    assert (kept["rule"], kept["profile"], kept["seed"]) == ("delayed:16", "sandbox", 3)
    assert kept["test"].keys() == {"accuracy", "correct", "images", "right_hex"}
    assert kept["identity"] == {"test_sha256": "same"}
    plain = {**result, "epochs": [{"rescale": None}, {"rescale": None}]}
    fp32 = figures(Planned("lenet-seed3-fp32", CONFIG, None), plain)
    assert (fp32["rule"], fp32["profile"]) == (None, "fp32")
    assert fp32["skipped_after_first_epoch"] is None


# -- what is run -------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", RULES)
def test_every_rule_is_written_into_the_plan_of_its_run(tmp_path: Path, rule: str) -> None:
    config = with_rule(Planned("one", CONFIG, rule), tmp_path)
    assert config.plan == str(tmp_path / "one.plan.json")
    device = load_device(accuracy.DEVICE)
    graph = training_graph(load_model("lenet", batch=16))
    plan = build_plan("mandheling", graph, device)
    written = Plan.from_json(Path(config.plan).read_text()).aspect("rescale")
    assert set(written.values()) == {RULES[rule]}
    assert written.keys() == lowering(graph, plan, device).rules.keys()
    assert f"--plan {Path(config.plan).name} " in command(Planned("one", CONFIG, rule))


def test_the_adaptive_rule_is_that_of_the_plan_mandheling() -> None:
    graph = training_graph(load_model("lenet", batch=16))
    plan = build_plan("mandheling", graph, load_device(accuracy.DEVICE))
    assert {RULES["adaptive"]} == {ADAPTIVE} == set(plan.aspect("rescale").values())


def test_fp32_needs_no_rule(tmp_path: Path) -> None:
    planned = PLANNED["lenet-seed0-fp32"]
    assert with_rule(planned, tmp_path) is planned.config
    assert not list(tmp_path.iterdir())
    assert "--plan mnn-fp32 " in command(planned)


def test_one_run_is_trained_kept_and_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    config = replace(CONFIG, device=accuracy.DEVICE, epochs=2, batch=64)
    study = accuracy.Study("lenet", config, (0,), ("adaptive",), ())
    monkeypatch.setattr(accuracy, "studies", lambda cifar10, mnist: {"lenet": study})
    accuracy.main([])
    kept = read_result(accuracy.RESULT)
    assert kept["runs"].keys() == {"lenet-seed0-fp32", "lenet-seed0-sandbox-adaptive"}
    assert kept["runs"]["lenet-seed0-sandbox-adaptive"]["skipped_after_first_epoch"] > 0
    assert kept["comparisons"]["lenet-seed0"].keys() == {"adaptive_minus_fp32", "to_accuracy"}
    assert shown(kept) in capsys.readouterr().out


def test_ctrl_c_says_how_to_go_on_and_keeps_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_result(accuracy.RESULT, {"runs": {"net-seed0-fp32": run((0.5,), "ff")}})
    before = accuracy.RESULT.read_bytes()

    def interrupted(config: TrainConfig, out: Path) -> dict[str, Any]:
        raise KeyboardInterrupt

    monkeypatch.setattr(accuracy, "train", interrupted)
    with pytest.raises(SystemExit) as stopped:
        accuracy.main(["--only", "lenet-seed0"])
    printed = capsys.readouterr()
    assert stopped.value.code == 130
    assert printed.err == f"{STOPPED}\n"
    assert printed.out.count("lenet-seed0") == 1, "the next run was begun"
    assert accuracy.RESULT.read_bytes() == before


def test_a_name_of_no_run_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        accuracy.main(["--only", "lexnet"])
    assert "--only is 'lexnet'; give a part of a name like lenet-seed0-fp32" in (
        capsys.readouterr().err
    )


def test_the_table_trains_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    accuracy.main(["--table"])
    assert capsys.readouterr().out == "no runs yet\n"
    assert not list(tmp_path.iterdir())
