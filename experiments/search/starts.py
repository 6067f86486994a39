"""Plans that a search starts from: every built-in one that fits the space, and crosses of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from experiments.search.measuring import Measurer
from experiments.search.objectives import SearchError, Values
from experiments.search.pricing import RulePrices
from sim.encoding import Evaluator, Genes, Space, SpaceError
from sim.policies.build import build_plan, plan_names

CROSSES = 12
"""Crosses that are kept, the quickest of all."""
REPRICED = 3
"""Starts whose rescale rules are chosen anew, the quickest."""
RISK_SHARES = (0.98, 0.7, 0.4)
"""How much of the allowed risk the new rules may take."""


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


def repriced(
    space: Space, starts: tuple[Start, ...], values: Values, risk_ppm: int
) -> tuple[Start, ...]:
    """Return the quickest starts with rescale rules that their time is worth.

    Parameters
    ----------
    values
        Measures of the starts.
    risk_ppm
        Risk that a plan may take.
    """
    prices = RulePrices(space, Measurer.of(space).risk)
    known = {start.row.tobytes() for start in starts}
    found: list[Start] = []
    for k in np.argsort(values[:, 0], kind="stable")[:REPRICED]:
        for share in RISK_SHARES:
            row = prices.proposed(starts[k].row, share * risk_ppm)
            if row.tobytes() not in known:
                known.add(row.tobytes())
                found.append(Start(f"{starts[k].name} with rules at {share:.0%} of the risk", row))
    return tuple(found)
