"""Which decisions exist in a space: asked of the aspects, in every surrounding that differs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cost_models.device import Device
from sim.aspects import ORDER, STEP_ASPECTS, Aspect
from sim.draft import Draft
from sim.graph import TrainingGraph
from sim.lowering import draft_before
from sim.plan import Key, Plan

PALETTES: Mapping[str, tuple[str, ...]] = {
    "backward": ("exact", "mask", "filter:2", "filter:4", "filter:7"),
    "rescale": (
        "every",
        "fixed:4",
        "fixed:16",
        "fixed:64",
        "adaptive:1:64",
        "adaptive:4:64",
        "adaptive:16:256",
        "hindsight",
        "delayed:4",
    ),
}
"""What an open-ended choice is searched over, as far as a subject allows it."""


class SpaceError(ValueError):
    """A space, or a plan in it, cannot be used; the message says which and what to do."""


def found_choices(
    graph: TrainingGraph,
    device: Device,
    base: Plan,
    held: Sequence[str],
    palettes: Mapping[str, Sequence[str]],
) -> dict[Key, tuple[str, ...]]:
    """Choices of every decision that exists in some surroundings, in the order of rewriting.

    Raises
    ------
    SpaceError
        A palette holds what no subject allows.
    """
    found: dict[Key, tuple[str, ...]] = {}
    surroundings = _surroundings(graph, device, base, held, palettes)
    for aspect in ORDER:
        if aspect.name in held:
            continue
        palette = palettes.get(aspect.name)
        refused: dict[str, tuple[str, ...]] = {}
        taken: set[str] = set()
        for plan in surroundings:
            draft = draft_before(aspect.name, graph, plan, device)
            for subject in aspect.subjects(draft, device):
                options = allowed = aspect.allowed(draft, subject, device)
                if palette is not None:
                    options = tuple(o for o in palette if aspect.accepts(o, allowed))
                    refused |= {o: allowed for o in palette if o not in options}
                    taken.update(options)
                before = found.get((aspect.name, subject), ())
                found[aspect.name, subject] = tuple(dict.fromkeys((*before, *options)))
        wrong = [o for o in refused if o not in (*taken, *PALETTES.get(aspect.name, ()))]
        if wrong:
            raise SpaceError(
                f"palette of {aspect.name}: {wrong[0]!r} is not allowed for any subject; "
                f"choose of {', '.join(refused[wrong[0]])}"
            )
    for step in STEP_ASPECTS:
        if step.name not in held:
            offered = step.offered(device)
            narrowed = tuple(palettes.get(step.name, offered))
            found[step.name, step.subject] = narrowed
    return {key: choices for key, choices in found.items() if len(choices) > 1}


def _surroundings(
    graph: TrainingGraph,
    device: Device,
    base: Plan,
    held: Sequence[str],
    palettes: Mapping[str, Sequence[str]],
) -> list[Plan]:
    """Plans that together bring up every subject: each aspect names the choices that do."""
    numeric = {aspect.name for aspect in ORDER if aspect.numeric}
    kept = {k: c for k, c in base.choices if k[0] in numeric or k[0] in held}
    plans = [Plan.make(base.name, graph.hash(), kept)]
    for aspect in ORDER:
        if aspect.name in held:
            plans = [without_refused(aspect, graph, plan, device) for plan in plans]
            continue
        for number, plan in enumerate(tuple(plans)):
            draft = draft_before(aspect.name, graph, plan, device)
            palette = palettes.get(aspect.name)
            for choices in aspect.variants(draft, device, palette, mixed=number == 0):
                plans.append(plan.update({(aspect.name, s): c for s, c in choices.items()}))
    return plans


def held_choices(
    plan: Plan, graph: TrainingGraph, device: Device, held: Sequence[str]
) -> dict[Key, str]:
    """Choices, defaults included, of the aspects that a space holds."""
    found: dict[Key, str] = {}
    for aspect in ORDER:
        if aspect.name in held:
            draft = draft_before(aspect.name, graph, plan, device)
            resolved = aspect.resolve(draft, plan, device)
            found |= {(aspect.name, subject): choice for subject, choice in resolved.items()}
    for step in STEP_ASPECTS:
        if step.name in held:
            found[step.name, step.subject] = step.resolve(plan, device)
    return found


def kept_choices(
    aspect: Aspect, draft: Draft, device: Device, chosen: Mapping[Key, str]
) -> dict[Key, str]:
    """Choices of one aspect that this draft has a subject for, allows, and does not default to."""
    found: dict[Key, str] = {}
    for subject in aspect.subjects(draft, device):
        choice = chosen.get((aspect.name, subject))
        if choice is None or choice == aspect.default(draft, subject, device):
            continue
        if aspect.matters(draft, subject, choice) and aspect.accepts(
            choice, aspect.allowed(draft, subject, device)
        ):
            found[aspect.name, subject] = choice
    return found


def without_refused(aspect: Aspect, graph: TrainingGraph, plan: Plan, device: Device) -> Plan:
    """Return a plan without the choices of an aspect that earlier ones leave no room for."""
    chosen = plan.aspect(aspect.name)
    if not chosen:
        return plan
    draft = draft_before(aspect.name, graph, plan, device)
    subjects = set(aspect.subjects(draft, device))
    refused = {
        (aspect.name, subject)
        for subject, choice in chosen.items()
        if subject not in subjects
        or not aspect.accepts(choice, aspect.allowed(draft, subject, device))
    }
    left = {key: choice for key, choice in plan.choices if key not in refused}
    return Plan.make(plan.name, plan.graph_hash, left)
