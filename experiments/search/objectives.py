"""What a search may make small, and what it may limit: one integer column per objective."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches

import numpy as np
from numpy.typing import NDArray

from experiments.values import short, whole

Values = NDArray[np.int64]
"""Objectives of plans, shape ``(plans, objectives)``; smaller is better."""

LARGEST = 2**62
"""A limit is at most this: sums with it stay within int64."""


class SearchError(ValueError):
    """A search cannot be carried out as asked; the message says which part and what to do."""


@dataclass(frozen=True, slots=True)
class Objective:
    """A measure of a plan: its name and its column, whose name ends in the unit."""

    name: str
    column: str
    means: str


MEASURES = (
    Objective("time", "time_ns", "expected time of a training step"),
    Objective("energy", "energy_pj", "expected energy of a training step"),
    Objective("risk", "risk_ppm", "expected share of values that stale shifts damage"),
    Objective("memory", "memory_bytes", "largest memory in use"),
)
OBJECTIVES = tuple(m.name for m in MEASURES)
COLUMNS = tuple(m.column for m in MEASURES)
"""Columns of everything that is measured, in the order of :data:`OBJECTIVES`."""


def check_objectives(names: Iterable[str]) -> tuple[str, ...]:
    """Return the names as a tuple.

    Raises
    ------
    SearchError
        A name is unknown or is given twice, or there is none.
    """
    given = (names,) if isinstance(names, str) else tuple(names)
    if not given:
        raise SearchError(f"objectives are empty; give one or more of {', '.join(OBJECTIVES)}")
    for name in given:
        if name not in OBJECTIVES:
            raise SearchError(f"objective {short(name)} is unknown; {_choose(name)}")
    if len(set(given)) < len(given):
        raise SearchError(f"objectives {','.join(given)} name one twice; give each once")
    return given


def check_limits(limits: Mapping[str, int]) -> dict[str, int]:
    """Return the limits by objective, in the order of :data:`OBJECTIVES`.

    Raises
    ------
    SearchError
        A name is unknown, or a limit is no whole number from 0 to :data:`LARGEST`.
    """
    for name, limit in limits.items():
        if name not in OBJECTIVES:
            raise SearchError(f"limit on {short(name)}: unknown; {_choose(name)}")
        if whole(limit, 0, LARGEST) is None:
            raise SearchError(
                f"limit on {name} is {short(limit)}; give a whole number from 0 to {LARGEST} "
                f"({column_of(name)})"
            )
    return {name: int(limits[name]) for name in OBJECTIVES if name in limits}


def column_of(objective: str) -> str:
    """Return the column of an objective, such as ``time_ns``."""
    return COLUMNS[OBJECTIVES.index(objective)]


def places(objectives: Iterable[str]) -> list[int]:
    """Return the places of objectives among all measures."""
    return [OBJECTIVES.index(name) for name in objectives]


def _choose(name: object) -> str:
    close = get_close_matches(str(name), OBJECTIVES, 1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return f"{hint}choose of {', '.join(OBJECTIVES)}"
