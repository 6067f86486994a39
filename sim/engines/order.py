"""Orders of dispatch: what a strict run is given, and what a timeline shows.

An order is a permutation of the task ids. Its restriction to a unit is the sequence in which
that unit starts its tasks.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sim.taskgraph import I64, TaskGraph
from sim.timeline import Timeline

Order = Sequence[int] | I64


class EngineError(ValueError):
    """A run that cannot be done; the message names the field, the value and what is allowed."""


def checked_order(graph: TaskGraph, order: Order) -> I64:
    """Return ``order`` as an int64 array of shape ``(n,)``; refuse what is no permutation."""
    array = np.asarray(order)
    n = len(graph)
    if array.shape != (n,) or (n and array.dtype.kind not in "iu"):
        raise EngineError(
            f"order is {array.dtype}{list(array.shape)}; allowed: integers[{n}]. "
            "Give each task id once."
        )
    wrong = np.flatnonzero(np.sort(array) != np.arange(n))
    if len(wrong):
        raise EngineError(
            f"order lacks task {int(wrong[0])} or repeats another; allowed: a permutation of "
            f"0..{n - 1}. Give each task id once."
        )
    return array.astype(np.int64)


def ranks_in_units(graph: TaskGraph, order: I64) -> I64:
    """Position (from 0) of each task within its own unit's part of ``order``; shape ``(n,)``."""
    by_unit = order[np.argsort(graph.unit[order], kind="stable")]
    first = np.searchsorted(graph.unit[by_unit], np.arange(len(graph.units)))
    ranks = np.empty(len(graph), np.int64)
    ranks[by_unit] = np.arange(len(graph)) - first[graph.unit[by_unit]]
    return ranks


def dead_lock(graph: TaskGraph, end_ns: I64) -> EngineError:
    """Say which task never ended (``end_ns`` is -1 there) in a strict run."""
    stuck = int(np.flatnonzero(end_ns < 0)[0])
    unit = graph.units[int(graph.unit[stuck])].name
    return EngineError(
        f"order dead-locks: task {stuck} ({graph.names[stuck]!r}) on unit {unit!r} waits for "
        "a task that is ordered after one that waits for it; allowed: an order that no dependency "
        "contradicts. Use a topological order."
    )


def dispatch_order(timeline: Timeline) -> I64:
    """Order of dispatch of a timeline, as an int64 permutation of shape ``(n,)``.

    For an engine's timeline it is what the engine did: topological, and a strict run in it
    with the same ``contention`` gives the same rows. Starts alone do not tell: a task that
    was held back by another may have started with it at one instant.

    Where the sequence is unknown (measured) tasks are sorted by start; at one instant those of
    no duration come first, by id, then the others by (priority, id). That is topological too.
    """
    if timeline.dispatch is not None:
        return timeline.dispatch.copy()
    lasts = timeline.end_ns > timeline.start_ns
    priority = np.where(lasts, timeline.graph.priority, 0)
    ids = np.arange(len(timeline.graph))
    return np.lexsort((ids, priority, lasts, timeline.start_ns)).astype(np.int64)
