"""Hypothesis strategies for plans, for tests of policies, aspects and executors.

A drawn plan is valid for its graph and device: each choice comes from what the aspect itself
allows at that point, with the earlier aspects' choices already applied. Needs ``hypothesis``:
``pip install 'mandheling-sandbox[test]'``. Nothing else imports this module.
"""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import strategies as st

from cost_models.device import Device, load_device
from sim.aspects import ORDER, STEP_ASPECTS, Aspect
from sim.autodiff import training_graph
from sim.draft import Draft
from sim.graph import TrainingGraph
from sim.lowering import draft_before
from sim.plan import Key, Plan
from sim.testing import forward_models

DEVICES = ("snapdragon-865", "snapdragon-888", "qcs6490", "laptop")
"""One device per kind: v66 with little VTCM, v68 with much, two contexts, no DSP and no GPU."""
LARGEST_PARAMETER = 5
"""Bound of drawn parameters of open-ended choices such as ``fixed:N``."""
MOST_EXCEPTIONS = 6
"""Most subjects of an aspect that depart from the choice which the others share."""


@st.composite
def concrete(draw: st.DrawFn, pattern: str) -> str:
    """A choice that fits ``pattern``: its parameters (words in capitals) become numbers.

    Several parameters rise from left to right, as a range's ends must.

    Examples
    --------
    ``fixed:N`` may become ``fixed:3``, and ``adaptive:LOW:HIGH`` ``adaptive:1:4``.
    """
    name, *parts = pattern.split(":")
    open_ended = sum(part.isupper() for part in parts)
    number = st.integers(1, LARGEST_PARAMETER)
    numbers = iter(sorted(draw(st.lists(number, min_size=open_ended, max_size=open_ended))))
    return ":".join([name, *(str(next(numbers)) if p.isupper() else p for p in parts)])


@st.composite
def step_choices(draw: st.DrawFn, device: Device) -> dict[Key, str]:
    """Choices about the step as a whole: each aspect's own, or nothing (its default)."""
    chosen: dict[Key, str] = {}
    for aspect in STEP_ASPECTS:
        choice = draw(st.one_of(st.none(), st.sampled_from(aspect.offered(device))))
        if choice is not None:
            chosen[aspect.name, aspect.subject] = choice
    return chosen


@st.composite
def aspect_choices(draw: st.DrawFn, aspect: Aspect, draft: Draft, device: Device) -> dict[Key, str]:
    """Choices of one aspect, by subject, for a draft that the earlier aspects have rewritten.

    One choice is shared by all subjects that allow it (or none is, and the default holds), so that
    whole networks on the DSP in INT8 are as common as mixed ones; a few subjects then depart.
    """
    allowed = {s: aspect.allowed(draft, s, device) for s in aspect.subjects(draft, device)}
    if not allowed:
        return {}
    every = sorted({choice for choices in allowed.values() for choice in choices})
    shared = draw(st.one_of(st.none(), st.sampled_from(every)))
    chosen: dict[Key, str] = {}
    for subject, choices in allowed.items():
        if shared in choices:
            chosen[aspect.name, subject] = draw(concrete(shared))
    names = st.sampled_from(sorted(allowed))
    for subject in draw(st.lists(names, max_size=MOST_EXCEPTIONS, unique=True)):
        pattern = draw(st.sampled_from(allowed[subject]))
        chosen[aspect.name, subject] = draw(concrete(pattern))
    return chosen


@st.composite
def plans(draw: st.DrawFn, graph: TrainingGraph, device: Device) -> Plan:
    """Any valid plan for a graph on a device, choices about the step included.

    Examples
    --------
    >>> from hypothesis import given
    >>> from sim import load_device, load_model, training_graph
    >>> lenet = training_graph(load_model("lenet", batch=4))
    >>> @given(plans(lenet, load_device("snapdragon-865")))
    ... def test_my_executor(plan): ...
    """
    plan = Plan.make("drawn", graph.hash(), draw(step_choices(device)))
    for aspect in ORDER:
        draft = draft_before(aspect.name, graph, plan, device)
        plan = plan.update(draw(aspect_choices(aspect, draft, device)))
    return plan


@st.composite
def planned_steps(
    draw: st.DrawFn, devices: Sequence[str] = DEVICES, max_blocks: int = 4
) -> tuple[TrainingGraph, Plan, Device]:
    """A small training graph, a device, and a valid plan for both.

    Parameters
    ----------
    devices
        Names of the built-in devices to draw from.
    max_blocks
        Size of the models; see :func:`sim.testing.forward_models`.
    """
    graph = training_graph(draw(forward_models(max_blocks=max_blocks)))
    device = load_device(draw(st.sampled_from(devices)))
    return graph, draw(plans(graph, device)), device
