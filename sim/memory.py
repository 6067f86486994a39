"""Memory over a step: which tensors live when, on a timeline.

A tensor is allocated when its producer starts (producer -1: it is there from 0) and freed when
the last of its users has ended (no users: it stays). At one instant allocations come before frees:
an executor may start a task before it has handled the end of another, so the peak is the
conservative one.
"""

from __future__ import annotations

import numpy as np

from sim.taskgraph import I64
from sim.timeline import Timeline


def _last_use_ns(timeline: Timeline) -> I64:
    """End of the last user of each tensor that has users; -1 for those without."""
    graph = timeline.graph
    last = np.full(len(graph.tensor_bytes), -1, np.int64)
    tensor = np.repeat(np.arange(len(last)), np.diff(graph.tensor_user_ptr))
    np.maximum.at(last, tensor, timeline.end_ns[graph.tensor_users])
    return last


def memory_profile(timeline: Timeline) -> tuple[I64, I64]:
    """Bytes in use over time, ``resident_bytes`` included.

    Returns
    -------
    times_ns, bytes_in_use
        ``bytes_in_use[k]`` holds from ``times_ns[k]`` to ``times_ns[k + 1]``. Times do not fall;
        one that comes twice is an instant after its allocations, and after its frees. The first
        is 0. Its maximum is :func:`peak_bytes`.
    """
    graph = timeline.graph
    producer = graph.tensor_producer
    allocated = np.zeros(len(producer), np.int64)
    made = producer >= 0
    allocated[made] = timeline.start_ns[producer[made]]
    freed = _last_use_ns(timeline)
    dies = freed >= 0
    when = np.concatenate([np.zeros(1, np.int64), allocated, freed[dies]])
    change = np.concatenate([[graph.resident_bytes], graph.tensor_bytes, -graph.tensor_bytes[dies]])
    frees = np.arange(len(when)) > len(producer)
    in_time = np.lexsort((frees, when))
    when, frees, used = when[in_time], frees[in_time], np.cumsum(change[in_time])
    last = np.append((np.diff(when) > 0) | (np.diff(frees.astype(np.int64)) != 0), True)
    return when[last], used[last].astype(np.int64)


def peak_bytes(timeline: Timeline) -> int:
    """Most bytes in use at any instant, ``resident_bytes`` included.

    Examples
    --------
    >>> from sim.engines import run
    >>> from sim.taskgraph import Unit, make_task_graph
    >>> tensors = [(100, 0, [1]), (30, 1, [])]
    >>> graph = make_task_graph([Unit("cpu", 1)], [0, 0], compute_ns=5, tensors=tensors)
    >>> peak_bytes(run(graph))
    130
    """
    return int(memory_profile(timeline)[1].max())
