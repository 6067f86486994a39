"""The plain evaluator: decode each plan and run the single-plan engines. Slow, and to be read.

:class:`sim.encoding.Evaluator` gives the same integers.
"""

from __future__ import annotations

import numpy as np

from sim.encoding.scores import Scores
from sim.encoding.space import Genes, Space
from sim.engines import run as run_engine
from sim.engines import static_times
from sim.expected import expect, quiet_tasks
from sim.memory import peak_bytes
from sim.timeline import Timeline


def plain_scores(space: Space, batch: Genes, fidelity: str, *, memory: bool = False) -> Scores:
    """Score every row of ``batch``, shape ``(plans, genes)``; see :class:`Evaluator`."""
    rows = [_one(space, row, fidelity, memory) for row in batch]
    columns = np.array(rows, dtype=np.int64).reshape(len(batch), 3)
    time, energy, held = np.ascontiguousarray(columns.T)
    return Scores(time, energy, held if memory else None)


def _one(space: Space, row: Genes, fidelity: str, memory: bool) -> tuple[int, int, int]:
    plan = space.decode(row)
    if fidelity == "expected":
        found = expect(space.graph, plan, space.device, checked=False)
        return found.time_ns, found.energy_pj, found.peak_bytes if memory else 0
    tasks = quiet_tasks(space.graph, plan, space.device, tensors=memory)
    if fidelity == "quiet":
        timeline = run_engine(tasks)
    else:
        start, end = static_times(tasks, np.arange(len(tasks)))
        timeline = Timeline(tasks, start, end, np.zeros(len(tasks), np.int64))
    return timeline.makespan_ns, timeline.energy_pj, peak_bytes(timeline) if memory else 0
