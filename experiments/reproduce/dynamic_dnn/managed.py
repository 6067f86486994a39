"""The run-time manager on drawn budgets that can be met, beside a naive one and an oracle."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from experiments.reproduce.study import Row
from sim.runtime import MANAGERS, RuntimeTable, run_episode
from sim.runtime.traces import TraceSettings, draw_trace

TRACES: Final = 25
"""Drawn episodes on each board."""
GROUP: Final = "run-time manager"


@dataclass(frozen=True, slots=True)
class Managed:
    """Rows, and the counts that are checked."""

    rows: tuple[Row, ...]
    violations: int
    naive_switches: int
    steady_switches: int


def managed_rows(simulated: Mapping[str, RuntimeTable], traces: int = TRACES) -> Managed:
    """Run every manager on the same episodes of every board."""
    settings = TraceSettings()
    managers = {**MANAGERS, "steady": settings.manager()}
    violations, switches = dict.fromkeys(managers, 0), dict.fromkeys(managers, 0)
    accuracy = dict.fromkeys(managers, 0.0)
    for table in simulated.values():
        for seed in range(traces):
            circumstances = draw_trace(table, seed, settings)
            for name, manager in managers.items():
                episode = run_episode(table, manager, circumstances, settings.frames, seed)
                violations[name] += episode.violations
                switches[name] += episode.switches
                accuracy[name] += episode.accuracy(table)
    count = traces * len(simulated)
    rows = []
    for name in managers:
        for label, value, unit in (
            ("frames over budget", violations[name] / count, "per episode"),
            ("switches", switches[name] / count, "per episode"),
            ("mean accuracy", accuracy[name] / count, "%"),
        ):
            rows.append(
                Row(
                    f"{name}: {label}",
                    None,
                    value,
                    fitted=False,
                    source="no published value",
                    unit=unit,
                    group=GROUP,
                )
            )
    return Managed(tuple(rows), violations["steady"], switches["naive"], switches["steady"])
