"""Recipes: plans with a name, and the techniques that turn one into another.

A recipe lists a policy per aspect and choices for the step. ``dsp-int8`` is the naive offload:
INT8, all that can on the DSP, rescaling in each step, no split, every subgraph prepared each time.
Mandheling is that plan with four techniques adopted one after the other; each is adopted only
where it lowers the expected step time, and says so when it is not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from sim.policies.base import Policy
from sim.policies.numeric import AllHalf, AllInt8, OneRule, VtcmSplit
from sim.policies.placing import AllCpu, AllDsp, AllGpu, Faster, Heft, Released

ADAPTIVE = "adaptive:4:64"
"""Self-adaptive rescaling with the thresholds used by default: ours, as the paper's are not known.

Shifts of real training flicker in every third step, so a least period of 1 scans a fifth of the
time; 4 skips 93 % of the scans on VGG-11 and LeNet at equal accuracy.
"""


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a named plan is made: policies, choices for the step, then techniques to adopt."""

    name: str
    summary: str
    policies: tuple[Policy, ...] = ()
    settings: Mapping[str, str] = field(default_factory=dict)
    techniques: tuple[str, ...] = ()
    needs: str = ""
    """What the device must have: ``dsp``, ``gpu``, ``mcu``, or nothing of these."""


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


def _placed(name: str, summary: str, placement: Policy, dispatch: str = "topological") -> Recipe:
    """All techniques but co-scheduling, with another placement policy in its place."""
    return Recipe(
        name,
        summary,
        (AllInt8(), VtcmSplit(), OneRule(ADAPTIVE), placement),
        {"reuse": "mru", "dispatch": dispatch},
        needs="dsp",
    )


RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        Recipe("tflite-fp32", "TFLite, FP32, all big cores", (AllCpu(),), {"library": "tflite"}),
        Recipe("mnn-fp32", "MNN, FP32, all big cores", (AllCpu(),)),
        Recipe("mnn-fp32-gpu", "MNN, FP32, OpenCL on the GPU", (AllGpu(),), needs="gpu"),
        Recipe(
            "mnn-int8",
            "MNN, INT8 (NITI) on all big cores, rescaling in each step",
            (AllInt8(), AllCpu(), OneRule("every")),
        ),
        Recipe("pulp-fp32", "PULP-TrainLib, FP32 on all cores", (AllCpu(),), needs="mcu"),
        *(
            Recipe(
                f"pulp-{name}",
                f"PULP-TrainLib, {title} SIMD on all cores",
                (AllHalf(name), AllCpu()),
                needs="mcu",
            )
            for name, title in (("fp16", "FP16"), ("bf16", "bfloat16"))
        ),
        _offload("dsp-int8", "INT8 on the DSP without any of the techniques"),
        *(
            _offload(f"dsp-int8+{key}", f"the naive offload with {text} alone", key)
            for key, text in TECHNIQUES.items()
        ),
        _offload("mandheling", "all four techniques", *TECHNIQUES),
        _placed("released", "Mandheling with the released engine's placement rules", Released()),
        _placed("latency", "Mandheling with the faster unit for each kernel alone", Faster()),
        _placed("heft", "Mandheling with HEFT placement", Heft(), "critical-path"),
        _placed(
            "unblock-dsp",
            "Mandheling with the faster unit for each kernel, most unblocking CPU work first",
            Faster(),
            "unblock-dsp",
        ),
    )
}

BASELINES = ("tflite-fp32", "mnn-fp32", "mnn-fp32-gpu", "mnn-int8")
