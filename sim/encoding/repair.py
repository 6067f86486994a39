"""Repair: a valid plan from choices that need not go together."""

from __future__ import annotations

from collections.abc import Mapping

from cost_models.device import Device
from sim.aspects import ORDER, STEP_ASPECTS
from sim.encoding.discover import kept_choices, without_refused
from sim.graph import TrainingGraph
from sim.lowering import draft_before
from sim.plan import Key, Plan


def repaired(
    name: str,
    graph: TrainingGraph,
    device: Device,
    chosen: Mapping[Key, str],
    kept: Mapping[Key, str],
) -> Plan:
    """Return a valid plan of choices that need not go together.

    Parameters
    ----------
    chosen
        Choices by decision; one that is not allowed beside the earlier ones, or has no effect
        there, is left out.
    kept
        Choices that are held: taken as they are wherever they are allowed.
    """
    plan = Plan.make(name, graph.hash(), dict(kept))
    held = {aspect for aspect, _ in kept}
    decided = {aspect for aspect, _ in chosen} - held
    surrounded = False
    for aspect in ORDER:
        if aspect.name in decided:
            draft = draft_before(aspect.name, graph, plan, device)
            plan = plan.update(kept_choices(aspect, draft, device, chosen))
            surrounded = True
        elif surrounded and aspect.name in held:
            plan = without_refused(aspect, graph, plan, device)
    step_choices: dict[Key, str] = {}
    for step in STEP_ASPECTS:
        choice = chosen.get((step.name, step.subject))
        if choice is not None and choice != step.default:
            step_choices[step.name, step.subject] = choice
    return plan.update(step_choices)
