"""lower_step is pure; state is explicit; scenarios change clocks and cores as they say."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from cost_models.device import Device, load_device
from sim.autodiff import before_last, inference_graph, training_graph
from sim.graph import TrainingGraph
from sim.lowering import THROTTLE_HYSTERESIS_MC, draft_before, lower_step, lowering
from sim.plan import Plan, PlanError
from sim.policies.build import build_plan
from sim.run import skip_to
from sim.state import SCENARIOS, Observation, RecordedShifts, StepState
from sim.taskgraph import TaskGraph
from sim.testing_plans import planned_steps
from sim.zoo import load_model

Step = tuple[TrainingGraph, Plan, Device]
PHONE = load_device("snapdragon-865")
LENET = training_graph(load_model("lenet", batch=8))


def property_test(max_examples: int) -> Callable[[Callable[..., None]], Callable[..., None]]:
    return settings(
        max_examples=max_examples,
        derandomize=True,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )


def assert_same_tasks(one: TaskGraph, two: TaskGraph) -> None:
    for field in fields(TaskGraph):
        a, b = getattr(one, field.name), getattr(two, field.name)
        if isinstance(a, np.ndarray):
            assert a.dtype == b.dtype
            assert a.tolist() == b.tolist(), field.name
        else:
            assert a == b, field.name


@property_test(40)
@given(planned_steps())
def test_lowering_is_pure(step: Step) -> None:
    graph, plan, device = step
    state = StepState(seed=11)
    trail = []
    for _ in range(3):
        tasks, after = lower_step(graph, plan, device, state)
        trail.append((state, tasks, after))
        state = after
    for start, tasks, after in reversed(trail):  # other steps in between do not matter
        again, same = lower_step(graph, plan, device, start)
        assert_same_tasks(again, tasks)
        assert same == after


@property_test(25)
@given(planned_steps())
def test_skipping_a_step_leaves_the_same_state(step: Step) -> None:
    graph, plan, device = step
    ready = lowering(graph, plan, device)
    state = StepState(seed=4)
    for _ in range(4):
        _, state = lower_step(graph, plan, device, state)
    assert skip_to(ready, StepState(seed=4), 4) == state


def test_state_can_be_rebuilt_from_its_fields() -> None:
    plan = build_plan("mandheling", LENET, PHONE)
    state = StepState(seed=2)
    for _ in range(5):
        _, state = lower_step(LENET, plan, PHONE, state)
    copy = StepState(**{field.name: getattr(state, field.name) for field in fields(StepState)})
    one, two = (lower_step(LENET, plan, PHONE, s)[0] for s in (state, copy))
    assert_same_tasks(one, two)


def test_plan_for_another_graph_is_refused() -> None:
    other = training_graph(load_model("lenet", batch=4))
    plan = build_plan("mnn-fp32", other, PHONE)
    with pytest.raises(PlanError, match=r"plan 'mnn-fp32' is for graph .*make it again"):
        lowering(LENET, plan, PHONE)


def test_a_plan_for_another_graph_is_refused_in_words() -> None:
    plan = build_plan("mnn-fp32", LENET, PHONE)
    model = load_model("lenet", batch=16, image=32, classes=12)
    other = training_graph(model, before_last(model, 1))
    message = (
        r"which is lenet, batch 16, images of 1 x 32 x 32, 12 outputs, 3 of 4 layers trained; "
        r"make it again for this .*, by `plan show` or from sim\.load_model\(name, batch, image"
    )
    with pytest.raises(PlanError, match=message):
        lowering(other, plan, PHONE)
    assert inference_graph(model).described().endswith(" 12 outputs, 0 of 4 layers trained")


@pytest.mark.parametrize(
    ("aspect", "subject", "choice", "message"),
    [
        (
            "colour",
            "conv1",
            "red",
            r"unknown aspect 'colour'; aspects are backward, .*rescale",
        ),
        ("precision", "conv9", "int8", r"precision\.conv9 is no subject .* like conv1, .*in all"),
        ("precision", "conv1", "int4", r"precision\.conv1 = 'int4' .* choose one of fp32, int8"),
        ("batch_split", "conv1", "3", r"batch_split\.conv1 = '3' .* choose one of 8, 4, 2, 1"),
        ("placement", "conv1", "dsp:4", r"placement\.conv1 = 'dsp:4' .*cpu:4, .*gpu"),
        ("placement", "conv1", "cpu:5", r"placement\.conv1 = 'cpu:5' is not allowed"),
        ("grouping", "conv1", "maybe", r"grouping\.conv1 = 'maybe' .* join, cut"),
        ("reuse", "step", "fifo", r"reuse\.step = 'fifo' .* none, lru, mru, belady"),
        ("reuse", "conv1", "lru", r"reuse\.conv1 is no subject; choose one of step"),
        ("operating_point", "gpu", "max", r"operating_point\.gpu is no subject; .*cpu, dsp"),
        ("rpc_qos", "step", "poll", r"rpc_qos\.step = 'poll' .*snapdragon-865.* default, none"),
    ],
)
def test_choices_that_are_not_allowed(aspect: str, subject: str, choice: str, message: str) -> None:
    plan = Plan.make("mine", LENET.hash(), {(aspect, subject): choice})
    with pytest.raises(PlanError, match=message) as caught:
        lower_step(LENET, plan, PHONE, StepState())
    assert "'mine'" in str(caught.value)


def test_rescale_choices_of_a_quantised_layer() -> None:
    plan = Plan.make("mine", LENET.hash(), {("precision", "conv1"): "int8"})
    assert set(lowering(LENET, plan, PHONE).rules) == {"conv1", "conv1.weight_grad"}
    with pytest.raises(PlanError, match=r"rescale\.conv1 = 'now and then'.*every, fixed:N"):
        lowering(LENET, plan.replace("rescale", "conv1", "now and then"), PHONE)
    with pytest.raises(PlanError, match=r"rescale\.relu1 is no subject"):
        lowering(LENET, plan.replace("rescale", "relu1", "every"), PHONE)
    # A rule for a kernel that stays FP32 is allowed and has no effect.
    assert "conv2" not in lowering(LENET, plan.replace("rescale", "conv2", "every"), PHONE).rules


def test_draft_before_an_aspect_ignores_later_choices() -> None:
    plan = build_plan("dsp-int8", LENET, PHONE)
    seen = draft_before("placement", LENET, plan, PHONE)
    assert all(item.unit == "" for item in seen.items)
    moved = plan.replace("placement", "conv1", "cpu:1")
    assert draft_before("placement", LENET, moved, PHONE).items == seen.items
    # Without a state to say otherwise, every shift is scanned for.
    assert any(item.name == "conv1.scan" for item in seen.items)
    assert not any(
        i.name == "conv1.scan" for i in draft_before("rescale", LENET, plan, PHONE).items
    )


def test_subgraphs_are_prepared_only_when_they_are_missing() -> None:
    plan = build_plan("dsp-int8", LENET, PHONE)
    visits = lowering(LENET, plan, PHONE).visits
    assert visits
    for rule, prepared_later in (("none", True), ("mru", False)):
        state = StepState()
        for step in range(3):
            tasks, state = lower_step(LENET, plan.replace("reuse", "step", rule), PHONE, state)
            prepared = sum(name.endswith(".prepare") for name in tasks.names)
            assert prepared == (len(visits) if step == 0 or prepared_later else 0)
    assert set(state.prepared) == set(visits)


def test_scans_are_tasks_only_in_the_steps_that_scan() -> None:
    plan = build_plan("dsp-int8", LENET, PHONE)
    plan = plan.update({("rescale", s): "fixed:3" for s in lowering(LENET, plan, PHONE).rules})
    state, scans = StepState(), []
    for _ in range(7):
        tasks, state = lower_step(LENET, plan, PHONE, state)
        scans.append(sum(name.endswith(".scan") for name in tasks.names))
    tensors = len(lowering(LENET, plan, PHONE).rules)
    assert scans == [tensors, 0, 0, tensors, 0, 0, tensors]
    assert state.scans == sum(scans)


def test_stale_shifts_are_counted_by_their_side() -> None:
    # Scan in steps 0 and 3. conv1 rises by one in step 1: 2 steps saturate; conv2 falls in step 2.
    plan = build_plan("dsp-int8", LENET, PHONE)
    plan = plan.update({("rescale", s): "fixed:3" for s in lowering(LENET, plan, PHONE).rules})
    trace: dict[str, tuple[int, ...]] = dict.fromkeys(lowering(LENET, plan, PHONE).rules, (8,))
    trace |= {"conv1": (8, 9, 9, 9), "conv2": (8, 8, 7, 7)}
    state = StepState(shifts=RecordedShifts(trace))
    for _ in range(4):
        _, state = lower_step(LENET, plan, PHONE, state)
    assert (state.stale_saturating, state.stale_coarse) == (2, 1)
    assert state.true_shift["conv1"] == state.rescale["conv1"].used == 9


def heated(plan: Plan, watts: list[float], seconds: float = 600.0) -> list[StepState]:
    """States after steps of ten minutes each at the given mean power."""
    state, states = StepState(scenario=SCENARIOS["sustained"]), []
    seen: Observation | None = None
    for power in [*watts, 0.0]:
        _, state = lower_step(LENET, plan, PHONE, state, seen)
        states.append(state)
        time_ns = int(seconds * 1e9)
        seen = Observation(time_ns, round(power * 1000 * time_ns))
    return states


def test_thermal_scenario_throttles_and_recovers_with_hysteresis() -> None:
    # 865: 25 degC + 13.3 K/W; ten minutes are ten time constants. 75 degC need 3.76 W; clocks
    # come back below 72 degC, 3.53 W.
    plan = build_plan("mnn-fp32", LENET, PHONE)
    states = heated(plan, [3.0, 4.0, 3.65, 3.4, 3.65])
    assert [round((s.temperature_mc or 0) / 1000) for s in states] == [25, 65, 78, 74, 70, 74]
    assert [s.throttled for s in states] == [False, False, True, True, False, False]
    assert THROTTLE_HYSTERESIS_MC == 3000


def test_throttled_steps_have_sustained_clocks() -> None:
    plan = build_plan("mnn-fp32", LENET, PHONE)
    cool = StepState(scenario=SCENARIOS["sustained"], temperature_mc=30_000)
    hot = replace(cool, temperature_mc=80_000)
    fast, slow = (lower_step(LENET, plan, PHONE, state)[0] for state in (cool, hot))
    held, _ = lower_step(
        LENET, plan.replace("operating_point", "cpu", "sustained"), PHONE, StepState()
    )
    assert slow.compute_ns.sum() > fast.compute_ns.sum()
    assert_same_tasks(slow, held)


def test_other_scenarios_keep_no_temperature() -> None:
    plan = build_plan("mnn-fp32", LENET, PHONE)
    _, state = lower_step(LENET, plan, PHONE, StepState(), Observation(10**12, 10**18))
    assert state.temperature_mc is None
    assert not state.throttled


def test_busy_scenario_takes_cores_in_some_steps() -> None:
    plan = build_plan("mnn-fp32", LENET, PHONE)
    state, slots = StepState(seed=1, scenario=SCENARIOS["busy"]), []
    for _ in range(60):
        tasks, state = lower_step(LENET, plan, PHONE, state)
        slots.append(next(unit.slots for unit in tasks.units if unit.name == "cpu"))
    assert set(slots) == {4, 3, 2}
    expected = [4 - SCENARIOS["busy"].busy_cores(1, step) for step in range(60)]
    assert slots == expected
