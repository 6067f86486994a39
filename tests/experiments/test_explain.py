"""Explanations agree with the cost model and with the simulated step."""

from __future__ import annotations

import pytest

import sim
from cost_models.vtcm import slice_bytes
from experiments.explain import Explainer
from sim.expected import expected_ns
from sim.graph import TrainingGraph
from sim.plan import Plan, PlanError

DEVICE = sim.load_device("snapdragon-865")


@pytest.fixture(scope="module")
def graph() -> TrainingGraph:
    return sim.training_graph(sim.load_model("lenet", 64))


@pytest.fixture(scope="module")
def plan(graph: TrainingGraph) -> Plan:
    return sim.build_plan("dsp-int8+reuse", graph, DEVICE)


@pytest.fixture(scope="module")
def explainer(graph: TrainingGraph, plan: Plan) -> Explainer:
    return Explainer(graph, plan, DEVICE)


def test_every_placement_is_an_option_and_changes_the_step_as_stated(
    explainer: Explainer, graph: TrainingGraph, plan: Plan
) -> None:
    one = explainer.explain("conv2.weight_grad")
    assert one.unit == one.chosen.alone.unit == "dsp:4"
    assert {option.alone.unit for option in one.options} == {
        f"{pool}:{count}" for pool in ("cpu", "little", "dsp") for count in (1, 2, 3, 4)
    }
    assert one.step_ns == one.chosen.step_ns == expected_ns(graph, plan, DEVICE)
    for option in one.options[1:]:
        moved = plan.replace("placement", "conv2.weight_grad", option.alone.unit)
        assert option.step_ns == expected_ns(graph, moved, DEVICE)
    steps = [option.step_ns for option in one.options[1:]]
    assert steps == sorted(steps)
    assert one.best_alternative == one.options[1]


def test_time_alone_is_launch_and_the_longer_of_compute_and_bytes(explainer: Explainer) -> None:
    # No scan follows a relu, and nothing is split: one kernel.
    alone = explainer.alone("relu1", "cpu:4")
    assert alone.time_ns == alone.launch_ns + max(alone.compute_ns, alone.bytes_ns)
    # 490 us per call of MNN, from the library's description.
    assert alone.launch_ns == 490_000
    parts = dict(
        zip(
            ("launch", "compute", "bytes"),
            (alone.launch_ns, alone.compute_ns, alone.bytes_ns),
            strict=True,
        )
    )
    assert parts[alone.dominated_by] == max(parts.values())


def test_scan_and_requantise_count_with_their_kernel(graph: TrainingGraph, plan: Plan) -> None:
    naive = Explainer(graph, plan, DEVICE)
    fused = Explainer(graph, plan.replace("rescale", "conv1", "hindsight"), DEVICE)
    # Kernel, scan and requantise: three launches against one.
    assert naive.alone("conv1", "dsp:4").launch_ns == 3 * fused.alone("conv1", "dsp:4").launch_ns


def test_micro_batches_add_up(graph: TrainingGraph, plan: Plan) -> None:
    split = Explainer(graph, plan.replace("batch_split", "conv2.weight_grad", "16"), DEVICE)
    whole = Explainer(graph, plan, DEVICE)
    name = "conv2.weight_grad"
    # Four micro-batches and one scan and requantise, against one kernel with the same.
    launch = whole.alone(name, "dsp:4").launch_ns // 3
    assert split.alone(name, "dsp:4").launch_ns == (4 + 2) * launch
    one = split.explain(name, widest=True)
    assert one.vtcm is not None
    assert (one.vtcm.micro_batch, one.vtcm.batch) == (16, 64)


def test_vtcm_of_a_weight_gradient(explainer: Explainer) -> None:
    one = explainer.explain("conv1.weight_grad", widest=True)
    assert one.vtcm is not None
    # conv1 of LeNet: 28x28 images, 5x5 filter without padding, so a 24x24 map; batch 64.
    assert one.vtcm.slice_bytes == slice_bytes(24, 24, 64) == 24 * 24 * 64 * 32
    assert one.vtcm.vtcm_bytes == 256 * 1024
    assert not one.vtcm.fits
    assert explainer.explain("relu1", widest=True).vtcm is None


def test_widest_has_one_option_per_kind_of_unit(explainer: Explainer) -> None:
    one = explainer.explain("conv2", widest=True)
    assert sorted(option.alone.unit for option in one.options) == ["cpu:4", "dsp:4", "little:4"]


def test_constants_are_those_of_the_chosen_unit(explainer: Explainer) -> None:
    one = explainer.explain("conv2", widest=True)
    assert "hexagon_nn.efficiency.int8.conv.forward" in one.constants
    behind = one.chosen.alone.behind_ns
    assert set(behind) == set(one.constants)
    # Constants that multiply carry the same part each.
    assert max(behind.values()) <= one.chosen.alone.time_ns <= sum(behind.values())
    assert list(behind.values()) == sorted(behind.values(), reverse=True)


def test_longest_first(explainer: Explainer) -> None:
    names = explainer.longest(4)
    units = {name: explainer.explain(name, widest=True).chosen.alone.time_ns for name in names}
    assert list(units.values()) == sorted(units.values(), reverse=True)
    everything = {
        name: explainer.alone(name, explainer.explain(name, widest=True).unit).time_ns
        for name in explainer.subjects()
    }
    assert max(everything.values()) == units[names[0]]


def test_a_kernel_that_was_cut_can_be_moved_off_the_dsp(graph: TrainingGraph, plan: Plan) -> None:
    cut = plan.replace("grouping", "conv2", "cut")
    one = Explainer(graph, cut, DEVICE).explain("conv2", widest=True)
    moved = plan.replace("placement", "conv2", "cpu:4")
    steps = {option.alone.unit: option.step_ns for option in one.options}
    assert steps["cpu:4"] == expected_ns(graph, moved, DEVICE)


def test_unknown_operator_names_the_closest(explainer: Explainer) -> None:
    with pytest.raises(PlanError, match=r"did you mean 'conv2.weight_grad'"):
        explainer.explain("conv2.weightgrad")
