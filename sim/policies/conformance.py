"""A conformance check for policies: what every policy must keep to, tried on yours.

Call :func:`check_policy` in a test of your own::

    from sim.policies.conformance import check_policy

    def test_my_policy():
        check_policy(MyPolicy())

It asks the policy for its choices on several small networks and devices, in FP32 and in INT8, and
verifies what :mod:`sim.policies.base` promises to everyone who runs the policy.
:func:`check_recipe` does the same for a named plan, with all its policies;
:func:`sim.policies.rule_conformance.check_rule` for a rescale rule.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from cost_models.device import Device, load_device
from sim.aspects import ORDER, Aspect
from sim.autodiff import training_graph
from sim.checks import ConservationError, check
from sim.draft import Draft
from sim.graph import TrainingGraph
from sim.lowering import cost_model, draft_before
from sim.model import INPUT, ModelBuilder
from sim.plan import Plan, PlanError
from sim.plugins import PluginError, described
from sim.policies.base import Policy, Situation
from sim.policies.build import available, decide, made, named_policies
from sim.policies.numeric import AllInt8
from sim.policies.placing import AllDsp
from sim.policies.recipes import Recipe
from sim.run import simulate
from sim.zoo import load_model

DEVICES = ("snapdragon-865", "snapdragon-888", "laptop")
"""Little VTCM, much VTCM, and no DSP at all."""
STEPS = 2
"""Steps that each plan is simulated for: a cold one and a warm one."""
INT8_ON_DSP = "INT8 on the DSP"
BACKGROUNDS: Mapping[str, tuple[Policy, ...]] = {
    "FP32 on the CPU": (),
    INT8_ON_DSP: (AllInt8(), AllDsp()),
}
"""Choices of the other aspects, before and after the policy's own."""


class PolicyConformanceError(AssertionError):
    """A policy breaks a rule; the message names policy, model, device and rule."""


def check_policy(
    policy: Policy,
    graphs: Iterable[TrainingGraph] | None = None,
    devices: Iterable[Device] | None = None,
) -> None:
    """Verify that a policy may be used by anyone, on any model and device.

    1. It is a :class:`~sim.policies.base.Policy` with a name, for an aspect that exists.
    2. It returns a mapping from subjects of the draft to choices that the aspect allows there.
    3. It leaves the draft as it found it.
    4. It is deterministic and keeps no state: asked again, right away and after all other
       questions, it gives the same choices.
    5. Its plan can be lowered, and the timelines pass all conservation checks.

    Parameters
    ----------
    policy
        What to check.
    graphs
        Networks to try; by default LeNet and a small one with branches and batch norm.
    devices
        Devices to try; by default :data:`DEVICES`.

    Raises
    ------
    PolicyConformanceError
        The first rule that is broken, where, and by which value.

    Examples
    --------
    >>> from sim.policies.placing import Faster
    >>> check_policy(Faster())
    """
    aspect = _aspect_of(policy)
    models = default_graphs() if graphs is None else tuple(graphs)
    targets = tuple(map(load_device, DEVICES)) if devices is None else tuple(devices)
    cases = [
        _Case(policy, aspect, graph, device, background)
        for graph in models
        for device in targets
        for background in BACKGROUNDS
        if background != INT8_ON_DSP or device.mcu is None  # no kernel in INT8 there
    ]
    first = [case.check() for case in cases]
    for case, choices in zip(cases, first, strict=True):
        case.check_same(choices, case.ask(), "asked again after other models and devices")


def check_recipe(
    recipe: Recipe,
    graphs: Iterable[TrainingGraph] | None = None,
    devices: Iterable[Device] | None = None,
) -> None:
    """Verify that a named plan may be used by anyone, on any model and device that has its unit.

    Each of its policies exists and passes :func:`check_policy`; made twice, the plan is the same;
    the plan can be lowered, and its timelines pass all conservation checks. Fields of the wrong
    kind are refused when the recipe is made.

    Raises
    ------
    PolicyConformanceError
        The first rule that is broken, where, and by which value.

    Examples
    --------
    >>> from sim.policies import RECIPES
    >>> check_recipe(RECIPES["mnn-fp32"])
    """
    if not isinstance(recipe, Recipe):
        raise PolicyConformanceError(f"{recipe!r} is no Recipe; make one of sim.policies.Recipe")
    models = default_graphs() if graphs is None else tuple(graphs)
    targets = tuple(map(load_device, DEVICES)) if devices is None else tuple(devices)
    for policy in _policies_of(recipe):
        check_policy(policy, models, targets)
    for graph in models:
        for device in (each for each in targets if available(recipe, each)):
            where = f"plan {recipe.name!r} ({graph.name} on {device.name})"
            try:
                plan, again = (made(recipe, graph, device).plan for _ in range(2))
                for timeline in simulate(graph, plan, device, steps=STEPS).timelines:
                    check(timeline)
            except (PlanError, ConservationError) as error:
                raise PolicyConformanceError(f"{where}: it cannot be run: {error}") from error
            if plan != again:
                raise PolicyConformanceError(f"{where}: made twice, it is not the same")


def _policies_of(recipe: Recipe) -> list[Policy]:
    try:
        return named_policies(recipe.policies)
    except (PlanError, PluginError) as error:
        raise PolicyConformanceError(f"plan {recipe.name!r}: {error}") from error


def default_graphs() -> tuple[TrainingGraph, ...]:
    """Networks that hold every situation which the aspects know: LeNet, and a branching one."""
    return (training_graph(load_model("lenet", batch=8)), _branching())


