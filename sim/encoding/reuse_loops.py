"""Reuse of prepared subgraphs, compiled: the settled cycle of :mod:`sim.reuse` on arrays.

Keys are 64-bit digests. Results are equal to :func:`sim.reuse.settled_cycle`, thinned as
:meth:`sim.lowering.Lowering.settled` does.
"""

from __future__ import annotations

from typing import NamedTuple

from sim.encoding.jit import HASH_PRIME, compiled, inlined
from sim.lowering import CYCLE_STEPS
from sim.reuse import LONGEST, RULES
from sim.taskgraph import I64

NONE, _LRU, _MRU = (RULES.index(name) for name in ("none", "lru", "mru"))


class Cache(NamedTuple):
    """Scratch: what is prepared, and the steps so far. Shape ``(subgraphs,)`` unless said."""

    miss: I64
    """``(LONGEST, subgraphs)``: 1 where a step prepares a subgraph."""
    seen: I64
    """``(LONGEST + 1,)``: digest of what was prepared before each step."""
    chosen: I64
    """``(CYCLE_STEPS,)``: rows of ``miss`` that stand for the settled cycle."""
    ident: I64
    """Number of a subgraph's key among the distinct ones."""
    table: I64
    """Open hash table from key to number: a power of two, at least twice as many; 0 for empty,
    else 1 + number."""
    size: I64
    """Bytes of each distinct key; likewise the three below are by distinct key."""
    name: I64
    first: I64
    upcoming: I64
    next_same: I64
    """Next visit of the same key, by visit, cyclically."""
    total: I64
    """Shape ``(1,)``: bytes of all distinct keys; not found under ``none``."""
    held: I64
    """Distinct keys prepared, the least recently used first."""
    is_held: I64


@inlined
def _identify(keys: I64, sizes: I64, visits: int, c: Cache) -> int:
    """Number the distinct keys; how many they are."""
    last = 1
    while last < 2 * visits:
        last *= 2
    last -= 1
    for at in range(last + 1):
        c.table[at] = 0
    distinct = 0
    for visit in range(visits):
        place = keys[visit] & last
        while c.table[place] > 0 and c.name[c.table[place] - 1] != keys[visit]:
            place = (place + 1) & last
        if c.table[place] == 0:
            c.name[distinct] = keys[visit]
            c.size[distinct] = sizes[visit]
            c.first[distinct] = visit
            distinct += 1
            c.table[place] = distinct
        c.ident[visit] = c.table[place] - 1
    for k in range(distinct):
        c.upcoming[k] = c.first[k] + visits
    for visit in range(visits - 1, -1, -1):
        c.next_same[visit] = c.upcoming[c.ident[visit]] % visits
        c.upcoming[c.ident[visit]] = visit
    return distinct


@inlined
def _victim(rule: int, held: int, position: int, visits: int, c: Cache) -> int:
    """Place in ``held`` of what is evicted at a visit."""
    if rule == _LRU:
        return 0
    if rule == _MRU:
        return held - 1
    best = 0
    furthest = -1
    for at in range(held):
        distance = (c.upcoming[c.held[at]] - position - 1) % visits + 1
        if distance > furthest:
            furthest = distance
            best = at
    return best


@inlined
def _drop(at: int, held: int, c: Cache) -> int:
    for place in range(at, held - 1):
        c.held[place] = c.held[place + 1]
    return held - 1


@inlined
def _step(rule: int, step: int, held: int, visits: int, budget: int, c: Cache) -> int:
    """One training step; how many keys are prepared after it."""
    used = 0
    for at in range(held):
        used += c.size[c.held[at]]
    for visit in range(visits):
        key = c.ident[visit]
        c.upcoming[key] = c.next_same[visit]
        c.miss[step, visit] = 1 - c.is_held[key]
        if c.is_held[key] == 1:
            at = held - 1
            while c.held[at] != key:
                at -= 1
            held = _drop(at, held, c)
            c.held[held] = key
            held += 1
            continue
        if c.size[key] > budget:
            continue
        while held > 0 and used + c.size[key] > budget:
            at = _victim(rule, held, visit, visits, c)
            c.is_held[c.held[at]] = 0
            used -= c.size[c.held[at]]
            held = _drop(at, held, c)
        c.held[held] = key
        held += 1
        c.is_held[key] = 1
        used += c.size[key]
    return held


@inlined
def _digest(held: int, c: Cache) -> int:
    digest = held + 1
    for at in range(held):
        digest = (digest ^ (c.held[at] + 1)) * HASH_PRIME
    return digest


@compiled
def settle(
    rule: int, keys: I64, sizes: I64, visits: int, budget: int, summed: int, c: Cache
) -> int:
    """Fill ``miss`` and ``chosen`` with the steps of the settled cycle; how many were chosen.

    ``total`` is only filled in if ``summed`` is 1.
    """
    c.chosen[0] = 0
    c.total[0] = 0
    if visits == 0:
        return 1
    if rule == NONE:
        for visit in range(visits):
            c.miss[0, visit] = 1
        return 1
    total = 0
    for visit in range(visits):
        total += sizes[visit]
    if total <= budget and summed == 0:
        for visit in range(visits):
            c.miss[0, visit] = 0
        return 1
    distinct = _identify(keys, sizes, visits, c)
    total = 0
    for k in range(distinct):
        total += c.size[k]
        c.is_held[k] = 0
        c.upcoming[k] = c.first[k]
    c.total[0] = total
    if total <= budget:
        for visit in range(visits):
            c.miss[0, visit] = 0
        return 1
    steps = 0
    held = 0
    begin = -1
    c.seen[0] = _digest(0, c)
    while begin < 0 and steps < LONGEST:
        held = _step(rule, steps, held, visits, budget, c)
        steps += 1
        c.seen[steps] = _digest(held, c)
        for earlier in range(steps):
            if c.seen[earlier] == c.seen[steps]:
                begin = earlier
                break
    if begin < 0:
        begin = steps // 2
    stride = -(-(steps - begin) // CYCLE_STEPS)
    count = 0
    for step in range(begin, steps, stride):
        c.chosen[count] = step
        count += 1
    return count


@compiled
def worst(count: int, visits: int, c: Cache) -> int:
    """Row of ``miss`` with the most misses among those chosen; ties as tuples compare."""
    best: int = c.chosen[0]
    most = -1
    for at in range(count):
        row = c.chosen[at]
        misses = 0
        for visit in range(visits):
            misses += c.miss[row, visit]
        later = False
        if misses == most:
            for visit in range(visits):
                if c.miss[row, visit] != c.miss[best, visit]:
                    later = c.miss[row, visit] > c.miss[best, visit]
                    break
        if misses > most or later:
            best = row
            most = misses
    return best
