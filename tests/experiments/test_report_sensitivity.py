"""How an expected step moves with one constant: as if that one had been described otherwise."""

from __future__ import annotations

from dataclasses import replace
from math import exp

import numpy as np

from cost_models.cost import TIMES
from experiments.report.sensitivity import swings, variates
from sim import build_plan, load_device, load_model, training_graph
from sim.engines import run as run_engine
from sim.expected import expect
from sim.lowering import cost_model
from sim.uncertainty import Shared, own_spread, with_draws


def test_a_swing_is_the_step_with_one_constant_scaled_by_its_spread() -> None:
    graph = training_graph(load_model("lenet", 64))
    device = load_device("snapdragon-865")
    plan = build_plan("mandheling", graph, device)
    expectation = expect(graph, plan, device)
    quantities = cost_model(device, "mnn").quantities()
    ddr = Shared.of(device).ddr_rate
    found = swings(expectation, quantities, ddr)
    checked = 0
    for name, ends in found.items():
        quantity = quantities.get(name)
        if quantity is None or quantity.limit is not None:
            continue
        for end, sign in zip(ends, (-1, 1), strict=True):
            factor = max(1, round(65536 * exp(sign * own_spread(quantity))))
            times = []
            for tasks in expectation.graphs:
                scaled = [name in path.split(TIMES) for path in tasks.parameters]
                by = np.where(scaled, factor, 65536)[tasks.groups]
                lead = tasks.lead_ns * by[:, 0] >> 16
                compute = tasks.compute_ns * by[:, 1] >> 16
                cap = np.maximum(1, (tasks.rate_cap << 16) // by[:, 2])
                rate = (tasks.ddr_rate << 16) // (factor if name == ddr else 65536)
                changed = replace(
                    tasks, lead_ns=lead, compute_ns=compute, rate_cap=cap, ddr_rate=rate
                )
                times.append(run_engine(changed).makespan_ns)
            total = sum(w * t for w, t in zip(expectation.weights, times, strict=True))
            assert end == total // expectation.whole, name
            checked += 1
    assert checked > 20
    assert any(low < expectation.time_ns < high for low, high in found.values())


def test_no_deviation_leaves_a_task_graph_as_it_is() -> None:
    graph = training_graph(load_model("lenet", 64))
    device = load_device("snapdragon-865")
    (tasks, *_) = expect(graph, build_plan("mandheling", graph, device), device).graphs
    quantities = cost_model(device, "mnn").quantities()
    same = with_draws(tasks, quantities, lambda _: 0.0, Shared.of(device).ddr_rate)
    for field in ("lead_ns", "compute_ns", "rate_cap"):
        assert (getattr(same, field) == getattr(tasks, field)).all()
    assert same.ddr_rate == tasks.ddr_rate


def test_shared_coefficients_are_variates_of_their_own() -> None:
    device = load_device("snapdragon-865")
    quantities = cost_model(device, "mnn").quantities()
    sharing = {name: q for name, q in quantities.items() if q.common}
    assert sharing
    found = variates(sharing, quantities)
    terms = {term for q in sharing.values() for term, _ in q.common}
    assert terms <= found.keys()
    assert all(found[term].value.startswith("in ") for term in terms)


def test_a_constant_in_no_description_is_shown_as_assumed() -> None:
    (one,) = variates(["nowhere.to.be.found"], {}).values()
    assert (one.kind, one.spread) == ("assumed", 2.0)
