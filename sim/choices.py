"""The space of plans: every decision that a plan can make, with what it may choose.

This is what a search enumerates. Subjects of later aspects depend on earlier choices (an INT8 layer
brings transposes to place), so the space is that around a given plan.
"""

from __future__ import annotations

from dataclasses import dataclass

from cost_models.device import Device
from sim.aspects import ORDER, STEP_ASPECTS
from sim.graph import TrainingGraph
from sim.lowering import draft_before
from sim.plan import Key, Plan


@dataclass(frozen=True, slots=True)
class Choice:
    """One decision: what it may be, what it is where a plan is silent, and what it is here.

    ``allowed`` lists patterns (``adaptive:LOW:HIGH``) where a choice has parameters.
    """

    allowed: tuple[str, ...]
    default: str
    chosen: str


def choices(graph: TrainingGraph, plan: Plan, device: Device) -> dict[Key, Choice]:
    """Return every decision around a plan, by (aspect, subject), in the order of rewriting.

    Raises
    ------
    PlanError
        The plan does not fit the graph or the device.

    Examples
    --------
    >>> from sim import build_plan, load_device, load_model, training_graph
    >>> graph = training_graph(load_model("lenet", batch=64))
    >>> device = load_device("snapdragon-865")
    >>> space = choices(graph, build_plan("mandheling", graph, device), device)
    >>> space["precision", "conv1"].allowed
    ('fp32', 'int8')
    """
    found: dict[Key, Choice] = {}
    for aspect in ORDER:
        draft = draft_before(aspect.name, graph, plan, device)
        resolved = aspect.resolve(draft, plan, device)
        for subject, chosen in resolved.items():
            found[aspect.name, subject] = Choice(
                aspect.allowed(draft, subject, device),
                aspect.default(draft, subject, device),
                chosen,
            )
    for step in STEP_ASPECTS:
        found[step.name, step.subject] = Choice(
            step.offered(device), step.default, step.resolve(plan, device)
        )
    return found
