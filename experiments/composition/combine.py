"""A set of techniques as one training: its network, device, profile and plan."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache

from cost_models.device import Device
from experiments.composition.techniques import (
    BATCH,
    CATALOGUE,
    INT8_PROFILE,
    MCU_BATCH,
    PHONE,
    Decision,
    Technique,
    graph_of,
    step_aspect,
)
from sim import Plan, PlanError, TrainingGraph, load_device
from sim.aspects import ORDER, Aspect
from sim.draft import Draft
from sim.lowering import draft_before
from sim.plan import Key

BOTH = frozenset({0, 1})
"""Both halves of the network: every other layer with parameters is in the first."""

Parts = Mapping[str, frozenset[int]]
"""Techniques, and the halves of the network in which each is on."""


class OneChoiceError(PlanError):
    """Two techniques choose differently where a plan has one choice."""


class WholeChoiceError(OneChoiceError):
    """The choice is one about the whole training: no half of the network can have its own."""


@dataclass(frozen=True, slots=True)
class Composed:
    """What a set of techniques comes to."""

    graph: TrainingGraph
    device: Device
    profile: str
    plan: Plan


def with_needs(name: str) -> tuple[str, ...]:
    """Return a technique after all that it needs.

    >>> with_needs("reuse=mru")
    ('int8', 'dsp', 'reuse=mru')
    """
    found: dict[str, None] = {}
    for need in CATALOGUE[name].needs:
        found |= dict.fromkeys(with_needs(need))
    return (*found, name)


def united(*wanted: tuple[str, frozenset[int]]) -> dict[str, frozenset[int]]:
    """Return techniques with what they need, each in the halves where something wants it."""
    parts: dict[str, frozenset[int]] = {}
    for name, halves in wanted:
        for one in with_needs(name):
            parts[one] = parts.get(one, frozenset()) | halves
    return {name: parts[name] for name in CATALOGUE if name in parts}


def combined(parts: Parts) -> Composed:
    """Make the training of some techniques, which holds all that they need; remembered.

    Raises
    ------
    OneChoiceError
        Two of them choose differently for one subject.
    PlanError
        An aspect does not allow a choice beside the others.
    """
    return _combined(tuple(parts.items()))


@lru_cache(maxsize=256)
def _combined(items: tuple[tuple[str, frozenset[int]], ...]) -> Composed:
    parts = dict(items)
    used = [CATALOGUE[name] for name in parts]
    device = load_device(_only("device", (t.device for t in used)) or PHONE)
    profile = _only("profile", (t.profile for t in used)) or INT8_PROFILE
    graph = graph_of(
        max([1, *(t.groups for t in used)]),
        max([0, *(t.frozen for t in used)]),
        BATCH if device.mcu is None else MCU_BATCH,
    )
    plan = Plan.make("composed", graph.hash(), _about_step(used))
    halves = halves_of(graph)
    for aspect in ORDER:
        draft = draft_before(aspect.name, graph, plan, device)
        plan = plan.update(_decided(aspect, draft, device, parts, halves))
    return Composed(graph, device, profile, plan)


def yielding(parts: Parts, names: Iterable[str]) -> str:
    """Return why a technique decides on less than it does alone; empty if none does.

    What counts are subjects that the training has, but that do not allow the choice beside the
    others: an INT8 choice for a layer whose activations are kept in factors.
    """
    made = combined(parts)
    alone = [combined(united((name, BOTH))).plan for name in names]
    for aspect in ORDER:
        wanted = {pair for plan in alone for pair in plan.aspect(aspect.name).items()}
        if not wanted:
            continue
        draft = draft_before(aspect.name, made.graph, made.plan, made.device)
        subjects = set(aspect.subjects(draft, made.device))
        for subject, choice in sorted(wanted):
            if subject in subjects and not aspect.accepts(
                choice, aspect.allowed(draft, subject, made.device)
            ):
                changed = made.plan.replace(aspect.name, subject, choice)
                return _refusal(aspect, draft, changed, made.device)
    return ""


def _refusal(aspect: Aspect, draft: Draft, plan: Plan, device: Device) -> str:
    try:
        aspect.resolve(draft, plan, device)
    except PlanError as error:
        return str(error)
    raise AssertionError(f"{aspect.name} accepts what it does not allow")


def halves_of(graph: TrainingGraph) -> dict[str, int]:
    """Return the half of each layer: layers with parameters in turn, others as the one before."""
    found: dict[str, int] = {}
    weighted = 0
    for node in graph.nodes:
        if node.layer not in found:
            weighted += bool(node.op.weights)
            found[node.layer] = (weighted - 1) % 2
    return found


def _only(what: str, wanted: Iterable[str]) -> str:
    """Return the one value that techniques ask for; empty if none does."""
    values = [*dict.fromkeys(value for value in wanted if value)]
    if len(values) > 1:
        raise WholeChoiceError(f"one {what} of a training: {' or '.join(values)}")
    return values[0] if values else ""


def _about_step(used: list[Technique]) -> dict[Key, str]:
    chosen: dict[Key, str] = {}
    for technique in used:
        for decision in technique.decisions:
            aspect = step_aspect(decision.aspect)
            if aspect is not None:
                key = aspect.name, aspect.subject
                if chosen.setdefault(key, decision.choice) != decision.choice:
                    raise WholeChoiceError(f"one choice of {aspect.key} in a plan")
    return chosen


def _decided(
    aspect: Aspect, draft: Draft, device: Device, parts: Parts, halves: Mapping[str, int]
) -> dict[Key, str]:
    """Return the choices of one aspect; a technique overrides those that it needs."""
    chosen: dict[Key, tuple[str, str]] = {}
    layers = {name: i.layer for i in draft.items for name in (i.layer, i.subject)}
    for name in sorted(parts, key=lambda name: len(with_needs(name))):
        for decision in CATALOGUE[name].decisions:
            if decision.aspect != aspect.name:
                continue
            for subject in _subjects(aspect, draft, device, decision):
                layer = layers.get(subject)
                if layer is not None and halves[layer] not in parts[name]:
                    continue
                key = aspect.name, subject
                choice, owner = chosen.get(key, (decision.choice, name))
                if choice != decision.choice and owner not in with_needs(name):
                    kind = WholeChoiceError if layer is None else OneChoiceError
                    where = "plan" if layer is None else "subject"
                    raise kind(f"one choice of {aspect.name} for each {where}")
                chosen[key] = decision.choice, name
    return {key: choice for key, (choice, _) in chosen.items()}


def _subjects(aspect: Aspect, draft: Draft, device: Device, decision: Decision) -> list[str]:
    """Return the subjects that allow a choice; where none does, all, for the plan to be refused."""
    every = aspect.subjects(draft, device)
    if decision.role is not None:
        every = [s for s in every if draft.first(s).role is decision.role]
    allowed = [
        s for s in every if aspect.accepts(decision.choice, aspect.allowed(draft, s, device))
    ]
    return list(dict.fromkeys(allowed or every))
