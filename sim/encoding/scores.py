"""What an evaluation of many plans gives: one integer per plan and measure."""

from __future__ import annotations

from dataclasses import dataclass

from sim.taskgraph import I64


@dataclass(frozen=True, slots=True, eq=False)
class Scores:
    """Measures of ``n`` plans, each an int64 array of shape ``(n,)``.

    Attributes
    ----------
    time_ns
        Step time, nanoseconds.
    energy_pj
        Energy of a step, picojoules.
    memory_bytes
        Largest memory in use, bytes; ``None`` where it was not asked for.
    """

    time_ns: I64
    energy_pj: I64
    memory_bytes: I64 | None = None
