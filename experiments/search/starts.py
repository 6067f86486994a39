"""Plans that a search starts from: every built-in one that fits the space, and crosses of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from cost_models.device import Device
from experiments.search.objectives import SearchError, Values
from experiments.search.pricing import RulePrices
from sim.encoding import Evaluator, Genes, Space, SpaceError
from sim.policies.build import available, build_plan
from sim.policies.recipes import BASELINES, RECIPES

CROSSES = 12
"""Crosses that are kept, the quickest of all."""
REPRICED = 3
"""Starts whose rescale rules are chosen anew, the quickest."""
RISK_SHARES = (0.98, 0.7, 0.4)
"""How much of the allowed risk the new rules may take."""
CLOCKS = "operating_point"
"""Aspect of the clocks."""


@dataclass(frozen=True, slots=True, eq=False)
class Start:
    """An encoded plan with a name."""

    name: str
    row: Genes


def built_in_names(device: Device) -> list[str]:
    """Return the built-in plans that a device can run: whatever else is installed, the same.

    Raises
    ------
    PluginError
        Another distribution brings one of the same name.
    """
    names = dict.fromkeys((*BASELINES, *RECIPES.built_in()))
    return [name for name in names if available(RECIPES[name], device)]


def named_starts(space: Space, others: Sequence[str] = ()) -> tuple[Start, ...]:
    """Return every built-in plan that the space contains, then others that were asked for.

    Left out are built-in plans that choose otherwise where the space holds a choice (another
    library, say).

    Parameters
    ----------
    others
        Names of plans that plug-ins bring.

    Raises
    ------
    SearchError
        A plan that was asked for is not in the space, or none is left.
    PlanError, PolicyError, PluginError
        A plan that was asked for cannot be made.
    """
    found = []
    for name in (*built_in_names(space.device), *others):
        plan = build_plan(name, space.graph, space.device)
        try:
            found.append(Start(name, space.encode(plan)))
        except SpaceError as error:
            if name in others:
                raise SearchError(f"starts: {error}") from None
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
    prices = RulePrices.of(space)
    known = {start.row.tobytes() for start in starts}
    found: list[Start] = []
    for k in np.argsort(values[:, 0], kind="stable")[:REPRICED]:
        for share in RISK_SHARES:
            row = prices.proposed(starts[k].row, share * risk_ppm)
            if row.tobytes() not in known:
                known.add(row.tobytes())
                found.append(Start(f"{starts[k].name} with rules at {share:.0%} of the risk", row))
    return tuple(found)


def retuned(space: Space, row: Genes, risk_ppm: int) -> Genes:
    """Return a plan at every setting of the clocks, with its own rescale rules and with new ones.

    No kernel is elsewhere in them and nothing is cut otherwise: they tell what clocks and rules
    alone bring, which no built-in plan chooses.

    Parameters
    ----------
    row
        Shape ``(genes,)``.
    risk_ppm
        Risk that a plan may take.

    Returns
    -------
    Genes
        Shape ``(plans, genes)``; plans that differ in clocks alone are neighbours.
    """
    prices = RulePrices.of(space)
    places = [k for k, g in enumerate(space.genes) if g.aspect == CLOCKS]
    proposed = (prices.proposed(row, share * risk_ppm) for share in RISK_SHARES)
    ruled = {one.tobytes(): one for one in (row, *proposed)}
    settings = list(product(*(range(space.counts[k]) for k in places)))
    found = np.repeat(np.stack(list(ruled.values())), len(settings), axis=0)
    found[:, places] = np.tile(np.array(settings, dtype=np.int16), (len(ruled), 1))
    return found
