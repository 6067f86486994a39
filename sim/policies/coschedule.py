"""CPU-DSP co-scheduling: move to the CPU what shortens the whole step.

A kernel that the DSP does badly (strided, tiny, or with a slice that VTCM cannot hold) is a
candidate, and so is any weight gradient, since dW does not depend on dX and the CPU is idle
meanwhile. What decides is not the kernel's own time but the simulated step: each move changes what
overlaps, what shares DDR, and how many FastRPC calls there are.

Kernels move in *families*: a weight gradient with its transposes, the weights' transpose and
rotation before a dX, an update. Families are sorted by how much better the CPU does them, and
prefixes of that order are tried, with and without cuts for the CPU, and beside them the placements
of HEFT and of the faster unit per kernel. Then single families move, to the little cores too, and
the dispatch rules are tried. The number of simulations is bounded (PARTS, POLISH_ITEMS).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from sim.aspects.base import STEP
from sim.dispatch import DISPATCH_RULES
from sim.draft import Draft, Item
from sim.plan import Key, Plan
from sim.policies.base import PlacementPolicy, Situation
from sim.policies.placing import CutForCpu, Faster, Heft, cpu_time, deciders, dsp_unit

Expected = Callable[[Plan], int]
Rewritten = Callable[[Plan, str], Draft]
"""Draft of a plan as the policy for the named aspect would see it."""


STARTS: dict[str, PlacementPolicy] = {"heft": Heft(), "latency": Faster()}
"""Placements of other policies that are tried as they are."""
PARTS = 6
"""Prefixes tried before refining around the best."""
POLISH_ITEMS = 6000
"""Single families are moved last, as many as this divided by the items in the graph."""


@dataclass(frozen=True, slots=True)
class Family:
    """Subjects that move together, and their time on either unit."""

    subjects: tuple[str, ...]
    cpu_ns: int
    dsp_ns: int


def families(draft: Draft, situation: Situation) -> list[Family]:
    """Return what could leave the DSP, the most CPU-friendly first."""
    members: dict[str, list[Item]] = {}
    for item in deciders(draft):
        if dsp_unit(item, situation) is not None:
            members.setdefault(family_of(item.subject), []).append(item)
    micro = _micro_counts(draft)
    found = []
    for items in members.values():
        here = there = 0
        for item in items:
            unit = dsp_unit(item, situation)
            assert unit is not None
            here += cpu_time(item, situation) * micro[item.subject]
            there += (situation.time_ns(item, unit) or 0) * micro[item.subject]
        found.append(Family(tuple(i.subject for i in items), here, there))
    return sorted(found, key=lambda f: (f.cpu_ns / max(1, f.dsp_ns), f.subjects))


def family_of(subject: str) -> str:
    """Name of the family of a subject: the kernel that auxiliary work serves, or itself.

    A dX stays where it is while the work on its weights moves; all else moves as one.
    """
    base, _, step = subject.rpartition(".")
    if step.startswith(("transpose_", "rotate_")):
        return base
    return f"{subject} itself" if step == "input_grad" else subject


def _micro_counts(draft: Draft) -> dict[str, int]:
    counts: dict[str, int] = {}
    for item in draft.items:
        if not item.follows:
            counts[item.subject] = counts.get(item.subject, 0) + 1
    return counts


def coschedule(plan: Plan, situation: Situation, draft_at: Rewritten, expected: Expected) -> Plan:
    """Return the best plan found by moving families off the DSP, or ``plan`` itself."""
    draft = draft_at(plan, "placement")
    order = families(draft, situation)
    known: dict[tuple[str, int, bool], tuple[int, Plan]] = {}

    def attempt(start: str, count: int, cuts: bool) -> int:
        key = (start, count, cuts)
        if key not in known:
            candidate = _moved(plan, order[:count], situation)
            if start != "prefix":
                candidate = _placed(plan, STARTS[start].decide(draft, situation), draft)
            if cuts:
                candidate = with_cuts(candidate, situation, draft_at)
            known[key] = expected(candidate), candidate
        return known[key][0]

    counts = sorted({len(order) * k // PARTS for k in range(PARTS + 1)})
    for cuts in (False, True):
        for start in STARTS:
            attempt(start, 0, cuts)
        for count in counts:
            attempt("prefix", count, cuts)
    _, best, cuts = min(
        (key for key in known if key[0] == "prefix"), key=lambda key: (known[key][0], key)
    )
    step = len(order) // (2 * PARTS)
    while step:
        near = [c for c in (best - step, best, best + step) if 0 <= c <= len(order)]
        best = min(near, key=lambda c: (attempt("prefix", c, cuts), c))
        step //= 2
    fewest = min(known, key=lambda key: (known[key][0], key))
    polished = _polished(known[fewest], order, draft, situation, expected)
    options = [polished]
    for rule in DISPATCH_RULES[1:]:
        candidate = polished[1].replace("dispatch", STEP, rule)
        options.append((expected(candidate), candidate))
    return min(options, key=lambda option: option[0])[1]


def _polished(
    start: tuple[int, Plan],
    order: list[Family],
    draft: Draft,
    situation: Situation,
    expected: Expected,
) -> tuple[int, Plan]:
    """Move single families, longest first, to whichever pool of units shortens the step."""
    best = start
    tries = min(len(order), POLISH_ITEMS // max(1, len(draft.items)))
    for family in sorted(order, key=lambda f: (-f.dsp_ns, f.subjects))[:tries]:
        for pool in ("cpu", "little", "dsp"):
            changes: dict[Key, str] = {}
            for subject in family.subjects:
                units = situation.units(draft.first(subject))
                widest = next((u for u in units if u.startswith(pool)), None)
                if widest is not None:
                    changes["placement", subject] = widest
            candidate = best[1].update(changes)
            if changes and candidate != best[1]:
                best = min(best, (expected(candidate), candidate), key=lambda option: option[0])
    return best


def _placed(plan: Plan, choices: Mapping[str, str], draft: Draft) -> Plan:
    """Replace the whole placement of a plan."""
    here = {subject: choices.get(subject) for subject in draft.subjects()}
    kept = {key: choice for key, choice in plan.choices if key[0] != "placement"}
    chosen = {("placement", s): unit for s, unit in here.items() if unit is not None}
    return Plan.make(plan.name, plan.graph_hash, {**kept, **chosen})


def _moved(plan: Plan, moved: Iterable[Family], situation: Situation) -> Plan:
    """Place the families' subjects on all big cores."""
    changes: dict[Key, str] = {
        ("placement", subject): situation.cpu for family in moved for subject in family.subjects
    }
    return plan.update(changes)


def with_cuts(plan: Plan, situation: Situation, draft_at: Rewritten) -> Plan:
    """Cut the subgraphs of a plan wherever the CPU waits for a result."""
    cuts = CutForCpu().decide(draft_at(plan, "grouping"), situation)
    return plan.update({("grouping", subject): choice for subject, choice in cuts.items()})
