"""Fronts: what is dominated goes, whatever the order in which plans come in."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.search import OBJECTIVES, Found, SearchError, front_sha256, merge
from experiments.search.archive import Archive
from experiments.search.front import undominated
from experiments.search.objectives import check_limits, check_objectives, places

SMALL = st.integers(0, 3)
PLANS = st.builds(
    Found, st.tuples(SMALL, SMALL, SMALL, SMALL), st.tuples(st.integers(0, 1), st.integers(0, 1))
)
FRONTS = st.lists(PLANS, max_size=12)
CHOSEN = st.lists(st.sampled_from(OBJECTIVES), min_size=1, unique=True)


def dominates(one: Found, two: Found, columns: list[int]) -> bool:
    pairs = [(one.values[c], two.values[c]) for c in columns]
    return all(a <= b for a, b in pairs) and any(a < b for a, b in pairs)


@given(CHOSEN, FRONTS, FRONTS, FRONTS)
def test_merging_is_associative_commutative_and_idempotent(
    objectives: list[str], one: list[Found], two: list[Found], three: list[Found]
) -> None:
    whole = merge(objectives, one, two, three)
    assert merge(objectives, merge(objectives, one, two), three) == whole
    assert merge(objectives, one, merge(objectives, three, two)) == whole
    assert merge(objectives, three, one, two) == whole
    assert merge(objectives, whole, whole) == whole


@given(CHOSEN, FRONTS)
def test_no_dominated_plan_survives_and_every_other_value_does(
    objectives: list[str], plans: list[Found]
) -> None:
    columns = places(objectives)
    front = merge(objectives, plans)
    assert not any(dominates(a, b, columns) for a in plans for b in front)
    best = [p for p in plans if not any(dominates(q, p, columns) for q in plans)]
    kept = {tuple(f.values[c] for c in columns) for f in front}
    assert kept == {tuple(p.values[c] for c in columns) for p in best}
    assert len(front) == len(kept)


def test_equal_objectives_keep_the_plan_that_is_better_otherwise() -> None:
    wasteful, thrifty = Found((5, 9, 0, 0), (0, 0)), Found((5, 2, 0, 0), (1, 1))
    assert merge(["time"], [wasteful], [thrifty]) == (thrifty,)


@given(CHOSEN, FRONTS)
def test_digests_tell_fronts_apart(objectives: list[str], plans: list[Found]) -> None:
    front = merge(objectives, plans)
    assert front_sha256(front) == front_sha256(merge(objectives, reversed(plans)))
    if front:
        changed = (Found(front[0].values, (*front[0].genes, 1)), *front[1:])
        assert front_sha256(changed) != front_sha256(front)


@given(FRONTS.filter(len), st.integers(1, 4))
def test_an_archive_keeps_the_least_or_spreads_over_the_front(
    plans: list[Found], size: int
) -> None:
    rows = np.array([p.genes for p in plans], dtype=np.int16)
    values = np.array([p.values for p in plans], dtype=np.int64)
    few, spread = Archive(size), Archive(size)
    for k in range(len(plans)):
        few.add(rows[k : k + 1], values[k : k + 1, :1])
        spread.add(rows[k : k + 1], values[k : k + 1, :2])
    least = values[:, 0].min()
    kept = {row.tobytes() for row in few.rows()}
    assert len(kept) == len(few.rows()) == min(size, len(np.unique(rows, axis=0)))
    assert any(values[k, 0] == least and rows[k].tobytes() in kept for k in range(len(plans)))
    front = values[undominated(values[:, :2])]
    assert 1 <= len(spread.rows()) <= min(size, len(np.unique(front[:, :2], axis=0)))


def test_found_survives_json_and_refuses_what_is_none() -> None:
    found = Found((1, 2, 3, 4), (0, 5, 1))
    document = found.to_json()
    assert document["time_ns"] == 1
    assert Found.from_json(document) == found
    for key, value in (("genes", "abc"), ("genes", [0, -1]), ("risk_ppm", 1.5)):
        with pytest.raises(SearchError, match="give whole numbers"):
            Found.from_json({**document, key: value})


def test_objectives_and_limits_are_refused_by_name() -> None:
    with pytest.raises(SearchError, match="'tme' is unknown; did you mean 'time'"):
        check_objectives(["tme"])
    with pytest.raises(SearchError, match="name one twice"):
        check_objectives(["time", "time"])
    with pytest.raises(SearchError, match="objectives are empty"):
        check_objectives([])
    with pytest.raises(SearchError, match="limit on 'speed': unknown"):
        check_limits({"speed": 1})
    with pytest.raises(SearchError, match=r"limit on risk is 0\.5; give a whole number"):
        check_limits({"risk": 0.5})  # type: ignore[dict-item]