def _branching() -> TrainingGraph:
    """Strided, depthwise and 1x1 convolutions, batch norm, a sum, a join; abnormal dW on v66."""
    b = ModelBuilder("branching", (64, 3, 16, 16), source="sim/policies/conformance.py")
    x = b.relu(b.batch_norm(b.conv(INPUT, 8, 3, pad=1)))
    y = b.conv(b.relu6(b.conv(x, 8, 3, pad=1, groups=0)), 8, 1)
    x = b.concat([b.sum([x, y]), b.conv(x, 4, 1)])
    x = b.dropout(b.max_pool(b.conv(x, 16, 3, stride=2, pad=1), 2, 2))
    return training_graph(b.build(b.linear(b.flatten(b.global_avg_pool(x)), 10, bias=True)))


def _aspect_of(policy: Policy) -> Aspect:
    if not isinstance(policy, Policy):
        raise PolicyConformanceError(
            f"{policy!r} is no Policy; subclass one of the bases in sim.policies.base"
        )
    name = getattr(policy, "name", None)
    if not isinstance(name, str) or not name:
        raise PolicyConformanceError(
            f"{type(policy).__name__}: name is {name!r}; give it a name that is not empty"
        )
    by_name = {aspect.name: aspect for aspect in ORDER}
    aspect = by_name.get(getattr(policy, "aspect", ""))
    if aspect is None:
        raise PolicyConformanceError(
            f"policy {name!r}: aspect is {getattr(policy, 'aspect', None)!r}; "
            f"choose one of {', '.join(by_name)}"
        )
    return aspect


class _Case:
    """One policy on one graph and device, with other choices made by a background."""

    def __init__(
        self,
        policy: Policy,
        aspect: Aspect,
        graph: TrainingGraph,
        device: Device,
        background: str,
    ) -> None:
        self.policy, self.aspect = policy, aspect
        self.graph, self.device, self.background = graph, device, background
        others = [p for p in BACKGROUNDS[background] if p.aspect != policy.aspect]
        self.plan = decide("background", graph, device, others)

    def fail(self, what: str) -> PolicyConformanceError:
        where = f"{self.graph.name} on {self.device.name}, {self.background}"
        return PolicyConformanceError(
            f"policy {self.policy.name!r} ({self.aspect.name}; {where}): {what}"
        )

    def draft(self) -> Draft:
        """Return a draft of the case's own: the shared one must not be changed."""
        shared = draft_before(self.aspect.name, self.graph, self.plan, self.device)
        return replace(shared, items=list(shared.items), buffers=dict(shared.buffers))

    def ask(self) -> dict[str, str]:
        """Return the policy's choices, after making sure of their type and of the draft."""
        draft, before = self.draft(), self.draft()
        situation = Situation(self.device, cost_model(self.device, "mnn"))
        try:
            choices = self.policy.decide(draft, situation)
        except Exception as error:  # a policy is anybody's code
            raise self.fail(f"it raised {described(error)}") from error
        if draft.items != before.items or draft.buffers != before.buffers:
            raise self.fail("it changed the draft; policies only read it")
        if not isinstance(choices, Mapping):
            raise self.fail(f"it returned {choices!r}; return a mapping from subjects to choices")
        return dict(choices)

    def check(self) -> dict[str, str]:
        """Check all rules but the last repetition, and return the choices."""
        choices = self.ask()
        self.check_choices(choices)
        self.check_same(choices, self.ask(), "asked twice")
        self.check_plan(choices)
        return choices

    def check_choices(self, choices: Mapping[str, str]) -> None:
        draft = self.draft()
        subjects = self.aspect.subjects(draft, self.device)
        for subject, choice in choices.items():
            if subject not in subjects:
                raise self.fail(
                    f"{subject!r} is no subject; its subjects are like "
                    f"{', '.join(subjects[:3])} ({len(subjects)} in all)"
                )
            allowed = self.aspect.allowed(draft, subject, self.device)
            if not isinstance(choice, str) or not self.aspect.accepts(choice, allowed):
                raise self.fail(
                    f"{subject} = {choice!r} is not allowed; "
                    f"choose one of {self.aspect.wording(allowed)}"
                )

    def check_same(self, one: Mapping[str, str], two: Mapping[str, str], when: str) -> None:
        for subject in sorted({*one, *two}):
            if one.get(subject) != two.get(subject):
                raise self.fail(
                    f"it is not deterministic: {when}, {subject} went from "
                    f"{one.get(subject)!r} to {two.get(subject)!r}; keep no state, draw nothing"
                )

    def check_plan(self, choices: Mapping[str, str]) -> None:
        plan = self.plan.update({(self.aspect.name, s): choice for s, choice in choices.items()})
        plan = self._with_later(plan)
        try:
            run = simulate(self.graph, plan, self.device, steps=STEPS)
            for timeline in run.timelines:
                check(timeline)
        except (PlanError, ConservationError) as error:
            raise self.fail(f"its plan cannot be run: {error}") from error

    def _with_later(self, plan: Plan) -> Plan:
        """Drop what the background chose for later aspects where the policy changed the ground.

        A layer that the policy puts into FP32 has no kernel on the DSP any more, for instance.
        """
        kept = dict(plan.choices)
        names = [aspect.name for aspect in ORDER]
        for aspect in ORDER[names.index(self.aspect.name) + 1 :]:
            candidate = Plan.make(plan.name, plan.graph_hash, kept)
            draft = draft_before(aspect.name, self.graph, candidate, self.device)
            subjects = set(aspect.subjects(draft, self.device))
            for subject, choice in candidate.aspect(aspect.name).items():
                known = subject in subjects
                allowed = aspect.allowed(draft, subject, self.device) if known else ()
                if not aspect.accepts(choice, allowed):
                    del kept[aspect.name, subject]
        return Plan.make(plan.name, plan.graph_hash, kept)
