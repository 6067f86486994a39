"""How a plan's expected step moves when one constant of the cost model does.

A *variate* is what an interval draws once: a constant by itself, or a fitted coefficient that
several constants share. Here one variate at a time sits at the 5 % or the 95 % end of its spread,
all others stay at their values, and the engine runs again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import exp

from cost_models.cost import TIMES
from cost_models.quantity import Quantity
from sim.engines import run as run_engine
from sim.expected import Expectation
from sim.uncertainty import KINDS, UNKNOWN_SPREAD, Z90, own_spread, with_draws

ENDS = (-Z90, Z90)
"""Standard normal values of the 5 % and the 95 % end."""


@dataclass(frozen=True, slots=True)
class Variate:
    """One thing that is uncertain.

    Attributes
    ----------
    name
        Dotted name of a constant, or name of a shared coefficient.
    value
        What it is, with unit; of a coefficient, how many constants it moves.
    kind
        Evidence; of a coefficient, the weakest among the constants that share it.
    spread
        Factor between the value and either end; of a coefficient, the largest on any constant.
    source
        Where the value is from.
    """

    name: str
    value: str
    kind: str
    spread: float
    source: str


def variates(paths: Iterable[str], quantities: Mapping[str, Quantity]) -> dict[str, Variate]:
    """Return everything uncertain that some times rest on, by name, in order of name.

    Parameters
    ----------
    paths
        Names of constants, or several joined by :data:`cost_models.cost.TIMES`.
    """
    found: dict[str, Variate] = {}
    sharing: dict[str, list[tuple[Quantity, float]]] = {}
    for name in sorted({name for path in paths for name in path.split(TIMES)}):
        quantity = quantities.get(name)
        if quantity is None:
            found[name] = Variate(name, "in no description", "assumed", UNKNOWN_SPREAD, "")
            continue
        spread = exp(own_spread(quantity))
        if spread > 1.0:
            value = f"{quantity.value:g} {quantity.unit}"
            found[name] = Variate(name, value, quantity.kind, spread, quantity.source)
        for term, slope in quantity.common:
            sharing.setdefault(term, []).append((quantity, slope))
    for term, members in sharing.items():
        kind = max((quantity.kind for quantity, _ in members), key=KINDS.index)
        spread = exp(max(abs(slope) for _, slope in members))
        number = f"in {len(members)} constant{'s' if len(members) > 1 else ''}"
        found[term] = Variate(term, number, kind, spread, "fitted; see the calibration")
    return dict(sorted(found.items()))


def touched(expectation: Expectation, ddr: str) -> set[str]:
    """Return the names that the times of a plan rest on, that of the shared bandwidth included."""
    return {path for graph in expectation.graphs for path in graph.parameters} | {ddr}


def swings(
    expectation: Expectation, quantities: Mapping[str, Quantity], ddr: str
) -> dict[str, tuple[int, int]]:
    """Return the expected step at both ends of each variate that the plan rests on.

    Parameters
    ----------
    ddr
        Name of the constant behind the bandwidth that all units share.

    Returns
    -------
    dict
        Nanoseconds at the 5 % and at the 95 % end, by variate. At the 95 % end of a constant its
        times are longer (a rate is lower); at that of a coefficient the coefficient is larger.
    """
    found = {}
    for name in variates(touched(expectation, ddr), quantities):
        low, high = (_time_at(expectation, quantities, ddr, name, end) for end in ENDS)
        found[name] = (low, high)
    return found


def _time_at(
    expectation: Expectation, quantities: Mapping[str, Quantity], ddr: str, name: str, end: float
) -> int:
    def draw(other: str) -> float:
        return end if other == name else 0.0

    total = sum(
        weight * run_engine(with_draws(graph, quantities, draw, ddr)).makespan_ns
        for weight, graph in zip(expectation.weights, expectation.graphs, strict=True)
    )
    return total // expectation.whole
