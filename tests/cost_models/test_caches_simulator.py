"""The compiled simulator against its oracle, invariants, and what it refuses."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cost_models.caches import CacheError, Hierarchy, Level
from cost_models.caches.oracle import PlainSimulator
from cost_models.caches.simulator import Chunk, Simulator


def chunk(rows: list[tuple[int, int, int]]) -> Chunk:
    addresses, lengths, codes = zip(*rows, strict=True) if rows else ((), (), ())
    return Chunk(
        np.array(addresses, np.int64), np.array(lengths, np.int32), np.array(codes, np.uint8)
    )


@st.composite
def hierarchies(draw: st.DrawFn) -> Hierarchy:
    """One to three small levels; lines do not get shorter; sets of any number."""
    line, levels = 1 << draw(st.integers(2, 4)), []
    for index in range(draw(st.integers(1, 3))):
        line <<= draw(st.integers(0, 1))
        sets, ways = draw(st.integers(1, 6)), draw(st.integers(1, 5))
        levels.append(Level(f"L{index + 1}", sets * ways * line, ways, line))
    return Hierarchy(tuple(levels), 64, draw(st.integers(0, len(levels) - 1)))


@st.composite
def traces(draw: st.DrawFn) -> tuple[Hierarchy, list[tuple[int, int, int]]]:
    caches = draw(hierarchies())
    access = st.tuples(
        st.integers(0, 700), st.integers(1, 70), st.integers(0, 2 * len(caches.levels) + 1)
    )
    return caches, draw(st.lists(access, max_size=150))


@given(traces(), st.integers(1, 150))
@settings(max_examples=150, deadline=None)
def test_equals_the_oracle_however_it_is_cut(
    case: tuple[Hierarchy, list[tuple[int, int, int]]], cut: int
) -> None:
    caches, rows = case
    fast, plain = Simulator(caches), PlainSimulator(caches)
    fast.run(chunk(rows[:cut]))
    fast.run(chunk(rows[cut:]))
    for address, length, code in rows:
        plain.access(address, length, code >> 1, bool(code & 1))
    assert fast.traffic() == plain.traffic()
    fast.flush()
    plain.flush()
    assert fast.traffic() == plain.traffic()
    for near, far in zip(fast.traffic().levels, fast.traffic().levels[1:], strict=False):
        assert far.loads >= near.misses
        assert far.stores >= near.evictions


def test_a_store_hit_counts_as_nothing_and_does_not_refresh_its_line() -> None:
    caches = Simulator(Hierarchy((Level("L1", 128, 2, 64),)))
    caches.run(chunk([(0, 4, 0), (64, 4, 0), (0, 4, 1), (128, 4, 0), (64, 4, 0)]))
    level = caches.traffic().levels[0]
    assert (level.loads, level.stores, level.hits, level.misses) == (4, 1, 1, 3)
    assert level.evictions == 1  # the line that was stored to went first


def test_bytes_of_a_streamed_copy() -> None:
    rows = [row for i in range(256) for row in ((64 * i, 64, 0), (1 << 20 | 64 * i, 64, 1))]
    caches = Simulator(Hierarchy((Level("L1", 1024, 2, 64), Level("L2", 4096, 4, 64))))
    traffic = caches.run_all([chunk(rows)])
    for level in traffic.levels:
        assert (level.read_bytes, level.written_bytes) == (2 * 256 * 64, 256 * 64)
    assert traffic.memory_bytes == 3 * 256 * 64


def test_the_scratchpad_counts_bytes_only() -> None:
    caches = Simulator(Hierarchy((Level("L1", 128, 2, 64),), scratchpad_bytes=64))
    caches.run(chunk([(0, 128, 2), (0, 32, 3), (0, 32, 3)]))
    traffic = caches.traffic()
    assert (traffic.scratchpad_read_bytes, traffic.scratchpad_written_bytes) == (128, 64)
    assert traffic.levels[0].loads == traffic.levels[0].misses == 0


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"line_bytes": 48}, ("line_bytes = 48", "power of two", "32 or 64")),
        ({"ways": 3}, ("ways = 3", "do not divide size_bytes = 1024", "whole number of sets")),
        ({"size_bytes": 0}, ("size_bytes = 0", "1 or more")),
        ({"ways": 0}, ("ways = 0", "1 or more")),
        ({"line_bytes": -64}, ("line_bytes = -64", "1 or more")),
        ({"ways": True}, ("ways = True", "1 or more")),
        ({"size_bytes": 1 << 40, "ways": 1}, ("size_bytes = 1099511627776", "make it smaller")),
    ],
)
def test_levels_that_cannot_be(fields: dict[str, Any], words: tuple[str, ...]) -> None:
    sizes = {"size_bytes": 1024, "ways": 4, "line_bytes": 64, **fields}
    with pytest.raises(CacheError) as error:
        Level("L1", **sizes)
    assert all(word in str(error.value) for word in ("L1", *words))


L1, WIDE = Level("L1", 1024, 4, 64), Level("L2", 4096, 4, 32)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (((),), ("levels = 0", "1 to 6")),
        (((L1,) * 7,), ("levels = 7", "1 to 6")),
        (((L1, WIDE),), ("L2: line_bytes = 32", "64 of L1", "lengthen")),
        (((L1,), -1), ("scratchpad_bytes = -1", "0 or more")),
        (((L1,), 0, 1), ("vector_level = 1", "1 levels", "use 0")),
    ],
)
def test_hierarchies_that_cannot_be(arguments: tuple[Any, ...], words: tuple[str, ...]) -> None:
    with pytest.raises(CacheError) as error:
        Hierarchy(*arguments)
    assert all(word in str(error.value) for word in words)


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([(0, 4, 0), (-64, 4, 0)], ("addresses has -64", "0 or more")),
        ([(1 << 62, 4, 0)], ("addresses has", "2^62")),
        ([(0, 0, 0)], ("lengths has 0", "1 or more")),
        ([(0, 4, 2)], ("enters level 1", "up to 0", "scratchpad")),
    ],
)
def test_traces_that_cannot_be(rows: list[tuple[int, int, int]], words: tuple[str, ...]) -> None:
    with pytest.raises(CacheError) as error:
        Simulator(Hierarchy((L1,))).run(chunk(rows))
    assert all(word in str(error.value) for word in ("trace", *words))


def test_arrays_of_another_type_are_refused() -> None:
    good = chunk([(0, 4, 0)])
    with pytest.raises(CacheError, match=r"lengths is int64 of shape \(1,\); allowed: int32"):
        Simulator(Hierarchy((L1,))).run(good._replace(lengths=np.array([4], np.int64)))
    with pytest.raises(CacheError, match=r"codes is uint8 of shape \(2,\)"):
        Simulator(Hierarchy((L1,))).run(good._replace(codes=np.zeros(2, np.uint8)))
