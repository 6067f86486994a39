"""Run-time managers: one with hysteresis, a naive one, and an oracle.

``steady`` believes the moving average of measured slowdowns with a guard on top. It leaves a row
that is not expected to fit at once, and takes a better one only after some frames in peace; a row
that did not hold after such a rise is remembered and left alone for a while. ``naive`` believes the
last frame and always takes what looks best. ``oracle`` is told the slowdown of the coming frame,
which no manager can know: it is the bound. The rules of ``steady`` follow the demonstration of
Dynamic-OFA (UoS-EEC/DynamicOFA, runtime_demo), whose levels are rows of the table here.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from sim.runtime.budget import MILLION, Q12, Budget, Pick, choose, expected_excess
from sim.runtime.table import UNITS, RuntimeTable, RuntimeTableError
from sim.state import ManagerState


@dataclass(frozen=True, slots=True)
class Sight:
    """What is known when a frame begins.

    Attributes
    ----------
    budget
        In force in this frame.
    free_cores
        Big cores that no other app holds.
    frame
        Its number, from 0.
    coming_q12
        Slowdown that the frame will meet on each unit; for the oracle alone.
    """

    budget: Budget
    free_cores: int
    frame: int
    coming_q12: tuple[int, ...]

    @property
    def limits(self) -> tuple[int | None, ...]:
        """Limits of the budget."""
        return (self.budget.time_ns, self.budget.energy_pj, self.budget.power_mw)


class Manager(ABC):
    """Picks a row for each frame; all that it remembers is in the state."""

    name: ClassVar[str]

    @abstractmethod
    def pick(self, table: RuntimeTable, state: ManagerState, sight: Sight) -> Pick:
        """Return the row for a frame, and by how much it is expected to exceed the budget."""

    def decide(
        self, table: RuntimeTable, state: ManagerState, sight: Sight
    ) -> tuple[Pick, ManagerState]:
        """Pick a row and return it with the state in which the frame runs."""
        pick = self.pick(table, state, sight)
        first, switched = state.row < 0, pick.row != state.row
        better = not first and table.accuracy[pick.row] >= table.accuracy[state.row]
        return pick, replace(
            state,
            row=pick.row,
            held=0 if switched else state.held + 1,
            switches=state.switches + (switched and not first),
            rose=(better and not first) if switched else state.rose,
            limits=sight.limits,
        )

    def observe(
        self, table: RuntimeTable, state: ManagerState, sight: Sight, measured_q12: int
    ) -> ManagerState:
        """Return the state after a frame in which its unit was slowed by ``measured_q12``."""
        return state


def _check(name: str, value: object, least: int) -> None:
    if type(value) is not int or value < least:
        raise RuntimeTableError(f"{name} = {value!r}; allowed: a whole number of {least} or more")


@dataclass(frozen=True, slots=True)
class Steady(Manager):
    """The manager with hysteresis.

    Attributes
    ----------
    window
        Frames that are averaged.
    patience
        Frames in peace before a better row is taken, unless the budget changed.
    probation
        Frames after a rise within which a row that does not hold counts as failed.
    hold_off
        Frames for which a failed row is left alone, unless the budget changes.
    guard_ppm
        On top of the average; a frame outside of it shows that circumstances changed.
    prior_ppm
        Slowdown taken for a unit that was not measured yet.
    saving_ppm
        Energy that a row of equal accuracy must save to be worth a switch.
    """

    name: ClassVar[str] = "steady"

    window: int = 20
    patience: int = 20
    probation: int = 20
    hold_off: int = 200
    guard_ppm: int = 50_000
    prior_ppm: int = 0
    saving_ppm: int = 50_000

    def __post_init__(self) -> None:
        for name in ("window", "patience", "probation", "hold_off"):
            _check(name, getattr(self, name), 1)
        for name in ("guard_ppm", "prior_ppm", "saving_ppm"):
            _check(name, getattr(self, name), 0)

    def expected_q12(self, state: ManagerState) -> tuple[int, ...]:
        """Slowdown that each unit is expected to stay within."""
        seen = state.seen_q12 or ((),) * len(UNITS)
        prior = Q12 * (MILLION + self.prior_ppm)
        means = (MILLION * sum(unit) // len(unit) if unit else prior for unit in seen)
        return tuple(-(-mean * (MILLION + self.guard_ppm) // MILLION**2) for mean in means)

    def pick(self, table: RuntimeTable, state: ManagerState, sight: Sight) -> Pick:
        """Stay, unless the row does not fit or a better one has looked so for long."""
        slow = self.expected_q12(state)
        changed = state.limits != sight.limits
        failed = () if changed else self._failed(state, sight)
        best = choose(table, sight.budget, sight.free_cores, slow, without=failed)
        if not best.feasible and failed:
            best = choose(table, sight.budget, sight.free_cores, slow)
        row = state.row
        if row < 0 or table.cores[row] > sight.free_cores:
            return best
        now = int(expected_excess(table, sight.budget, slow)[row])
        if now:
            worth = best.excess_ppm < now - self.guard_ppm or best.feasible
            return best if worth else Pick(row, now)
        if changed or state.held >= self.patience:
            return best if self._gains(table, best.row, row) else Pick(row)
        return Pick(row)

    def decide(
        self, table: RuntimeTable, state: ManagerState, sight: Sight
    ) -> tuple[Pick, ManagerState]:
        """Pick, and remember a row that is left because it did not hold after a rise."""
        pick, after = Manager.decide(self, table, state, sight)
        failed = () if state.limits != sight.limits else self._kept(state, sight)
        lost = pick.row != state.row and state.rose and state.held < self.probation
        if lost and state.limits == sight.limits:
            failed = (*failed, (state.row, sight.frame + self.hold_off))
        return pick, replace(after, failed=failed)

    def observe(
        self, table: RuntimeTable, state: ManagerState, sight: Sight, measured_q12: int
    ) -> ManagerState:
        """Add to the average of the unit; begin anew where the frame lies outside of the guard."""
        seen = list(state.seen_q12 or ((),) * len(UNITS))
        unit = int(table.unit[state.row])
        values = seen[unit]
        mean = sum(values) / len(values) if values else measured_q12
        within = abs(measured_q12 - mean) * MILLION <= self.guard_ppm * mean
        seen[unit] = (*values, measured_q12)[-self.window :] if within else (measured_q12,)
        return replace(state, seen_q12=tuple(seen))

    def _kept(self, state: ManagerState, sight: Sight) -> tuple[tuple[int, int], ...]:
        return tuple((row, until) for row, until in state.failed if until > sight.frame)

    def _failed(self, state: ManagerState, sight: Sight) -> tuple[int, ...]:
        return tuple(row for row, _ in self._kept(state, sight))

    def _gains(self, table: RuntimeTable, other: int, row: int) -> bool:
        if table.accuracy[other] != table.accuracy[row]:
            return bool(table.accuracy[other] > table.accuracy[row])
        now, then = int(table.energy_pj[row]), int(table.energy_pj[other])
        return then * (MILLION + self.saving_ppm) < now * MILLION


@dataclass(frozen=True, slots=True)
class Naive(Manager):
    """Believes the last frame, for every unit alike, and takes what then looks best."""

    name: ClassVar[str] = "naive"

    def pick(self, table: RuntimeTable, state: ManagerState, sight: Sight) -> Pick:
        """The best row under the slowdown of the last frame."""
        last = state.seen_q12[0][0] if state.seen_q12 else Q12
        return choose(table, sight.budget, sight.free_cores, (last,) * len(UNITS))

    def observe(
        self, table: RuntimeTable, state: ManagerState, sight: Sight, measured_q12: int
    ) -> ManagerState:
        """Keep the last slowdown alone."""
        return replace(state, seen_q12=((measured_q12,),))


@dataclass(frozen=True, slots=True)
class Oracle(Manager):
    """Knows the slowdown of the coming frame on every unit."""

    name: ClassVar[str] = "oracle"

    def pick(self, table: RuntimeTable, state: ManagerState, sight: Sight) -> Pick:
        """The best row as it will turn out."""
        return choose(table, sight.budget, sight.free_cores, sight.coming_q12)


MANAGERS: dict[str, Manager] = {m.name: m for m in (Steady(), Naive(), Oracle())}
"""Managers with their usual settings, by name."""


def chosen(names: Sequence[str]) -> tuple[Manager, ...]:
    """Managers by name.

    Raises
    ------
    RuntimeTableError
        One is unknown.
    """
    for name in names:
        if name not in tuple(MANAGERS):  # of anything, also of what has no hash
            raise RuntimeTableError(f"manager {name!r} is unknown; allowed: {', '.join(MANAGERS)}")
    return tuple(MANAGERS[name] for name in names)
