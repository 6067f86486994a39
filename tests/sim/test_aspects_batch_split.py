"""Batch split: micro-batches cover the batch; only weight gradients accumulate."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from cost_models.cost import Rescaling
from cost_models.device import load_device
from kernels.operators import Role
from sim.aspects import StepContext
from sim.aspects.batch_split import BatchSplit, divisors
from sim.aspects.precision import Precision
from sim.aspects.rescale import Rescale
from sim.autodiff import training_graph
from sim.draft import Draft, draft_of
from sim.zoo import load_model

PHONE = load_device("snapdragon-865")
GRAPH = training_graph(load_model("lenet", batch=12))
ASPECT = BatchSplit()
INT8 = dict.fromkeys(("conv1", "conv2", "linear1", "linear2"), "int8")


def split(choices: Mapping[str, str], int8: bool = False) -> Draft:
    draft = Precision().rewrite(draft_of(GRAPH), INT8 if int8 else {}, StepContext(PHONE, {}))
    return ASPECT.rewrite(draft, choices, StepContext(PHONE, {}))


def parts(draft: Draft, subject: str) -> list[str]:
    return [item.name for item in draft.items if item.subject == subject]


def test_divisors() -> None:
    assert divisors(12) == [12, 6, 4, 3, 2, 1]
    assert divisors(1) == [1]


def test_subjects_are_products_and_choices_divide_the_batch() -> None:
    draft = draft_of(GRAPH)
    subjects = ASPECT.subjects(draft, PHONE)
    assert subjects[:4] == ["conv1", "conv2", "linear1", "linear2"]
    assert "conv1.input_grad" not in subjects  # the first layer has none
    assert len(subjects) == 4 + 3 + 4
    assert ASPECT.allowed(draft, "conv1", PHONE) == ("12", "6", "4", "3", "2", "1")
    assert ASPECT.default(draft, "conv1", PHONE) == "12"


def test_the_whole_batch_is_no_split() -> None:
    assert split({"conv1": "12"}).items == draft_of(GRAPH).items


@pytest.mark.parametrize("subject", ["conv2", "conv2.input_grad", "conv2.weight_grad", "linear1"])
@pytest.mark.parametrize("size", [1, 3, 4])
def test_micro_batches_cover_the_batch(subject: str, size: int) -> None:
    draft = split({subject: str(size)})
    items = [item for item in draft.items if item.subject == subject]
    assert [item.name for item in items] == [f"{subject}#{k}" for k in range(12 // size)]
    assert {item.op.batch for item in items} == {size}
    whole = GRAPH.node(subject).op.work(GRAPH.node(subject).role).macs
    assert sum(item.op.work(item.role).macs for item in items) == whole


def test_forward_and_dx_parts_do_not_wait_for_each_other() -> None:
    for subject in ("conv2", "conv2.input_grad"):
        draft = split({subject: "4"})
        index = {item.name: k for k, item in enumerate(draft.items)}
        mine = {index[name] for name in parts(draft, subject)}
        for k in mine:
            assert not draft.dependencies()[k] & mine
            assert not draft.items[k].accumulates


def test_weight_gradient_parts_accumulate_one_after_the_other() -> None:
    draft = split({"conv2.weight_grad": "4"})
    names = [item.name for item in draft.items]
    first, *later = (names.index(name) for name in parts(draft, "conv2.weight_grad"))
    assert not draft.items[first].accumulates
    assert "conv2.weight.grad" not in draft.items[first].reads
    previous = first
    for k in later:
        assert draft.items[k].accumulates
        assert "conv2.weight.grad" in draft.items[k].reads
        assert previous in draft.dependencies()[k]
        previous = k
    assert {first, *later} <= draft.dependencies()[names.index("conv2.update")]


@pytest.mark.parametrize("mode", ["dynamic", "fused", "inline"])
def test_a_split_result_is_rescaled_once(mode: Rescaling) -> None:
    draft = split({"conv2": "4", "conv2.weight_grad": "3", "conv2.input_grad": "6"}, int8=True)
    rules = dict.fromkeys(Rescale().subjects(draft, PHONE), "every")
    context = StepContext(PHONE, dict.fromkeys(rules, mode))
    out = Rescale().rewrite(draft, rules, context)
    kinds = [(item.follows, item.op.kind) for item in out.items if item.follows]
    for subject in ("conv2", "conv2.weight_grad", "conv2.input_grad"):
        scans = kinds.count((subject, "rescale_scan"))
        requantises = kinds.count((subject, "requantise"))
        assert scans == (mode == "dynamic")
        # Micro-batches of a weight gradient meet in INT32, so they need one even without a scan.
        meets = subject == "conv2.weight_grad"
        assert requantises == (mode == "dynamic" or meets)
    grads = [item for item in out.items if item.subject == "conv2.weight_grad"]
    wide = "dynamic" if mode == "dynamic" else "none"
    assert {item.rescaling for item in grads} == {wide}
    assert all("conv2.weight_grad.acc" in item.writes for item in grads)
    assert all("conv2.weight_grad.acc" in item.reads for item in grads[1:])
    assert {i.role for i in grads} == {Role.WEIGHT_GRAD}
    assert out.buffers["conv2.weight_grad.acc"].item_bytes == 4
