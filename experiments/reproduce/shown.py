"""A study for people: its rows and sentences as text, and its tables on the console."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING

from experiments.render import number
from experiments.reproduce.study import Check, Row, Study, summary

if TYPE_CHECKING:
    from rich.console import Console

FITTED = "fitted"
"""What stands in the last column of a row that a coefficient was fitted on."""
LEAST = 0.1
"""Least error in percent that is shown with one decimal; smaller ones have one digit."""
HEAD = ("row", "unit", "published", "ours", "error", "")


def cells(row: Row) -> tuple[str, ...]:
    """The columns of a row as text: :data:`HEAD`."""
    mark = ", ".join(filter(None, (FITTED if row.fitted else "", row.note)))
    published, ours = plain(row.published), ours_shown(row)
    return (row.label, row.unit, published, ours, error_shown(row), mark)


def ours_shown(row: Row) -> str:
    """Our value with four digits; a count as it is."""
    return plain(row.ours) if float(row.ours).is_integer() else number(row.ours)


def plain(value: float | None) -> str:
    """A number with no more digits than it has, up to four; a dash for none.

    >>> plain(5.5), plain(41.6), plain(16602.0), plain(None)
    ('5.5', '41.6', '16602', '-')
    """
    if value is None:
        return "-"
    text = number(value)
    return text.rstrip("0").rstrip(".") if "." in text else text


def error_shown(row: Row) -> str:
    """The error with its sign: in percent, or in the row's unit where it is a difference."""
    if row.error is None:
        return "-"
    if row.absolute:
        return f"{row.error:+.3g}"
    percent = 100 * row.error
    return f"{percent:+.1f} %" if percent == 0 or abs(percent) >= LEAST else f"{percent:+.1g} %"


def print_study(console: Console, study: Study) -> None:
    """Print a table for each group of rows, then errors of predictions, checks and notes."""
    from experiments.render import show, table

    for group, rows in _groups(study.rows):
        title = f"{study.name}: {group or study.title}"
        show(console, table(title, HEAD, map(cells, rows), also_left=(1, 5)))
    for text in (errors_shown(study), *map(check_shown, study.checks), *study.notes):
        show(console, text)


def errors_shown(study: Study) -> str:
    """One sentence on the errors of the predicted rows, and on how many were fitted."""
    rows = study.predicted()
    fitted = sum(row.fitted and row.error is not None for row in study.rows)
    rest = f" {fitted} fitted rows are not in these errors." if fitted else ""
    found = summary(rows)
    if found["worst_row"] is None:
        return f"No predicted row has a published value.{rest}"
    if found["median"] is None:
        return f"{len(rows)} predicted rows; worst row: {found['worst_row']}.{rest}"
    return (
        f"{len(rows)} predicted rows: median error {100 * found['median']:.1f} %, worst "
        f"{100 * found['worst']:.1f} % ({found['worst_row']}).{rest}"
    )


def check_shown(check: Check) -> str:
    """One sentence on a bound: asked, found, and whether it is met."""
    bound = "at least" if check.at_least else "at most"
    verdict = "met" if check.met else "not met"
    return f"{check.label}: {plain(check.value)}, asked {bound} {plain(check.limit)}: {verdict}."


def _groups(rows: Sequence[Row]) -> list[tuple[str, list[Row]]]:
    return [(name, list(each)) for name, each in groupby(rows, key=lambda row: row.group)]
