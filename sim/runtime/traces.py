"""Drawn episodes that can be met: budgets that change, other apps that come and go.

Each stretch of an episode takes a row that is always available and makes a budget of what it costs
in the worst case that a manager is told to expect. So in every frame some row is certain to fit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from cost_models.draws import draw_u32
from sim.runtime.budget import MILLION, Budget
from sim.runtime.episode import Circumstances, Slowdown
from sim.runtime.managers import Steady
from sim.runtime.table import UNITS, RuntimeTable
from sim.state import SCENARIOS

LIMITS: Final = (
    ("time_ns",),
    ("energy_pj",),
    ("power_mw",),
    ("time_ns", "power_mw"),
    ("time_ns", "energy_pj"),
)
"""What a budget limits; each is drawn as often."""
SCENARIO_NAMES: Final = ("quiet", "busy")


@dataclass(frozen=True, slots=True)
class TraceSettings:
    """How episodes are drawn.

    Attributes
    ----------
    frames
        Of each episode.
    shortest, longest
        Frames that a budget holds: ``shortest`` to before ``longest``.
    jitter_ppm
        Most that a frame takes longer by chance.
    bias_ppm
        Most that a unit is slower than the table says, in the whole episode.
    slack_ppm
        Most that a budget leaves beside the row that it was made of.
    """

    frames: int = 120
    shortest: int = 15
    longest: int = 60
    jitter_ppm: int = 50_000
    bias_ppm: int = 150_000
    slack_ppm: int = 100_000

    def manager(self) -> Steady:
        """The manager that is told what to expect."""
        return Steady(guard_ppm=self.jitter_ppm, prior_ppm=self.worst_ppm)

    @property
    def worst_ppm(self) -> int:
        """Bias and jitter together, at their most."""
        return (MILLION + self.bias_ppm) * (MILLION + self.jitter_ppm) // MILLION - MILLION


def draw_trace(
    table: RuntimeTable, seed: int, settings: TraceSettings | None = None
) -> Circumstances:
    """Draw an episode that a manager with the right expectations can meet in every frame."""
    settings = TraceSettings() if settings is None else settings

    def draw(most: int, step: int, what: str) -> int:
        """A whole number from 0 to before ``most``."""
        return draw_u32(seed, step, what, "budget trace") * most >> 32

    scenario = SCENARIOS[SCENARIO_NAMES[draw(2, 0, "scenario")]]
    spared = max(1, int(table.cores.max()) - len(scenario.busy_cores_ppm))
    always = np.flatnonzero(table.cores <= spared)
    budgets, frame, number = [], 0, 0
    while frame < settings.frames:
        row = int(always[draw(len(always), number, "row")])
        limits = LIMITS[draw(len(LIMITS), number, "limits")]
        slack = draw(settings.slack_ppm + 1, number, "slack")
        budgets.append((frame, _budget(table, row, limits, settings, slack)))
        frame += settings.shortest + draw(settings.longest - settings.shortest, number, "frames")
        number += 1
    biases = tuple(Slowdown(unit, draw(settings.bias_ppm + 1, 0, unit)) for unit in UNITS)
    return Circumstances(tuple(budgets), scenario, biases, settings.jitter_ppm)


def _budget(
    table: RuntimeTable, row: int, limits: tuple[str, ...], settings: TraceSettings, slack: int
) -> Budget:
    """What a row costs at worst with the manager's guard on top, and some slack; power is sure."""
    made = {}
    for name in limits:
        value = int(getattr(table, name)[row])
        if name != "power_mw":
            for more in (settings.worst_ppm, settings.jitter_ppm, slack):
                value = -(-value * (MILLION + more) // MILLION)
            value += 2  # a table's cost and a slowdown are each rounded up once
        made[name] = value
    return Budget(**made)
