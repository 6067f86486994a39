"""The techniques, each as the smallest thing that turns it on.

Numeric profiles, rescale rules and choices about the step come from their registries, so a new one
joins by itself. What needs a line of its own is below, and :func:`uncovered` names each choice of
an aspect that no technique makes: a test asks that there is none.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache

from cost_models.device import Device
from kernels.operators import Role
from kernels.profiles import PROFILES
from sim import Plan, TrainingGraph, load_device, training_graph
from sim.aspects import ORDER, STEP_ASPECTS, StepAspect
from sim.lowering import draft_before
from sim.rescaling import RULES, pattern
from sim.zoo.grouped import grouped_alexnet

PHONE = "snapdragon-865"
DEVICES = (PHONE, "jetson-nano", "gap9")
"""A phone, a board whose clocks can be set, and a microcontroller: between them, every choice."""
BATCH, GROUPS, IMAGE = 4, 16, 16
"""The network: one or two of 16 groups of the dynamic AlexNet, on small images."""
MCU_BATCH = 1
"""Microcontroller kernels train on one sample at a time."""
INT8_PROFILE = "sandbox"
"""Profile of INT8 layers where no technique names another."""

KERNELS, TASKS, ARITHMETIC = "kernels", "tasks", "arithmetic"
"""What a technique changes: the kernels of the step, its tasks, the numbers that come out."""


@dataclass(frozen=True, slots=True)
class Decision:
    """One choice, for every subject of an aspect that allows it.

    Attributes
    ----------
    aspect
        Name of the aspect; of the step, with its subject after a dot where it has several.
    role
        Only kernels of this role; all by default.
    """

    aspect: str
    choice: str
    role: Role | None = None


@dataclass(frozen=True, slots=True)
class Technique:
    """What turns a technique on, and how it shows that it is on.

    Attributes
    ----------
    needs
        Techniques that it works on: rescale rules need INT8, reuse needs kernels on the DSP. Where
        both decide on a subject, this one's choice holds.
    device, profile
        Device and numeric profile that it asks for, if any.
    groups, frozen
        Groups of the network that run, and how many layers with parameters are not trained.
    leaves
        Technique that a second plan goes on without, from the weights that the first one trained.
    changes, keeps
        What differs from the same plan without it, and what must stay bit for bit.
    """

    name: str
    summary: str
    decisions: tuple[Decision, ...] = ()
    needs: tuple[str, ...] = ()
    device: str = ""
    profile: str = ""
    groups: int = 0
    frozen: int = 0
    leaves: str = ""
    changes: frozenset[str] = frozenset()
    keeps: frozenset[str] = frozenset()


def family(choice: str) -> str:
    """Return a choice without its parameters.

    >>> family("filter:2"), family("844.8MHz"), family("4"), family("int8")
    ('filter', 'NMHz', 'N', 'int8')
    """
    return re.sub(r"^\d+(\.\d+)?", "N", choice.partition(":")[0])


def _backward(choice: str, summary: str) -> Technique:
    changes = frozenset({KERNELS, TASKS, ARITHMETIC})
    return Technique(choice, summary, (Decision("backward", choice),), changes=changes)


def _precision(name: str, summary: str, choice: str, *needs: str) -> Technique:
    changes = frozenset({KERNELS, TASKS, ARITHMETIC})
    return Technique(name, summary, (Decision("precision", choice),), needs, changes=changes)


def _profiles() -> Iterator[Technique]:
    """Numeric profiles but the default one."""
    for name in PROFILES:
        if name != INT8_PROFILE:
            yield Technique(
                name, f"INT8 as {name} computes", needs=("int8",), profile=name,
                changes=frozenset({ARITHMETIC}), keeps=frozenset({TASKS}),
            )  # fmt: skip


def _rules() -> Iterator[Technique]:
    """Rescale rules but the default one, with the smallest parameters that differ from it."""
    for name in RULES.built_in():
        written = pattern(name, RULES[name])
        numbers = iter((2, 4, 8, 16))
        words = [str(next(numbers)) if w.isupper() else w for w in written.split(":")]
        choice = ":".join(words)
        if choice != "every":
            yield Technique(
                choice, "rescale rule", (Decision("rescale", choice),), needs=("int8",),
                changes=frozenset({KERNELS, TASKS}),
            )  # fmt: skip


def _schedule(
    name: str, summary: str, decision: Decision, *needs: str, device: str = ""
) -> Technique:
    """Make a technique that decides where and when, and so must not change a bit."""
    return Technique(
        name, summary, (decision,), needs=needs, device=device,
        changes=frozenset({TASKS}), keeps=frozenset({ARITHMETIC}),
    )  # fmt: skip


STEP_NEEDS = {
    "reuse": "dsp",
    "operating_point.dsp": "dsp",
    "rpc_qos": "dsp",
    "dispatch=unblock-dsp": "dsp",
    "gpu_clock": "gpu",
}
"""What choices about the step act on, by aspect or by name."""


def _step() -> Iterator[Technique]:
    """Every choice about the step but the defaults; of choices that differ in numbers, the last."""
    for aspect in STEP_ASPECTS:
        made: dict[str, Technique] = {}
        for device in DEVICES:
            known = set(made)
            for choice in other_choices(aspect, load_device(device)):
                kind, name = family(choice), f"{aspect.key}={choice}"
                if kind not in known:
                    needs = STEP_NEEDS.get(name, STEP_NEEDS.get(aspect.key))
                    made[kind] = _schedule(
                        name, "choice about the step", Decision(aspect.key, choice),
                        *((needs,) if needs else ()), device="" if device == PHONE else device,
                    )  # fmt: skip
        yield from made.values()


def other_choices(aspect: StepAspect, device: Device) -> list[str]:
    """Return what a device offers but the default, by whatever name."""
    same = {aspect.default}
    if aspect.key == "operating_point.dsp" and device.dsp is not None:
        same.add(device.dsp.default_clock)
    if aspect.key == "rpc_qos" and device.fastrpc is not None:
        same.add(device.fastrpc.default_mode)
    return [choice for choice in aspect.offered(device) if choice not in same]


def _all() -> Iterator[Technique]:
    shape = frozenset({KERNELS, TASKS, ARITHMETIC})
    costs = frozenset({KERNELS, TASKS})
    yield _precision("int8", f"INT8 layers, profile {INT8_PROFILE}", "int8")
    yield from _profiles()
    yield Technique(
        "pulp-fp32", "FP32 on a microcontroller, one sample a step", device="gap9", changes=shape
    )
    yield _precision("pulp-fp16", "FP16 on a microcontroller", "fp16", "pulp-fp32")
    yield _precision("pulp-bf16", "bfloat16 on a microcontroller", "bf16", "pulp-fp32")
    yield Technique(
        "switching", "INT8, then FP32 from the weights it trained (MuPPET)",
        needs=("int8",), leaves="int8", changes=shape,
    )  # fmt: skip
    yield _backward("filter:2", "gradient filtering on patches of 2x2")
    yield _backward("filter:4", "gradient filtering on patches of 4x4")
    yield _backward("svd:2", "activations kept in factors, samples compressed")
    yield _backward("hosvd:2:2:2:2", "activations kept in factors, every axis compressed")
    yield _backward("asi:2:2:2:2", "activations kept in factors, followed from step to step")
    yield Technique(
        "mask", "ReLUs keep a bit per element", (Decision("backward", "mask"),),
        changes=costs, keeps=frozenset({ARITHMETIC}),
    )  # fmt: skip
    yield Technique(
        "momentum", "a velocity of 32 bits, accounted for",
        (Decision("optimiser_state", "momentum"),), changes=costs, keeps=frozenset({ARITHMETIC}),
    )  # fmt: skip
    yield Technique(
        "momentum8", "a velocity of 8 bits", (Decision("optimiser_state", "momentum8"),),
        changes=shape,
    )  # fmt: skip
    yield Technique(
        "kahan", "FP16 updates that keep what rounding takes",
        (Decision("optimiser_state", "compensated"),), needs=("pulp-fp16",), changes=shape,
    )  # fmt: skip
    yield Technique("split", "micro-batches of 2", (Decision("batch_split", "2"),), changes=costs)
    yield from _rules()
    yield _schedule("dsp", "INT8 kernels on the DSP", Decision("placement", "dsp:4"), "int8")
    yield _schedule(
        "coschedule", "weight gradients on the CPU beside the DSP",
        Decision("placement", "cpu:4", Role.WEIGHT_GRAD), "dsp",
    )  # fmt: skip
    yield _schedule(
        "gpu", "forward kernels in FP32 on the GPU", Decision("placement", "gpu", Role.FORWARD)
    )
    yield _schedule(
        "little", "weight gradients on the little cores",
        Decision("placement", "little:4", Role.WEIGHT_GRAD),
    )  # fmt: skip
    yield _schedule("cpu:2", "kernels on two big cores", Decision("placement", "cpu:2"))
    yield _schedule("cut", "every DSP kernel a call of its own", Decision("grouping", "cut"), "dsp")
    yield from _step()
    yield Technique("width", "two groups of the network run, not one", groups=2, changes=shape)
    yield Technique("frozen", "the first two layers are not trained", frozen=2, changes=shape)


CATALOGUE: dict[str, Technique] = {technique.name: technique for technique in _all()}
"""Every technique by name, in the order of the table."""


@cache
def graph_of(groups: int = 1, frozen: int = 0, batch: int = BATCH) -> TrainingGraph:
    """Return the network with so many groups, its first layers frozen."""
    model = grouped_alexnet(batch, groups, groups=GROUPS, image=IMAGE)
    weighted = [layer.name for layer in model.layers if layer.op.weights]
    return training_graph(model, frozen=weighted[:frozen])


def uncovered(techniques: Iterable[Technique] = CATALOGUE.values()) -> list[str]:
    """Return the kinds of choices, as ``aspect=kind``, that no technique makes."""
    made = {(d.aspect, family(d.choice)) for one in techniques for d in one.decisions}
    found: dict[str, None] = {}
    for name in DEVICES:
        device = load_device(name)
        about_step = ((step.key, c) for step in STEP_ASPECTS for c in other_choices(step, device))
        for aspect, choice in (*_offered(device), *about_step):
            if (aspect, family(choice)) not in made:
                found[f"{aspect}={family(choice)}"] = None
    return [*found]


def _offered(device: Device) -> Iterator[tuple[str, str]]:
    """Choices of every subject but its default, with all layers in FP32 and in INT8."""
    graph = graph_of()
    plans = [Plan.make("fp32", graph.hash(), {})]
    if device.mcu is None:
        layers = dict.fromkeys((node.layer for node in graph.nodes), "int8")
        plans.append(plans[0].update({("precision", s): c for s, c in layers.items()}))
    for plan in plans:
        for aspect in ORDER:
            draft = draft_before(aspect.name, graph, plan, device)
            for subject in aspect.subjects(draft, device):
                default = aspect.default(draft, subject, device)
                for choice in aspect.allowed(draft, subject, device):
                    if choice != default:
                        yield aspect.name, choice


def step_aspect(key: str) -> StepAspect | None:
    """Return the aspect of the step with that key; None if there is none."""
    return next((aspect for aspect in STEP_ASPECTS if aspect.key == key), None)
