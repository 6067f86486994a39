"""Expectations: a mixture of steps with integer weights, equal to a hand computation."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cost_models.device import Device, load_device
from cost_models.rpc import rpc_tail
from sim import engines
from sim.autodiff import training_graph
from sim.expected import (
    PROBES,
    SETTLED_STEPS,
    Expectation,
    expect,
    expected_ns,
    quiet_mode,
    quiet_ns,
    scan_share,
)
from sim.lowering import lowering
from sim.plan import Plan
from sim.policies.build import build_plan
from sim.rescaling import parse_rule
from sim.state import StepState
from sim.taskgraph import CATEGORIES, StaticPower, Unit, make_task_graph
from sim.zoo import load_model

PHONE = load_device("snapdragon-865")
GRAPH = training_graph(load_model("lenet", batch=8))
OFFLOAD = build_plan("dsp-int8", GRAPH, PHONE)
ALL = len(SETTLED_STEPS) * PROBES


def with_rule(text: str) -> Plan:
    rules = lowering(GRAPH, OFFLOAD, PHONE).rules
    return OFFLOAD.update({("rescale", subject): text for subject in rules})


def makespan(plan: Plan, mode: str) -> int:
    ready = lowering(GRAPH, plan, PHONE)
    (cache,) = ready.settled()
    tasks = ready.expected_tasks(dict.fromkeys(ready.rules, mode), cache)  # type: ignore[arg-type]
    return engines.run(tasks).makespan_ns


@pytest.mark.parametrize(
    ("rule", "share", "quiet"),
    [
        ("every", ALL, "dynamic"),
        ("fixed:1", ALL, "dynamic"),
        ("fixed:4", ALL // 4, "fused"),  # steps 256, 260... of 256 .. 511
        ("fixed:256", PROBES, "fused"),
        ("hindsight", 0, "inline"),
        ("delayed:9", 0, "inline"),
    ],
)
def test_share_of_scans(rule: str, share: int, quiet: str) -> None:
    assert scan_share(parse_rule(rule)) == share
    assert quiet_mode(parse_rule(rule)) == quiet


def test_adaptive_rules_scan_between_their_bounds() -> None:
    share = scan_share(parse_rule("adaptive:2:32"))
    assert ALL // 32 <= share < ALL // 2
    assert quiet_mode(parse_rule("adaptive:2:32")) == "fused"
    assert scan_share(parse_rule("adaptive:1:8")) > scan_share(parse_rule("adaptive:1:64"))


def test_a_quarter_of_the_steps_scans() -> None:
    plan = with_rule("fixed:4")
    slow, fast = makespan(plan, "dynamic"), makespan(plan, "fused")
    assert slow > fast
    found = expect(GRAPH, plan, PHONE)
    assert found.time_ns == (slow + 3 * fast) // 4
    assert len(found.timelines) == 2
    assert found.weights[0] * 3 == found.weights[1]
    assert quiet_ns(GRAPH, plan, PHONE) == fast
    assert expected_ns(GRAPH, plan, PHONE) == found.time_ns


def test_plans_without_a_choice_of_steps_have_one() -> None:
    cpu = expect(GRAPH, build_plan("mnn-fp32", GRAPH, PHONE), PHONE)
    assert (cpu.weights, len(cpu.graphs)) == ((1,), 1)
    every = expect(GRAPH, OFFLOAD, PHONE)
    assert every.time_ns == makespan(OFFLOAD, "dynamic") == quiet_ns(GRAPH, OFFLOAD, PHONE)
    inline = with_rule("hindsight")
    assert expect(GRAPH, inline, PHONE).time_ns == makespan(inline, "inline")


def test_every_fastrpc_tail_is_at_its_mean() -> None:
    # A draw of 0 is the quantile 0 of the tail: no extra at all. pm_qos on the 865.
    ready = lowering(GRAPH, OFFLOAD, PHONE)
    modes = ready.modes(ready.first_state(StepState()))
    tasks = ready.expected_tasks(modes, ready.settled()[0])
    _, after = ready.step(StepState())
    least = [ready.step(replace(after, seed=seed))[0].lead_ns for seed in range(300)]
    mean = rpc_tail(PHONE).mean_ns
    for k, name in enumerate(tasks.names):
        extra = tasks.lead_ns[k] - min(int(lead[k]) for lead in least)
        assert extra == (mean if name.endswith(".call") else 0)


def test_settled_steps_prepare_what_the_cache_does_not_keep() -> None:
    for rule, prepared in (("none", True), ("mru", False)):
        found = expect(GRAPH, OFFLOAD.replace("reuse", "step", rule), PHONE)
        names = found.graphs[0].names
        assert any(name.endswith(".prepare") for name in names) == prepared


def test_subgraphs_that_take_turns_are_averaged() -> None:
    # Budget for all subgraphs but a part of one: which one misses moves on from step to step.
    assert PHONE.dsp is not None
    plan = OFFLOAD.replace("reuse", "step", "mru")
    plan = plan.update({("grouping", name): "cut" for name in ("conv2", "linear1", "linear2")})
    visits = lowering(GRAPH, plan, PHONE).visits
    room = {"value": float(sum(size for _, size in visits) - 1)}
    budget = PHONE.dsp.memory_budget_bytes.model_copy(update=room)
    dsp = PHONE.dsp.model_copy(update={"memory_budget_bytes": budget})
    tight = Device.model_validate(PHONE.model_copy(update={"dsp": dsp}).model_dump())
    ready = lowering(GRAPH, plan, tight)
    found = expect(GRAPH, plan, tight)
    modes = dict.fromkeys(ready.rules, "dynamic")
    times = [
        engines.run(ready.expected_tasks(modes, step)).makespan_ns  # type: ignore[arg-type]
        for step in ready.settled()
    ]
    assert len(times) > 1
    assert found.time_ns == sum(times) // len(times)
    assert len(set(found.weights)) == 1


def test_a_copied_device_is_expected_anew() -> None:
    plan = build_plan("mnn-fp32", GRAPH, PHONE)
    before = expect(GRAPH, plan, PHONE).time_ns
    clusters = tuple(
        cluster.model_copy(
            update={
                "fp32_macs_per_cycle": cluster.fp32_macs_per_cycle.model_copy(
                    update={"value": cluster.fp32_macs_per_cycle.value / 2}
                )
            }
        )
        for cluster in PHONE.cpu.clusters
    )
    slower = PHONE.model_copy(update={"cpu": PHONE.cpu.model_copy(update={"clusters": clusters})})
    assert slower.sha256 != PHONE.sha256
    assert expect(GRAPH, plan, slower).time_ns > before
    assert expect(GRAPH, plan, PHONE).time_ns == before


def test_operating_points_change_expectations() -> None:
    plan = build_plan("mnn-fp32", GRAPH, PHONE)
    times = [
        expected_ns(GRAPH, plan.replace("operating_point", "cpu", point), PHONE)
        for point in ("max", "sustained", "45%")
    ]
    assert times == sorted(times)
    assert len(set(times)) == 3
    slow = OFFLOAD.replace("operating_point", "dsp", "nominal")
    assert expected_ns(GRAPH, slow, PHONE) > expected_ns(GRAPH, OFFLOAD, PHONE)


def mixture(weights: tuple[int, ...], times: tuple[int, ...]) -> Expectation:
    graphs = tuple(
        make_task_graph(
            [Unit("cpu", 1)],
            [0, 0, 0],
            compute_ns=[time, 1, 2],
            category=[CATEGORIES.index(c) for c in ("compute", "rescale", "cpu")],
            power_mw=5,
            static_power=[StaticPower("soc", 2)],
            resident_bytes=time,
        )
        for time in times
    )
    return Expectation(graphs, weights, tuple(engines.run(g) for g in graphs))


def test_mixture_by_hand() -> None:
    # Steps of 10 + 3 and 20 + 3 ns, weights 1 and 2: (13 + 46) // 3 = 19; 7 mW: 413 // 3 = 137.
    found = mixture((1, 2), (10, 20))
    assert (found.whole, found.time_ns, found.energy_pj) == (3, 19, 137)
    assert found.peak_bytes == 20
    # compute 50 / 3, rescale 1, cpu 2: 16 + 1 + 2 = 19.
    parts = {c: ns for c, ns in found.breakdown_ns.items() if ns}
    assert parts == {"compute": 16, "rescale": 1, "cpu": 2}


@pytest.mark.parametrize("weights", [(1, 1), (1, 2), (5, 7), (97, 3)])
@pytest.mark.parametrize("times", [(1, 2), (10, 21), (1000, 1)])
def test_breakdown_adds_up_exactly(weights: tuple[int, int], times: tuple[int, int]) -> None:
    found = mixture(weights, times)
    assert sum(found.breakdown_ns.values()) == found.time_ns
    assert set(found.breakdown_ns) == set(CATEGORIES)


@pytest.mark.parametrize("name", ["mnn-fp32", "mnn-fp32-gpu", "dsp-int8", "latency"])
def test_breakdown_of_real_plans_adds_up_exactly(name: str) -> None:
    found = expect(GRAPH, build_plan(name, GRAPH, PHONE), PHONE)
    assert sum(found.breakdown_ns.values()) == found.time_ns
    assert min(found.breakdown_ns.values()) >= 0


def test_mixed_rules_scan_each_in_its_own_share() -> None:
    # `every` scans in every step, `hindsight` in none: one step in which just the first scans.
    plan = build_plan("dsp-int8", GRAPH, PHONE)
    subjects = sorted(plan_rules(plan))
    half = {("rescale", s): "hindsight" for s in subjects[::2]}
    mixed = expect(GRAPH, plan.update(half), PHONE)
    assert len(mixed.graphs) == 1
    scans = sum(name.endswith(".scan") for name in mixed.graphs[0].names)
    assert scans == len(subjects) - len(half)


def plan_rules(plan: Plan) -> list[str]:
    return list(lowering(GRAPH, plan, PHONE).rules)
