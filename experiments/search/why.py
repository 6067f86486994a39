"""Why one plan is faster than another: what changed, where the time went, which change brings what.

The attribution undoes one group of changes at a time in the plan after (what the group still
brings when all others are there), and makes one group of changes alone in the plan before (what it
brings by itself). Where changes need each other the two differ, and neither adds up to the whole.
Mixed plans are repaired like any decoded plan: a choice that is not allowed beside the others
takes its default.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from cost_models.device import Device
from experiments.explain import Explainer
from sim.aspects import ORDER, STEP_ASPECTS
from sim.critical import IDLE, critical_path
from sim.encoding.repair import repaired
from sim.expected import Expectation, expect, expected_ns
from sim.graph import TrainingGraph
from sim.lowering import draft_before
from sim.plan import Key, Plan

NONE = "-"
"""Where an operator or a choice is not there."""
LONGEST = 5
"""Tasks of a critical path that are told by name."""


@dataclass(frozen=True, slots=True)
class Moved:
    """Operators of one family that went from one unit to another.

    Attributes
    ----------
    family
        Kind and role, such as ``conv2d.weight_grad``.
    before, after
        Units such as ``cpu:4``; ``-`` where a plan has no such operator.
    subjects
        Their names.
    before_ns, after_ns
        Their times alone in either plan, added up.
    """

    family: str
    before: str
    after: str
    subjects: tuple[str, ...]
    before_ns: int
    after_ns: int


@dataclass(frozen=True, slots=True)
class ChangedChoice:
    """A choice that changed alike for some subjects; ``-``: it has no effect in that plan."""

    aspect: str
    before: str
    after: str
    subjects: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PathShare:
    """The critical path of one plan: expected ns by unit, and its longest tasks."""

    by_unit_ns: Mapping[str, int]
    longest: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class Contribution:
    """What one group of changes brings.

    Attributes
    ----------
    group
        An aspect; placements by the kind of unit that they go to.
    changes
        Choices in it.
    undone_ns
        Expected step of the plan after without this group.
    alone_ns
        Expected step of the plan before with this group only.
    """

    group: str
    changes: int
    undone_ns: int
    alone_ns: int


@dataclass(frozen=True, slots=True)
class Change:
    """From one plan to another, on one graph and device; all times are expected steps.

    Attributes
    ----------
    moved
        Operators on other units, the largest change of time first.
    choices
        What else was chosen differently, in the order of rewriting.
    before_breakdown_ns, after_breakdown_ns
        Components of the step by category; they add up to the step.
    contributions
        By what undoing the group costs, the most first.
    """

    before: str
    after: str
    before_ns: int
    after_ns: int
    before_pj: int
    after_pj: int
    moved: tuple[Moved, ...]
    choices: tuple[ChangedChoice, ...]
    before_breakdown_ns: Mapping[str, int]
    after_breakdown_ns: Mapping[str, int]
    before_path: PathShare
    after_path: PathShare
    contributions: tuple[Contribution, ...]

    @property
    def saved_ns(self) -> int:
        """Time that the plan after takes less; negative if it takes more."""
        return self.before_ns - self.after_ns

    def brings_ns(self, contribution: Contribution) -> tuple[int, int]:
        """Return what a group saves as the last change, and as the only one."""
        return contribution.undone_ns - self.after_ns, self.before_ns - contribution.alone_ns

    def document(self) -> dict[str, Any]:
        """Return it as plain data, with what each group brings."""
        document = asdict(self)
        for row, contribution in zip(document["contributions"], self.contributions, strict=True):
            row["last_saves_ns"], row["alone_saves_ns"] = self.brings_ns(contribution)
        return {**document, "saved_ns": self.saved_ns}


def explain_change(graph: TrainingGraph, device: Device, before: Plan, after: Plan) -> Change:
    """Explain what a second plan does differently from a first, and what that brings.

    Raises
    ------
    PlanError
        A plan does not fit the graph or the device.

    Examples
    --------
    >>> from sim import build_plan, load_device, load_model, training_graph
    >>> graph = training_graph(load_model("lenet", batch=64))
    >>> device = load_device("snapdragon-865")
    >>> plans = [build_plan(name, graph, device) for name in ("dsp-int8", "mandheling")]
    >>> change = explain_change(graph, device, *plans)
    >>> change.contributions[0].group, change.saved_ns > 0
    ('reuse', True)
    """
    first, second = expect(graph, before, device), expect(graph, after, device)
    here, there = (effective_choices(graph, plan, device) for plan in (before, after))
    said = {(aspect, subject) for aspect, subject, _, _ in before.diff(after)}
    changed = {
        key: (here.get(key, NONE), there.get(key, NONE))
        for key in {**here, **there}
        if here.get(key) != there.get(key)
        and (key[0] == "placement" or key in said or (key in here and key in there))
    }
    return Change(
        before=before.name,
        after=after.name,
        before_ns=first.time_ns,
        after_ns=second.time_ns,
        before_pj=first.energy_pj,
        after_pj=second.energy_pj,
        moved=_moved(Explainer(graph, before, device), Explainer(graph, after, device), changed),
        choices=_choices(changed),
        before_breakdown_ns=first.breakdown_ns,
        after_breakdown_ns=second.breakdown_ns,
        before_path=path_share(first),
        after_path=path_share(second),
        contributions=_contributions(graph, device, (before, after), (first, second), changed),
    )


def effective_choices(graph: TrainingGraph, plan: Plan, device: Device) -> dict[Key, str]:
    """Return every choice of a plan that has an effect, defaults included, in order."""
    found: dict[Key, str] = {}
    for aspect in ORDER:
        draft = draft_before(aspect.name, graph, plan, device)
        for subject, choice in aspect.resolve(draft, plan, device).items():
            if aspect.matters(draft, subject, choice):
                found[aspect.name, subject] = choice
    for step in STEP_ASPECTS:
        found[step.name, step.subject] = step.resolve(plan, device)
    return found


def path_share(expected: Expectation) -> PathShare:
    """Return the critical path by unit, mean over the expected steps, and its longest tasks.

    The longest are those of the step with the largest weight, micro-batches of a kernel together.
    """
    by_unit: Counter[str] = Counter()
    for weight, timeline in zip(expected.weights, expected.timelines, strict=True):
        graph = timeline.graph
        for segment in critical_path(timeline):
            idle = segment.task == IDLE
            unit = "idle" if idle else graph.units[graph.unit[segment.task]].name
            by_unit[unit] += weight * segment.duration_ns
    heaviest = expected.timelines[expected.weights.index(max(expected.weights))]
    tasks: Counter[str] = Counter()
    for segment in critical_path(heaviest):
        if segment.task != IDLE:
            name = heaviest.graph.names[segment.task].partition("#")[0]
            tasks[name] += segment.duration_ns
    longest = sorted(tasks.items(), key=lambda pair: (-pair[1], pair[0]))[:LONGEST]
    shares = {unit: ns // expected.whole for unit, ns in sorted(by_unit.items())}
    return PathShare(shares, tuple(longest))


def _moved(
    here: Explainer, there: Explainer, changed: Mapping[Key, tuple[str, str]]
) -> tuple[Moved, ...]:
    """Group the operators whose unit changed by family and units."""
    groups: dict[tuple[str, str, str], list[tuple[str, int, int]]] = {}
    for (aspect, subject), (old, new) in changed.items():
        if aspect != "placement":
            continue
        item = (here if new == NONE else there).first(subject)
        family = f"{item.op.kind}.{item.role.value}"
        before_ns = 0 if old == NONE else here.alone(subject, old).time_ns
        after_ns = 0 if new == NONE else there.alone(subject, new).time_ns
        groups.setdefault((family, old, new), []).append((subject, before_ns, after_ns))
    moved = []
    for (family, old, new), members in groups.items():
        subjects, before, after = zip(*members, strict=True)
        moved.append(Moved(family, old, new, tuple(subjects), sum(before), sum(after)))
    moved.sort(key=lambda m: (-abs(m.after_ns - m.before_ns), m.family, m.before, m.after))
    return tuple(moved)


def _choices(changed: Mapping[Key, tuple[str, str]]) -> tuple[ChangedChoice, ...]:
    """Group all other changes by aspect and choices."""
    groups: dict[tuple[str, str, str], list[str]] = {}
    for (aspect, subject), (old, new) in changed.items():
        if aspect != "placement":
            groups.setdefault((aspect, old, new), []).append(subject)
    order = [aspect.name for aspect in ORDER] + [step.name for step in STEP_ASPECTS]
    found = [ChangedChoice(*key, tuple(subjects)) for key, subjects in groups.items()]
    found.sort(key=lambda c: (order.index(c.aspect), -len(c.subjects), c.before, c.after))
    return tuple(found)


def _contributions(
    graph: TrainingGraph,
    device: Device,
    plans: tuple[Plan, Plan],
    ends: tuple[Expectation, Expectation],
    changed: Mapping[Key, tuple[str, str]],
) -> tuple[Contribution, ...]:
    """Undo and make each group of changes by itself."""
    before, after = plans
    groups: dict[str, dict[Key, tuple[str | None, str | None]]] = {}
    for aspect, subject, old, new in before.diff(after):
        key = aspect, subject
        if key in changed:
            groups.setdefault(_group(aspect, *changed[key]), {})[key] = old, new
    first, second = ends

    def step_ns(plan: Plan, changes: Mapping[Key, str | None], unchanged: int) -> int:
        chosen = dict(plan.choices)
        for key, choice in changes.items():
            chosen.pop(key, None)
            if choice is not None:
                chosen[key] = choice
        mixed = repaired(plan.name, graph, device, chosen, {})
        return unchanged if mixed.choices == plan.choices else expected_ns(graph, mixed, device)

    found = [
        Contribution(
            group,
            len(changes),
            step_ns(after, {key: old for key, (old, _) in changes.items()}, second.time_ns),
            step_ns(before, {key: new for key, (_, new) in changes.items()}, first.time_ns),
        )
        for group, changes in groups.items()
    ]
    return tuple(sorted(found, key=lambda c: (-c.undone_ns, c.group)))


def _group(aspect: str, old: str, new: str) -> str:
    """Name the group of a change: its aspect; placements by the kind of unit they go to."""
    if aspect != "placement":
        return aspect
    was, now = old.partition(":")[0], new.partition(":")[0]
    if was == now:
        return f"width on {now}"
    return f"placement on {was if now == NONE else now}"
