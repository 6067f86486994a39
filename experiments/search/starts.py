"""Plans that a search starts from: every built-in one that fits the space, and crosses of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from experiments.search.objectives import SearchError
from sim.encoding import Evaluator, Genes, Space, SpaceError
from sim.policies.build import build_plan, plan_names

CROSSES = 12
"""Crosses that are kept, the quickest of all."""


@dataclass(frozen=True, slots=True, eq=False)
class Start:
    """An encoded plan with a name."""

    name: str
    row: Genes


def built_in_starts(space: Space) -> tuple[Start, ...]:
    """Return every built-in plan that the space contains, in the order of the recipes.

    Left out are plans that choose otherwise where the space holds a choice (another library, say).

    Raises
    ------
    SearchError
        None is left.
    """
    found = []
    for name in plan_names(space.device):
        try:
            found.append(Start(name, space.encode(build_plan(name, space.graph, space.device))))
        except SpaceError:
            continue
    if not found:
        raise SearchError(
            f"no built-in plan for {space.device.name} is in this space; hold fewer aspects than "
            f"{', '.join(space.held)}"
        )
    return tuple(found)


def crosses(space: Space, starts: tuple[Start, ...]) -> tuple[Start, ...]:
    """Return the quickest plans that place as one start does and decide all else as another.

    They are compared by a quiet step with contention.
    """
    placement = np.array([g.aspect == "placement" for g in space.genes])
    known = {start.row.tobytes() for start in starts}
    found: list[Start] = []
    for rest in starts:
        for place in starts:
            row = np.where(placement, place.row, rest.row).astype(np.int16)
            if row.tobytes() not in known:
                known.add(row.tobytes())
                found.append(Start(f"{rest.name} placed as {place.name}", row))
    if not found:
        return ()
    times = Evaluator(space, "quiet")(np.stack([start.row for start in found])).time_ns
    order = np.argsort(times, kind="stable")[:CROSSES]
    return tuple(found[k] for k in order)
