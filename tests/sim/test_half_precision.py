"""FP16 and bfloat16 as choices of a plan: where they are offered, what they compute and cost."""

from __future__ import annotations

import numpy as np
import pytest

from cost_models.cost import UnsupportedKernelError
from kernels.fp16.formats import FORMATS, encode
from sim import (
    Plan,
    PlanError,
    TrainingGraph,
    build_plan,
    load_device,
    load_model,
    training_graph,
)
from sim.encoding import Evaluator, Space
from sim.encoding.plain import plain_scores
from sim.expected import expect
from sim.lowering import lowering
from sim.model import INPUT, ModelBuilder
from sim.numeric import NumericExecutor
from sim.numeric.frame import StepInputs
from sim.numeric.trained import Hyper
from sim.policies import plan_names
from sim.run import simulate

GAP9 = load_device("gap9")
PHONE = load_device("snapdragon-865")


@pytest.fixture(scope="module")
def graph() -> TrainingGraph:
    """A residual network with everything that microcontrollers train, small."""
    b = ModelBuilder("tiny", (1, 3, 8, 8), "test")
    x = b.relu(b.conv(INPUT, 8, 3, pad=1, bias=True, name="conv1"), name="relu1")
    y = b.relu(b.conv(x, 8, 3, pad=1, groups=0, bias=True, name="dw"), name="relu2")
    y = b.conv(y, 8, 1, name="pw")
    x = b.relu(b.sum([x, y], name="add"), name="relu3")
    x = b.avg_pool(b.max_pool(x, 2, 2, name="max"), 2, 2, name="avg")
    x = b.flatten(b.global_avg_pool(x, name="global"), name="flatten")
    return training_graph(b.build(b.linear(x, 4, bias=True, name="fc")))


def mixed(graph: TrainingGraph) -> Plan:
    """Every format, so that tensors are converted between all of them."""
    plan = build_plan("pulp-fp16", graph, GAP9)
    layers = list(plan.aspect("precision"))
    order = ("fp16", "fp32", "bf16")
    return plan.update({("precision", s): order[k % 3] for k, s in enumerate(layers)})


def executor(graph: TrainingGraph, plan: Plan, **options: float) -> NumericExecutor:
    return NumericExecutor(graph, plan, GAP9, hyper=Hyper(**options), threads=1)


def steps(
    graph: TrainingGraph, plan: Plan, count: int, rate: float, scale: float = 1.0
) -> tuple[NumericExecutor, list[float], dict[str, int]]:
    made = executor(graph, plan, momentum=0.0, weight_decay=0.0)
    draft = lowering(graph, plan, GAP9).draft({})
    x = np.random.default_rng(0).standard_normal((1, 8, 8, 3)).astype(np.float32) * scale
    losses, overflows = [], {}
    for step in range(count):
        inputs = StepInputs(step=step, rate_q24=round(rate * 2**24))
        found = made.step(draft, x, np.array([1]), inputs)
        losses.append(found.loss)
        overflows = dict(found.overflows)
    return made, losses, overflows


def test_formats_are_offered_where_there_are_kernels(graph: TrainingGraph) -> None:
    assert set(plan_names(GAP9)) == {"pulp-fp32", "pulp-fp16", "pulp-fp16-kahan", "pulp-bf16"}
    assert not {"pulp-fp32", "pulp-fp16"} & set(plan_names(PHONE))
    half = build_plan("pulp-fp16", graph, GAP9)
    with pytest.raises(PlanError, match=r"'fp16' is not allowed; choose one of fp32, int8"):
        lowering(graph, half, PHONE)
    eight = half.update({("precision", "conv1"): "int8"})
    with pytest.raises(PlanError, match=r"'int8' is not allowed; choose one of fp32, fp16, bf16"):
        lowering(graph, eight, GAP9)
    filtered = half.update({("backward", "conv1"): "filter:2"})
    with pytest.raises(PlanError, match=r"'filter:2' is not allowed; choose one of exact"):
        lowering(graph, filtered, GAP9)
    with pytest.raises(PlanError, match="needs a mcu"):
        build_plan("pulp-fp16", graph, PHONE)


