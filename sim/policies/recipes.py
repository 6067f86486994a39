"""Recipes: plans with a name, and the techniques that turn one into another.

A recipe lists a policy per aspect and choices for the step. ``dsp-int8`` is the naive offload:
INT8, all that can on the DSP, rescaling in each step, no split, every subgraph prepared each time.
Mandheling is that plan with four techniques adopted one after the other; each is adopted only
where it lowers the expected step time, and says so when it is not.

Recipes and policies of other distributions join by the entry points ``mandheling.plans`` and
``mandheling.policies``, as these do (:mod:`sim.plugins`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from cost_models.errors import shown
from sim.plan import PlanError
from sim.plugins import Plugins
from sim.policies.base import Policy
from sim.policies.numeric import AllHalf, AllInt8, Compensated, OneRule, VtcmSplit
from sim.policies.placing import AllCpu, AllDsp, AllGpu, Faster, Heft, Released

ADAPTIVE = "adaptive:4:64"
"""Self-adaptive rescaling with the thresholds used by default: ours, as the paper's are not known.

Shifts of real training flicker in every third step, so a least period of 1 scans a fifth of the
time; 4 skips 93 % of the scans on VGG-11 and LeNet at equal accuracy.
"""


NEEDS = ("", "dsp", "gpu", "mcu")
"""What a recipe may say that a device must have."""


class RecipeError(PlanError):
    """A recipe is made of the wrong things; the message names recipe, field and value."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a named plan is made: policies, choices for the step, then techniques to adopt.

    Raises
    ------
    RecipeError
        A field is of another kind than it should be, or has a value that is not allowed.

    Examples
    --------
    >>> Recipe("mine", "INT8 on all big cores", ("int8", "all-cpu")).policies
    ('int8', 'all-cpu')
    """

    name: str
    summary: str
    policies: tuple[Policy | str, ...] = ()
    """One for each aspect that should not be default; a text names one of :data:`POLICIES`."""
    settings: Mapping[str, str] = field(default_factory=dict)
    techniques: tuple[str, ...] = ()
    needs: str = ""
    """What the device must have: ``dsp``, ``gpu``, ``mcu``, or nothing of these."""

    def __post_init__(self) -> None:
        for name, text in (("name", self.name), ("summary", self.summary), ("needs", self.needs)):
            if not isinstance(text, str):
                raise self._refusal(name, text, "give a text; policies come after the summary")
        if not isinstance(self.policies, tuple):
            raise self._refusal("policies", self.policies, "give a tuple, like ('int8',)")
        for policy in self.policies:
            if not isinstance(policy, Policy | str):
                wanted = "each is a Policy (an instance, no class) or the name of one"
                raise self._refusal("policies", policy, wanted)
        if not isinstance(self.settings, Mapping) or not _are_texts(self.settings.items()):
            wanted = "give a mapping from settings to choices, all of them texts"
            raise self._refusal("settings", self.settings, wanted)
        if not isinstance(self.techniques, tuple) or not all(
            technique in tuple(TECHNIQUES) for technique in self.techniques
        ):
            wanted = f"give a tuple of some of {', '.join(TECHNIQUES)}"
            raise self._refusal("techniques", self.techniques, wanted)
        if self.needs not in NEEDS:
            wanted = f"choose one of {', '.join(NEEDS[1:])}, or '' for none of them"
            raise self._refusal("needs", self.needs, wanted)

    def _refusal(self, name: str, value: object, wanted: str) -> RecipeError:
        return RecipeError(f"recipe {shown(self.name)}: {name} is {shown(value)}; {wanted}")


def _are_texts(pairs: Iterable[tuple[object, object]]) -> bool:
    return all(isinstance(text, str) for pair in pairs for text in pair)


TECHNIQUES: dict[str, str] = {
    "reuse": "DSP-compute subgraph reuse",
    "rescale": "self-adaptive rescaling",
    "split": "batch splitting",
    "coschedule": "CPU-DSP co-scheduling",
}
"""The four techniques in the order in which Mandheling's plan adopts them."""

_OFFLOAD = (AllInt8(), AllDsp())


