"""Subgraphs are convex, acyclic and independent of a step's scans, whatever the plan."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cost_models.cost import Rescaling
from cost_models.device import Device, load_device
from sim.aspects.grouping import NODE_BYTES, on_dsp
from sim.autodiff import training_graph
from sim.draft import Draft, Item
from sim.graph import TrainingGraph
from sim.lowering import lowering
from sim.model import ForwardModel, ModelBuilder
from sim.plan import Key, Plan
from sim.policies.build import decide
from sim.policies.numeric import AllInt8
from sim.policies.placing import AllDsp
from sim.testing_plans import planned_steps

DSP_DEVICES = ("snapdragon-865", "qcs6490")
MODES: tuple[Rescaling, ...] = ("dynamic", "fused", "inline")


def property_test(max_examples: int) -> Callable[[Callable[..., None]], Callable[..., None]]:
    return settings(
        max_examples=max_examples,
        derandomize=True,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )


def lowered(graph: TrainingGraph, plan: Plan, device: Device, mode: Rescaling) -> Draft:
    ready = lowering(graph, plan, device)
    return ready.draft(dict.fromkeys(ready.rules, mode))


def group_edges(draft: Draft) -> set[tuple[int | str, int | str]]:
    """Edges between subgraphs and items outside of any, with the subgraphs contracted."""

    def home(item: Item) -> int | str:
        return item.group if item.group >= 0 else item.name

    edges = set()
    for index, preds in enumerate(draft.dependencies()):
        here = home(draft.items[index])
        edges.update((home(draft.items[p]), here) for p in preds)
    return {(a, b) for a, b in edges if a != b}


def assert_acyclic(edges: set[tuple[int | str, int | str]]) -> None:
    """Kahn's algorithm. Contracting a subgraph that is not convex would leave a cycle."""
    waits: dict[int | str, set[int | str]] = {}
    for before, after in edges:
        waits.setdefault(after, set()).add(before)
        waits.setdefault(before, set())
    while waits:
        free = {node for node, before in waits.items() if not before}
        assert free, f"these wait for each other: {sorted(map(str, waits))}"
        waits = {node: before - free for node, before in waits.items() if node not in free}


def assert_sound(draft: Draft) -> None:
    for index, preds in enumerate(draft.dependencies()):
        assert all(p < index for p in preds), f"{draft.items[index].name} comes before its input"
    for item in draft.items:
        assert (item.group >= 0) == on_dsp(item), item.name
    groups = [item.group for item in draft.items if item.group >= 0]
    assert sorted(set(groups)) == list(range(len(draft.subgraphs)))
    assert_acyclic(group_edges(draft))
    begins: dict[int, int] = {}
    for index, item in enumerate(draft.items):
        begins.setdefault(item.group, index)
    for item, preds in zip(draft.items, draft.dependencies(), strict=True):
        outside = [p for p in preds if draft.items[p].group != item.group]
        if item.group >= 0:  # a call starts with its first kernel, and all inputs are there by then
            assert all(p < begins[item.group] for p in outside), item.name
    homes: dict[str, set[int]] = {}
    for item in draft.items:
        homes.setdefault(item.follows or item.subject, set()).add(item.group)
    split = {subject: groups for subject, groups in homes.items() if len(groups) > 1}
    assert not split, "micro-batches, scan and requantise of a kernel share its subgraph"


def assert_cuts(draft: Draft, plan: Plan) -> None:
    """A kernel that is cut has no producer in its subgraph, except work on weights alone.

    Turned weights, say: they wait for nothing and are only there for their reader.
    """
    cut = {s for s, choice in plan.aspect("grouping").items() if choice == "cut"}
    items, preds = draft.items, draft.dependencies()
    alone: list[bool] = []
    for index, item in enumerate(items):
        free = all(alone[p] for p in preds[index])
        alone.append(on_dsp(item) and item.subject not in cut and free)
    for index, item in enumerate(items):
        if item.group >= 0 and item.subject in cut:
            for p in preds[index]:
                if items[p].group == item.group and items[p].subject != item.subject:
                    assert alone[p], f"{item.name} is cut but joined {items[p].name}"


@property_test(60)
@given(planned_steps(DSP_DEVICES))
def test_subgraphs_of_any_plan_are_sound(step: tuple[TrainingGraph, Plan, Device]) -> None:
    graph, plan, device = step
    draft = lowered(graph, plan, device, "dynamic")
    assert_sound(draft)
    assert_cuts(draft, plan)


