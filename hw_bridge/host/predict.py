"""The predicted timeline of a plan on this machine: laws for the rows, then the event engine.

Only the plan, the modes of its rescale rules and the laws go in; nothing that was measured of
the plan or its model does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from cost_models.host.features import Work
from cost_models.host.law import HostLaws
from hw_bridge.host.rows import CPU, DSP, RPC, StepRows
from sim.engines import run
from sim.taskgraph import I64
from sim.timeline import Timeline

ALONE_RATE = 1_000_000
"""Units of work per microsecond of a process that computes alone: 1000 for each ns."""
_ROUNDS = 4
"""Times that sleeping is told from the timeline that the sleeping before gave."""


def predicted(steps: StepRows, works: Sequence[Work], laws: HostLaws) -> Timeline:
    """Time the rows of a step with the event engine.

    A row whose process has nothing to do before it wakes up first; how long it slept is seen on
    the timeline, so the engine runs a few times. Rows of both processes at once share what two
    streams of memory share in the engine: a rate that is :attr:`HostLaws.slowdown` short of both.

    Raises
    ------
    CalibrationError
        A row is of a family that has no law.
    """
    times = np.array([round(laws.ns(work)) for work in works], np.int64)
    sends = steps.graph.unit == RPC
    graph = replace(
        steps.graph,
        compute_ns=np.where(sends, times, 0),
        ddr_bytes=np.where(sends, 0, times * (ALONE_RATE // 1000)),
        rate_cap=np.full(len(times), ALONE_RATE, np.int64),
        ddr_rate=round(2 * ALONE_RATE / laws.slowdown),
    )
    timeline = run(graph)
    for _ in range(_ROUNDS):
        wake = [round(laws.wake_ns(gap)) if gap else 0 for gap in slept_ns(timeline).tolist()]
        timeline = run(replace(graph, lead_ns=np.array(wake, np.int64)))
    return timeline


def slept_ns(timeline: Timeline) -> I64:
    """How long the process of each row had nothing to do before it; ns, shape ``(n,)``."""
    slept = np.zeros(len(timeline.graph), np.int64)
    for process in (CPU, DSP):
        rows = np.flatnonzero(timeline.graph.unit == process)
        order = rows[np.lexsort((timeline.end_ns[rows], timeline.start_ns[rows]))]
        before = np.concatenate([[0], timeline.end_ns[order][:-1]])
        slept[order] = np.maximum(timeline.start_ns[order] - before, 0)
    return slept


def beside(timeline: Timeline) -> NDArray[np.float64]:
    """Share of the time of each row in which the other process ran a row, too; shape ``(n,)``."""
    share = np.zeros(len(timeline.graph))
    for process in (CPU, DSP):
        mine, others = (np.flatnonzero(timeline.graph.unit == p) for p in (process, 1 - process))
        if len(mine) and len(others):
            start, end = timeline.start_ns[mine], timeline.end_ns[mine]
            both = _busy_until(timeline, others, end) - _busy_until(timeline, others, start)
            share[mine] = both / np.maximum(end - start, 1)
    return share


def _busy_until(timeline: Timeline, rows: NDArray[np.int64], when: I64) -> I64:
    """Time that rows, which never overlap, have run until each instant; ns."""
    order = rows[np.argsort(timeline.start_ns[rows], kind="stable")]
    start, end = timeline.start_ns[order], timeline.end_ns[order]
    total = np.concatenate([[0], np.cumsum(end - start)])
    begun = np.searchsorted(start, when, side="right")
    last = np.maximum(begun - 1, 0)
    still = np.where(begun > 0, np.maximum(end[last] - when, 0), 0)
    return np.asarray(total[begun] - still, np.int64)
