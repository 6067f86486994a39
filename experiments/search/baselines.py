"""What a search is compared with: every built-in plan that the device runs, whatever its choices.

A plan that the space does not contain, or that is beyond a limit, has other means than what is
searched: it is measured and listed, and marked by why it is no rival.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from experiments.search.front import Found
from experiments.search.ground import TUNED, Ground
from experiments.search.objectives import OBJECTIVES, column_of, places
from experiments.search.risk import plan_risk
from experiments.search.starts import CLOCKS, built_in_names
from sim.encoding import SpaceError
from sim.expected import expect
from sim.plan import Plan
from sim.policies.build import build_plan

ALIKE = (
    "Built-in plans leave clocks at their defaults and rescale all tensors by one rule; plans "
    "found may choose otherwise."
)
ALONE = " What that alone brings shows in the plan '{name}'."


@dataclass(frozen=True, slots=True)
class Baseline:
    """A plan to compare with.

    Attributes
    ----------
    values
        Its measures by the expected step, in the order of
        :data:`~experiments.search.objectives.COLUMNS`.
    left_out
        Why it is no rival of what was found: it is outside of the space, or beyond a limit.
        Empty if it is one.
    """

    plan: Plan
    values: tuple[int, ...]
    left_out: str


def baselines(ground: Ground, others: Sequence[str] = ()) -> tuple[Baseline, ...]:
    """Return the built-in plans, those asked for, and the plan of the space with other settings.

    The last is the start that differs from the plan of the space in clocks and rescale rules
    alone, chosen for the first objective; it is not there if these cannot be bettered.

    Parameters
    ----------
    others
        Plans of plug-ins that the search started from.
    """
    found = []
    for name in (*built_in_names(ground.device), *others):
        plan = build_plan(name, ground.graph, ground.device)
        values = _measured(ground, plan)
        found.append(Baseline(plan, values, _outside(ground, plan) or _beyond(ground, values)))
    for start, row in zip(ground.starts, ground.values, strict=True):
        if start.name == ground.space.base.name + TUNED:
            values = Found.of(start.row, row).values
            plan = ground.space.decode(start.row, start.name)
            found.append(Baseline(plan, values, _beyond(ground, values)))
    return tuple(found)


def rivals_of(found: Sequence[Baseline], objective: str) -> list[Baseline]:
    """Return those that are in the space and within the limits, the best in an objective first."""
    (place,) = places((objective,))
    kept = [one for one in found if not one.left_out]
    return sorted(kept, key=lambda one: (one.values[place], one.values))


def comparison_note(ground: Ground, found: Sequence[Baseline]) -> str:
    """Return what plans found may choose and built-in ones do not; empty if there is nothing."""
    if not {gene.aspect for gene in ground.space.genes} & {CLOCKS, "rescale"}:
        return ""
    name = ground.space.base.name + TUNED
    return ALIKE + (ALONE.format(name=name) if name in {one.plan.name for one in found} else "")


def _measured(ground: Ground, plan: Plan) -> tuple[int, ...]:
    expected = expect(ground.graph, plan, ground.device)
    risk = plan_risk(ground.graph, plan, ground.device).total_ppm
    return expected.time_ns, expected.energy_pj, risk, expected.peak_bytes


def _outside(ground: Ground, plan: Plan) -> str:
    try:
        ground.space.encode(plan)
    except SpaceError as error:
        return f"outside of the space: {str(error).partition(';')[0]}"
    return ""


def _beyond(ground: Ground, values: Sequence[int]) -> str:
    if not ground.excess_ppm(np.array([values], dtype=np.int64))[0]:
        return ""
    over = [
        f"{column_of(name)} {values[OBJECTIVES.index(name)]} > {limit}"
        for name, limit in ground.limits.items()
        if values[OBJECTIVES.index(name)] > limit
    ]
    return f"beyond the limits: {', '.join(over)}"
