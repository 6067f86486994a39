"""Frames one after the other under a manager: budgets change, other apps take cores and slow units.

An episode is a fold over frames on the simulator's :class:`~sim.state.StepState`: the scenario says
how many big cores others hold, the manager's memory is in ``state.manager``. What a frame takes is
the row's time, slowed by what holds for its unit and by a drawn jitter, which is keyed by seed,
frame and unit: managers meet the same luck.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import pairwise

import numpy as np

from cost_models.draws import draw_u32
from sim.runtime.budget import MILLION, Q12, Budget
from sim.runtime.managers import Manager, Sight, chosen
from sim.runtime.table import UNITS, RuntimeTable, RuntimeTableError
from sim.state import SCENARIOS, Scenario, StepState
from sim.taskgraph import I64


@dataclass(frozen=True, slots=True)
class Slowdown:
    """A unit is slower by ``ppm`` from frame ``first`` to before ``last``: shared with a job."""

    unit: str
    ppm: int
    first: int = 0
    last: int = 1 << 62

    def __post_init__(self) -> None:
        if self.unit not in UNITS:
            raise RuntimeTableError(f"unit = {self.unit!r}; allowed: {', '.join(UNITS)}")
        if type(self.ppm) is not int or self.ppm <= -MILLION:
            raise RuntimeTableError(
                f"ppm = {self.ppm!r}; allowed: a whole number above -1,000,000 (no time at all)"
            )


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What an episode happens under.

    Attributes
    ----------
    budgets
        Frames from which a budget holds, rising from 0.
    scenario
        How many big cores other apps hold.
    slowdowns
        What the table does not know.
    jitter_ppm
        Most that a frame takes longer by chance.
    """

    budgets: tuple[tuple[int, Budget], ...]
    scenario: Scenario = field(default_factory=lambda: SCENARIOS["quiet"])
    slowdowns: tuple[Slowdown, ...] = ()
    jitter_ppm: int = 0

    def __post_init__(self) -> None:
        for one in self.budgets:
            if not isinstance(one, tuple) or [*map(type, one)] != [int, Budget]:
                raise RuntimeTableError(
                    f"budgets has {one!r}; allowed: pairs of a frame and a Budget, like "
                    "(0, Budget(time_ns=20_000_000))"
                )
        frames = [frame for frame, _ in self.budgets]
        rising = all(before < after for before, after in pairwise(frames))
        if not frames or frames[0] != 0 or not rising:
            raise RuntimeTableError(f"budgets begin at frames {frames}; they must rise from 0")
        if type(self.jitter_ppm) is not int or self.jitter_ppm < 0:
            raise RuntimeTableError(
                f"jitter_ppm = {self.jitter_ppm!r}; allowed: a whole number of 0 or more"
            )

    def budget(self, frame: int) -> Budget:
        """Budget of a frame."""
        return [budget for first, budget in self.budgets if first <= frame][-1]

    def slowdown_q12(self, seed: int, frame: int) -> tuple[int, ...]:
        """Slowdown of each unit in a frame, jitter included, in units of ``2^-12``."""
        found = []
        for unit in UNITS:
            slow = Q12
            for one in self.slowdowns:
                if one.unit == unit and one.first <= frame < one.last:
                    slow = slow * (MILLION + one.ppm) // MILLION
            drawn = draw_u32(seed, frame, unit, "frame jitter") * self.jitter_ppm >> 32
            found.append(slow * (MILLION + drawn) // MILLION)
        return tuple(found)


@dataclass(frozen=True, slots=True, eq=False)
class Episode:
    """What a manager did.

    Attributes
    ----------
    rows
        Row of each frame.
    time_ns, energy_pj
        Of each frame, as it turned out.
    excess_ppm
        By how much each frame exceeded its budget.
    expected_ppm
        By how much the manager expected it to: above 0 where it knew of no row that fits.
    final
        State after the last frame.
    """

    rows: I64
    time_ns: I64
    energy_pj: I64
    excess_ppm: I64
    expected_ppm: I64
    final: StepState

    @property
    def switches(self) -> int:
        """Times that a frame ran on another row than the one before."""
        return self.final.manager.switches

    @property
    def violations(self) -> int:
        """Frames that exceeded their budget."""
        return int((self.excess_ppm > 0).sum())

    def accuracy(self, table: RuntimeTable) -> float:
        """Mean accuracy of the frames."""
        return float(table.accuracy[self.rows].mean())


def run_episode(
    table: RuntimeTable,
    manager: Manager | str,
    circumstances: Circumstances,
    frames: int,
    seed: int = 0,
) -> Episode:
    """Run frames under a manager.

    Parameters
    ----------
    manager
        One of yours, or the name of one in :data:`~sim.runtime.managers.MANAGERS`.

    Raises
    ------
    RuntimeTableError
        ``frames`` is no positive integer, no row is available in some frame, or there is no such
        manager.
    """
    if not isinstance(manager, Manager):
        (manager,) = chosen((manager,))
    if type(frames) is not int or frames < 1:
        raise RuntimeTableError(f"frames = {frames!r}; allowed: a whole number of 1 or more")
    state = StepState(seed=seed, scenario=circumstances.scenario)
    cores = int(table.cores.max())
    columns: list[tuple[int, int, int, int, int]] = []
    for frame in range(frames):
        free = max(1, cores - state.scenario.busy_cores(seed, frame))
        coming = circumstances.slowdown_q12(seed, frame)
        sight = Sight(circumstances.budget(frame), free, frame, coming)
        pick, memory = manager.decide(table, state.manager, sight)
        slow = coming[int(table.unit[pick.row])]
        time, energy = (
            -(-int(column[pick.row]) * slow // Q12) for column in (table.time_ns, table.energy_pj)
        )
        excess = _excess(sight.budget, time, energy, int(table.power_mw[pick.row]))
        memory = manager.observe(table, memory, sight, slow)
        state = replace(state, step=frame + 1, manager=memory)
        columns.append((pick.row, time, energy, excess, pick.excess_ppm))
    rows, time_ns, energy_pj, excess, expected = np.array(columns, np.int64).T
    return Episode(rows, time_ns, energy_pj, excess, expected, state)


def _excess(budget: Budget, time_ns: int, energy_pj: int, power_mw: int) -> int:
    one = (np.array([value], np.int64) for value in (time_ns, energy_pj, power_mw))
    return int(budget.excess_ppm(*one)[0])
