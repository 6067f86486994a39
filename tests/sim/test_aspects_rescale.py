"""Rescale: which tasks each mode brings, and on which buffers."""

from __future__ import annotations

import pytest

from cost_models.cost import Rescaling
from cost_models.device import load_device
from cost_models.dsp import result_shape
from kernels.operators import Role
from sim.aspects import StepContext
from sim.aspects.precision import Precision
from sim.aspects.rescale import Rescale
from sim.autodiff import training_graph
from sim.draft import Draft, Item, draft_of
from sim.zoo import load_model

PHONE = load_device("snapdragon-865")
GRAPH = training_graph(load_model("lenet", batch=4))
ASPECT = Rescale()


def int8_draft() -> Draft:
    return Precision().rewrite(draft_of(GRAPH), {"conv2": "int8"}, StepContext(PHONE, {}))


def rewritten(mode: Rescaling | None) -> Draft:
    draft = int8_draft()
    subjects = ["conv2", "conv2.input_grad", "conv2.weight_grad"]
    modes = {} if mode is None else dict.fromkeys(subjects, mode)
    return ASPECT.rewrite(draft, dict.fromkeys(subjects, "every"), StepContext(PHONE, modes))


def items_of(draft: Draft, subject: str) -> list[Item]:
    return [item for item in draft.items if subject in (item.subject, item.follows)]


def test_rules_are_chosen_for_products() -> None:
    draft = int8_draft()
    subjects = ASPECT.subjects(draft, PHONE)
    assert {"conv2", "conv2.input_grad", "conv2.weight_grad"} <= set(subjects)
    assert "relu2" not in subjects
    assert "conv2.update" not in subjects
    assert ASPECT.default(draft, "conv2", PHONE) == "every"
    allowed = ASPECT.allowed(draft, "conv2", PHONE)
    for choice in ("every", "fixed:3", "adaptive:1:64", "hindsight", "delayed:8"):
        assert ASPECT.accepts(choice, allowed)
    for choice in ("", "fixed:N", "fixed:0", "always"):
        assert not ASPECT.accepts(choice, allowed)


@pytest.mark.parametrize("mode", ["dynamic", None])
def test_dynamic_writes_int32_then_scans_then_requantises(mode: Rescaling | None) -> None:
    # With nothing known of the step yet, the full form is assumed.
    kernel, scan, requantise = items_of(rewritten(mode), "conv2")
    assert kernel.rescaling == "dynamic"
    assert kernel.writes == ("conv2.acc",)
    assert (scan.op.kind, scan.reads, scan.writes) == (
        "rescale_scan",
        ("conv2.acc",),
        ("conv2.shift",),
    )
    assert (requantise.op.kind, requantise.reads, requantise.writes) == (
        "requantise",
        ("conv2.acc", "conv2.shift"),
        ("conv2.out",),
    )
    assert scan.follows == requantise.follows == "conv2"


@pytest.mark.parametrize("mode", ["fused", "inline"])
def test_a_known_shift_is_applied_in_the_store(mode: Rescaling) -> None:
    draft = rewritten(mode)
    (kernel,) = items_of(draft, "conv2")
    assert kernel.rescaling == mode
    assert kernel.writes == ("conv2.out",)
    assert "conv2.acc" not in draft.buffers


def test_passes_run_over_the_shape_that_the_kernel_wrote() -> None:
    # A weight gradient is laid out as (c_in, c_out, k, k), each padded to D32: the scan of
    # (c_out, c_in, k, k) would count other padding than the write.
    for subject, role in (
        ("conv2", Role.FORWARD),
        ("conv2.input_grad", Role.INPUT_GRAD),
        ("conv2.weight_grad", Role.WEIGHT_GRAD),
    ):
        kernel, scan, requantise = items_of(rewritten("dynamic"), subject)
        shape = result_shape(kernel.op, role)
        assert scan.op.inputs == requantise.op.inputs == (shape,)


def test_fp32_kernels_are_left_alone() -> None:
    draft = draft_of(GRAPH)
    rules = dict.fromkeys(ASPECT.subjects(draft, PHONE), "every")
    out = ASPECT.rewrite(draft, rules, StepContext(PHONE, dict.fromkeys(rules, "dynamic")))
    assert out.items == draft.items


def test_every_int8_item_may_mix_modes() -> None:
    draft = int8_draft()
    rules = dict.fromkeys(("conv2", "conv2.input_grad", "conv2.weight_grad"), "every")
    context = StepContext(PHONE, {"conv2": "fused", "conv2.weight_grad": "dynamic"})
    out = ASPECT.rewrite(draft, rules, context)
    assert [len(items_of(out, subject)) for subject in rules] == [1, 3, 3]
