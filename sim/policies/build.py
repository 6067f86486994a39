"""Making plans: run a recipe's policies in the order of the aspects, then adopt its techniques."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import TypeVar

from cost_models.device import Device
from cost_models.errors import shown
from sim.aspects import ORDER, STEP, STEP_ASPECTS, Aspect
from sim.draft import Draft
from sim.expected import expected_ns, quiet_ns
from sim.graph import TrainingGraph
from sim.lowering import cost_model, draft_before
from sim.memo import Memo
from sim.plan import Key, Plan, PlanError
from sim.plugins import Plugins, described
from sim.policies.base import Policy, PolicyError, Situation
from sim.policies.coschedule import coschedule
from sim.policies.numeric import CostSplit, OneRule, VtcmSplit
from sim.policies.placing import CutToFit
from sim.policies.recipes import ADAPTIVE, BASELINES, POLICIES, PULP_FP16, RECIPES, Recipe

Named = TypeVar("Named")

REUSE_PARTS = (2, 8)
"""Into how many parts of the DSP memory budget subgraphs are cut when reuse is proposed."""


@dataclass(frozen=True, slots=True)
class Adoption:
    """What became of one technique: expected step time before and with it, and if it was kept."""

    technique: str
    before_ns: int
    proposed_ns: int

    @property
    def adopted(self) -> bool:
        """Whether the technique shortens the expected step."""
        return self.proposed_ns < self.before_ns


@dataclass(frozen=True, slots=True)
class Built:
    """A plan and the record of how its techniques fared."""

    plan: Plan
    adoptions: tuple[Adoption, ...]


def build_plan(
    name: str, graph: TrainingGraph, device: Device, policies: Sequence[Policy] = ()
) -> Plan:
    """Make the named plan for a graph on a device.

    Parameters
    ----------
    name
        A recipe: ``mandheling``, ``mnn-fp32``, ``dsp-int8``...; see :func:`plan_names`.
    policies
        Others, for aspects that the recipe has a policy for (they take its place) or has not: a
        :class:`~sim.policies.backward.Filtered` makes any recipe train with filtered gradients.

    Raises
    ------
    PlanError
        There is no such recipe, or the device lacks the unit that it needs.
    PolicyError
        A policy of it raised, or chose what is not allowed.
    PluginError
        A plug-in brings it, and cannot be used.
    """
    return build(name, graph, device, policies).plan


def plan_names(device: Device | None = None) -> tuple[str, ...]:
    """Return the names of the recipes, or of those that a device can run; baselines first.

    Those of plug-ins that cannot be used are left out.
    """
    usable = RECIPES.usable()
    names = [name for name in dict.fromkeys((*BASELINES, *usable)) if name in usable]
    return tuple(n for n in names if device is None or available(usable[n], device))


def available(recipe: Recipe, device: Device) -> bool:
    """Whether the device has what a recipe needs; a microcontroller runs no phone's libraries."""
    if device.mcu is not None:
        return recipe.needs == "mcu"
    return not recipe.needs or getattr(device, recipe.needs) is not None


def require(recipe: Recipe, device: Device) -> None:
    """Raise :class:`PlanError` if the device lacks the unit that a recipe needs."""
    if not available(recipe, device):
        usable = plan_names(device)
        alone = f", at batch 1: -p {PULP_FP16.name} -b 1" if device.mcu is not None else ""
        raise PlanError(
            f"plan {recipe.name!r} needs a {recipe.needs or 'phone'} and {device.name} has none; "
            f"choose one of {', '.join(usable)}{alone}"
        )


def build(
    name: str, graph: TrainingGraph, device: Device, policies: Sequence[Policy] = ()
) -> Built:
    """Make the named plan and tell how each of its techniques fared; see :func:`build_plan`."""
    recipe = recipe_of(name)
    require(recipe, device)
    other = {policy.aspect for policy in policies}
    kept = [p for p in named_policies(recipe.policies) if p.aspect not in other]
    return made(replace(recipe, policies=(*kept, *policies)), graph, device)


def recipe_of(name: str) -> Recipe:
    """Return the recipe of that name; raises as :func:`build_plan`, with all names that work."""
    return _named(name, RECIPES, plan_names())


