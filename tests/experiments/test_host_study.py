"""``mandheling validate``: what is committed follows from the committed samples."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from cost_models.fitting import CalibrationError
from cost_models.host import fit_laws
from cost_models.samples import Sample, SampleError, read_samples
from experiments.cli import app
from experiments.host.measure import AGAIN, PREDICTED, STEPS, letters, measure, modes_of, wanted
from experiments.host.measured import MeasuredPlan, distinct, plans_of
from experiments.host.study import kendall, outcome, paired, study
from sim.checks import check

RESULTS = Path(__file__).parents[2] / "results"
SAMPLES = read_samples(RESULTS / "host.jsonl").samples
COMMITTED: dict[str, Any] = json.loads((RESULTS / "host.json").read_text(encoding="utf-8"))
FEW = ("squeezenet1.1", "vgg-small-8", *(f"drawn-net-{seed}" for seed in range(5)))


def few() -> list[Sample]:
    """Samples of seven calibration networks, and both visits to three plans of LeNet."""
    kept = [s for s in SAMPLES if s.config["use"] == "calibrate" and s.config["model"] in FEW]
    lenet = [s for s in SAMPLES if s.config["model"] == "lenet"]
    return kept + sorted(lenet, key=lambda s: s.key)[:6]


def test_every_wanted_plan_was_measured() -> None:
    keys = {key for predicted in (True, False) for key, _ in wanted(predicted)}
    assert {sample.key for sample in SAMPLES} == keys
    assert all(len(s.conditions["makespans_ns"]) == STEPS for s in SAMPLES)  # type: ignore[arg-type]


def test_numbers_of_every_predicted_plan_were_the_executors() -> None:
    plans = plans_of(SAMPLES, "predict")
    assert len(plans) == 2 * sum(len(one.plans) for one in PREDICTED) >= 120
    assert all(plan.equal for plan in plans)
    assert COMMITTED["equal_numbers"] == len(plans) // 2


def test_no_predicted_network_is_fitted_on() -> None:
    fitted = {plan.model for plan in plans_of(SAMPLES, "calibrate")}
    assert not fitted & {one.model for one in PREDICTED}
    assert len(fitted) >= 9, "groups that a 90 % interval needs"


def test_committed_figures_follow_from_the_plans_that_are_listed() -> None:
    plans = COMMITTED["plans"]
    errors = np.array([each["predicted_ns"] / each["measured_ns"] - 1 for each in plans])
    assert np.median(np.abs(errors)) == pytest.approx(COMMITTED["step"]["median"], rel=1e-3)
    for name, summary in COMMITTED["models"].items():
        mine = [e for e, p in zip(errors, plans, strict=True) if p["plan"].startswith(name + "/")]
        assert np.median(np.abs(mine)) == pytest.approx(summary["median"], rel=1e-3)
        assert summary["plans"] == len(mine)
    measured = {s.key.partition("/")[2]: s for s in SAMPLES if s.config["use"] == "predict"}
    for each in plans:
        both = [measured[each["plan"] + end].conditions["makespans_ns"] for end in ("", AGAIN)]
        assert each["measured_ns"] == round(float(np.median(both)))  # type: ignore[arg-type]
        assert each["visits_ns"] == [round(float(np.median(one))) for one in both]  # type: ignore[arg-type]


def test_accuracy_is_what_the_page_says() -> None:
    """Medians of at most 10 %, of all plans and of each network."""
    assert COMMITTED["step"]["median"] <= 0.10
    assert all(each["median"] <= 0.10 for each in COMMITTED["models"].values())
    assert COMMITTED["kendall_tau"]["tau"] >= 0.9
    assert COMMITTED["kendall_tau"]["pairs"] >= 500
    covered = COMMITTED["interval"]
    assert covered["kind"] == "conformal"
    assert covered["covered"] / covered["of"] >= 0.85


@pytest.mark.accept
def test_committed_result_is_what_the_samples_give() -> None:
    """If this fails: ``mandheling validate -o results/host.json``, and look at the diff."""
    found = study(SAMPLES)
    near = {"abs": 2e-3}  # the last bits of a fit differ between math libraries
    assert found["kendall_tau"]["tau"] == pytest.approx(COMMITTED["kendall_tau"]["tau"], abs=0.01)
    assert found["interval"]["high"] == pytest.approx(COMMITTED["interval"]["high"], **near)
    for name, mine in {"all": found["step"], **found["models"]}.items():
        theirs = COMMITTED["step"] if name == "all" else COMMITTED["models"][name]
        assert mine["median"] == pytest.approx(theirs["median"], **near)
        assert mine["worst"] == pytest.approx(theirs["worst"], **near)
    assert found["left_out"]["median"] == pytest.approx(COMMITTED["left_out"]["median"], **near)
    for mine, theirs in zip(found["plans"], COMMITTED["plans"], strict=True):
        assert mine["predicted_ns"] == pytest.approx(theirs["predicted_ns"], rel=1e-4)


def test_kept_steps_are_timelines_of_the_plan_as_it_is_lowered_now() -> None:
    for plan in plans_of(few(), "predict"):
        for kind, timeline in plan.kept():
            check(timeline)
            assert timeline.makespan_ns in plan.makespans_ns
            assert len(kind.works) == len(timeline.graph)


def test_predictions_do_not_see_what_was_measured_of_the_plan() -> None:
    laws = fit_laws(distinct(r for p in plans_of(few(), "calibrate") for r in p.rows()))
    ((first, again), *_) = paired(plans_of(few(), "predict"))
    sample = first.sample
    slower = replace(
        sample,
        raw=tuple(3 * value for value in sample.raw),
        conditions={
            **sample.conditions,
            "makespans_ns": [3 * m for m in sample.conditions["makespans_ns"]],  # type: ignore
        },
    )
    one, other = outcome(first, again, laws), outcome(MeasuredPlan(slower), again, laws)
    assert one.predicted_ns == other.predicted_ns
    assert other.visits_ns == (3 * one.visits_ns[0], one.visits_ns[1])


def test_order_counts_pairs_beyond_noise() -> None:
    laws = fit_laws(distinct(r for p in plans_of(few(), "calibrate") for r in p.rows()))
    found = [outcome(*both, laws) for both in paired(plans_of(few(), "predict"))]
    upside_down = [replace(one, predicted_ns=1e12 / one.measured_ns) for one in found]
    same = [replace(one, predicted_ns=one.measured_ns) for one in found]
    assert kendall(same)["tau"] == 1.0
    assert kendall(upside_down)["tau"] == -1.0
    assert kendall(same)["pairs"] + kendall(same)["within_noise"] == 3
    rough = [replace(one, visits_ns=(one.measured_ns, 3 * one.measured_ns)) for one in found]
    assert kendall(rough)["pairs"] < kendall(same)["pairs"] + kendall(same)["within_noise"]
    assert kendall(rough)["tau_within"] == kendall(found)["tau_within"]


def test_a_sample_of_other_rows_is_refused() -> None:
    (plan, *_) = plans_of(few(), "predict")
    with pytest.raises(SampleError, match="measure again"):
        list(MeasuredPlan(replace(plan.sample, raw=plan.sample.raw[:-1])).kept())


def test_all_plans_are_needed() -> None:
    with pytest.raises(CalibrationError, match=r"^6 of 255 visits are measured; go on"):
        study([s for s in few() if s.config["use"] == "predict"])


def test_a_small_network_is_measured_and_read_back() -> None:
    config = {"use": "predict", "model": "drawn-net-4", "batch": 2, "image": 16, "plan": 3}
    sample = measure("predict/drawn-net-4/2x16/3", config)
    plan = MeasuredPlan(sample)
    assert plan.equal
    assert len(plan.makespans_ns) == STEPS
    assert sum(1 for _ in plan.rows()) == len(sample.raw)


def test_letters_of_modes() -> None:
    modes = {"b": "fused", "a": "dynamic", "c": "inline"}
    assert letters(modes) == "dfi"  # type: ignore[arg-type]
    assert modes_of("dfi", ["c", "a", "b"]) == modes


def invoke(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, list(arguments))
    return result.exit_code, result.stderr


def test_command_refuses_what_it_cannot_read(tmp_path: Path) -> None:
    code, told = invoke("validate", "--samples", str(tmp_path / "none.jsonl"))
    assert code == 2
    assert "none.jsonl" in told
    code, told = invoke("validate", "--plot", str(tmp_path / "no" / "x.png"))
    assert code == 2
    assert "does not exist" in told
