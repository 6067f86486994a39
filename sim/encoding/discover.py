"""Which decisions exist in a space: asked of the aspects, in every surrounding that differs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cost_models.device import Device
from sim.aspects import ORDER, STEP_ASPECTS, Aspect
from sim.draft import Draft
from sim.graph import TrainingGraph
from sim.lowering import draft_before
from sim.plan import Key, Plan


class SpaceError(ValueError):
    """A space, or a plan in it, cannot be used; the message says which and what to do."""


def found_choices(
    graph: TrainingGraph,
    device: Device,
    base: Plan,
    held: Sequence[str],
    palettes: Mapping[str, Sequence[str]],
) -> dict[Key, tuple[str, ...]]:
    """Choices of every decision that exists in some surroundings, in the order of rewriting."""
    found: dict[Key, tuple[str, ...]] = {}
    surroundings = _surroundings(graph, device, base, held)
    for aspect in ORDER:
        if aspect.name in held:
            continue
        for plan in surroundings:
            draft = draft_before(aspect.name, graph, plan, device)
            for subject in aspect.subjects(draft, device):
                allowed = aspect.allowed(draft, subject, device)
                options = tuple(palettes.get(aspect.name, allowed))
                for option in options:
                    if aspect.name in palettes and not aspect.accepts(option, allowed):
                        raise SpaceError(
                            f"palette of {aspect.name}: {option!r} is not allowed for {subject}; "
                            f"choose of {', '.join(allowed)}"
                        )
                before = found.get((aspect.name, subject), ())
                found[aspect.name, subject] = tuple(dict.fromkeys((*before, *options)))
    for step in STEP_ASPECTS:
        if step.name not in held:
            offered = step.offered(device)
            narrowed = tuple(palettes.get(step.name, offered))
            found[step.name, step.subject] = narrowed
    return {key: choices for key, choices in found.items() if len(choices) > 1}


def _surroundings(
    graph: TrainingGraph, device: Device, base: Plan, held: Sequence[str]
) -> list[Plan]:
    """Plans that bring up every subject: all layers alike, and neighbours that differ."""
    plain = Plan.make(
        base.name, graph.hash(), {k: c for k, c in base.choices if k[0] in (*held, "precision")}
    )
    if "precision" in held:
        return [plain]
    precision = next(a for a in ORDER if a.name == "precision")
    draft = draft_before("precision", graph, plain, device)
    layers = precision.subjects(draft, device)
    either = [s for s in layers if len(precision.allowed(draft, s, device)) > 1]
    plans = [plain]
    for pattern in (0b11, 0b00, 0b01, 0b10):
        types = {
            ("precision", s): ("int8" if pattern >> (k % 2) & 1 else "fp32")
            for k, s in enumerate(either)
        }
        plans.append(plain.update(types))
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


def effective_choices(
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
