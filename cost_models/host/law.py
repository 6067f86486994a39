"""Laws of the host: the time of a row is a sum of counts, each times a coefficient of its family.

Coefficients are positive and fitted in logarithms with a robust loss, as everywhere in
:mod:`cost_models.fitting`. A count that a family's rows do not tell apart from the ones before it
in :data:`COLUMNS` has no coefficient of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import sqrt

import numpy as np

from cost_models.errors import CalibrationError
from cost_models.fitting.law import Coefficient, Law, fit
from cost_models.fitting.table import FloatArray, Table
from cost_models.host.features import Work

SLEEPERS = "repack"
"""The family whose rows only take a message: what they last is the waking up."""
ALONE = 0.05
"""Share of a row's time up to which it counts as alone, and from the rest of which as beside."""
WAKE = "wake"
"""The family of waking up; with the time slept come colder caches and deeper sleep."""
COLUMNS = (
    "fixed", "macs", "elements", "bytes", "panel", "odd", "map", "runs", "tiles", "wide", "narrow",
    "cold", "far", "added", "widened", "fresh", "values", "operators", "tensors", "slept",
)  # fmt: skip
"""Counts that have coefficients, in the order in which they are offered; ``fixed`` is 1."""
_UNITS = {"fixed": "ns", "fresh": "ns", "slept": "ns per root of ns"}
_LOW, _HIGH = 1e-7, 1e9
_DISTINCT = 0.02
"""Least part of a count (root of squares) that those before it must leave unexplained."""
_LEAST_ROWS = 4
"""Rows below which a family has a fixed cost only."""


@dataclass(frozen=True, slots=True)
class Row:
    """A measured row: its work and how long it took.

    Attributes
    ----------
    slept_ns
        How long its process had nothing to do before.
    beside
        Share of its time in which the other process computed, too.
    group
        The model that it is of, left out as a whole when predictions are tested.
    """

    work: Work
    ns: float
    slept_ns: float
    beside: float
    group: str
    name: str


@dataclass(frozen=True, slots=True)
class HostLaws:
    """Coefficients of every family, nanoseconds per count.

    ``slowdown`` is how much longer a row takes while the other process computes, too: they share
    caches and bandwidth.
    """

    families: Mapping[str, Mapping[str, float]]
    slowdown: float = 1.0

    def ns(self, work: Work) -> float:
        """Predicted time of a row, nanoseconds.

        Raises
        ------
        CalibrationError
            No row of the family was measured.
        """
        known = self.families.get(work.family)
        if known is None:
            raise CalibrationError(
                f"family {work.family!r} has no law; calibrate with a model that has such kernels "
                f"(known: {', '.join(sorted(self.families))})"
            )
        counts = {"fixed": 1.0, **work.counts}
        return sum(value * counts.get(name, 0.0) for name, value in known.items())

    def wake_ns(self, slept_ns: float) -> float:
        """What a row takes longer whose process has slept before, nanoseconds."""
        return self.ns(Work(WAKE, {"slept": sqrt(slept_ns)}))


def fit_laws(rows: Sequence[Row]) -> HostLaws:
    """Fit one law for each family that rows are of, the one of waking up, and the slowdown.

    Waking up is told by the rows that do nothing else (:data:`SLEEPERS`), the slowdown by those
    whose process was never alone; the other laws are fitted on rows whose process was awake and
    alone.
    """
    woken = [
        replace(row, work=Work(WAKE, {"slept": sqrt(row.slept_ns)}))
        for row in rows
        if row.slept_ns and row.work.family == SLEEPERS
    ]
    laws = HostLaws({WAKE: fit_family(WAKE, woken)} if woken else {WAKE: {}})
    by_family: dict[str, list[Row]] = {}
    for row in rows:
        by_family.setdefault(row.work.family, []).append(row)
    families = {
        name: fit_family(name, _undisturbed(laws, found))
        for name, found in sorted(by_family.items())
    }
    laws = HostLaws({**laws.families, **families})
    beside = [row for row in rows if not row.slept_ns and row.beside >= 1 - ALONE]
    return replace(laws, slowdown=_slowdown(laws, beside))


def _undisturbed(laws: HostLaws, rows: Sequence[Row]) -> list[Row]:
    """Rows whose process was awake and alone.

    Where a family has hardly any (the accelerator mostly sleeps before it prepares a subgraph),
    also the others, less the time to wake up, of which a tenth of the row is left at least.
    """
    plain = [row for row in rows if not row.slept_ns and row.beside <= ALONE]
    if len(plain) >= _LEAST_ROWS:
        return plain
    return plain + [
        replace(row, ns=max(row.ns - laws.wake_ns(row.slept_ns), row.ns / 10)) if row.slept_ns
        else row
        for row in rows
        if row.slept_ns or row.beside > ALONE
    ]  # fmt: skip


def _slowdown(laws: HostLaws, rows: Sequence[Row]) -> float:
    """Median of how much longer rows took than alone, where each weighs as much as it lasted."""
    known = [row for row in rows if row.work.family in laws.families]
    if not known:
        return 1.0
    times = np.array([row.ns for row in known])
    ratios = times / np.array([laws.ns(row.work) for row in known])
    order = np.argsort(ratios, kind="stable")
    reached = np.cumsum(times[order]) / times.sum()
    return max(1.0, float(ratios[order][np.searchsorted(reached, 0.5)]))


def fit_family(name: str, rows: Sequence[Row]) -> dict[str, float]:
    """Coefficients of one family by the name of the count."""
    numbers = {c: _column(rows, c) for c in COLUMNS}
    values = np.array([row.ns for row in rows])
    chosen = _told_apart(numbers, values)
    scale = {c: float(numbers[c].max()) for c in chosen}
    start = float(np.median(values)) / len(chosen)
    coefficients = tuple(
        Coefficient(
            c, _UNITS.get(c, "ns each"), start / scale[c], _LOW * start / scale[c],
            _HIGH * start / scale[c], c, f"more rows of {name} with other {c}",
        )
        for c in chosen
    )  # fmt: skip

    def predict(theta: FloatArray, table: Table) -> FloatArray:
        columns = [table.numbers[c] for c in chosen]
        return np.asarray(np.stack(columns, axis=1) @ theta)

    names = np.array([row.name for row in rows], dtype=np.str_)
    table = Table("ns", names, values, names, {}, {c: numbers[c] for c in chosen})
    theta = fit(Law(f"host.{name}", name, "ns", coefficients, predict), table)
    return dict(zip(chosen, theta.tolist(), strict=True))


def _column(rows: Sequence[Row], name: str) -> FloatArray:
    if name == "fixed":
        return np.ones(len(rows))
    return np.array([float(row.work.counts.get(name, 0)) for row in rows])


def _told_apart(numbers: Mapping[str, FloatArray], values: FloatArray) -> list[str]:
    """Counts whose columns, relative to what was measured, are no mix of those before them."""
    if len(values) < _LEAST_ROWS:
        return ["fixed"]
    chosen: list[str] = []
    basis = np.zeros((len(values), 0))
    for name, column in numbers.items():
        scaled = column / values
        size = float(np.linalg.norm(scaled))
        if size == 0:
            continue
        rest = scaled - basis @ (basis.T @ scaled)
        left = float(np.linalg.norm(rest))
        if left > _DISTINCT * size:
            chosen.append(name)
            basis = np.column_stack([basis, rest / left])
    return chosen
