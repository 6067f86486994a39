"""Encoding: plans to genes and back, repairs, and refusals."""

from __future__ import annotations

import numpy as np
import pytest

from sim import Plan, TrainingGraph, build_plan, load_device, load_model, training_graph
from sim.aspects import ORDER
from sim.encoding import Space, SpaceError
from sim.expected import expected_ns
from sim.lowering import draft_before, validate
from sim.policies import plan_names

DEVICE = load_device("snapdragon-865")


@pytest.fixture(scope="module")
def graph() -> TrainingGraph:
    return training_graph(load_model("lenet", batch=16))


@pytest.fixture(scope="module")
def space(graph: TrainingGraph) -> Space:
    return Space.of(graph, DEVICE, build_plan("mandheling", graph, DEVICE))


def test_every_built_in_plan_of_the_same_library_survives_the_round_trip(
    graph: TrainingGraph, space: Space
) -> None:
    for name in plan_names(DEVICE):
        plan = build_plan(name, graph, DEVICE)
        if plan.aspect("library"):
            with pytest.raises(SpaceError, match="holds at 'mnn'"):
                space.encode(plan)
            continue
        again = space.decode(space.encode(plan))
        assert expected_ns(graph, again, DEVICE) == expected_ns(graph, plan, DEVICE), name


def test_any_row_is_a_plan(graph: TrainingGraph, space: Space) -> None:
    for row in space.random(40, seed=1):
        plan = space.decode(row)
        validate(graph, plan, DEVICE)
        assert space.decode(space.encode(plan)) == plan


@pytest.mark.parametrize("model", ["resnet18", "mobilenet-v2"])
def test_every_decision_that_any_plan_brings_up_has_a_gene(model: str) -> None:
    graph = training_graph(load_model(model, batch=4))
    held = ("library", "input", "rpc_qos")  # also backward rules and optimiser state are searched
    space = Space.of(graph, DEVICE, build_plan("mandheling", graph, DEVICE), held=held)
    known = {gene.key for gene in space.genes}
    for row in space.random(6, seed=3):
        plan = space.decode(row)
        for aspect in ORDER:
            draft = draft_before(aspect.name, graph, plan, DEVICE)
            for subject in aspect.subjects(draft, DEVICE):
                if len(aspect.allowed(draft, subject, DEVICE)) > 1:
                    assert (aspect.name, subject) in known


def test_every_aspect_says_whether_it_changes_what_is_computed() -> None:
    numeric = {aspect.name for aspect in ORDER if aspect.numeric}
    assert {aspect.name for aspect in ORDER} - numeric == {"placement", "grouping"}


def test_dead_genes_change_nothing(space: Space) -> None:
    row = space.random(1, seed=2)[0]
    dead = ~space.live(row)
    assert dead.any()
    other = row.copy()
    other[dead] = 0
    assert space.decode(other) == space.decode(row)


def test_random_rows_are_keyed_by_the_seed(space: Space) -> None:
    assert np.array_equal(space.random(5, 3), space.random(5, 3))
    assert not np.array_equal(space.random(5, 3), space.random(5, 4))


def test_held_aspects_have_no_genes(graph: TrainingGraph) -> None:
    base = build_plan("mandheling", graph, DEVICE)
    narrow = Space.of(graph, DEVICE, base, held=("library", "input", "rpc_qos", "precision"))
    assert {g.aspect for g in narrow.genes}.isdisjoint(narrow.held)
    assert narrow.decode(narrow.encode(base)).aspect("precision") == base.aspect("precision")


def test_refusals(graph: TrainingGraph, space: Space) -> None:
    base = space.base
    with pytest.raises(SpaceError, match="aspect 'placements' is unknown"):
        Space.of(graph, DEVICE, base, held=("placements",))
    with pytest.raises(SpaceError, match="hold 'precision' too"):
        Space.of(graph, DEVICE, base, held=("placement",))
    with pytest.raises(SpaceError, match="'sometimes' is not allowed"):
        Space.of(graph, DEVICE, base, palettes={"rescale": ("sometimes",)})
    with pytest.raises(SpaceError, match="fixed:5"):
        space.encode(base.replace("rescale", "conv1", "fixed:5"))
    with pytest.raises(SpaceError, match="another graph"):
        space.encode(Plan.make("x", "0" * 64, {}))
    with pytest.raises(SpaceError, match="shape"):
        space.decode(np.zeros(3, np.int16))
    row = space.random(1, 0)[0]
    row[0] = 99
    with pytest.raises(SpaceError, match="is 99; allowed: 0 to"):
        space.decode(row)
