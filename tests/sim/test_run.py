"""Runs: a fold over steps, the same for both engines, different by draws alone."""

from __future__ import annotations

import numpy as np
import pytest

from cost_models.device import load_device
from sim.autodiff import training_graph
from sim.checks import check
from sim.lowering import lowering
from sim.plan import Plan
from sim.policies.build import build_plan
from sim.run import SAMPLE_STRIDE, WARM_UP_STEPS, Run, RunError, sample_steady, simulate
from sim.state import RecordedShifts, Scenario, StepState
from sim.taskgraph import StaticPower, Unit, make_task_graph
from sim.timeline import Timeline
from sim.zoo import load_model

PHONE = load_device("snapdragon-865")
GRAPH = training_graph(load_model("lenet", batch=8))
OFFLOAD = build_plan("dsp-int8", GRAPH, PHONE)
REUSING = OFFLOAD.replace("reuse", "step", "mru")
CPU = build_plan("mnn-fp32", GRAPH, PHONE)


def test_steps_follow_each_other_from_the_cold_start() -> None:
    run = simulate(GRAPH, REUSING, PHONE, steps=4)
    assert run.steps == (0, 1, 2, 3)
    assert run.final.step == 4
    assert len(run.step_ns) == 4
    assert run.step_ns[0] > run.step_ns[1:].max()  # subgraphs are prepared in the first step only
    for timeline in run.timelines:
        check(timeline)
    assert run.makespan_ns == int(run.step_ns.sum())
    assert run.energy_pj == sum(t.energy_pj for t in run.timelines)
    assert run.mean_ns == run.makespan_ns // 4
    assert run.mean_pj == run.energy_pj // 4


def test_same_run_same_bytes_on_either_engine() -> None:
    one, two, slow = (
        simulate(GRAPH, REUSING, PHONE, steps=3, seed=5, engine=engine)
        for engine in ("compiled", "compiled", "simpy")
    )
    assert one.sha256 == two.sha256 == slow.sha256
    assert one.final == slow.final


def test_seeds_change_draws_and_nothing_else() -> None:
    rules = lowering(GRAPH, REUSING, PHONE).rules
    shifts = RecordedShifts(dict.fromkeys(rules, (8,)))
    one, two = (simulate(GRAPH, REUSING, PHONE, steps=3, seed=s, shifts=shifts) for s in (1, 2))
    assert one.sha256 != two.sha256
    for a, b in zip(one.timelines, two.timelines, strict=True):
        assert a.graph.names == b.graph.names
        moved = np.flatnonzero(a.graph.lead_ns != b.graph.lead_ns)
        assert {a.graph.names[k].rpartition(".")[2] for k in moved} <= {"call"}
        for column in ("compute_ns", "ddr_bytes", "unit", "slots", "pred", "power_mw"):
            assert (getattr(a.graph, column) == getattr(b.graph, column)).all()
    assert one.final.rescale == two.final.rescale


def test_without_draws_the_seed_is_nothing() -> None:
    one, two = (simulate(GRAPH, CPU, PHONE, steps=2, seed=seed) for seed in (1, 2))
    assert one.sha256 == two.sha256


def test_scenarios_by_name_and_of_your_own() -> None:
    quiet = simulate(GRAPH, CPU, PHONE, steps=3)
    crowded = simulate(
        GRAPH, CPU, PHONE, steps=3, scenario=Scenario("mine", busy_cores_ppm=(0, 10**6))
    )
    assert crowded.mean_ns > quiet.mean_ns
    hot = simulate(GRAPH, CPU, PHONE, steps=2, scenario="sustained")
    assert hot.final.temperature_mc is not None


def test_steady_samples_are_spaced_and_warm() -> None:
    run = sample_steady(GRAPH, REUSING, PHONE, samples=3)
    assert run.steps == tuple(WARM_UP_STEPS + SAMPLE_STRIDE * k for k in range(3))
    for timeline in run.timelines:
        assert not any(name.endswith(".prepare") for name in timeline.graph.names)
    # The sample is what the full run would show at that step.
    short = sample_steady(GRAPH, REUSING, PHONE, samples=2, warm_up=3, seed=4)
    full = simulate(GRAPH, REUSING, PHONE, steps=short.steps[-1] + 1, seed=4)
    for timeline, step in zip(short.timelines, short.steps, strict=True):
        assert timeline.sha256 == full.timelines[step].sha256


def test_one_sample_suffices_where_nothing_is_drawn() -> None:
    assert len(sample_steady(GRAPH, CPU, PHONE, samples=9).timelines) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"steps": 0}, "steps is 0; it must be 1 or more"),
        ({"seed": -1}, r"seed is -1; it must lie in 0 \.\. 2\*\*63 - 1"),
        ({"seed": 2**63}, "seed is"),
        ({"scenario": "party"}, r"scenario 'party' is unknown; .*'busy', 'quiet', 'sustained'"),
    ],
)
def test_impossible_runs(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(RunError, match=message):
        simulate(GRAPH, CPU, PHONE, **arguments)  # type: ignore[arg-type]


def made(times: list[int]) -> Run:
    graph = make_task_graph(
        [Unit("cpu", 1)], [0], power_mw=2, static_power=[StaticPower("soc", 3)], resident_bytes=7
    )
    rows = tuple(Timeline(graph, np.array([0]), np.array([time]), np.array([1])) for time in times)
    plan = Plan.make("mine", "h", {})
    return Run(plan, rows, tuple(range(len(times))), StepState())


def test_a_recorded_trace_holds_every_tensor() -> None:
    with pytest.raises(RunError, match=r"trace has no shifts of 'conv1' \(11 tensors are missing"):
        simulate(GRAPH, OFFLOAD, PHONE, steps=1, shifts=RecordedShifts({}))


def test_steps_of_a_thermal_scenario_cannot_be_skipped() -> None:
    with pytest.raises(RunError, match="scenario 'sustained' heats up step by step"):
        sample_steady(GRAPH, CPU, PHONE, scenario="sustained")


def test_each_step_is_shown_as_it_ends() -> None:
    seen: list[tuple[int, int]] = []
    run = simulate(
        GRAPH, CPU, PHONE, steps=3, on_step=lambda t, s: seen.append((s.step, t.makespan_ns))
    )
    assert seen == list(zip((1, 2, 3), run.step_ns.tolist(), strict=True))


def test_percentiles_by_rank() -> None:
    run = made([50, 10, 40, 20, 30])
    assert [run.percentile_ns(p) for p in (0, 1, 20, 21, 50, 60, 99, 100)] == [
        10,
        10,
        10,
        20,
        30,
        30,
        50,
        50,
    ]
    assert run.percentile_ns(50, skip=2) == 30  # of 40, 20, 30
    assert run.percentile_ns(100, skip=99) == 30  # at least the last step is left


def test_sums_by_hand() -> None:
    run = made([10, 5])
    assert (run.makespan_ns, run.mean_ns) == (15, 7)
    assert (run.energy_pj, run.mean_pj) == (75, 37)  # 2 + 3 mW
    assert run.peak_bytes == 7
    assert made([10, 5]).sha256 == run.sha256 != made([5, 10]).sha256


def test_a_run_reuses_what_lowering_knows() -> None:
    assert lowering(GRAPH, CPU, PHONE) is lowering(GRAPH, CPU, PHONE)
