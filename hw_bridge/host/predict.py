"""The predicted timeline of a plan on this machine: laws for the rows, then the event engine.

Only the plan, the modes of its rescale rules and the laws go in; nothing that was measured of
the plan or its model does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from cost_models.host.features import Work
from cost_models.host.law import HostLaws
from hw_bridge.host.rows import CPU, DSP, StepRows
from sim.engines import run
from sim.taskgraph import I64
from sim.timeline import Timeline

_ROUNDS = 4
"""Times that sleeping is told from the timeline that the sleeping before gave."""


def predicted(steps: StepRows, works: Sequence[Work], laws: HostLaws) -> Timeline:
    """Time the rows of a step with the event engine.

    A row whose process has nothing to do before it wakes up first; how long it slept is seen on
    the timeline, so the engine runs a few times.

    Raises
    ------
    CalibrationError
        A row is of a family that has no law.
    """
    times = np.array([round(laws.ns(work)) for work in works], np.int64)
    timeline = run(replace(steps.graph, compute_ns=times))
    for _ in range(_ROUNDS):
        wake = [round(laws.wake_ns(gap)) if gap else 0 for gap in slept_ns(timeline).tolist()]
        timeline = run(replace(steps.graph, compute_ns=times, lead_ns=np.array(wake, np.int64)))
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
