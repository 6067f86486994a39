"""Plans drawn by seed: any mix of precisions, splits, rescale rules, units and subgraphs."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from cost_models.device import Device
from sim.aspects import ORDER, STEP, STEP_ASPECTS
from sim.aspects.step import INPUT_MODES
from sim.dispatch import DISPATCH_RULES
from sim.graph import TrainingGraph
from sim.lowering import draft_before
from sim.plan import Key, Plan
from sim.reuse import RULES

Pick = Callable[[tuple[str, ...], Random], str | None]
"""Chooses among what a subject allows; None leaves it at the default."""

_RESCALE = ("every", "fixed:4", "adaptive:2:16", "hindsight", "delayed:4")
_SHARES = (0.0, 0.3, 0.6, 0.9, 1.0)


def drawn_plan(graph: TrainingGraph, device: Device, seed: int) -> Plan:
    """Return a valid plan; the same for the same graph, device and seed.

    Each aspect has a share of its own of subjects that depart from the default, so whole
    networks in one precision on one unit are as common as mixed ones. Backward stays exact: the
    host's laws know no filtered kernels.
    """
    random = Random(seed)
    drawn: dict[Key, str] = {
        ("reuse", STEP): random.choice(RULES),
        ("dispatch", STEP): random.choice(DISPATCH_RULES),
        ("input", STEP): random.choice(INPUT_MODES),
    }
    offered = {(a.name, a.subject): a.offered(device) for a in STEP_ASPECTS}
    choices = {key: choice for key, choice in drawn.items() if choice in offered[key]}
    plan = Plan.make(f"drawn-{seed}", graph.hash(), choices)
    for aspect in ORDER:
        if aspect.name not in _PICKS:
            continue
        share = random.choice(_SHARES)
        draft = draft_before(aspect.name, graph, plan, device)
        found: dict[Key, str] = {}
        for subject in aspect.subjects(draft, device):
            if random.random() < share:
                allowed = aspect.allowed(draft, subject, device)
                choice = _PICKS[aspect.name](allowed, random)
                if choice is not None:
                    found[aspect.name, subject] = choice
        plan = plan.update(found)
    return plan


def _int8(allowed: tuple[str, ...], random: Random) -> str | None:
    return "int8" if "int8" in allowed else None


def _split(allowed: tuple[str, ...], random: Random) -> str | None:
    return random.choice(allowed[:3])


def _rescale(allowed: tuple[str, ...], random: Random) -> str | None:
    return random.choice(_RESCALE)


def _dsp(allowed: tuple[str, ...], random: Random) -> str | None:
    on_dsp = [unit for unit in allowed if unit.startswith("dsp")]
    return random.choice(on_dsp) if on_dsp else None


def _cut(allowed: tuple[str, ...], random: Random) -> str | None:
    return random.choice(("join", "join", "cut"))


_PICKS: dict[str, Pick] = {
    "precision": _int8,
    "batch_split": _split,
    "rescale": _rescale,
    "placement": _dsp,
    "grouping": _cut,
}
