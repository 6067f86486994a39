"""A session that is captured and restored goes on to the same bits."""

from __future__ import annotations

import json
from dataclasses import fields
from typing import Any

import numpy as np
import pytest

from sim import build_plan, load_device, load_model, training_graph
from sim.numeric.session import SessionStep, TrainingSession
from sim.numeric.snapshot import IDLE, KEPT, Snapshot, SnapshotError, capture, copied, restore
from sim.numeric.trained import ParameterError
from sim.state import StepState

PHONE = load_device("snapdragon-865")
GRAPH = training_graph(load_model("lenet", batch=4))
PLANS = {name: build_plan(name, GRAPH, PHONE) for name in ("mandheling", "mnn-fp32")}
DRAWN = np.random.default_rng(5)
IMAGES = DRAWN.normal(size=(12, 4, 28, 28, 1)).astype(np.float32)
LABELS = DRAWN.integers(0, 10, (12, 4))


def session(plan: str = "mandheling", **options: Any) -> TrainingSession:
    return TrainingSession(GRAPH, PLANS[plan], PHONE, seed=3, **options)


def steps(of: TrainingSession, first: int, end: int) -> list[SessionStep]:
    return [of.step(IMAGES[i], LABELS[i], rate_q24=1 << 18) for i in range(first, end)]


def through_a_file(snapshot: Snapshot) -> Snapshot:
    return Snapshot(copied(snapshot.arrays), json.loads(json.dumps(snapshot.meta)))


@pytest.mark.parametrize("at", [0, 1, 7])
@pytest.mark.parametrize(
    ("plan", "options"),
    [
        ("mandheling", {}),
        ("mandheling", {"scenario": "sustained"}),
        ("mandheling", {"engine": "none", "profile": "niti_v1"}),
        ("mnn-fp32", {"scenario": "busy"}),
    ],
)
def test_a_restored_session_goes_on_as_the_captured_one(
    plan: str, options: dict[str, Any], at: int
) -> None:
    one, other = session(plan, **options), session(plan, **options)
    steps(one, 0, at)
    taken = through_a_file(capture(one))
    restore(other, taken)
    assert other.state == one.state
    after_one, after_other = steps(one, at, 12), steps(other, at, 12)
    assert [s.result for s in after_one] == [s.result for s in after_other]
    for a, b in zip(after_one, after_other, strict=True):
        if a.timeline is None or b.timeline is None:
            assert a.timeline is b.timeline is None
        else:
            assert (a.timeline.makespan_ns, a.timeline.energy_pj) == (
                b.timeline.makespan_ns,
                b.timeline.energy_pj,
            )
    assert one.state == other.state
    assert one.executor.parameters.sha256() == other.executor.parameters.sha256()
    assert capture(one).meta == capture(other).meta


def test_restoring_takes_a_used_session_back() -> None:
    one = session()
    steps(one, 0, 3)
    taken = through_a_file(capture(one))
    first = [s.result for s in steps(one, 3, 6)]
    restore(one, taken)
    assert [s.result for s in steps(one, 3, 6)] == first


def test_every_field_of_a_state_is_kept() -> None:
    assert {field.name for field in fields(StepState)} == {*KEPT, *IDLE}


def test_a_snapshot_of_another_seed_scenario_or_plan_is_refused() -> None:
    taken = through_a_file(capture(session()))
    other = TrainingSession(GRAPH, PLANS["mandheling"], PHONE, seed=4)
    with pytest.raises(SnapshotError, match="seed is 3; this session's is 4"):
        restore(other, taken)
    with pytest.raises(SnapshotError, match="scenario is 'quiet'"):
        restore(session(scenario="busy"), taken)
    with pytest.raises(SnapshotError, match="rescaled in one of snapshot and plan"):
        restore(session("mnn-fp32"), taken)


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("rescale", None, "missing or new"),
        ("shifts", {"conv1": 1.5}, "1.5 is no integer"),
        ("prepared", [["a"]], "not of its kind"),
        ("prepared", [["a", True]], "True is no integer"),
        ("parameters_sha256", "0" * 64, "the arrays are damaged"),
        ("seen", [1], "not of its kind"),
        ("step", "3", "not of its kind"),
        ("throttled", 1, "not of its kind"),
    ],
)
def test_a_damaged_snapshot_is_refused(field: str, value: Any, words: str) -> None:
    one = session()
    steps(one, 0, 1)
    taken = through_a_file(capture(one))
    if value is None:
        del taken.meta[field]
    else:
        taken.meta[field] = value
    with pytest.raises(SnapshotError, match=words):
        restore(session(), taken)


def test_a_changed_or_missing_array_is_refused() -> None:
    one = session()
    taken = through_a_file(capture(one))
    name = next(name for name, array in taken.arrays.items() if array.size > 1)
    taken.arrays[name].reshape(-1)[0] += 1
    with pytest.raises(SnapshotError, match="the arrays are damaged"):
        restore(one, taken)
    del taken.arrays[name]
    with pytest.raises(ParameterError, match=name):
        restore(one, taken)
