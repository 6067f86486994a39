"""Finalists trained for real: once per numerics, with the bits that every placement gives."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from experiments.search.verify import Verification, numeric_choices, verify_top, wilson
from experiments.training.config import ConfigError, TrainConfig
from experiments.training.loop import Stopped, train
from kernels.profiles import PROFILES
from sim import Plan, TrainingGraph, build_plan, load_device, load_model, training_graph
from sim.numeric.session import TrainingSession
from sim.plan import PlanError

DEVICE = load_device("snapdragon-865")
CONFIG = TrainConfig("lenet", "digits", epochs=2, rate=0.02, checkpoint_every=1000)
SANDBOX = PROFILES["sandbox"]


@pytest.fixture(scope="module")
def graph() -> TrainingGraph:
    return training_graph(load_model("lenet", batch=64))


@pytest.fixture(scope="module")
def plans(graph: TrainingGraph) -> list[Plan]:
    """The base, one that is numerically equal, and one that is not."""
    base = build_plan("mandheling", graph, DEVICE)
    moved = base.update(
        {("placement", "conv1"): "cpu:2", ("batch_split", "conv2.weight_grad"): "16"}, "moved"
    )
    return [base, moved, build_plan("mnn-int8", graph, DEVICE)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("verified")


@pytest.fixture(scope="module")
def found(plans: list[Plan], folder: Path) -> Verification:
    return verify_top(plans[1:], 2, base=plans[0], config=CONFIG, out=folder)


def test_plans_of_one_numerics_are_trained_once_and_that_is_said(
    found: Verification, folder: Path
) -> None:
    assert [row.plans for row in found.rows] == [("mandheling", "moved"), ("mnn-int8",)]
    assert len([path for path in folder.iterdir() if path.is_dir()]) == 2
    assert found.notes[0].startswith("mandheling, moved: the same numerics, so trained once")
    base, other = found.rows
    assert (base.difference, base.difference_low, base.clear) == (0.0, 0.0, False)
    assert base.accuracy == base.correct / base.images
    assert 0.5 < base.low < base.accuracy < base.high < 1
    assert other.difference == pytest.approx(other.accuracy - base.accuracy)
    assert other.difference_low <= other.difference <= other.difference_high
    assert found.row("moved") is base
    assert json.loads(json.dumps(found.document()))["rows"][1]["plans"] == ["mnn-int8"]


def test_what_stale_shifts_did_is_measured(found: Verification) -> None:
    base, every = found.rows
    assert base.stale_share is not None
    assert base.stale_share > 0 == every.stale_share
    assert base.saturated_ppm is not None
    assert every.saturated_ppm is not None
    assert base.saturated_ppm > 100 * every.saturated_ppm
    assert every.lost_ppm is not None
    assert every.lost_ppm > 1000, "INT8 loses values with true shifts too"


def test_the_accuracy_is_that_of_an_ordinary_run_of_the_plan(
    found: Verification, plans: list[Plan], tmp_path: Path
) -> None:
    (tmp_path / "moved.json").write_text(plans[1].to_json())
    result = train(replace(CONFIG, plan=str(tmp_path / "moved.json")), tmp_path / "run")
    assert result["test"]["correct"] == found.row("moved").correct
    assert result["steps"] == found.row("moved").steps


def test_a_second_call_trains_nothing(
    found: Verification, plans: list[Plan], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("experiments.training.loop._Run.to_the_end", pytest.fail)
    assert verify_top(plans[1:], 2, base=plans[0], config=CONFIG, out=folder) == found


def test_equal_numeric_choices_give_equal_bits(graph: TrainingGraph, plans: list[Plan]) -> None:
    keys = [numeric_choices(graph, plan, DEVICE, SANDBOX) for plan in plans]
    assert keys[0] == keys[1] != keys[2]
    rng = np.random.default_rng(0)
    images = rng.normal(size=(64, 28, 28, 1)).astype(np.float32)
    labels = np.arange(64) % 10
    digests = []
    for plan in (*plans, Plan.make("numeric", graph.hash(), keys[0])):
        session = TrainingSession(graph, plan, DEVICE, engine="none", threads=1)
        for _ in range(5):
            session.step(images, labels, rate_q24=1 << 18)
        digests.append(session.executor.parameters.sha256())
    assert digests[0] == digests[1] == digests[3] != digests[2]


def test_splits_count_where_they_change_bits(graph: TrainingGraph, plans: list[Plan]) -> None:
    split = ("batch_split", "conv2.weight_grad")
    assert split in numeric_choices(graph, plans[1], DEVICE, PROFILES["mandheling_dsp"])
    assert split not in numeric_choices(graph, plans[1], DEVICE, SANDBOX)
    fp32 = build_plan("mnn-fp32", graph, DEVICE).replace(*split, "16")
    assert numeric_choices(graph, fp32, DEVICE, SANDBOX)[split] == "16"


def test_a_stop_keeps_what_is_trained(plans: list[Plan], tmp_path: Path) -> None:
    asked = iter(range(10**6))
    with pytest.raises(Stopped):
        verify_top(
            plans[1:], 1, base=plans[0], config=CONFIG, out=tmp_path, stop=lambda: next(asked) >= 3
        )
    assert list(tmp_path.glob("*/checkpoint.npz"))
    assert not list(tmp_path.glob("*/result.json"))


@pytest.mark.parametrize("k", [0, -1, 1001, True, 1.5])
def test_an_impossible_number_is_refused(k: int, plans: list[Plan], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"verify-top: .*an integer from 1 to 1000"):
        verify_top(plans, k, base=plans[0], config=CONFIG, out=tmp_path)


def test_two_plans_of_one_name_are_refused(plans: list[Plan], tmp_path: Path) -> None:
    named = replace(plans[2], name="mandheling")
    with pytest.raises(ConfigError, match="two different plans are named 'mandheling'"):
        verify_top([named], 1, base=plans[0], config=CONFIG, out=tmp_path)


def test_a_plan_for_another_model_is_refused(plans: list[Plan], tmp_path: Path) -> None:
    with pytest.raises(PlanError, match="is for graph"):
        verify_top(plans[1:], 1, base=plans[0], config=replace(CONFIG, batch=32), out=tmp_path)
    assert not list(tmp_path.iterdir())


def test_wilsons_interval_stays_within_0_and_1() -> None:
    assert wilson(0, 10)[0] == pytest.approx(0, abs=1e-9)
    assert wilson(10, 10)[1] == pytest.approx(1)
    low, high = wilson(81, 263)  # E. B. Wilson's formula as in Brown, Cai, DasGupta (2001), eq. 4
    assert (round(low, 4), round(high, 4)) == (0.2553, 0.3662)