def _offload(name: str, summary: str, *techniques: str) -> Recipe:
    return Recipe(name, summary, _OFFLOAD, techniques=techniques, needs="dsp")


def _alone(technique: str) -> Recipe:
    summary = f"the naive offload with {TECHNIQUES[technique]} alone"
    return _offload(f"dsp-int8+{technique}", summary, technique)


def _placed(name: str, summary: str, placement: Policy, dispatch: str = "topological") -> Recipe:
    """All techniques but co-scheduling, with another placement policy in its place."""
    return Recipe(
        name,
        summary,
        (AllInt8(), VtcmSplit(), OneRule(ADAPTIVE), placement),
        {"reuse": "mru", "dispatch": dispatch},
        needs="dsp",
    )


TFLITE_FP32 = Recipe(
    "tflite-fp32", "TFLite, FP32, all big cores", (AllCpu(),), {"library": "tflite"}
)
MNN_FP32 = Recipe("mnn-fp32", "MNN, FP32, all big cores", (AllCpu(),))
MNN_FP32_GPU = Recipe("mnn-fp32-gpu", "MNN, FP32, OpenCL on the GPU", (AllGpu(),), needs="gpu")
MNN_INT8 = Recipe(
    "mnn-int8",
    "MNN, INT8 (NITI) on all big cores, rescaling in each step",
    (AllInt8(), AllCpu(), OneRule("every")),
)
PULP_FP32 = Recipe("pulp-fp32", "PULP-TrainLib, FP32 on all cores", (AllCpu(),), needs="mcu")
PULP_FP16 = Recipe(
    "pulp-fp16", "PULP-TrainLib, FP16 SIMD on all cores", (AllHalf("fp16"), AllCpu()), needs="mcu"
)
PULP_FP16_KAHAN = Recipe(
    "pulp-fp16-kahan", "pulp-fp16 with compensated updates: small steps add up",
    (AllHalf("fp16"), Compensated(), AllCpu()), needs="mcu",
)  # fmt: skip
PULP_BF16 = Recipe(
    "pulp-bf16", "PULP-TrainLib, bfloat16 SIMD on all cores", (AllHalf("bf16"), AllCpu()),
    needs="mcu",
)  # fmt: skip
DSP_INT8 = _offload("dsp-int8", "INT8 on the DSP without any of the techniques")
DSP_INT8_REUSE = _alone("reuse")
DSP_INT8_RESCALE = _alone("rescale")
DSP_INT8_SPLIT = _alone("split")
DSP_INT8_COSCHEDULE = _alone("coschedule")
MANDHELING = _offload("mandheling", "all four techniques", *TECHNIQUES)
RELEASED = _placed("released", "Mandheling with the released engine's placement rules", Released())
LATENCY = _placed("latency", "Mandheling with the faster unit for each kernel alone", Faster())
HEFT = _placed("heft", "Mandheling with HEFT placement", Heft(), "critical-path")
UNBLOCK_DSP = _placed(
    "unblock-dsp",
    "Mandheling with the faster unit for each kernel, most unblocking CPU work first",
    Faster(),
    "unblock-dsp",
)


def _accept(name: str, given: object) -> Recipe:
    if not isinstance(given, Recipe):
        raise TypeError(f"{given!r} is no Recipe; make one of sim.policies.Recipe")
    if given.name != name:
        raise ValueError(f"the recipe calls itself {given.name!r}; give both one name")
    return given


RECIPES: Plugins[Recipe] = Plugins("mandheling.plans", "plan", _accept)
"""Recipes by name: those above and those of other distributions, by their entry points."""

BASELINES = ("tflite-fp32", "mnn-fp32", "mnn-fp32-gpu", "mnn-int8")


def _accept_policy(name: str, given: object) -> Policy:
    policy = given if isinstance(given, Policy) or not callable(given) else given()
    if not isinstance(policy, Policy):
        raise TypeError(f"{policy!r} is no Policy; subclass one of the bases in sim.policies.base")
    if policy.name != name:
        raise ValueError(f"the policy calls itself {policy.name!r}; give both one name")
    return policy


POLICIES: Plugins[Policy] = Plugins("mandheling.policies", "policy", _accept_policy)
"""Policies by name, each made without arguments."""