def made(recipe: Recipe, graph: TrainingGraph, device: Device) -> Built:
    """Make the plan of a recipe, which need not be among the named ones; see :func:`build`."""
    plan = decide(recipe.name, graph, device, recipe.policies, recipe.settings)
    return adopt_all(plan, graph, device, recipe.techniques)


def _named(name: str, known: Plugins[Named], usable: Sequence[str]) -> Named:
    """Return what has a name among plans or policies, or say which there are."""
    found = known.get(name)
    if found is None:
        close = get_close_matches(name, known, 1)
        hint = f" (did you mean {close[0]!r}?)" if close else ""
        raise PlanError(
            f"{known.noun} {name!r} is unknown{hint}; choose one of {', '.join(usable)}"
        )
    return found


def decide(
    name: str,
    graph: TrainingGraph,
    device: Device,
    policies: Sequence[Policy | str],
    settings: Mapping[str, str] | None = None,
) -> Plan:
    """Make a plan from policies of your own, one for each aspect that should not be default.

    Parameters
    ----------
    policies
        Policies, or names of :data:`sim.policies.POLICIES` (``int8``, ``heft``...).
    settings
        Choices about the step as a whole: ``{"reuse": "mru", "operating_point.cpu": "75%"}``...

    Raises
    ------
    PlanError
        A policy decides no aspect or one that another decides; a setting or name is unknown.
    PolicyError
        A policy raised, or chose what is not allowed.
    """
    by_aspect: dict[str, Policy] = {}
    for policy in named_policies(policies):
        if policy.aspect not in {aspect.name for aspect in ORDER}:
            raise PlanError(f"policy {policy.name!r} decides {policy.aspect!r}, which is no aspect")
        if policy.aspect in by_aspect:
            other = by_aspect[policy.aspect].name
            raise PlanError(f"{policy.name!r} and {other!r} both decide {policy.aspect}: give one")
        by_aspect[policy.aspect] = policy
    plan = Plan.make(name, graph.hash(), _step_choices(settings or {}))
    situation = _situation(plan, device)
    for aspect in ORDER:
        if aspect.name in by_aspect:
            plan = _decided(by_aspect[aspect.name], aspect, graph, plan, situation)
    return plan


def named_policies(policies: Iterable[Policy | str]) -> list[Policy]:
    """Return policies, those given by name looked up; :class:`PlanError` where there is none."""
    return [
        _named(given, POLICIES, tuple(POLICIES.usable())) if isinstance(given, str) else given
        for given in policies
    ]


def _decided(
    policy: Policy, aspect: Aspect, graph: TrainingGraph, plan: Plan, situation: Situation
) -> Plan:
    """Return a plan with what a policy chose, after making sure that it may."""
    device = situation.device

    def refusal(what: str) -> PolicyError:
        return PolicyError(
            f"plan {plan.name!r} for {graph.name} on {device.name}: policy {policy.name!r} "
            f"({aspect.name}) {what}"
        )

    shared = draft_before(aspect.name, graph, plan, device)
    own = shared.marked(shared.items)  # others get the shared one
    try:
        picks = policy.decide(own, situation)
    except Exception as error:  # a policy is anybody's code
        raise refusal(f"raised {described(error)}") from error
    if own.items != shared.items or own.buffers != shared.buffers:
        raise refusal("changed the draft; policies only read it")
    if not (
        isinstance(picks, Mapping) and all(isinstance(t, str) for i in picks.items() for t in i)
    ):
        raise refusal(f"returned {shown(picks)}; return a mapping from subjects to choices, texts")
    chosen = plan.update({(aspect.name, s): choice for s, choice in picks.items()})
    try:
        aspect.resolve(shared, chosen, device)
    except PlanError as error:
        raise refusal(f"chose what is not allowed: {error}") from error
    return chosen


def _step_choices(settings: Mapping[str, str]) -> dict[Key, str]:
    """Turn settings (``reuse``, ``operating_point.cpu``...) into choices of a plan."""
    known = {aspect.key: (aspect.name, aspect.subject) for aspect in STEP_ASPECTS}
    unknown = settings.keys() - known.keys()
    if unknown:
        raise PlanError(f"setting {min(unknown)!r} is unknown; choose of {', '.join(known)}")
    return {known[key]: choice for key, choice in settings.items()}


