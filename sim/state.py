"""What lives from step to step, explicitly: rescale states, prepared subgraphs, temperature, and
what a run-time manager remembers.

``lower_step`` takes a state and returns the next one; a run is a fold over steps. Nothing else
remembers anything, so a run can be stopped, stored and continued, and two executors given the same
state do the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from cost_models.draws import draw_u32
from sim.rescaling import RescaleState
from sim.reuse import Visit

MILLION = 1_000_000


class ShiftSource(Protocol):
    """Where true shifts come from: a synthetic trace, a recorded one, or real tensors."""

    @property
    def kind(self) -> str:
        """How the shifts are known: ``assumed``, ``recorded``..."""

    def shift(self, seed: int, step: int, subject: str, previous: int) -> int:
        """Return the true shift of a tensor in a step, given that of the step before."""


@dataclass(frozen=True, slots=True)
class SyntheticShifts:
    """Shifts that flicker around a level, as those of real training do; drawn, not recorded.

    The logarithm of a tensor's largest magnitude, base 2, is a level that is its own, plus a
    part that holds for ``hold_steps`` steps, plus a part of each step. The parts have triangular
    distributions of half-widths ``slow`` and ``fast``, in 1/65,536. The shift is what of it is
    whole.

    The three numbers were fitted to how often the shifts of VGG-11 differ over 1 to 128 steps of
    training on CIFAR-10 (``results/shifts.json``: every third step the shift moves). How often a
    rule scans was not fitted; on these shifts adaptive rules scan 14 to 31 % less than on the
    recorded ones, since real levels drift on.
    """

    start: int = 8
    slow: int = 45_875
    fast: int = 52_429
    hold_steps: int = 8
    kind: str = "derived"

    def shift(self, seed: int, step: int, subject: str, previous: int) -> int:
        """Return the shift of a step: of its keyed draws alone, not of ``previous``."""
        level = draw_u32(seed, 0, subject, "shift level")
        held = (step + level % self.hold_steps) // self.hold_steps
        slow = self.slow * _triangular(draw_u32(seed, held, subject, "shift held"))
        fast = self.fast * _triangular(draw_u32(seed, step, subject, "shift"))
        return max(0, self.start + ((level >> 16) + (slow + fast >> 16) >> 16))


def _triangular(draw: int) -> int:
    """From a uniform draw of 32 bits: -65,535 .. 65,535, around 0."""
    return (draw >> 16) + (draw & 0xFFFF) - 0xFFFF


@dataclass(frozen=True, slots=True)
class RecordedShifts:
    """A recorded trace, replayed open-loop: ``trace[subject][step]``; the last value holds on.

    It must hold every tensor that the plan rescales; :func:`sim.run.simulate` refuses others.
    """

    trace: Mapping[str, tuple[int, ...]]
    kind: str = "recorded"

    def shift(self, seed: int, step: int, subject: str, previous: int) -> int:
        """Return what was recorded; a tensor that was not recorded keeps ``previous``."""
        values = self.trace[subject]
        return values[min(step, len(values) - 1)]


@dataclass(frozen=True, slots=True)
class Scenario:
    """Circumstances of a run, apart from plan and device.

    Attributes
    ----------
    name
        ``quiet``, ``sustained`` or ``busy``; see :data:`SCENARIOS`.
    thermal
        Heat up with the energy used, and drop to sustained clocks above the throttle point.
    busy_cores_ppm
        Probability, in parts per million, that other apps hold 1, 2, ... big cores in a step.
    """

    name: str
    thermal: bool = False
    busy_cores_ppm: tuple[int, ...] = ()

    def busy_cores(self, seed: int, step: int) -> int:
        """Big cores that other apps hold in this step (one keyed draw per step)."""
        if not self.busy_cores_ppm:
            return 0
        draw = draw_u32(seed, step, "other-apps", "cores") * MILLION >> 32
        for cores, ppm in enumerate(self.busy_cores_ppm, start=1):
            if draw < ppm:
                return cores
            draw -= ppm
        return 0


SCENARIOS: dict[str, Scenario] = {
    "quiet": Scenario("quiet"),
    "sustained": Scenario("sustained", thermal=True),
    "busy": Scenario("busy", busy_cores_ppm=(300_000, 200_000)),
}
"""``busy`` is assumed: one big core taken in 30 % of the steps, two in 20 %."""


@dataclass(frozen=True, slots=True)
class ManagerState:
    """What a run-time manager (:mod:`sim.runtime`) remembers from frame to frame.

    Attributes
    ----------
    row
        Row of its table in use; -1 before the first frame.
    held
        Frames since the last switch.
    switches
        Switches so far.
    rose
        Whether the last switch was to a better row, and not away from one that did not fit.
    limits
        Limits of the budget in force: time, energy, power.
    seen_q12
        Newest slowdowns measured on each unit, oldest first.
    failed
        Rows that did not hold, and the frame from which each may be tried again.
    """

    row: int = -1
    held: int = 0
    switches: int = 0
    rose: bool = False
    limits: tuple[int | None, ...] = ()
    seen_q12: tuple[tuple[int, ...], ...] = ()
    failed: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class StepState:
    """State before a step."""

    seed: int = 0
    step: int = 0
    scenario: Scenario = SCENARIOS["quiet"]
    shifts: ShiftSource = field(default_factory=SyntheticShifts)
    rescale: Mapping[str, RescaleState] = field(default_factory=dict)
    true_shift: Mapping[str, int] = field(default_factory=dict)
    prepared: tuple[Visit, ...] = ()
    temperature_mc: int | None = None
    """Millidegrees Celsius; ``None`` before the first observation (ambient)."""
    throttled: bool = False
    scans: int = 0
    stale_saturating: int = 0
    """Tensors whose shift in use was too small: some values saturated."""
    stale_coarse: int = 0
    """Tensors whose shift in use was too large: precision was lost."""
    manager: ManagerState = field(default_factory=ManagerState)


@dataclass(frozen=True, slots=True)
class Observation:
    """What the step before left to see: its length and its energy."""

    makespan_ns: int
    energy_pj: int
