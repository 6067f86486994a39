"""What is worth knowing of a front once it is there: proofs, doubts and reasons."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from experiments.search.drive import Outcome
from experiments.search.ground import Ground
from experiments.search.result import built_in
from sim.plan import Plan

RIVALS = 3
"""Quickest built-in plans that the chosen one is compared with, besides that of the space."""


def chosen_plan(outcome: Outcome) -> Plan:
    """Return the plan that is best in the first objective, then in the others."""
    return outcome.problem.ground().space.decode(outcome.front[0].row, "searched P1")


def rivals(ground: Ground) -> Mapping[str, Plan]:
    """Return the quickest built-in plans, and the one that the space is built around."""
    found = sorted(built_in(ground), key=lambda pair: pair[1].values)
    kept = [plan for plan, _ in found[:RIVALS]]
    base = [plan for plan, _ in found[RIVALS:] if plan.name == ground.space.base.name]
    return {plan.name: plan for plan in (*kept, *base)}


def robustness_of(outcome: Outcome) -> dict[str, Any]:
    """Return the chosen plan against built-in ones over drawn worlds."""
    from experiments.search.robustness import compare_plans

    ground, chosen = outcome.problem.ground(), chosen_plan(outcome)
    plans = {chosen.name: chosen, **rivals(ground)}
    found = compare_plans(ground.graph, ground.device, plans, seed=outcome.problem.seed)
    return found.as_json()
