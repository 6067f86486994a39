"""The draft before any rewriting, and what depends on what in it."""

from __future__ import annotations

from kernels.operators import Role
from sim.autodiff import training_graph
from sim.draft import Buffer, Item, draft_of
from sim.model import ModelBuilder


def tiny() -> ModelBuilder:
    return ModelBuilder("tiny", (2, 1, 4, 4), source="tests/sim/test_draft.py")


b = tiny()
GRAPH = training_graph(b.build(b.linear(b.flatten(b.relu(b.conv("input", 2, 3, pad=1))), 3)))


def test_one_fp32_item_per_node_in_order() -> None:
    draft = draft_of(GRAPH)
    assert [item.name for item in draft.items] == [node.name for node in GRAPH.nodes]
    for item, node in zip(draft.items, GRAPH.nodes, strict=True):
        assert (item.op, item.role, item.reads, item.writes) == (
            node.op,
            node.role,
            node.inputs,
            node.outputs,
        )
        assert (item.dtype, item.unit, item.group, item.follows) == ("fp32", "", -1, "")
    assert draft.batch == 2


def test_buffers_are_fp32_and_weights_outlive_the_step() -> None:
    draft = draft_of(GRAPH)
    assert draft.buffers["conv1.weight"] == Buffer((2, 1, 3, 3), 4, resident=True)
    assert draft.buffers["conv1.out"] == Buffer((2, 2, 4, 4), 4)
    assert draft.buffers["conv1.out"].bytes == 4 * 2 * 2 * 4 * 4


def test_dependencies_are_those_of_the_graph() -> None:
    draft = draft_of(GRAPH)
    for item, preds in zip(draft.items, draft.dependencies(), strict=True):
        assert sorted(draft.items[p].name for p in preds) == sorted(GRAPH.dependencies(item.name))


def test_an_update_waits_for_all_readers_of_the_old_weight() -> None:
    draft = draft_of(GRAPH)
    names = [item.name for item in draft.items]
    waits = draft.dependencies()[names.index("linear1.update")]
    wanted = {"linear1", "linear1.input_grad", "linear1.weight_grad"}
    assert {names[p] for p in waits} == wanted


def test_a_reader_waits_for_every_earlier_writer() -> None:
    draft = draft_of(GRAPH)
    conv = draft.items[0]
    parts = [conv._replace(name=f"conv1#{k}") for k in range(3)]
    split = draft.with_items([*parts, *draft.items[1:]])
    assert split.dependencies()[3] == {0, 1, 2}
    assert split.producers()["conv1.out"] == [0, 1, 2]
    assert split.dependencies()[1] == set()


def test_reordering_carries_dependencies_over() -> None:
    draft = draft_of(GRAPH)
    order = list(range(len(draft.items)))
    first = [item.name for item in draft.items].index("linear1.update")
    order.remove(first)
    order.append(first)  # an update may run last
    moved = draft.reordered([draft.items[k] for k in order], order)
    afresh = moved.with_items(moved.items)
    assert moved.dependencies() == afresh.dependencies()


def test_subjects_and_first_items() -> None:
    draft = draft_of(GRAPH)
    parts = [draft.items[0]._replace(name=f"conv1#{k}") for k in range(2)]
    scan = draft.items[0]._replace(name="conv1.scan", subject="conv1.scan", follows="conv1")
    draft = draft.with_items([*parts, scan, *draft.items[1:]])
    assert draft.subjects()[:2] == ["conv1", "relu1"]
    assert draft.first("conv1").name == "conv1#0"
    assert draft.first("relu1").op.kind == "relu"


def test_only_products_have_an_int32_accumulator() -> None:
    by_name: dict[str, Item] = {item.name: item for item in draft_of(GRAPH).items}
    assert by_name["conv1"].has_macs
    assert by_name["conv1.weight_grad"].has_macs
    assert not by_name["relu1"].has_macs
    assert not by_name["conv1.update"].has_macs
    assert by_name["conv1.update"].role is Role.UPDATE
    call = by_name["conv1"].call
    assert (call.op, call.role, call.dtype) == (by_name["conv1"].op, Role.FORWARD, "fp32")


def test_copies_do_not_share_tables() -> None:
    draft = draft_of(GRAPH)
    copy = draft.with_items(draft.items)
    copy.buffers["new"] = Buffer((1,), 1)
    copy.items.pop()
    assert "new" not in draft.buffers
    assert len(draft.items) == len(GRAPH.nodes)
