"""What came out of a run: one row per task, and what adds up from the rows.

A :class:`Timeline` is the same type whether it was simulated or measured. It owns no policy and
no model: checks, breakdowns, traces and reports are consumers of it, in modules of their own.

Invariants (``sim.checks`` verifies them): each task has one row with ``0 <= start <= end``; no
task starts before its predecessors ended; no unit holds more slots or VTCM than it has; the
makespan is at least the critical path and the work per unit; energy is the sum of its rows.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

from sim.taskgraph import I64, TaskGraph


@dataclass(frozen=True, slots=True, eq=False)
class Timeline:
    """Rows of one step, in task order.

    ``slot_mask`` has bit ``k`` set when the task held slot ``k`` of its unit. ``source`` is
    ``simulated``; ``measured``; ``derived`` (DSP kernels by packets that an emulator counted, the
    rest simulated); or ``mixed`` (DSP kernels measured on a board, the rest simulated).
    ``dispatch`` is the sequence in which the tasks were started, a permutation of their ids that
    also orders those of one instant; None where nobody knows it.
    """

    graph: TaskGraph
    start_ns: I64
    end_ns: I64
    slot_mask: I64
    source: str = "simulated"
    dispatch: I64 | None = None

    @property
    def makespan_ns(self) -> int:
        """End of the last row, from 0; nanoseconds."""
        return int(self.end_ns.max()) if len(self.end_ns) else 0

    @property
    def task_energy_pj(self) -> I64:
        """Energy of each task row, picojoules."""
        graph = self.graph
        busy = graph.power_mw * (self.end_ns - self.start_ns)
        return busy + graph.pj_per_byte * graph.ddr_bytes

    @property
    def static_energy_pj(self) -> dict[str, int]:
        """Energy of each static-power row, picojoules, by domain."""
        return {row.domain: row.power_mw * self.makespan_ns for row in self.graph.static_power}

    @property
    def energy_pj(self) -> int:
        """All rows together, picojoules."""
        return int(self.task_energy_pj.sum()) + sum(self.static_energy_pj.values())

    @property
    def sha256(self) -> str:
        """Digest of every row: unit, start, end, slots and energy of tasks; and the static rows."""
        digest = hashlib.sha256()
        columns = (self.graph.unit, self.start_ns, self.end_ns, self.slot_mask, self.task_energy_pj)
        for column in columns:
            digest.update(np.ascontiguousarray(column, dtype="<i8").tobytes())
        for name in self.graph.names:
            digest.update(name.encode() + b"\0")
        for domain, energy in self.static_energy_pj.items():
            digest.update(f"{domain}={energy};".encode())
        return digest.hexdigest()
