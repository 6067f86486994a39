"""Accuracy risk: the table against its plain twin, the replay against a simulated run."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from experiments.search import recorded
from experiments.search.damage import damage, met_damage, shift_errors
from experiments.search.recorded import (
    FOLLOWING_RULES,
    SETTLED,
    Recording,
    RecordingError,
    TensorRecord,
    depths,
    recordings,
    role_of,
)
from experiments.search.risk import CHUNK, MILLION, Sources, plan_risk, risk_table, tensors_of
from experiments.training.config import TrainConfig
from kernels.profiles import PROFILES
from sim import Plan, TrainingGraph, build_plan, load_device, load_model, training_graph
from sim.encoding import HELD, Space, SpaceError
from sim.encoding.space import PALETTES
from sim.lowering import lowering
from sim.numeric.records import FIELDS, RescaleTrace
from sim.rescaling import Adaptive
from sim.run import skip_to
from sim.state import RecordedShifts, StepState

DEVICE = load_device("snapdragon-865")


@pytest.fixture(scope="module")
def graph() -> TrainingGraph:
    return training_graph(load_model("lenet", batch=16))


@pytest.fixture(scope="module")
def base(graph: TrainingGraph) -> Plan:
    return build_plan("mandheling", graph, DEVICE)


def with_rule(graph: TrainingGraph, plan: Plan, rule: str) -> Plan:
    return plan.update({("rescale", s): rule for s in lowering(graph, plan, DEVICE).rules})


# -- the table --------------------------------------------------------------------------------


@pytest.mark.parametrize("held", [(), ("precision",), ("rescale",), ("precision", "rescale")])
def test_the_table_equals_the_risk_of_each_decoded_plan(
    graph: TrainingGraph, base: Plan, held: tuple[str, ...]
) -> None:
    space = Space.of(graph, DEVICE, base, held=(*HELD, *held))
    rows = space.random(24, seed=3)
    found = risk_table(space).of(rows)
    expected = [plan_risk(graph, space.decode(row), DEVICE).total_ppm for row in rows]
    assert found.tolist() == expected
    assert (len(set(expected)) > 12) == (len(held) < 2)


def test_large_batches_are_looked_up_alike(graph: TrainingGraph, base: Plan) -> None:
    table = risk_table(Space.of(graph, DEVICE, base))
    rows = table.space.random(CHUNK + 7, seed=1)
    whole = table.of(rows)
    assert whole[CHUNK:].tolist() == table.of(rows[CHUNK:]).tolist()
    assert table.of(rows[:0]).tolist() == []
    assert "11 of 11 tensors are recorded ones, 0 take" in table.note


def test_scanning_always_and_fp32_bear_no_risk(graph: TrainingGraph, base: Plan) -> None:
    for name in ("mnn-fp32", "mnn-int8"):
        assert plan_risk(graph, build_plan(name, graph, DEVICE), DEVICE).total_ppm == 0
    half = base.replace("precision", "conv1", "fp32")
    half = Plan.make("half", base.graph_hash, {
        key: choice for key, choice in half.choices if not key[1].startswith("conv1") or
        key[0] == "precision"
    })  # fmt: skip
    assert 0 < plan_risk(graph, half, DEVICE).total_ppm < plan_risk(graph, base, DEVICE).total_ppm


def test_each_tensor_adds_its_share(graph: TrainingGraph, base: Plan) -> None:
    always = with_rule(graph, base, "every")
    whole = plan_risk(graph, base, DEVICE)
    assert whole.total_ppm == pytest.approx(whole.saturated_ppm + whole.lost_ppm, abs=1.2)
    tensors = tensors_of(graph, DEVICE, base)
    single = [
        plan_risk(graph, always.replace("rescale", s, base.get("rescale", s, "every")), DEVICE)
        for s in tensors
    ]
    assert sum(each.total_ppm for each in single) == pytest.approx(
        whole.total_ppm, abs=len(tensors)
    )


def test_a_batch_of_another_width_is_refused(graph: TrainingGraph, base: Plan) -> None:
    table = risk_table(Space.of(graph, DEVICE, base))
    with pytest.raises(SpaceError, match=r"one column per gene"):
        table.of(np.zeros((3, 2), np.int16))


def test_a_model_that_was_recorded_uses_its_own_tensors_and_others_their_class() -> None:
    own, other = (
        Sources.of(name, tensors_of(graph, DEVICE, Plan.make("fp32", graph.hash(), {})))
        for name in ("lenet", "mobilenet-v1")
        for graph in [training_graph(load_model(name, batch=16))]
    )
    assert [t.source for t in own.tensors[:2]] == ["lenet conv1", "lenet conv2"]
    sources = {t.source for t in other.tensors}
    assert {"mean of first forward", "mean of middle input_grad", "mean of last weight_grad"} < (
        sources
    )
    assert all(source.startswith("mean of") for source in sources)


# -- the replay and the counts ----------------------------------------------------------------


@pytest.mark.parametrize("rule", ["fixed:4", "adaptive:1:64", "hindsight", "delayed:4"])
def test_the_replay_errs_as_often_as_a_simulated_run(
    graph: TrainingGraph, base: Plan, rule: str
) -> None:
    plan = with_rule(graph, base, rule)
    tensors = next(one for one in recordings() if one.model == "lenet").tensors
    steps = 400
    shifts = {s: tensor.shifts[:steps] for s, tensor in tensors.items()}
    ready = lowering(graph, plan, DEVICE)
    start = StepState(seed=0, shifts=RecordedShifts(shifts))
    settled = skip_to(ready, ready.first_state(start), SETTLED)
    done = skip_to(ready, settled, steps)
    found = Counter[int]()
    for row in shifts.values():
        found.update(shift_errors(rule, row))
    assert sum(found.values()) == len(shifts) * (steps - SETTLED)
    small = sum(n for error, n in found.items() if error < 0)
    assert small == done.stale_saturating - settled.stale_saturating > 0
    large = sum(n for error, n in found.items() if error > 0)
    assert large == done.stale_coarse - settled.stale_coarse


def record(met: dict[int, tuple[int, int, int]], values: int = 100) -> TensorRecord:
    return TensorRecord("x", "forward", "first", (), values, met, {})


def test_damage_is_what_a_shift_error_does_beyond_a_true_shift() -> None:
    tensor = record({-1: (10, 50, 0), 0: (40, 3, 80), 1: (10, 0, 70), 2: (9, 0, 90)})
    assert damage(tensor, -1, []) == (0.05, 0.0)
    assert damage(tensor, 1, []) == (0.0, pytest.approx(0.07 - 0.02))
    assert damage(tensor, 2, []) == (0.0, pytest.approx(0.1 - 0.02))
    assert damage(tensor, 0, []) == (0.0, 0.0)
    assert met_damage(100, tensor.met) == (
        pytest.approx(0.05 * 10 / 69),
        pytest.approx((0.05 * 10 + 0.08 * 9) / 69),
    )


def test_an_error_that_was_rarely_met_takes_the_counts_of_its_like() -> None:
    tensor, other = record({-1: (3, 30, 0)}), record({-1: (5, 10, 0), -2: (8, 80, 0)})
    assert damage(tensor, -1, [tensor, other])[0] == pytest.approx(0.4 / 8)
    assert damage(tensor, -2, [tensor, other])[0] == pytest.approx(0.1)
    assert damage(tensor, -7, [tensor, other])[0] == pytest.approx(0.1), "the next smaller error"
    assert damage(tensor, 3, [tensor, other]) == (0.0, 0.0)


def test_the_file_keeps_what_a_trace_holds(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def trace(used: int) -> RescaleTrace:
        rows = [(8 - step % 2, used, 0, 5, 7, 50) for step in range(SETTLED + 4)]
        return RescaleTrace("m", "p", "sandbox", {s: list(rows) for s in ("a", "a.weight_grad")})

    followed = {rule: trace(8) for rule in FOLLOWING_RULES}
    content = recorded.recording(TrainConfig("m", "digits"), trace(8), [trace(7)] * 2, followed)
    file = tmp_path / "recorded.json"
    file.write_text(json.dumps(recorded.content_of([content])))
    monkeypatch.setattr(recorded, "FILE", file)
    (found,) = recordings.__wrapped__()
    assert len(FIELDS) == 6
    assert isinstance(found, Recording)
    kept = found.tensors["a.weight_grad"]
    assert (kept.role, kept.depth, kept.values) == ("weight_grad", "first", 50)
    assert kept.shifts == tuple(8 - step % 2 for step in range(SETTLED + 4))
    assert kept.met == {-1: (4, 20, 28), 0: (4, 20, 28)}
    assert kept.followed["hindsight"] == {0: (2, 10, 14), 1: (2, 10, 14)}


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", '{"schema": 1}', '{"schema": 2, "recordings": [1]}']
)
def test_a_damaged_recording_is_refused(
    text: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "recorded.json").write_text(text)
    monkeypatch.setattr(recorded, "FILE", tmp_path / "recorded.json")
    with pytest.raises(RecordingError, match=r"recorded\.json: .*the package again, or .*--runs"):
        recordings.__wrapped__()


def test_a_recording_under_other_conditions_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    said = (
        r"recorded\.json: conditions_sha256 is .* does not hold for them; record it again with "
        r"python -m experiments\.search\.recorded --runs DIR"
    )

    other = replace(PROFILES["sandbox"], split_gradient_bits=3)
    changes: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
        "arithmetic": lambda patch: patch.setitem(PROFILES, "sandbox", other),
        "rules": lambda patch: patch.setattr(recorded, "parse_rule", lambda text: Adaptive(2, 16)),
        "settled": lambda patch: patch.setattr(recorded, "SETTLED", 255),
    }
    for change in changes.values():
        with monkeypatch.context() as patch:
            change(patch)
            with pytest.raises(RecordingError, match=said):
                recordings.__wrapped__()
        recordings.__wrapped__()


def test_the_recording_covers_what_the_palette_asks_for() -> None:
    for one in recordings():
        for tensor in one.tensors.values():
            assert len(tensor.shifts) > SETTLED + 256, tensor.subject
            assert set(tensor.followed) == set(FOLLOWING_RULES)
            steps = sum(n for n, _, _ in tensor.met.values())
            assert steps == 2 * (len(tensor.shifts) - SETTLED)
    assert {one.model for one in recordings()} == set(recorded.CONFIGS)
    assert set(FOLLOWING_RULES) < set(PALETTES["rescale"])


def test_roles_and_depths_are_read_from_names() -> None:
    assert [role_of(s) for s in ("conv1", "a/b.input_grad", "fc.weight_grad")] == [
        *("forward", "input_grad", "weight_grad")
    ]
    assert depths(["a", "b", "c", "d"]) == {"a": "first", "b": "middle", "c": "middle", "d": "last"}
    assert depths(["a"]) == {"a": "first"}
    assert depths([]) == {}


def test_risk_is_in_parts_per_million_of_values(graph: TrainingGraph, base: Plan) -> None:
    risks: dict[str, Any] = {
        rule: plan_risk(graph, with_rule(graph, base, rule), DEVICE) for rule in PALETTES["rescale"]
    }
    assert all(0 <= risk.total_ppm < MILLION for risk in risks.values())
    assert risks["delayed:4"].lost_ppm > risks["delayed:4"].saturated_ppm, "it errs to the coarse"
