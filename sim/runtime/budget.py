"""Budgets, and the best row under one.

Among the rows that are available and meet the budget the most accurate is picked; ties go to the
least energy, then to the first. Where none meets it, the row that exceeds it least is picked, and
by how much is said.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np

from sim.runtime.table import RuntimeTable, RuntimeTableError
from sim.taskgraph import I64

Q12 = 1 << 12
"""Unit of slowdowns: what is measured over what the table says."""
MILLION = 1_000_000


@dataclass(frozen=True, slots=True)
class Budget:
    """Most that one inference may take; what is None is not limited.

    Raises
    ------
    RuntimeTableError
        A limit that is no positive integer.
    """

    time_ns: int | None = None
    energy_pj: int | None = None
    power_mw: int | None = None

    def __post_init__(self) -> None:
        for item in fields(self):
            value = getattr(self, item.name)
            if value is not None and (type(value) is not int or value < 1):
                raise RuntimeTableError(
                    f"{item.name} = {value!r}; allowed: a whole number of 1 or more, or None for "
                    "no limit"
                )

    def excess_ppm(self, time_ns: I64, energy_pj: I64, power_mw: I64) -> I64:
        """Largest share by which a limit is exceeded, parts per million; 0 where all are met."""
        excess = np.zeros(len(time_ns), np.int64)
        for limit, column in (
            (self.time_ns, time_ns),
            (self.energy_pj, energy_pj),
            (self.power_mw, power_mw),
        ):
            if limit is not None:
                over = np.maximum(column - limit, 0) / limit * MILLION
                np.maximum(excess, np.ceil(over).astype(np.int64), out=excess)
        return excess


@dataclass(frozen=True, slots=True)
class Pick:
    """A row, and by how much it is expected to exceed the budget (0: not at all)."""

    row: int
    excess_ppm: int = 0

    @property
    def feasible(self) -> bool:
        """Whether it meets the budget."""
        return self.excess_ppm == 0


def expected_excess(table: RuntimeTable, budget: Budget, slowdown_q12: Sequence[int]) -> I64:
    """What each row exceeds a budget by, ppm, where each unit is slowed by a factor of its own.

    Power does not change: a kernel that waits is taken to draw what it drew.
    """
    slow = np.array(slowdown_q12, np.int64)[table.unit]
    time, energy = (-(-column * slow // Q12) for column in (table.time_ns, table.energy_pj))
    return budget.excess_ppm(time, energy, table.power_mw)


def choose(
    table: RuntimeTable,
    budget: Budget,
    free_cores: int,
    slowdown_q12: Sequence[int],
    *,
    without: Sequence[int] = (),
) -> Pick:
    """Pick the best row under a budget.

    Parameters
    ----------
    free_cores
        Big cores that no other app holds.
    slowdown_q12
        Expected slowdown of each of :data:`~sim.runtime.table.UNITS`, in units of ``2^-12``.
    without
        Rows that are not to be picked, as long as another is available.

    Raises
    ------
    RuntimeTableError
        No row is available at all.
    """
    excess = expected_excess(table, budget, slowdown_q12)
    available = table.cores <= free_cores
    allowed = available.copy()
    allowed[list(without)] = False
    if not allowed.any():
        allowed = available
    if not allowed.any():
        raise RuntimeTableError(
            f"free_cores = {free_cores}: every row needs {int(table.cores.min())} big cores or "
            "more; add rows on fewer cores or on another unit"
        )
    excess = np.where(allowed, excess, np.iinfo(np.int64).max)
    least = int(excess.min())
    order = np.lexsort((table.energy_pj, -table.accuracy, excess if least else excess > 0))
    return Pick(int(order[0]), least)
