"""The batch evaluator: equal to the single-plan engines, whatever the plan, device and threads."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim import build_plan, load_device, load_model, training_graph
from sim.encoding import FIDELITIES, HELD, Evaluator, Genes, Space, SpaceError
from sim.encoding.batch import score
from sim.encoding.plain import plain_scores
from sim.encoding.reuse_loops import Cache, settle, worst
from sim.engines.jit import stamped
from sim.expected import expected_ns
from sim.lowering import CYCLE_STEPS
from sim.policies import plan_names
from sim.reuse import LONGEST, RULES, settled_cycle


def space_for(model: str, device: str, batch: int, held: tuple[str, ...] = HELD) -> Space:
    graph, phone = training_graph(load_model(model, batch=batch)), load_device(device)
    name = "mandheling" if phone.dsp is not None else "mnn-int8"
    return Space.of(graph, phone, build_plan(name, graph, phone), held=held)


def near(space: Space, plans: int, seed: int, share: float) -> Genes:
    """Rows like the base plan but for a share of their genes."""
    rows = space.random(plans, seed)
    kept = np.random.default_rng(seed).random(rows.shape) > share
    return np.where(kept, space.encode(space.base), rows).astype(np.int16)


def assert_equal(space: Space, rows: Genes, fidelity: str) -> None:
    memory = fidelity != "static"
    fast = Evaluator(space, fidelity, memory=memory)(rows)
    plain = plain_scores(space, rows, fidelity, memory=memory)
    assert fast.time_ns.tolist() == plain.time_ns.tolist()
    assert fast.energy_pj.tolist() == plain.energy_pj.tolist()
    if memory:
        assert fast.memory_bytes is not None
        assert plain.memory_bytes is not None
        assert fast.memory_bytes.tolist() == plain.memory_bytes.tolist()


@pytest.mark.parametrize("fidelity", FIDELITIES)
@pytest.mark.parametrize(
    ("model", "device", "batch", "plans"),
    [
        ("lenet", "snapdragon-865", 16, 40),
        ("lenet", "snapdragon-750g", 12, 20),
        ("lenet", "laptop", 8, 10),
        ("lenet", "jetson-nano", 8, 8),
        ("vgg11", "snapdragon-888", 8, 6),
        ("resnet18", "qcs6490", 4, 4),
        ("mobilenet-v2", "snapdragon-855", 4, 2),
    ],
)
def test_any_plan_has_the_integers_of_the_single_plan_engines(
    model: str, device: str, batch: int, plans: int, fidelity: str
) -> None:
    space = space_for(model, device, batch)
    assert_equal(space, space.random(plans, seed=1), fidelity)
    assert_equal(space, near(space, plans, seed=2, share=0.02), fidelity)


@pytest.mark.parametrize(
    "held",
    [
        ("library", "rpc_qos"),  # the input pipeline is searched
        ("input",),
        ("library", "input", "rpc_qos", "precision", "placement"),
        ("precision", "grouping", "reuse", "dispatch", "operating_point", *HELD),
    ],
)
def test_whatever_is_held(held: tuple[str, ...]) -> None:
    space = space_for("lenet", "snapdragon-865", 8, held)
    rows = near(space, 12, seed=3, share=0.2)
    for fidelity in FIDELITIES:
        assert_equal(space, rows, fidelity)


def test_built_in_plans_have_their_expected_times() -> None:
    space = space_for("vgg11", "snapdragon-865", 64)
    plans = [build_plan(n, space.graph, space.device) for n in plan_names(space.device)]
    plans = [plan for plan in plans if not plan.aspect("library")]
    scores = Evaluator(space)(np.stack([space.encode(plan) for plan in plans]))
    assert scores.time_ns.tolist() == [
        expected_ns(space.graph, plan, space.device) for plan in plans
    ]


def test_threads_and_company_change_nothing() -> None:
    space = space_for("lenet", "snapdragon-865", 16)
    rows = np.concatenate([near(space, 30, 4, 0.05), space.random(10, 5)])
    for fidelity in FIDELITIES:
        whole = Evaluator(space, fidelity, threads=2)(rows).time_ns
        single = [int(Evaluator(space, fidelity)(row[None]).time_ns[0]) for row in rows]
        assert whole.tolist() == single


def test_no_rows_no_scores() -> None:
    space = space_for("lenet", "snapdragon-865", 16)
    assert len(Evaluator(space)(space.random(0, 0)).time_ns) == 0


def test_refusals() -> None:
    space = space_for("lenet", "snapdragon-865", 16)
    with pytest.raises(SpaceError, match="fidelity is 'fast'; choose one of expected"):
        Evaluator(space, "fast")
    with pytest.raises(SpaceError, match="finds no memory"):
        Evaluator(space, "static", memory=True)
    with pytest.raises(SpaceError, match="integers of shape"):
        Evaluator(space)(np.zeros((2, 3), np.int16))
    rows = space.random(2, 0)
    rows[1, 2] = 1000
    with pytest.raises(SpaceError, match="is 1000; allowed: 0 to"):
        Evaluator(space)(rows)


@given(
    st.sampled_from(RULES),
    st.lists(st.integers(0, 7), max_size=14),
    st.lists(st.integers(1, 9), min_size=8, max_size=8),
    st.integers(0, 30),
)
@settings(max_examples=300, deadline=None)
def test_reuse_settles_into_the_same_cycle(
    rule: str, keys: list[int], sizes: list[int], budget: int
) -> None:
    visits = [(f"{key}", sizes[key]) for key in keys]
    cycle = settled_cycle(rule, visits, budget)
    cycle = cycle[:: -(-len(cycle) // CYCLE_STEPS)]
    n = len(keys)
    arrays = {name: np.zeros(n + 1, np.int64) for name in Cache._fields}
    arrays |= {"miss": np.zeros((LONGEST, n + 1), np.int64), "seen": np.zeros(LONGEST + 1, int)}
    arrays |= {"chosen": np.zeros(CYCLE_STEPS, int), "table": np.zeros(4 * n + 4, int)}
    scratch = Cache(**{name: array.astype(np.int64) for name, array in arrays.items()})
    digests = np.array([(key + 3) * 0x1234567 for key in keys], np.int64)
    held = np.array([sizes[key] for key in keys], np.int64)
    count = settle(RULES.index(rule), digests, held, n, budget, 1, scratch)
    found = [tuple(bool(m) for m in scratch.miss[row, :n]) for row in scratch.chosen[:count]]
    assert found == [step.misses for step in cycle]
    hardest = max(cycle, key=lambda step: (sum(step.misses), step.misses))
    row = worst(count, n, scratch)
    assert tuple(bool(m) for m in scratch.miss[row, :n]) == hardest.misses
    if rule != "none" and n:
        assert scratch.total[0] == sum(dict(visits).values())


def test_the_cache_of_compiled_code_ends_with_its_sources() -> None:
    def function(x: int) -> int:
        return x

    wrapped: Callable[[int], int] = stamped("one")(function)
    other: Callable[[int], int] = stamped("two")(function)
    files = [f._cache._cache_file for f in (wrapped, other)]  # type: ignore[attr-defined]
    assert files[0]._source_stamp != files[1]._source_stamp
    assert score._cache._cache_file._source_stamp[1]  # type: ignore[attr-defined]


@pytest.mark.accept
@pytest.mark.parametrize("fidelity", FIDELITIES)
def test_ten_thousand_plans(fidelity: str, record_property: Callable[[str, object], None]) -> None:
    space = space_for("vgg16", "snapdragon-865", 64)
    rows = np.concatenate([space.random(200, 7), near(space, 9800, seed=8, share=0.05)])
    frames = rows[:, : space.frame_genes]
    frames[200:] = frames[200:][np.random.default_rng(9).integers(0, 150, 9800)]
    rows[:, : space.frame_genes] = frames
    assert_equal(space, rows, fidelity)
    record_property("plans", len(rows))
    record_property("frames", len(np.unique(frames, axis=0)))