@st.composite
def dsp_steps(draw: st.DrawFn) -> tuple[TrainingGraph, Plan, Device]:
    """Networks that are mostly on the DSP, with random splits, cuts and kernels on the CPU."""
    graph, drawn, device = draw(planned_steps(DSP_DEVICES))
    plan = decide("dsp", graph, device, [AllInt8(), AllDsp()])
    kernels = [n.name for n in graph.nodes if not n.name.startswith("loss")]
    some = st.lists(st.sampled_from(kernels), max_size=6, unique=True)
    changes: dict[Key, str] = {}
    for (aspect, subject), choice in drawn.choices:
        if aspect == "batch_split":
            changes[aspect, subject] = choice
    on_cpu = draw(some)
    changes |= {("placement", s): "cpu:4" for s in on_cpu}
    dsp = set(plan.aspect("placement")) - set(on_cpu)
    changes |= {("grouping", s): "cut" for s in draw(some) if s in dsp}
    return graph, plan.update(changes), device


@property_test(60)
@given(dsp_steps(), st.data())
def test_subgraphs_do_not_depend_on_what_a_step_scans(
    step: tuple[TrainingGraph, Plan, Device], data: st.DataObject
) -> None:
    graph, plan, device = step
    ready = lowering(graph, plan, device)
    mixed = {s: data.draw(st.sampled_from(MODES)) for s in ready.rules}
    drafts = [ready.draft(dict.fromkeys(ready.rules, mode)) for mode in MODES]
    drafts.append(ready.draft(mixed))
    for draft in drafts:
        assert_sound(draft)
        assert_cuts(draft, plan)
        assert draft.subgraphs == drafts[0].subgraphs
        assert tuple((s.key, s.memory_bytes) for s in draft.subgraphs) == ready.visits


def chain(batch: int = 4) -> ForwardModel:
    """Three convolutions and a ReLU behind each, then a classifier."""
    b = ModelBuilder("chain", (batch, 4, 8, 8), source="tests/sim/test_grouping.py")
    x = "input"
    for _ in range(3):
        x = b.relu(b.conv(x, 4, 3, pad=1))
    return b.build(b.linear(b.flatten(x), 4))


PHONE = load_device("snapdragon-865")


def chain_plan(changes: dict[Key, str]) -> tuple[TrainingGraph, Plan]:
    graph = training_graph(chain())
    return graph, decide("dsp", graph, PHONE, [AllInt8(), AllDsp()]).update(changes)


def homes(draft: Draft) -> dict[str, int]:
    return {item.name: item.group for item in draft.items}


def test_forward_pass_is_one_subgraph_and_backward_another() -> None:
    # The loss stays on the CPU: nothing behind it may share a subgraph with what is before it.
    graph, plan = chain_plan({})
    at = homes(lowered(graph, plan, PHONE, "fused"))
    assert len({at[n] for n in ("conv1", "relu1", "conv2", "relu2", "conv3", "linear1")}) == 1
    assert at["input.quantise"] == -1
    assert at["loss"] == -1
    assert at["linear1.input_grad"] == at["conv2.weight_grad"] == at["conv1.update"]
    assert at["linear1.input_grad"] != at["conv1"]


def test_cpu_kernel_divides_a_chain_in_two() -> None:
    graph, plan = chain_plan({("placement", "relu2"): "cpu:4"})
    at = homes(lowered(graph, plan, PHONE, "fused"))
    assert at["conv1"] == at["relu1"] == at["conv2"]
    assert at["conv3"] == at["relu3"] == at["linear1"]
    assert at["conv1"] != at["conv3"]
    assert at["relu2"] == -1


def test_a_path_through_the_cpu_may_not_come_back() -> None:
    # conv1 feeds a ReLU on the CPU and conv2 on the DSP; their sum on the DSP reads both. It may
    # not join conv1 and conv2: its subgraph would wait for the CPU, which waits for conv1.
    b = ModelBuilder("diamond", (2, 4, 8, 8), source="tests/sim/test_grouping.py")
    x = b.conv("input", 4, 1, name="conv1")
    y = b.sum([b.relu(x, name="side"), b.conv(x, 4, 1, name="conv2")], name="sum")
    graph = training_graph(b.build(b.linear(b.flatten(y), 4)))
    plan = decide("dsp", graph, PHONE, [AllInt8(), AllDsp()])
    plan = plan.replace("placement", "side", "cpu:4")
    at = homes(lowered(graph, plan, PHONE, "fused"))
    assert at["conv1"] == at["conv2"]
    assert at["sum"] not in (-1, at["conv1"])


