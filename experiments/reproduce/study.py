"""What a study is: published values beside ours, row by row, and which of ours were fitted.

A row whose value was fitted on itself is marked and counts in no error of predictions. A study
that leaves rows out of a fit shows them once more, by the fit that has not seen them: these are
values that it has fitted, too, and are counted apart from predictions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from statistics import median
from typing import Any, Final

PREDICTED: Final = "predicted"
LEFT_OUT: Final = "left out"
FITTED: Final = "fitted"
ALONE: Final = "alone"


class StudyError(ValueError):
    """A study states what cannot be; the message names the row and what is allowed."""


@dataclass(frozen=True, slots=True)
class Row:
    """One published number and ours.

    Parameters
    ----------
    label
        What it is, unique within its ``group``.
    published
        The published value, in ``unit``; None where there is none and ours is only shown.
    ours
        Ours, in the same unit.
    fitted
        Whether a coefficient behind ``ours`` was fitted on this very row.
    source
        Where the published value stands: paper and table, or repository and path.
    unit
        Unit of both; ``x`` for a ratio.
    group
        The table or figure that the row belongs to.
    absolute
        Whether the error is a difference in ``unit`` (points of accuracy), not a share.
    left_out
        Whether ``ours`` is of a fit to other rows, while this very value is fitted in the study,
        too: its law was written with the value in view, so it is no prediction.
    note
        What a reader must know about this row.
    """

    label: str
    published: float | None
    ours: float
    fitted: bool
    source: str
    unit: str = ""
    group: str = ""
    absolute: bool = False
    note: str = ""
    left_out: bool = False

    def __post_init__(self) -> None:
        for name, value in (("published", self.published), ("ours", self.ours)):
            if value is not None and not isfinite(value):
                raise StudyError(f"row {self.label!r}: {name} is {value}; give a finite number")
        if self.published == 0 and not self.absolute:
            raise StudyError(
                f"row {self.label!r}: published is 0, which has no relative error; set absolute"
            )
        if not self.source:
            raise StudyError(f"row {self.label!r}: source is empty; say where the value stands")
        if self.fitted and self.left_out:
            raise StudyError(f"row {self.label!r}: is fitted and left_out; a fit saw it or did not")

    @property
    def kind(self) -> str:
        """:data:`PREDICTED`, :data:`LEFT_OUT`, :data:`FITTED`, or :data:`ALONE` for ours only."""
        if self.fitted:
            return FITTED
        if self.error is None:
            return ALONE
        return LEFT_OUT if self.left_out else PREDICTED

    @property
    def error(self) -> float | None:
        """``ours`` against ``published``: a signed share, or a difference if ``absolute``."""
        if self.published is None:
            return None
        if self.absolute:
            return self.ours - self.published
        return self.ours / self.published - 1

    def document(self) -> dict[str, Any]:
        """The row as JSON values."""
        return {
            "group": self.group,
            "label": self.label,
            "unit": self.unit,
            "published": self.published,
            "ours": self.ours,
            "error": self.error,
            "absolute": self.absolute,
            "fitted": self.fitted,
            "left_out": self.left_out,
            "source": self.source,
            "note": self.note,
        }


@dataclass(frozen=True, slots=True)
class Check:
    """A bound that a study was asked to keep, such as a median error of at most 10 %.

    Parameters
    ----------
    label
        What is bounded.
    value
        What was found.
    limit
        The most (or, ``at_least``, the least) that is allowed, in the unit of ``value``.
    at_least
        Whether ``limit`` bounds from below.
    """

    label: str
    value: float
    limit: float
    at_least: bool = False

    @property
    def met(self) -> bool:
        """Whether the bound is kept."""
        return self.value >= self.limit if self.at_least else self.value <= self.limit

    def document(self) -> dict[str, Any]:
        """The check as JSON values."""
        return {
            "label": self.label,
            "value": self.value,
            "limit": self.limit,
            "at_least": self.at_least,
            "met": self.met,
        }


@dataclass(frozen=True, slots=True)
class Study:
    """Published tables re-derived.

    Parameters
    ----------
    name
        The study's name on the command line.
    title
        One line on what is re-derived.
    rows
        All rows, in the order of the published tables.
    notes
        Sentences for the reader: what was fitted on what, what could not be re-derived.
    checks
        Bounds asked of it.
    inputs
        Name and SHA-256 of each file of trained figures that rows come from.
    """

    name: str
    title: str
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()
    checks: tuple[Check, ...] = ()
    inputs: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        keys = [(row.group, row.label) for row in self.rows]
        twice = sorted({key for key in keys if keys.count(key) > 1})
        if twice:
            raise StudyError(f"study {self.name}: row {twice[0]} is given twice; name them apart")

    def predicted(self) -> tuple[Row, ...]:
        """Rows with a published value that no fit of the study has seen."""
        return tuple(row for row in self.rows if row.kind == PREDICTED)

    def errors(self) -> list[dict[str, Any]]:
        """:func:`summary` of each group's predicted rows and, apart, of those left out of a fit.

        By group, since a median over counts and times together says nothing of either.
        """
        parts: dict[tuple[str, str], list[Row]] = {}
        for row in self.rows:
            if row.kind in (PREDICTED, LEFT_OUT):
                parts.setdefault((row.group, row.kind), []).append(row)
        return [
            {"group": group, "kind": kind} | summary(rows) for (group, kind), rows in parts.items()
        ]

    def document(self) -> dict[str, Any]:
        """The study as JSON values: rows, their errors by group, and the worst prediction."""
        last = worst(self.predicted())
        return {
            "name": self.name,
            "title": self.title,
            "rows": [row.document() for row in self.rows],
            "predicted": len(self.predicted()),
            "worst": None if last is None else last.document(),
            "errors": self.errors(),
            "checks": [check.document() for check in self.checks],
            "notes": list(self.notes),
            "inputs": dict(self.inputs),
        }


def worst(rows: Sequence[Row]) -> Row | None:
    """Return the row of largest relative error; None where no row has one.

    Rows whose error is a difference are compared among themselves only if there are no others:
    a point of accuracy and a percent of time have no common scale.
    """
    shares = [row for row in rows if row.error is not None and not row.absolute]
    chosen = shares or [row for row in rows if row.error is not None]
    return max(chosen, key=lambda row: abs(row.error or 0.0), default=None)


def summary(rows: Sequence[Row]) -> dict[str, Any]:
    """Count of rows, median and worst of their errors' sizes, and the worst row's label.

    Errors are relative; differences in ``unit`` only where no row has a relative one. None where
    no row has an error.
    """
    found = [row for row in rows if row.error is not None]
    kept = [row for row in found if not row.absolute] or found
    sizes = [abs(row.error or 0.0) for row in kept]
    last = worst(rows)
    return {
        "rows": len(rows),
        "median": median(sizes) if sizes else None,
        "worst": max(sizes) if sizes else None,
        "worst_row": None if last is None else last.label,
        "unit": kept[0].unit if kept and kept[0].absolute else None,
    }
