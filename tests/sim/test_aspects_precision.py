"""Precision: conversions once per tensor at the right edges, and the layout work of INT8."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cost_models.device import load_device
from kernels.operators import Role
from sim.aspects import StepContext
from sim.aspects.precision import FLOAT_ONLY, Precision
from sim.autodiff import training_graph
from sim.draft import Draft, Item, draft_of
from sim.graph import TrainingGraph
from sim.model import ForwardModel, ModelBuilder
from sim.testing import forward_models

PHONE = load_device("snapdragon-865")
ASPECT = Precision()
CONVERSIONS = ("quantise", "dequantise")


def network() -> ForwardModel:
    b = ModelBuilder("small", (2, 3, 8, 8), source="tests/sim/test_aspects_precision.py")
    x = b.conv("input", 4, 3, pad=1, name="a")
    x = b.conv(b.relu(x, name="r"), 4, 1, name="b")
    x = b.batch_norm(x, name="n")
    return b.build(b.linear(b.flatten(x), 5, name="c"))


GRAPH = training_graph(network())


def rewritten(choices: Mapping[str, str], graph: TrainingGraph = GRAPH) -> Draft:
    return ASPECT.rewrite(draft_of(graph), choices, StepContext(PHONE, {}))


def names(draft: Draft, *kinds: str) -> list[str]:
    return [item.name for item in draft.items if item.op.kind in kinds]


def by_name(draft: Draft) -> dict[str, Item]:
    return {item.name: item for item in draft.items}


def test_fp32_everywhere_changes_nothing() -> None:
    assert rewritten({}).items == draft_of(GRAPH).items


def test_batch_norm_stays_fp32() -> None:
    draft = draft_of(GRAPH)
    assert ASPECT.subjects(draft, PHONE) == ["a", "r", "b", "n", "c", "loss"]
    allowed = {s: ASPECT.allowed(draft, s, PHONE) for s in ASPECT.subjects(draft, PHONE)}
    assert allowed.pop("n") == ("fp32",)
    assert set(allowed.values()) == {("fp32", "int8")}
    in_factors = {"tucker_save", "tucker_restore", "subspace_save", "subspace_restore"}
    assert frozenset({"batch_norm", *in_factors}) == FLOAT_ONLY
    assert ASPECT.default(draft, "a", PHONE) == "fp32"


def test_edges_around_one_int8_layer() -> None:
    # Only r is INT8. Forward: a.out in, r.out out. Backward: the error r.out.grad comes from b in
    # FP32, its result a.out.grad goes to a in FP32. r.out is its own, in INT8 already.
    draft = rewritten({"r": "int8"})
    assert names(draft, *CONVERSIONS) == [
        "a.out.quantise",
        "r.out.dequantise",
        "r.out.grad.quantise",
        "a.out.grad.dequantise",
    ]
    items = by_name(draft)
    assert items["r"].reads == ("a.out@int8",)
    assert items["b"].reads == ("r.out@fp32", "b.weight")
    # dW of b reads the activation in FP32 too, by the conversion that the forward pass made.
    assert items["b.weight_grad"].reads == ("r.out@fp32", "b.out.grad")
    assert items["r.input_grad"].reads == ("r.out.grad@int8", "r.out")
    assert items["a.weight_grad"].reads == ("input", "a.out.grad@fp32")


def test_sizes_follow_the_type() -> None:
    draft = rewritten({"a": "int8"})
    sizes = {name: buffer.item_bytes for name, buffer in draft.buffers.items()}
    assert sizes["a.weight"] == sizes["a.weight.next"] == sizes["a.weight.grad"] == 1
    assert sizes["a.out"] == sizes["input@int8"] == 1
    assert sizes["a.out@fp32"] == sizes["r.out"] == sizes["input"] == 4
    assert draft.buffers["a.weight"].resident
    assert draft_of(GRAPH).buffers["a.weight"].item_bytes == 4


def test_labels_are_read_as_they_are() -> None:
    items = by_name(rewritten({"loss": "int8"}))
    assert items["loss"].reads == ("c.out@int8", "label")
    assert items["loss.input_grad"].reads == ("c.out@int8", "label")


def test_layout_work_of_an_int8_convolution() -> None:
    # a: 3x3 and the first layer, so no dX: no turned weight. b: 1x1, so transposed, not rotated.
    draft = rewritten({"a": "int8", "b": "int8"})
    assert names(draft, "transpose", "rotate180") == [
        "b.input_grad.transpose_w",
        "b.weight_grad.transpose_x",
        "b.weight_grad.transpose_e",
        "a.weight_grad.transpose_x",
        "a.weight_grad.transpose_e",
    ]
    items = by_name(draft)
    assert items["b.input_grad"].reads == ("b.out.grad@int8", "b.weight@tw")
    assert items["b.weight_grad"].reads == ("r.out@int8@tx", "b.out.grad@int8@te")
    # The transposes put channels first: (n, c, h, w) to (c, n, h, w); weights likewise.
    assert draft.buffers["r.out@int8@tx"].shape == (4, 2, 8, 8)
    assert draft.buffers["b.weight@tw"].shape == (4, 4, 1, 1)


def test_a_3x3_convolution_with_dx_rotates_too() -> None:
    b = ModelBuilder("two", (2, 3, 8, 8), source="tests/sim/test_aspects_precision.py")
    x = b.conv(b.conv("input", 4, 1), 6, 3, pad=1)
    graph = training_graph(b.build(b.linear(b.flatten(x), 5)))
    draft = rewritten({"conv2": "int8"}, graph)
    steps = [n for n in names(draft, "transpose", "rotate180") if "input_grad" in n]
    assert steps == ["conv2.input_grad.transpose_w", "conv2.input_grad.rotate_w"]
    items = by_name(draft)
    assert items["conv2.input_grad.rotate_w"].reads == ("conv2.weight@tw",)
    assert items["conv2.input_grad"].reads[1] == "conv2.weight@rotated"


def test_no_layout_work_for_linear_layers_or_fp32() -> None:
    assert not names(rewritten({"c": "int8"}), "transpose", "rotate180")


@st.composite
def choices_for(draw: st.DrawFn) -> tuple[TrainingGraph, dict[str, str]]:
    graph = training_graph(draw(forward_models(max_blocks=4)))
    draft = draft_of(graph)
    layers = ASPECT.subjects(draft, PHONE)
    return graph, {s: draw(st.sampled_from(ASPECT.allowed(draft, s, PHONE))) for s in layers}


@settings(
    max_examples=80,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
@given(choices_for())
def test_every_reader_gets_its_type_and_every_tensor_one_conversion(
    drawn: tuple[TrainingGraph, dict[str, str]],
) -> None:
    graph, choices = drawn
    draft = rewritten(choices, graph)
    written = {"input": "fp32"}
    for item in draft.items:  # weights have the type of their layer
        for name in item.reads:
            if draft.buffers[name].resident:
                written[name] = item.dtype
    for item in draft.items:
        for name in item.reads:
            if name == "label":
                continue
            wanted = item.dtype
            if item.op.kind in CONVERSIONS:
                wanted = "fp32" if item.op.kind == "quantise" else "int8"
            assert written[name] == wanted, (item.name, name)
        result = "fp32" if item.op.kind == "dequantise" else item.dtype
        written.update(dict.fromkeys(item.writes, result))
        if item.op.kind not in CONVERSIONS and item.op.kind not in ("transpose", "rotate180"):
            assert item.dtype == choices[item.layer]
    sources = Counter((i.reads[0], i.op.kind) for i in draft.items if i.op.kind in CONVERSIONS)
    assert set(sources.values()) <= {1}
    read = {name for item in draft.items for name in item.reads}
    useless = [i.name for i in draft.items if i.op.kind in CONVERSIONS and i.writes[0] not in read]
    assert not useless
    assert [i.name for i in draft.items if i.name in {n.name for n in graph.nodes}] == [
        node.name for node in graph.nodes
    ]


def test_depth_first_gradients_are_converted_where_they_sum() -> None:
    # A residual: the error of the sum goes to both terms; their gradients meet at the ReLU r0.
    b = ModelBuilder("residual", (2, 4, 8, 8), source="tests/sim/test_aspects_precision.py")
    x = b.relu(b.conv("input", 4, 1, name="stem"), name="r0")
    y = b.sum([x, b.conv(x, 4, 1, name="branch")], name="sum")
    graph = training_graph(b.build(b.linear(b.flatten(y), 5)))
    draft = rewritten({"branch": "int8"}, graph)
    items = by_name(draft)
    assert items["branch.input_grad"].role is Role.INPUT_GRAD
    error = items["branch.input_grad"].reads[0]
    assert error == items["branch.weight_grad.transpose_e"].reads[0]
    assert error.endswith("@int8")
    assert names(draft, "quantise") == [
        "r0.out.quantise",
        f"{error.removesuffix('@int8')}.quantise",
    ]