@pytest.mark.parametrize("name", ["fp16", "bf16"])
def test_training_in_16_bits_lowers_the_loss_and_keeps_to_the_format(
    graph: TrainingGraph, name: str
) -> None:
    made, losses, overflows = steps(graph, build_plan(f"pulp-{name}", graph, GAP9), 12, 0.05)
    assert losses[-1] < 0.5 * losses[0]
    assert not overflows
    for values in made.parameters.floats().values():
        encode(values, FORMATS[name])  # refuses what is not in the format
    _, wide, _ = steps(graph, build_plan("pulp-fp32", graph, GAP9), 12, 0.05)
    assert losses != wide
    assert losses == pytest.approx(wide, rel=0.2, abs=0.02)


def test_overflow_is_counted_not_silent(graph: TrainingGraph) -> None:
    _, _, overflows = steps(graph, build_plan("pulp-fp16", graph, GAP9), 1, 0.0, scale=3e4)
    assert overflows["input.convert_fp16"] > 0
    assert sum(overflows.values()) > overflows["input.convert_fp16"]
    _, _, none = steps(graph, build_plan("pulp-bf16", graph, GAP9), 1, 0.0, scale=3e4)
    assert not none


def test_formats_mix_layer_by_layer_in_numbers_and_engines(graph: TrainingGraph) -> None:
    plan = mixed(graph)
    made, losses, _ = steps(graph, plan, 12, 0.05)
    assert losses[-1] < 0.5 * losses[0]
    digests = {
        e: simulate(graph, plan, GAP9, steps=2, engine=e).sha256 for e in ("simpy", "compiled")
    }
    assert digests["simpy"] == digests["compiled"]
    kinds = [item.op.kind for item in lowering(graph, plan, GAP9).draft({}).items]
    assert kinds.count("convert") > 5
    assert made.parameters.floats().keys() == executor(graph, plan).parameters.floats().keys()


def test_half_the_bytes_and_fewer_cycles(graph: TrainingGraph) -> None:
    wide, half = (
        expect(graph, build_plan(f"pulp-{n}", graph, GAP9), GAP9) for n in ("fp32", "fp16")
    )
    assert half.time_ns < wide.time_ns
    peaks = [lowering(graph, build_plan(f"pulp-{n}", graph, GAP9), GAP9) for n in ("fp32", "fp16")]
    sizes = [
        sum(buffer.bytes for buffer in one.draft({}).buffers.values() if buffer.resident)
        for one in peaks
    ]
    assert sizes[0] == 2 * sizes[1]


def test_search_encodes_the_formats(graph: TrainingGraph) -> None:
    space = Space.of(graph, GAP9, build_plan("pulp-fp16", graph, GAP9))
    choices = {c for gene in space.genes if gene.aspect == "precision" for c in gene.choices}
    assert choices == {"fp32", "fp16", "bf16"}
    rows = space.random(12, seed=1)
    fast = Evaluator(space, "expected", memory=True)(rows)
    plain = plain_scores(space, rows, "expected", memory=True)
    assert fast.time_ns.tolist() == plain.time_ns.tolist()
    assert fast.energy_pj.tolist() == plain.energy_pj.tolist()
    plan = mixed(graph)
    again = space.decode(space.encode(plan))  # without what is the default
    assert expect(graph, again, GAP9).time_ns == expect(graph, plan, GAP9).time_ns
    assert again.aspect("precision").items() <= plan.aspect("precision").items()


def test_a_batch_is_refused_by_name() -> None:
    graph = training_graph(load_model("resnet8", 2))
    with pytest.raises(UnsupportedKernelError, match=r"batch is 2.*use batch 1"):
        expect(graph, build_plan("pulp-fp16", graph, GAP9), GAP9)


def test_a_layer_that_no_tile_fits_is_refused_by_name() -> None:
    b = ModelBuilder("wide", (1, 1, 300, 300), "test")
    x = b.conv(INPUT, 2, 300, bias=True, name="huge")
    graph = training_graph(b.build(b.linear(b.flatten(x), 5, bias=True)))
    with pytest.raises(UnsupportedKernelError, match=r"^huge\S*: .*no tile fits l1_bytes = 131072"):
        expect(graph, build_plan("pulp-fp16", graph, GAP9), GAP9)


@pytest.mark.parametrize(("name", "macs"), [("resnet8", 12_501_632), ("ds-cnn", 2_656_768)])
def test_networks_of_microcontrollers(name: str, macs: int) -> None:
    model = load_model(name, 1)
    assert model.macs == macs
    graph = training_graph(model)
    times = [
        expect(graph, build_plan(f"pulp-{n}", graph, GAP9), GAP9).time_ns for n in ("fp32", "fp16")
    ]
    assert 1.1 < times[0] / times[1] < 2
