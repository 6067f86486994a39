"""Worlds: the same for all plans, centred on the nominal, and silent where nothing is unsure."""

from __future__ import annotations

from dataclasses import replace
from math import log

import numpy as np
import pytest

from cost_models.cost import TIMES
from cost_models.device import load_device
from cost_models.quantity import Quantity
from sim import engines
from sim.autodiff import training_graph
from sim.expected import Expectation, expect
from sim.lowering import cost_model
from sim.policies.build import build_plan
from sim.taskgraph import StaticPower, TaskGraph, Unit, make_task_graph
from sim.timeline import Timeline
from sim.uncertainty import (
    ONE,
    Shared,
    Worlds,
    _scaled,
    energy_in_world,
    evidence_shares,
    factor,
    in_world,
    interval,
    resampled,
    weakest_kind,
)
from sim.zoo import load_model

PHONE = load_device("snapdragon-865")
GRAPH = training_graph(load_model("lenet", batch=8))
SHARED = Shared.of(PHONE)


def known(spread: float | None, kind: str = "assumed") -> Quantity:
    return Quantity(value=1.0, unit="us", kind=kind, source="test", spread=spread)  # type: ignore[arg-type]


def test_certain_constants_do_not_move() -> None:
    assert {factor("a", {"a": known(1.0)}, world, 3) for world in range(50)} == {ONE}


def test_nine_worlds_of_ten_lie_within_the_spread() -> None:
    factors = [factor("a", {"a": known(2.0)}, world, 0) / ONE for world in range(2000)]
    inside = sum(0.5 <= f <= 2.0 for f in factors)
    assert inside / 2000 == pytest.approx(0.9, abs=0.02)
    # Log-normal around 1: as often below as above.
    assert sum(f < 1 for f in factors) / 2000 == pytest.approx(0.5, abs=0.04)
    assert sum(log(f) for f in factors) / 2000 == pytest.approx(0, abs=0.03)


def test_factors_are_keyed_by_constant_world_and_seed() -> None:
    base = factor("a", {"a": known(2.0)}, 1, 0)
    assert factor("a", {"a": known(2.0)}, 1, 0) == base
    both = {"a": known(2.0), "b": known(2.0)}
    others = [factor("b", both, 1, 0), factor("a", both, 2, 0), factor("a", both, 1, 1)]
    assert base not in others
    # What no description knows is unsure by a factor of 2; a kind has its own spread.
    assert factor("a", {}, 1, 0) == base
    assert factor("a", {"a": known(None)}, 1, 0) == factor("a", {"a": known(1.75)}, 1, 0)
    assert factor("a", {"a": known(None, "measured")}, 1, 0) == factor(
        "a", {"a": known(1.05)}, 1, 0
    )


def small() -> TaskGraph:
    return make_task_graph(
        [Unit("cpu", 1)],
        [0, 0],
        lead_ns=[100, 0],
        compute_ns=[1000, 2000],
        ddr_bytes=[0, 4000],
        rate_cap=1000,
        ddr_rate=5000,
        parameters=("lead", "compute", "bytes"),
        groups=[[0, 1, 2]] * 2,
    )


