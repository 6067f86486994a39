"""A study for people: its table on the console, and the report of several as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import TYPE_CHECKING

from experiments.render import number
from experiments.reproduce.study import Check, Row, Study, summary

if TYPE_CHECKING:
    from rich.console import Console

FITTED = "fitted"
"""What stands in the last column of a row that a coefficient was fitted on."""
HEAD = ("row", "unit", "published", "ours", "error", "")


def cells(row: Row) -> tuple[str, ...]:
    """The columns of a row as text: :data:`HEAD`."""
    published = "-" if row.published is None else number(row.published)
    mark = ", ".join(filter(None, (FITTED if row.fitted else "", row.note)))
    return (row.label, row.unit, published, number(row.ours), error_shown(row), mark)


def error_shown(row: Row) -> str:
    """The error with its sign: in percent, or in the row's unit where it is a difference."""
    if row.error is None:
        return "-"
    return f"{row.error:+.3g}" if row.absolute else f"{100 * row.error:+.1f} %"


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
    return f"{check.label}: {number(check.value)}, asked {bound} {number(check.limit)}: {verdict}."


def report(studies: Sequence[Study]) -> str:
    """Return one Markdown page of all studies, an overview first."""
    lines = ["# Published and ours", "", *_markdown(_OVERVIEW, map(_overview, studies)), ""]
    for study in studies:
        lines += [f"## {study.name}", "", f"{study.title}.", ""]
        for group, rows in _groups(study.rows):
            lines += [f"### {group}", ""] if group else []
            body = ((*cells(row), row.source) for row in rows)
            lines += [*_markdown((*HEAD, "source"), body), ""]
        for text in (errors_shown(study), *map(check_shown, study.checks), *study.notes):
            lines += [f"- {text}"]
        lines += [""]
    return "\n".join(lines)


_OVERVIEW = ("study", "predicted rows", "median error", "worst", "worst row", "bounds met")


def _overview(study: Study) -> tuple[str, ...]:
    found = summary(study.predicted())
    median, last = (
        "-" if found[name] is None else f"{100 * found[name]:.1f} %" for name in ("median", "worst")
    )
    met = f"{sum(check.met for check in study.checks)} of {len(study.checks)}"
    return (study.name, str(found["rows"]), median, last, found["worst_row"] or "-", met)


def _markdown(head: Sequence[str], body: Iterable[Sequence[str]]) -> list[str]:
    rows = [head, ["---"] * len(head), *body]
    return [f"| {' | '.join(text.replace('|', '/') for text in row)} |" for row in rows]


def _groups(rows: Sequence[Row]) -> list[tuple[str, list[Row]]]:
    return [(name, list(each)) for name, each in groupby(rows, key=lambda row: row.group)]
