"""Reuse of prepared subgraphs: cyclic visits, the optimum by brute force, and the bound."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim.reuse import Visit, hit_bound, settled_cycle, steady_hits, visit_all

RULES = ("lru", "mru", "belady")
property_test = settings(max_examples=150, derandomize=True, deadline=None, database=None)


def cyclic(count: int, size: int = 1) -> list[Visit]:
    return [(f"s{k}", size) for k in range(count)]


@pytest.mark.parametrize("slots", [1, 2, 3, 5, 8])
def test_lru_never_hits_on_a_cycle_that_does_not_fit(slots: int) -> None:
    for count in (slots + 1, 2 * slots):
        if count > slots:
            assert steady_hits("lru", cyclic(count), slots)[0] == 0


@pytest.mark.parametrize("slots", [1, 2, 3, 5])
@pytest.mark.parametrize("rule", ["mru", "belady"])
def test_mru_is_optimal_on_a_cycle(rule: str, slots: int) -> None:
    # Of M keys, N - 1 stay while one slot serves all others; which ones stay moves on by one key
    # per cycle, so of M - 1 consecutive cycles M (N - 1) visits hit.
    count = 2 * slots
    cycles = 4 * (count - 1)
    hits, visits = steady_hits(rule, cyclic(count), slots, steps=2 * cycles)
    assert visits == cycles * count
    assert hits == 4 * count * (slots - 1)


@pytest.mark.parametrize("rule", RULES)
def test_a_cycle_that_fits_is_prepared_once(rule: str) -> None:
    first = visit_all(rule, cyclic(4), (), 4)
    again = visit_all(rule, cyclic(4), first.prepared, 4)
    assert (first.hits, again.hits) == (0, 4)
    assert again.misses == (False,) * 4


def test_none_prepares_every_time_and_keeps_nothing() -> None:
    step = visit_all("none", cyclic(3), cyclic(3), 99)
    assert step.misses == (True, True, True)
    assert step.prepared == ()


def test_evictions_by_hand() -> None:
    # Two slots; a and b are held, b used last; c, then a.
    visits = [("c", 1), ("a", 1)]
    held = [("a", 1), ("b", 1)]
    assert visit_all("lru", visits, held, 2).prepared == (("c", 1), ("a", 1))
    assert visit_all("lru", visits, held, 2).misses == (True, True)
    assert visit_all("mru", visits, held, 2).misses == (True, False)
    assert visit_all("mru", visits, held, 2).prepared == (("c", 1), ("a", 1))
    assert visit_all("belady", visits, held, 2).misses == (True, False)  # b is never used again


def test_what_exceeds_the_budget_is_never_kept_and_evicts_nothing() -> None:
    step = visit_all("lru", [("a", 2), ("big", 5), ("a", 2)], (), 4)
    assert step.misses == (True, True, False)
    assert step.prepared == (("a", 2),)


def test_several_small_ones_make_room_for_a_large_one() -> None:
    step = visit_all("lru", [("a", 1), ("b", 1), ("c", 1), ("big", 3)], (), 3)
    assert step.prepared == (("big", 3),)


def test_unknown_rule() -> None:
    with pytest.raises(ValueError, match="reuse rule 'fifo': choose one of none, lru, mru, belady"):
        visit_all("fifo", [], (), 1)


@st.composite
def sequences(draw: st.DrawFn) -> list[Visit]:
    sizes = draw(st.lists(st.integers(1, 6), min_size=1, max_size=6))
    keys = draw(st.lists(st.integers(0, len(sizes) - 1), min_size=1, max_size=10))
    return [(f"s{k}", sizes[k]) for k in keys]


@property_test
@given(sequences(), st.integers(1, 20))
def test_budget_is_kept_and_hits_were_held(visits: list[Visit], budget: int) -> None:
    for rule in RULES:
        prepared: tuple[Visit, ...] = ()
        for _ in range(4):
            step = visit_all(rule, visits, prepared, budget)
            assert sum(size for _, size in step.prepared) <= budget
            assert len(step.misses) == len(visits)
            if not step.misses[0]:
                assert visits[0] in prepared
            prepared = step.prepared


@property_test
@given(sequences(), st.integers(1, 20))
def test_the_bound_holds_for_every_rule(visits: list[Visit], budget: int) -> None:
    for rule in RULES:
        hits, seen = steady_hits(rule, visits, budget, steps=48)
        assert hits <= hit_bound(visits, budget) * 24
        assert seen == 24 * len(visits)


def fewest_misses(visits: list[str], slots: int) -> int:
    """Try every eviction; a missing subgraph must be prepared, as it is about to run."""
    best = {frozenset[str](): 0}
    for key in visits:
        after: dict[frozenset[str], int] = {}
        for held, misses in best.items():
            if key in held:
                options = [(held, misses)]
            elif len(held) < slots:
                options = [(held | {key}, misses + 1)]
            else:
                options = [((held - {out}) | {key}, misses + 1) for out in held]
            for state, count in options:
                after[state] = min(count, after.get(state, count))
        best = after
    return min(best.values())


@property_test
@given(st.lists(st.integers(0, 4), min_size=1, max_size=7), st.integers(1, 4))
def test_belady_is_the_optimum_for_equal_sizes(keys: list[int], slots: int) -> None:
    visits = [(f"s{k}", 1) for k in keys]
    prepared: tuple[Visit, ...] = ()
    misses = dict.fromkeys(RULES, 0)
    for rule in RULES:
        prepared = ()
        for _ in range(3):
            step = visit_all(rule, visits, prepared, slots)
            prepared = step.prepared
            misses[rule] += sum(step.misses)
    optimum = fewest_misses([name for name, _ in visits] * 3, slots)
    assert misses["belady"] == optimum
    assert min(misses.values()) == optimum


def test_settled_cycles_by_hand() -> None:
    # Fits: one step without misses. LRU on a cycle that does not fit: one step that misses all.
    assert [step.hits for step in settled_cycle("mru", cyclic(3), 3)] == [3]
    assert [step.hits for step in settled_cycle("lru", cyclic(3), 2)] == [0]
    assert [step.hits for step in settled_cycle("none", cyclic(3), 9)] == [0]
    # MRU with two slots for three keys: M - 1 = 2 steps, M (N - 1) = 3 hits.
    assert sorted(step.hits for step in settled_cycle("mru", cyclic(3), 2)) == [1, 2]


@property_test
@given(sequences(), st.integers(1, 20), st.sampled_from(RULES))
def test_a_settled_cycle_repeats(visits: list[Visit], budget: int, rule: str) -> None:
    cycle = settled_cycle(rule, visits, budget)
    prepared = cycle[-1].prepared
    for step in (*cycle, *cycle):
        again = visit_all(rule, visits, prepared, budget)
        assert again == step
        prepared = again.prepared
