"""A study for people: its rows and sentences as text, and its tables on the console."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any

from experiments.render import number
from experiments.reproduce.study import FITTED, LEFT_OUT, PREDICTED, Check, Row, Study

if TYPE_CHECKING:
    from rich.console import Console

LEAST = 0.1
"""Least error in percent that is shown with one decimal; smaller ones have one digit."""
HEAD = ("row", "unit", "published", "ours", "error", "")


def cells(row: Row) -> tuple[str, ...]:
    """The columns of a row as text: :data:`HEAD`."""
    marked = row.kind if row.kind in (FITTED, LEFT_OUT) else ""
    mark = ", ".join(filter(None, (marked, row.note)))
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
    for text in (*errors_shown(study), *map(check_shown, study.checks), *study.notes):
        show(console, text)


def errors_shown(study: Study) -> tuple[str, ...]:
    """Sentences on the errors of each group of rows, and on how many rows were fitted."""
    found = [error_of_group(each, study) for each in study.errors()]
    if not any(each["kind"] == PREDICTED for each in study.errors()):
        found.append("No predicted row has a published value.")
    fitted = sum(row.fitted and row.error is not None for row in study.rows)
    if fitted:
        found.append(f"Fitted rows, which are not in these errors: {fitted}.")
    return tuple(found)


def error_of_group(found: dict[str, Any], study: Study) -> str:
    """One sentence on an item of :meth:`~experiments.reproduce.study.Study.errors`."""
    count, kind, where = found["rows"], found["kind"], found["group"] or study.title
    worst = size_shown(found["worst"], found["unit"])
    if count == 1:
        return f"{where}: 1 row {kind}, error {worst} ({found['worst_row']})."
    median = size_shown(found["median"], found["unit"])
    return (
        f"{where}: {count} rows {kind}, median error {median}, worst {worst} "
        f"({found['worst_row']})."
    )


def size_shown(size: float, unit: str | None) -> str:
    """Size of an error: a share in percent, or a difference in its unit.

    >>> size_shown(0.0353, None), size_shown(0.31, "points")
    ('3.5 %', '0.31 points')
    """
    return f"{100 * size:.1f} %" if unit is None else f"{size:.3g} {unit}"


def check_shown(check: Check) -> str:
    """One sentence on a bound: asked, found, and whether it is met."""
    bound = "at least" if check.at_least else "at most"
    verdict = "met" if check.met else "not met"
    return f"{check.label}: {plain(check.value)}, asked {bound} {plain(check.limit)}: {verdict}."


def _groups(rows: Sequence[Row]) -> list[tuple[str, list[Row]]]:
    return [(name, list(each)) for name, each in groupby(rows, key=lambda row: row.group)]