def adopt_all(plan: Plan, graph: TrainingGraph, device: Device, techniques: Sequence[str]) -> Built:
    """Offer each technique to a plan in turn; keep those that lower its expected step time.

    What was declined is offered once more at the end: it may help the plan that came out.
    """
    adoptions: list[Adoption] = []
    for technique in techniques:
        plan = _offer(technique, plan, graph, device, adoptions)
    for earlier in [a for a in adoptions[:-1] if not a.adopted]:
        plan = _offer(earlier.technique, plan, graph, device, adoptions)
    return Built(plan, tuple(adoptions))


def _offer(
    technique: str, plan: Plan, graph: TrainingGraph, device: Device, adoptions: list[Adoption]
) -> Plan:
    proposal = _proposal(technique, plan, graph, device)
    before = expected_ns(graph, plan, device)
    adoption = Adoption(technique, before, expected_ns(graph, proposal, device))
    adoptions.append(adoption)
    return proposal if adoption.adopted else plan


def _proposal(technique: str, plan: Plan, graph: TrainingGraph, device: Device) -> Plan:
    """Return :func:`propose`'s answer, remembered by content, under the plan's own name."""
    key = (technique, graph.hash(), plan.choices, device.sha256)
    made = _PROPOSALS.get(key, lambda: propose(technique, plan, graph, device))
    return replace(made, name=plan.name)


_PROPOSALS: Memo[Plan] = Memo(256)
"""Pure results, remembered: several named plans adopt the same technique on the same ground."""


def propose(technique: str, plan: Plan, graph: TrainingGraph, device: Device) -> Plan:
    """Return the plan with one technique's choices, whether or not they help.

    Raises
    ------
    PlanError
        The technique is none of ``reuse``, ``rescale``, ``split`` and ``coschedule``.
    """
    situation = _situation(plan, device)

    def draft_at(candidate: Plan, aspect: str) -> Draft:
        return draft_before(aspect, graph, candidate, device)

    def quiet(candidate: Plan) -> int:
        return quiet_ns(graph, candidate, device)

    match technique:
        case "reuse":
            return _best_reuse(plan, situation, draft_at(plan, "grouping"), graph)
        case "rescale":
            picks = OneRule(ADAPTIVE).decide(draft_at(plan, "rescale"), situation)
            return plan.update({("rescale", s): choice for s, choice in picks.items()})
        case "split":
            return _best_split(plan, situation, draft_at(plan, "batch_split"), graph)
        case "coschedule":
            return coschedule(plan, situation, draft_at, quiet)
    raise PlanError(f"technique {technique!r} is unknown")


def _best_reuse(plan: Plan, situation: Situation, draft: Draft, graph: TrainingGraph) -> Plan:
    """Return the best of keeping subgraphs as they are and cutting them to fit DSP memory."""
    reusing = plan.replace("reuse", STEP, "mru")
    dsp = situation.device.dsp
    budget = 0 if dsp is None else int(dsp.memory_budget_bytes.value)
    options = [(expected_ns(graph, reusing, situation.device), 0, reusing)]
    for parts in REUSE_PARTS:
        picks = CutToFit(budget // parts).decide(draft, situation)
        cuts: dict[Key, str] = {("grouping", s): choice for s, choice in picks.items()}
        candidate = reusing.update(cuts)
        options.append((expected_ns(graph, candidate, situation.device), parts, candidate))
    return min(options, key=lambda option: option[:2])[2]


def _best_split(plan: Plan, situation: Situation, draft: Draft, graph: TrainingGraph) -> Plan:
    """Return the better of splitting by the VTCM rule and splitting by cost."""
    options = []
    for policy in (VtcmSplit(), CostSplit()):
        picks = policy.decide(draft, situation)
        changes: dict[Key, str] = {("batch_split", s): size for s, size in picks.items()}
        candidate = plan.update(changes)
        options.append((expected_ns(graph, candidate, situation.device), policy.name, candidate))
    return min(options, key=lambda option: option[:2])[2]


def _situation(plan: Plan, device: Device) -> Situation:
    settings = {aspect.key: aspect.resolve(plan, device) for aspect in STEP_ASPECTS}
    costs = cost_model(device, settings["library"])
    keys = ("operating_point.cpu", "operating_point.dsp", "gpu_clock")
    points = [settings[key] for key in keys]
    return Situation(device, costs, *points)
