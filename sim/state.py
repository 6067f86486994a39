"""What lives from step to step, explicitly: rescale states, prepared subgraphs, temperature.

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
    """A random walk whose moves get rarer as training settles; **assumed**, not measured.

    In step ``t`` a shift moves by one with probability
    ``max(floor, first * settle / (settle + t))``, all in integers (parts per million).
    """

    first_ppm: int = 200_000
    floor_ppm: int = 5_000
    settle_steps: int = 16
    start: int = 8
    kind: str = "assumed"

    def shift(self, seed: int, step: int, subject: str, previous: int) -> int:
        """Move up or down by one when the keyed draw says so."""
        if step == 0:
            return self.start
        decayed = self.first_ppm * self.settle_steps // (self.settle_steps + step)
        threshold = max(self.floor_ppm, decayed)
        draw = draw_u32(seed, step, subject, "shift")
        if (draw >> 1) * MILLION >> 31 >= threshold:
            return previous
        return max(0, previous + (1 if draw & 1 else -1))


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


@dataclass(frozen=True, slots=True)
class Observation:
    """What the step before left to see: its length and its energy."""

    makespan_ns: int
    energy_pj: int
