"""Robustness: common luck, the draws of a run, verdicts."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from experiments.search.robustness import (
    FASTER,
    LESS,
    MORE,
    NOISE,
    SLOWER,
    RobustnessError,
    compare_plans,
    jittered,
)
from sim import Plan, TrainingGraph, build_plan, load_device, load_model, lower_step, training_graph
from sim.expected import expect
from sim.lowering import cost_model
from sim.state import StepState
from sim.uncertainty import ONE, Shared, interval, resampled

DEVICE = load_device("snapdragon-865")
WORLDS = 32


@pytest.fixture(scope="module")
def graph() -> TrainingGraph:
    return training_graph(load_model("lenet", batch=64))


@pytest.fixture(scope="module")
def plans(graph: TrainingGraph) -> dict[str, Plan]:
    names = ("mnn-fp32", "dsp-int8", "mandheling")
    return {name: build_plan(name, graph, DEVICE) for name in names}


def test_a_plan_does_not_beat_itself(graph: TrainingGraph, plans: dict[str, Plan]) -> None:
    twins = {"one": plans["mandheling"], "two": replace(plans["mandheling"], name="two")}
    gain = compare_plans(graph, DEVICE, twins, worlds=WORLDS).gain("one", "two")
    assert (gain.wins, gain.low, gain.median, gain.high) == (0.0, 0.0, 0.0, 0.0)
    assert (gain.energy_wins, gain.verdict) == (0.0, NOISE)


def test_both_directions_tell_the_same(graph: TrainingGraph, plans: dict[str, Plan]) -> None:
    found = compare_plans(graph, DEVICE, plans, worlds=WORLDS)
    assert len(found.gains) == 6
    for gain in found.gains:
        back = found.gain(gain.rival, gain.plan)
        assert gain.wins + back.wins == 1.0
        assert gain.low <= gain.median <= gain.high
        turned = {FASTER: SLOWER, SLOWER: FASTER, NOISE: NOISE}[gain.verdict]
        assert back.verdict == turned
        assert (gain.verdict == NOISE) == (gain.low <= 0 <= gain.high)
        turned = {LESS: MORE, MORE: LESS, NOISE: NOISE}[gain.energy_verdict]
        assert back.energy_verdict == turned
        assert (gain.energy_verdict == NOISE) == (gain.energy_low <= 0 <= gain.energy_high)
    assert found.gain("mandheling", "dsp-int8").verdict == FASTER
    assert found.gain("mandheling", "dsp-int8").energy_verdict == LESS
    assert json.loads(json.dumps(found.document()))["gains"][0]["plan"] == "mnn-fp32"


def test_the_answer_depends_on_seed_and_worlds_alone(
    graph: TrainingGraph, plans: dict[str, Plan]
) -> None:
    found = compare_plans(graph, DEVICE, plans, worlds=WORLDS, seed=5)
    assert compare_plans(graph, DEVICE, plans, worlds=WORLDS, seed=5) == found
    turned = dict(reversed(plans.items()))
    again = compare_plans(graph, DEVICE, turned, worlds=WORLDS, seed=5)
    assert {(g.plan, g.rival): g for g in again.gains} == {
        (g.plan, g.rival): g for g in found.gains
    }
    assert compare_plans(graph, DEVICE, plans, worlds=WORLDS, seed=6).gains != found.gains


def test_without_jitter_and_calls_it_is_the_interval_of_the_constants(
    graph: TrainingGraph, plans: dict[str, Plan]
) -> None:
    found = compare_plans(
        graph, DEVICE, dict.fromkeys(("a", "b"), plans["mnn-fp32"]), worlds=WORLDS, jitter=1
    )
    expected = expect(graph, plans["mnn-fp32"], DEVICE)
    quantities = cost_model(DEVICE, "mnn").quantities()
    worlds = resampled(expected, quantities, Shared.of(DEVICE), WORLDS)
    assert found.spreads[0].time_interval_ns == interval(worlds.times_ns)
    assert found.spreads[0].energy_interval_pj == interval(worlds.energies_pj)
    assert found.spreads[0].time_ns == expected.time_ns


def test_calls_get_the_tails_that_a_run_draws(graph: TrainingGraph, plans: dict[str, Plan]) -> None:
    plan, step, seed = plans["mnn-fp32"], 7, 3
    plan = build_plan("dsp-int8", graph, DEVICE).replace("rpc_qos", "step", "pm_qos")
    drawn, _ = lower_step(graph, plan, DEVICE, replace(StepState(seed=seed), step=step))
    (mean,) = {
        id(g): g for g in expect(graph, plan, DEVICE).graphs if g.names == drawn.names
    }.values()
    ours = jittered(plan, DEVICE, seed, 1.0)(mean, step)
    assert ours.lead_ns.tolist() == drawn.lead_ns.tolist()
    assert mean.lead_ns.tolist() != drawn.lead_ns.tolist()


def test_micro_batches_of_a_kernel_share_their_luck(
    graph: TrainingGraph, plans: dict[str, Plan]
) -> None:
    plan = plans["mnn-fp32"].replace("batch_split", "conv1", "16")
    (tasks,) = expect(graph, plan, DEVICE).graphs
    changed = jittered(plan, DEVICE, 0, 2.0)(tasks, 1)
    factor = changed.compute_ns / np.maximum(1, tasks.compute_ns)
    parts = [factor[k] for k, name in enumerate(tasks.names) if name.startswith("conv1#")]
    assert len(parts) == 4
    assert max(parts) == pytest.approx(min(parts), rel=1e-4)
    others = [factor[tasks.names.index(name)] for name in ("conv2", "linear1")]
    assert len({round(f, 3) for f in (*others, parts[0])}) == 3
    assert changed.rate_cap.tolist() != tasks.rate_cap.tolist()


def test_a_gain_smaller_than_the_jitter_is_within_the_noise(
    graph: TrainingGraph, plans: dict[str, Plan]
) -> None:
    plan = plans["mnn-fp32"]
    other = plan.replace("placement", "linear2", "cpu:3")
    two = {"all cores": plan, "fewer": other}
    sharp, blurred = (
        compare_plans(graph, DEVICE, two, worlds=WORLDS, jitter=jitter).gain("all cores", "fewer")
        for jitter in (1.0, 3.0)
    )
    assert blurred.high - blurred.low >= sharp.high - sharp.low
    assert abs(sharp.median) < 0.02


def test_half_of_the_normal_draws_shorten_a_task(
    graph: TrainingGraph, plans: dict[str, Plan]
) -> None:
    (tasks,) = expect(graph, plans["mnn-fp32"], DEVICE).graphs
    shaken = jittered(plans["mnn-fp32"], DEVICE, 0, 1.1)
    factors = np.concatenate(
        [shaken(replace(tasks, compute_ns=tasks.compute_ns * 0 + ONE), w).compute_ns for w in
         range(60)]
    ) / ONE  # fmt: skip
    inside = np.mean((factors > 1 / 1.1) & (factors < 1.1))
    assert 0.87 < inside < 0.93
    assert 0.45 < np.mean(factors < 1) < 0.55


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"plans": {}}, "plans: 0; give two or more"),
        ({"worlds": 3}, "worlds: 3; allowed: an integer from 20"),
        ({"seed": -1}, "seed: -1; allowed"),
        ({"jitter": 0.5}, r"jitter: 0\.5; allowed: a factor from 1"),
        ({"jitter": float("nan")}, "jitter: nan"),
    ],
)
def test_what_is_out_of_range_is_refused(
    change: dict[str, object], message: str, graph: TrainingGraph, plans: dict[str, Plan]
) -> None:
    arguments = {"plans": plans, "worlds": WORLDS, **change}
    with pytest.raises(RobustnessError, match=message):
        compare_plans(graph, DEVICE, **arguments)  # type: ignore[arg-type]