def test_a_call_does_not_wait_for_what_runs_beside_it() -> None:
    # `left` has a subgraph of its own as soon as it is cut. The CPU's `right` runs beside it, so
    # their sum would hold up the call of `left` if it joined.
    b = ModelBuilder("fork", (2, 4, 8, 8), source="tests/sim/test_grouping.py")
    left, right = b.conv("input", 4, 1, name="left"), b.relu("input", name="right")
    graph = training_graph(b.build(b.linear(b.flatten(b.sum([left, right], name="sum")), 4)))
    plan = decide("dsp", graph, PHONE, [AllInt8(), AllDsp()])
    plan = plan.update({("grouping", "left"): "cut", ("placement", "right"): "cpu:4"})
    draft = lowered(graph, plan, PHONE, "fused")
    assert homes(draft)["sum"] != homes(draft)["left"]
    assert_sound(draft)


def test_cut_starts_a_subgraph() -> None:
    graph, plan = chain_plan({("grouping", "conv2"): "cut"})
    at = homes(lowered(graph, plan, PHONE, "dynamic"))
    assert at["conv1"] == at["relu1"]
    assert at["conv2"] == at["conv2.scan"] == at["conv2.requantise"] == at["conv3"]
    assert at["conv1"] != at["conv2"]


@pytest.mark.parametrize("mode", MODES)
def test_micro_batches_stay_with_the_kernel_that_was_cut(mode: Rescaling) -> None:
    changes: dict[Key, str] = {("grouping", "conv2"): "cut", ("batch_split", "conv2"): "1"}
    graph, plan = chain_plan(changes)
    draft = lowered(graph, plan, PHONE, mode)
    at = homes(draft)
    assert len({at[f"conv2#{k}"] for k in range(4)}) == 1
    assert at["conv2#0"] not in (-1, at["conv1"])
    assert_sound(draft)


@pytest.mark.parametrize("mode", MODES)
def test_first_kernel_split_and_read_by_the_cpu_is_one_subgraph(mode: Rescaling) -> None:
    # Nothing on the DSP feeds conv1: its micro-batches float until the CPU reads their result.
    changes: dict[Key, str] = {("batch_split", "conv1"): "2", ("placement", "relu1"): "cpu:4"}
    graph, plan = chain_plan(changes)
    draft = lowered(graph, plan, PHONE, mode)
    at = homes(draft)
    assert at["conv1#0"] == at["conv1#1"] != -1
    assert_sound(draft)


def test_turned_weights_join_the_subgraph_that_reads_them() -> None:
    # They read only weights, so they are first in the backward pass, but need no call of their own.
    graph, plan = chain_plan({})
    at = homes(lowered(graph, plan, PHONE, "fused"))
    for step in ("transpose_w", "rotate_w"):
        assert at[f"conv2.input_grad.{step}"] == at["conv2.input_grad"]


def test_turned_weights_that_only_the_cpu_reads_get_a_subgraph() -> None:
    graph, plan = chain_plan({("placement", "conv2.input_grad"): "cpu:4"})
    at = homes(lowered(graph, plan, PHONE, "fused"))
    assert at["conv2.input_grad.transpose_w"] == at["conv2.input_grad.rotate_w"] != -1
    assert at["conv2.input_grad"] == -1


def test_equal_keys_mean_equal_kernels() -> None:
    # Convolution, ReLU, and the transpose of its result that the next weight gradient will read:
    # conv1 and conv2 have the same shapes. Behind conv3 comes a linear layer: no transpose.
    cuts: dict[Key, str] = {("grouping", name): "cut" for name in ("conv2", "conv3", "linear1")}
    graph, plan = chain_plan(cuts)
    draft = lowered(graph, plan, PHONE, "dynamic")
    at = homes(draft)
    one, two, three = (draft.subgraphs[at[f"conv{k}"]] for k in (1, 2, 3))
    assert one.key == two.key != three.key
    assert (one.operators, two.operators, three.operators) == (3, 3, 2)
    assert one.name != two.name


def test_bytes_that_cross_the_border() -> None:
    # conv2 alone between CPU kernels: in: relu1.out 4*4*8*8 = 1024 and its weight 4*4*3*3 = 144;
    # out: conv2.out 1024. INT8, one byte each.
    around: dict[Key, str] = {("placement", name): "cpu:4" for name in ("relu1", "relu2")}
    graph, plan = chain_plan(around)
    draft = lowered(graph, plan, PHONE, "fused")
    sub = draft.subgraphs[homes(draft)["conv2"]]
    assert (sub.operators, sub.bytes_in, sub.bytes_out) == (1, 1024 + 144, 1024)
    # One slice of 32 filters: 3 x 3 x 32 x 32 bytes, packed again at each execution; INT32 scratch
    # for the padded result, 4 x (8 + 8) x (8 + 4) x 32 elements; and the node itself.
    assert sub.filter_bytes == sub.weight_bytes == 9216
    assert sub.memory_bytes == 9216 + 4 * 4 * 16 * 12 * 32 + NODE_BYTES
