"""Co-scheduling is never worse than what it starts from, and moves families as wholes."""

from __future__ import annotations

import pytest

from cost_models.device import load_device
from cost_models.model import CostModel
from sim.autodiff import training_graph
from sim.draft import Draft
from sim.expected import quiet_ns
from sim.graph import TrainingGraph
from sim.lowering import draft_before
from sim.model import ModelBuilder
from sim.plan import Plan
from sim.policies.base import Situation
from sim.policies.build import build_plan, decide
from sim.policies.coschedule import Family, coschedule, families
from sim.policies.numeric import AllInt8
from sim.policies.placing import AllDsp
from sim.zoo import load_model

PHONE = load_device("snapdragon-865")
LENET = training_graph(load_model("lenet", batch=16))


def branching() -> ModelBuilder:
    b = ModelBuilder("residual", (16, 8, 16, 16), source="tests/sim/test_coschedule.py")
    x = b.relu(b.conv("input", 16, 3, pad=1, name="a"))
    y = b.conv(b.relu(b.conv(x, 16, 3, pad=1, name="b")), 16, 3, pad=1, name="c")
    x = b.relu(b.sum([x, y]))
    b.linear(b.flatten(b.max_pool(x, 4, 4)), 10, name="fc")
    return b


RESIDUAL = training_graph(branching().build("fc"))


@pytest.mark.parametrize("device", ["snapdragon-865", "qcs6490"])
@pytest.mark.parametrize("graph", [LENET, RESIDUAL], ids=lambda g: g.name)
@pytest.mark.parametrize("start", ["dsp-int8", "released"])
def test_never_worse_than_its_start(device: str, graph: TrainingGraph, start: str) -> None:
    phone = load_device(device)
    plan = build_plan(start, graph, phone)
    tried: list[int] = []

    def draft_at(candidate: Plan, aspect: str) -> Draft:
        return draft_before(aspect, graph, candidate, phone)

    def quiet(candidate: Plan) -> int:
        tried.append(quiet_ns(graph, candidate, phone))
        return tried[-1]

    best = coschedule(plan, Situation(phone, CostModel.of(phone)), draft_at, quiet)
    assert quiet_ns(graph, best, phone) == min(tried)
    assert min(tried) <= quiet_ns(graph, plan, phone)
    # It decides placement, cuts and dispatch, and nothing else.
    changed = {aspect for aspect, *_ in plan.diff(best)}
    assert changed <= {"placement", "grouping", "dispatch"}


def int8_families() -> tuple[list[Family], Draft]:
    plan = decide("x", RESIDUAL, PHONE, [AllInt8(), AllDsp()])
    draft = draft_before("placement", RESIDUAL, plan, PHONE)
    return families(draft, Situation(PHONE, CostModel.of(PHONE))), draft


def test_families_move_together() -> None:
    found, draft = int8_families()
    by_first = {family.subjects[-1]: set(family.subjects) for family in found}
    # A weight gradient with its transposes; the work on weights before a dX, but not the dX.
    assert by_first["b.weight_grad"] == {
        "b.weight_grad.transpose_x",
        "b.weight_grad.transpose_e",
        "b.weight_grad",
    }
    assert by_first["b.input_grad.rotate_w"] == {
        "b.input_grad.transpose_w",
        "b.input_grad.rotate_w",
    }
    assert by_first["b.input_grad"] == {"b.input_grad"}
    everything = [subject for family in found for subject in family.subjects]
    assert len(everything) == len(set(everything))
    assert set(everything) == set(AllDsp().decide(draft, Situation(PHONE, CostModel.of(PHONE))))


def test_families_are_sorted_by_how_much_better_the_cpu_is() -> None:
    found, _ = int8_families()
    ratios = [family.cpu_ns / max(1, family.dsp_ns) for family in found]
    assert ratios == sorted(ratios)
    assert all(family.cpu_ns > 0 < family.dsp_ns for family in found)


def test_micro_batches_count_as_often_as_they_run() -> None:
    plan = decide("x", RESIDUAL, PHONE, [AllInt8(), AllDsp()])
    situation = Situation(PHONE, CostModel.of(PHONE))
    split = plan.replace("batch_split", "b.input_grad", "4")
    draft = draft_before("placement", RESIDUAL, split, PHONE)
    item = draft.first("b.input_grad")
    family = next(f for f in families(draft, situation) if f.subjects == ("b.input_grad",))
    one = situation.time_ns(item, "dsp:4")
    assert one is not None
    assert family.dsp_ns == 4 * one
