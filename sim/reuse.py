"""Reuse of prepared DSP subgraphs under a memory budget.

A subgraph is built and prepared once per key and then executed again and again, as long as it
stays in DSP memory. Training visits its subgraphs cyclically, so least-recently-used evicts
exactly what comes next; most-recently-used is near optimal, and Belady's rule (evict what is
needed furthest in the future) is the optimum for equal sizes and a strong reference otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

RULES = ("none", "lru", "mru", "belady")
"""Eviction rules; ``none`` keeps nothing."""

Visit = tuple[str, int]
"""Key and bytes of a subgraph that is about to be executed."""


@dataclass(frozen=True, slots=True)
class CacheStep:
    """Outcome of one training step: which visits missed, and what stays prepared.

    ``prepared`` is ordered from least to most recently used.
    """

    misses: tuple[bool, ...]
    prepared: tuple[Visit, ...]

    @property
    def hits(self) -> int:
        """Visits that found their subgraph prepared."""
        return len(self.misses) - sum(self.misses)


def visit_all(
    rule: str, visits: Sequence[Visit], prepared: Sequence[Visit], budget_bytes: int
) -> CacheStep:
    """Visit each subgraph of a step in order, preparing what is missing.

    A subgraph larger than the budget is prepared, executed and torn down, as everything is under
    ``none``. Belady's rule takes the future to be this cycle, repeated.

    Raises
    ------
    ValueError
        The rule is unknown.
    """
    if rule not in RULES:
        raise ValueError(f"reuse rule {rule!r}: choose one of {', '.join(RULES)}")
    if rule == "none":
        return CacheStep((True,) * len(visits), ())
    held = dict(prepared)
    misses = []
    for position, (key, size) in enumerate(visits):
        hit = key in held
        misses.append(not hit)
        if hit:
            held[key] = held.pop(key)
            continue
        if size > budget_bytes:
            continue
        while held and sum(held.values()) + size > budget_bytes:
            del held[_victim(rule, held, visits, position)]
        held[key] = size
    return CacheStep(tuple(misses), tuple(held.items()))


def _victim(rule: str, held: dict[str, int], visits: Sequence[Visit], position: int) -> str:
    keys = list(held)
    if rule == "lru":
        return keys[0]
    if rule == "mru":
        return keys[-1]
    return max(keys, key=lambda key: (_next_use(key, visits, position), key))


def _next_use(key: str, visits: Sequence[Visit], position: int) -> int:
    """Visits from ``position`` until ``key`` comes again, in the repeated cycle."""
    count = len(visits)
    for distance in range(1, count + 1):
        if visits[(position + distance) % count][0] == key:
            return distance
    return count + 1


LONGEST = 64
"""Steps after which a cycle that has not closed is cut off."""


def settled_cycle(
    rule: str, visits: Sequence[Visit], budget_bytes: int, longest: int = LONGEST
) -> tuple[CacheStep, ...]:
    """Return the steps that repeat once the cache has settled.

    What is prepared determines the next step, so a state that comes back closes a cycle: often of
    one step, but keys that do not fit may take turns. After ``longest`` steps without a
    repetition the second half of them stands for the cycle.
    """
    seen: dict[tuple[Visit, ...], int] = {}
    steps: list[CacheStep] = []
    prepared: tuple[Visit, ...] = ()
    while prepared not in seen and len(steps) < longest:
        seen[prepared] = len(steps)
        steps.append(visit_all(rule, visits, prepared, budget_bytes))
        prepared = steps[-1].prepared
    return tuple(steps[seen.get(prepared, len(steps) // 2) :])


def steady_hits(
    rule: str, visits: Sequence[Visit], budget_bytes: int, steps: int = 64
) -> tuple[int, int]:
    """Hits in the last ``steps // 2`` of ``steps`` cycles, and the visits in them."""
    prepared: tuple[Visit, ...] = ()
    hits = 0
    for step in range(steps):
        outcome = visit_all(rule, visits, prepared, budget_bytes)
        prepared = outcome.prepared
        hits += outcome.hits if step >= steps // 2 else 0
    return hits, len(visits) * (steps - steps // 2)


def hit_bound(visits: Sequence[Visit], budget_bytes: int) -> int:
    """Bound from above on the hits per cycle of any rule, in steady state.

    A hit keeps its subgraph in memory from the last visit to this one. At each instant of the
    cycle the kept subgraphs fit the budget, so the sum over hits of (bytes x visits kept) is
    at most budget x length of the cycle. Taking the cheapest hits first bounds their number.
    The subgraph executing now also occupies its bytes; leaving that out keeps the bound valid.
    """
    count = len(visits)
    costs = sorted(
        size * _next_use(key, visits, position)
        for position, (key, size) in enumerate(visits)
        if size <= budget_bytes
    )
    room, hits = budget_bytes * count, 0
    for cost in costs:
        if cost > room:
            break
        room -= cost
        hits += 1
    return hits
