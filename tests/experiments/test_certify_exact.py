"""Proofs for small graphs of tasks, against every choice where there are few."""

from __future__ import annotations

from itertools import product

import pytest

from experiments.certify import exact
from experiments.certify.choices import ChoiceGraph, Variant, training_instance
from experiments.certify.exact import certify_graph
from experiments.certify.integral import _solve
from experiments.certify.relaxation import CertificateError
from sim.taskgraph import Unit


def best_of_all(graph: ChoiceGraph) -> int:
    return min(graph.time_ns(c) for c in product(*(range(len(o)) for o in graph.variants)))


@pytest.mark.parametrize("memory", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_what_is_proven_is_the_best_of_all_choices(seed: int, memory: bool) -> None:
    graph = training_instance(3, seed, memory=memory)
    proof = certify_graph(graph)
    assert proof.optimal
    assert proof.time_ns == proof.bound_ns == graph.time_ns(proof.choice) == best_of_all(graph)


def wide_graph(seed: int) -> ChoiceGraph:
    """Eight tasks on a pool of four slots and one of one, with variants of several widths."""
    drawn = training_instance(3, seed, memory=True)
    variants = tuple(
        (Variant(0, cpu.compute_ns, 1 + k % 3, ddr_bytes=cpu.ddr_bytes, rate_cap=20_000), dsp)
        for k, (cpu, dsp) in enumerate(drawn.variants)
    )
    priority = tuple(reversed(range(len(variants))))
    units = (Unit("cpu", 4), Unit("dsp", 1))
    return ChoiceGraph(units, drawn.preds, variants, 30_000, 25_000, priority)


@pytest.mark.parametrize("seed", range(3))
def test_slots_contention_and_priorities_are_the_engines(seed: int) -> None:
    graph = wide_graph(seed)
    proof = certify_graph(graph)
    best = best_of_all(graph)
    assert proof.bound_ns <= best <= proof.time_ns
    assert proof.optimal == (proof.bound_ns == proof.time_ns == best)


def test_sixty_tasks_are_proven() -> None:
    proof = certify_graph(training_instance(20, 1, memory=False))
    assert proof.optimal
    assert proof.gap == 0


def test_a_choice_that_a_solver_once_missed_is_found() -> None:
    """OR-tools 9.15 called 114,726,966 ns optimal here; the engine runs this choice faster."""
    graph = training_instance(20, 6, memory=False)
    proof = certify_graph(graph)
    assert proof.time_ns == graph.time_ns(proof.choice) <= 114_297_534
    assert proof.optimal


def test_a_claim_that_a_found_choice_contradicts_is_thrown_away(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    graph = training_instance(5, 2, memory=False)
    monkeypatch.setattr(exact, "_descend", lambda graph, seed: (first, graph.time_ns(first)))
    first = (0,) * len(graph)
    honest, lies = exact._Model.solve, iter((exact._Found(None, True, 2**40, 0.0),))

    def once_wrong(model: exact._Model, work: float, seed: int, way: exact._Way) -> exact._Found:
        return next(lies, None) or honest(model, work, seed, way)

    expected = certify_graph(graph)
    monkeypatch.setattr(exact._Model, "solve", once_wrong)
    proof = certify_graph(graph)
    assert proof.time_ns == expected.time_ns < graph.time_ns(first)
    assert proof.optimal


def test_without_work_there_is_a_choice_and_a_bound() -> None:
    graph = training_instance(12, 0, memory=True)
    proof = certify_graph(graph, work=1e-4)
    assert proof.time_ns == graph.time_ns(proof.choice)
    assert 0 <= proof.bound_ns <= proof.time_ns
    assert 0 <= proof.gap <= 1


def test_the_same_limit_gives_the_same_proof() -> None:
    graph = training_instance(6, 5, memory=True)
    one, other = certify_graph(graph), certify_graph(graph)
    assert (one.choice, one.bound_ns, one.examined) == (
        other.choice,
        other.bound_ns,
        other.examined,
    )


def test_a_task_without_a_variant_is_refused() -> None:
    with pytest.raises(ValueError, match="variants of task 1: none"):
        ChoiceGraph((Unit("cpu", 1),), ((), (0,)), ((Variant(0, 5),), ()), 0, 10, (0, 1))
    with pytest.raises(ValueError, match="priority: 1 entries for 2 tasks"):
        ChoiceGraph((Unit("cpu", 1),), ((), ()), ((Variant(0, 5),), (Variant(0, 5),)), 0, 10, (0,))


def test_a_model_that_the_solver_refuses_is_no_answer() -> None:
    """Times beyond its integers: neither "nothing better" nor a bound of 0."""
    cp_model = pytest.importorskip("ortools.sat.python.cp_model")
    beyond = exact._Model(training_instance(2, 1, memory=True), 2**62 + 2)
    with pytest.raises(CertificateError, match=r"OR-tools refuses the model: .*domain"):
        beyond.solve(1.0, 0, exact.WAYS[0])
    model = cp_model.CpModel()
    model.minimize(model.new_int_var(0, 2**62, "time"))
    with pytest.raises(CertificateError, match="OR-tools refuses the model"):
        _solve(cp_model, model, 1.0, 1000, 0)