def test_a_world_scales_each_part_by_its_constant() -> None:
    spreads = {"lead": known(1.5), "compute": known(2.0), "bytes": known(3.0), "ddr": known(1.2)}
    graph = in_world(small(), spreads, 4, 9, "ddr")
    f = {name: factor(name, spreads, 4, 9) for name in spreads}
    assert graph.lead_ns.tolist() == [100 * f["lead"] // ONE, 0]
    assert graph.compute_ns.tolist() == [1000 * f["compute"] // ONE, 2000 * f["compute"] // ONE]
    # A constant that is worse by a factor makes the transfer slower by it.
    assert graph.rate_cap.tolist() == [1000 * ONE // f["bytes"]] * 2
    assert graph.ddr_rate == 5000 * ONE // f["ddr"]
    assert graph.ddr_bytes.tolist() == [0, 4000]


def one_step(graph: TaskGraph) -> Expectation:
    return Expectation((graph,), (1,), (engines.run(graph),))


def test_intervals_collapse_without_spread() -> None:
    certain = dict.fromkeys(("lead", "compute", "bytes", "ddr"), known(1.0))
    nominal = one_step(small())
    same = Worlds((nominal.time_ns,) * 8, (nominal.energy_pj,) * 8)
    assert resampled(nominal, certain, Shared("ddr"), 8) == same


def test_intervals_contain_the_nominal() -> None:
    for name in ("mnn-fp32", "dsp-int8"):
        found = expect(GRAPH, build_plan(name, GRAPH, PHONE), PHONE)
        worlds = resampled(found, cost_model(PHONE, "mnn").quantities(), SHARED, 32)
        low, high = interval(worlds.times_ns)
        assert low < found.time_ns < high
        low, high = interval(worlds.energies_pj)
        assert low < found.energy_pj < high


def test_energy_scales_by_the_constant_of_each_power() -> None:
    timeline = engines.run(
        replace(
            small(),
            power_mw=np.array([500, 700]),
            pj_per_byte=20,
            static_power=(StaticPower("idle", 100),),
        )
    )
    shared = Shared("ddr", "byte", {"cpu": "core", "idle": "idle"})
    spreads = {"core": known(1.5), "byte": known(2.0), "idle": known(3.0)}
    f = {name: factor(name, spreads, 4, 9) for name in spreads}
    busy = 500 * 1100 + 700 * 4000
    parts = [20 * 4000 * f["byte"] >> 16, busy * f["core"] >> 16, 100 * 5100 * f["idle"] >> 16]
    assert energy_in_world(timeline, spreads, shared, 4, 9) == sum(parts)
    # A unit that no constant is named for keeps its power.
    assert energy_in_world(timeline, spreads, Shared("ddr"), 4, 9) == timeline.energy_pj


def test_every_power_of_a_plan_is_described() -> None:
    quantities = cost_model(PHONE, "mnn").quantities()
    assert {SHARED.ddr_rate, SHARED.ddr_energy, *SHARED.power.values()} <= quantities.keys()
    graph = expect(GRAPH, build_plan("dsp-int8", GRAPH, PHONE), PHONE).graphs[0]
    drawing = {graph.units[unit].name for unit in set(graph.unit[graph.power_mw > 0].tolist())}
    assert drawing <= SHARED.power.keys()


def test_worlds_are_common_to_all_plans() -> None:
    # Compared in the same worlds, a plan is never faster than itself; what two plans share
    # cancels, so their ratio is surer than either.
    quantities = cost_model(PHONE, "mnn").quantities()
    plan = build_plan("mnn-fp32", GRAPH, PHONE)
    base = resampled(expect(GRAPH, plan, PHONE), quantities, SHARED, 16)
    again = resampled(expect(GRAPH, plan, PHONE), quantities, SHARED, 16)
    assert base == again
    slower = plan.replace("operating_point", "cpu", "sustained")
    other = resampled(expect(GRAPH, slower, PHONE), quantities, SHARED, 16)
    pairs = zip(base.times_ns, other.times_ns, strict=True)
    low, high = interval([b / a for a, b in pairs])
    alone_low, alone_high = interval(other.times_ns)
    assert 1 < low <= high
    assert high / low < alone_high / alone_low


def test_interval_by_rank() -> None:
    assert interval(list(range(100, 0, -1))) == (6, 95)  # five of 100 on either side
    assert interval([3, 1, 2]) == (1, 3)
    assert interval([7]) == (7, 7)
    assert interval([float(k) for k in range(32)]) == (1.0, 30.0)


def alone(timeline: Timeline) -> Expectation:
    return Expectation((timeline.graph,), (1,), (timeline,))


def test_steps_count_by_their_weight() -> None:
    # The same step twice, with weights 3 and 1, rests on what the step rests on.
    timeline = engines.run(small())
    both = Expectation((timeline.graph,) * 2, (3, 1), (timeline,) * 2)
    known_all = {"lead": known(None, "derived"), "compute": known(None, "measured")}
    assert evidence_shares(both, known_all) == evidence_shares(alone(timeline), known_all)


def test_evidence_shares_by_hand() -> None:
    # 100 ns of lead, 1,000 of computing; then 4,000 bytes at 1,000 bytes/us take 4,000 ns: 2,000
    # computing, 2,000 beyond.
    quantities = {
        "lead": known(None, "derived"),
        "compute": known(None, "measured"),
        "bytes": known(None, "published"),
    }
    shares = evidence_shares(alone(engines.run(small())), quantities)
    assert shares == {
        "measured": 3000 / 5100,
        "published": 2000 / 5100,
        "derived": 100 / 5100,
        "assumed": 0.0,
    }
    # What no description knows counts as assumed.
    assert evidence_shares(alone(engines.run(small())), {})["assumed"] == 1.0


@pytest.mark.parametrize("name", ["mnn-fp32", "dsp-int8", "mnn-fp32-gpu"])
def test_evidence_shares_add_up(name: str) -> None:
    found = expect(GRAPH, build_plan(name, GRAPH, PHONE), PHONE)
    shares = evidence_shares(found, cost_model(PHONE, "mnn").quantities())
    assert sum(shares.values()) == pytest.approx(1, abs=1e-12)
    assert shares["assumed"] > 0


def test_every_constant_of_a_plan_is_described() -> None:
    quantities = cost_model(PHONE, "mnn").quantities()
    for name in ("mnn-fp32", "mnn-fp32-gpu", "mnn-int8", "dsp-int8"):
        for graph in expect(GRAPH, build_plan(name, GRAPH, PHONE), PHONE).graphs:
            named = {name for path in graph.parameters for name in path.split(TIMES)}
            assert named <= quantities.keys()
    assert SHARED.ddr_rate in quantities


def test_constants_that_multiply() -> None:
    # Factors multiply, and the weakest evidence counts; an unknown constant is assumed.
    known_two = {"a": known(2.0, "measured"), "b": known(3.0, "derived")}
    both = factor(f"a{TIMES}b", known_two, 1, 0) / ONE
    apart = factor("a", known_two, 1, 0) * factor("b", known_two, 1, 0) / ONE**2
    assert both == pytest.approx(apart, rel=1e-4)
    assert weakest_kind("a", known_two) == "measured"
    assert weakest_kind(f"a{TIMES}b", known_two) == "derived"
    assert weakest_kind(f"a{TIMES}nowhere", known_two) == "assumed"


def test_evidence_of_nothing() -> None:
    empty = engines.run(make_task_graph([Unit("cpu", 1)], []))
    assert set(evidence_shares(alone(empty), {}).values()) == {0.0}


def test_scaling_is_exact_where_a_plain_product_would_wrap() -> None:
    values = np.array([0, 1, 65_535, 10**12, 2**50], dtype=np.int64)
    factors = np.array([ONE, 3, 100 * ONE, 50 * ONE, 7 * ONE + 1], dtype=np.int64)
    expected = [v * f >> 16 for v, f in zip(values.tolist(), factors.tolist(), strict=True)]
    assert _scaled(values, factors).tolist() == expected
