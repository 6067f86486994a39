"""Limits as people write them: ``risk=500ppm,memory=300MiB``."""

from __future__ import annotations

import re
from fractions import Fraction

from experiments.search.objectives import OBJECTIVES, SearchError, check_limits, column_of
from experiments.values import short

UNITS: dict[str, dict[str, int]] = {
    "time": {"ns": 1, "us": 10**3, "ms": 10**6, "s": 10**9},
    "energy": {"pJ": 1, "mJ": 10**9, "J": 10**12},
    "risk": {"ppm": 1, "%": 10**4},
    "memory": {"B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30},
}
"""What a limit may be written in, by objective; without a unit it is the first."""
FORM = re.compile(r"([0-9]{1,19}(?:\.[0-9]{1,9})?)([A-Za-z%]*)", re.ASCII)


def parse_limits(text: str) -> dict[str, int]:
    """Read limits with commas between; fractions of the smallest unit are left off.

    Raises
    ------
    SearchError
        An objective or a unit is unknown, an objective is given twice, or there is no number.

    Examples
    --------
    >>> parse_limits("memory=1.5MiB,time=20000000")
    {'time': 20000000, 'memory': 1572864}
    """
    limits: dict[str, int] = {}
    for part in text.split(","):
        name, equals, value = part.partition("=")
        if not equals or name not in OBJECTIVES or name in limits:
            raise SearchError(
                f"limit {short(part)} is not allowed; give NAME=VALUE with commas between, each "
                f"of {', '.join(OBJECTIVES)} at most once"
            )
        found = FORM.fullmatch(value)
        unit = (found[2] or next(iter(UNITS[name]))) if found else ""
        if found is None or unit not in UNITS[name]:
            raise SearchError(
                f"limit {short(part)} is not allowed; give a number of {column_of(name)}, or one "
                f"with a unit: {', '.join(UNITS[name])}"
            )
        limits[name] = int(Fraction(found[1]) * UNITS[name][unit])
    return check_limits(limits)
