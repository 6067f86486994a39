"""Bounds: never above the best plan of a space that was searched exhaustively."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from experiments.certify import Bound, lower_bound, quick_bound
from experiments.certify.bounds import energy_bound
from experiments.certify.obstacles import obstacles
from experiments.certify.relaxation import CertificateError, relax
from sim import build_plan, load_device, load_model, training_graph
from sim.encoding import Evaluator, Gene, Space
from sim.encoding.plain import plain_scores
from sim.encoding.space import HELD, PALETTES
from sim.model import INPUT, ForwardModel, ModelBuilder

DEVICES = ("snapdragon-865", "snapdragon-888", "qcs6490", "laptop")


def small_model(draws: np.random.Generator) -> ForwardModel:
    """One to three layers with parameters, of sizes at which launches do not hide the work."""
    batch = int(draws.choice([2, 4, 8]))
    side = int(draws.choice([8, 14, 28]))
    b = ModelBuilder("drawn", (batch, int(draws.choice([3, 16])), side, side), source="here")
    x = INPUT
    for _ in range(int(draws.integers(0, 3))):
        start = x
        x = b.conv(x, int(draws.choice([16, 32, 64])), int(draws.choice([1, 3])), pad=1, stride=1)
        kind = draws.integers(0, 5)
        if kind == 0:
            x = b.batch_norm(x)
        elif kind == 1:
            x = b.relu(x)
        elif kind == 2:
            x = b.max_pool(x, 2, 2)
        elif kind == 3 and start is not INPUT and b.shape(start) == b.shape(x):
            x = b.sum([start, x])
    return b.build(b.linear(b.flatten(x), int(draws.integers(2, 11))))


def small_space(seed: int, most: int) -> Space:
    """A space of up to ``most`` plans: each gene keeps one or two of its choices."""
    draws = np.random.default_rng(np.random.SeedSequence([seed, 26]))
    device = load_device(DEVICES[seed % len(DEVICES)])
    graph = training_graph(small_model(draws))
    names = ("mandheling", "latency") if device.dsp is not None else ("mnn-int8",)
    base = build_plan(str(draws.choice(names)), graph, device)
    wide = Space.of(graph, device, base)
    choices = {g.key: (str(draws.choice(g.choices)),) for g in wide.genes}
    plans = 1
    # What is computed first: it decides most, and nothing else varies without it.
    weight = [4.0 if g.aspect in ("precision", "placement") else 1.0 for g in wide.genes]
    keys = np.log(draws.random(len(wide.genes))) / np.array(weight)
    for k in np.argsort(-keys).tolist():
        gene = wide.genes[k]
        count = int(draws.integers(2, min(4, len(gene.choices)) + 1))
        if plans * count <= most:
            chosen = draws.choice(len(gene.choices), count, replace=False)
            choices[gene.key] = tuple(gene.choices[c] for c in sorted(chosen.tolist()))
            plans *= count
    genes = tuple(Gene(g.aspect, g.subject, choices[g.key]) for g in wide.genes)
    counts = np.array([len(g.choices) for g in genes], dtype=np.int64)
    return replace(wide, genes=genes, counts=counts, _index={g.key: k for k, g in enumerate(genes)})


def best_of_all(space: Space) -> tuple[int, int]:
    """Least expected time and least energy of any plan of a space, and of how many."""
    rows = np.array(list(product(*(range(n) for n in space.counts))), dtype=np.int16)
    scores = Evaluator(space)(rows)
    best = int(np.argmin(scores.time_ns))
    assert plain_scores(space, rows[best : best + 1], "expected").time_ns[0] == scores.time_ns[best]
    return int(scores.time_ns[best]), int(scores.energy_pj.min())


def hold(seeds: range, most: int, whole: int) -> list[float]:
    """Bound over optimum of each drawn space; fails where one is above 1.

    The first ``whole`` of them are bounded over whole choices as well.
    """
    ratios = []
    for number, seed in enumerate(seeds):
        space = small_space(seed, most)
        time_ns, energy_pj = best_of_all(space)
        bound = lower_bound(space, work=0.5 * (number < whole))
        assert 0 < bound.time_ns <= time_ns, f"seed {seed}"
        assert quick_bound(space).time_ns <= bound.time_ns
        assert 0 < energy_bound(space) <= energy_pj, f"seed {seed}"
        ratios.append(bound.time_ns / time_ns)
    return ratios


def test_no_plan_of_a_small_space_is_below_its_bound() -> None:
    ratios = hold(range(40), 96, whole=12)
    assert np.median(ratios) > 0.8  # a bound of nothing would hold as well


@pytest.mark.accept
def test_bounds_hold_on_500_small_spaces(
    record_property: Callable[[str, object], None],
) -> None:
    ratios = hold(range(1000, 1500), 4096, whole=500)
    record_property("spaces", len(ratios))
    record_property("bound over optimum, median", round(float(np.median(ratios)), 4))
    record_property("bound over optimum, least", round(float(np.min(ratios)), 4))
    record_property("bound over optimum, largest", round(float(np.max(ratios)), 4))


@pytest.fixture(scope="module")
def lenet() -> Space:
    graph = training_graph(load_model("lenet", batch=64))
    device = load_device("snapdragon-865")
    return Space.of(graph, device, build_plan("mandheling", graph, device))


@pytest.fixture(scope="module")
def lenet_bound(lenet: Space) -> Bound:
    return lower_bound(lenet)


def test_the_same_space_has_the_same_bound(lenet: Space, lenet_bound: Bound) -> None:
    assert lower_bound(lenet).time_ns == lenet_bound.time_ns


def test_parts_add_up_to_the_bound(lenet_bound: Bound) -> None:
    total = sum(lenet_bound.parts.values())
    assert total == pytest.approx(lenet_bound.time_ns, rel=1e-3)
    assert any(part.startswith("path on") for part in lenet_bound.parts)


def test_whole_choices_tighten_the_bound_and_stay_below_plans(lenet: Space) -> None:
    linear, whole = lower_bound(lenet, rounds=2), lower_bound(lenet, rounds=2, work=0.2)
    assert linear.time_ns <= whole.time_ns
    assert sum(whole.parts.values()) == pytest.approx(whole.time_ns, rel=1e-3)
    found = obstacles(lenet, lenet.base, whole.time_ns)
    assert found.bound_ns <= found.own_bound_ns <= found.time_ns
    assert found.schedule + found.choice == pytest.approx(whole.gap(found.time_ns))
    assert found.without_rpc_ns < found.time_ns
    assert found.without_packing_ns < found.time_ns


def test_random_plans_do_not_beat_the_bound(lenet: Space, lenet_bound: Bound) -> None:
    scores = Evaluator(lenet)(lenet.random(200, seed=5))
    assert int(scores.time_ns.min()) >= lenet_bound.time_ns


def test_a_narrower_space_has_no_smaller_bound(lenet: Space, lenet_bound: Bound) -> None:
    cpu_only = Space.of(
        lenet.graph,
        lenet.device,
        lenet.base,
        palettes={**PALETTES, "placement": ("cpu:4", "cpu:2")},
    )
    assert lower_bound(cpu_only).time_ns > lenet_bound.time_ns


def test_an_aspect_that_the_bound_does_not_know_is_refused(lenet: Space) -> None:
    held = tuple(name for name in HELD if name != "backward")
    searched = Space.of(lenet.graph, lenet.device, lenet.base, held=held)
    filtered = lenet.base.replace("backward", "conv2", "filter:2")
    for space in (searched, Space.of(lenet.graph, lenet.device, filtered)):
        with pytest.raises(CertificateError, match="'backward' is not covered"):
            relax(space)
