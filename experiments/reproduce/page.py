"""Several studies as one HTML page, pictures inside; it fetches nothing and runs no script."""

from __future__ import annotations

import json
import re
from base64 import b64encode
from collections.abc import Iterable, Iterator, Mapping, Sequence
from hashlib import sha256
from html import escape
from itertools import groupby
from pathlib import Path
from typing import Any

from experiments.reproduce.shown import (
    HEAD,
    cells,
    check_shown,
    error_shown,
    errors_shown,
    ours_shown,
    plain,
    size_shown,
)
from experiments.reproduce.study import (
    ALONE,
    FITTED,
    LEFT_OUT,
    PREDICTED,
    Row,
    Study,
    worst,
)

WORST = 12
"""Rows in the table of the worst."""
LONG = 24
"""Rows from which a table is folded at first."""
STYLE = (Path(__file__).parent / "page.css").read_text(encoding="utf-8")
NOTE = (
    "Every number of ours is computed, none measured on a phone or board. A row marked fitted has "
    "a coefficient that was fitted on it: it is no prediction, and is in no error below. Errors "
    "are ours / published - 1, or differences where the unit is that of an accuracy or of a power."
)
APART = (
    "Sizes of errors, by group. A value left out of a fit is fitted elsewhere in the study: it "
    "tests the fit, and is no prediction of a value that nobody had seen."
)


def page(
    studies: Sequence[Study],
    pictures: Mapping[str, bytes],
    failed: Mapping[str, str],
    manifest: Mapping[str, Any],
) -> str:
    """Return the HTML; equal studies give equal bytes.

    Parameters
    ----------
    studies
        In the order of their sections.
    pictures
        SVG by the name of a study.
    failed
        What went wrong with each study that is missing.
    manifest
        Versions, and digests of the trained figures.
    """
    policy = b64encode(sha256(STYLE.encode()).digest()).decode()
    allowed = f"default-src 'none'; style-src 'sha256-{policy}'; img-src data:"
    head = (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{escape(allowed)}">\n'
        '<meta name="viewport" content="width=device-width">\n'
        f"<title>Published and ours</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
    )
    parts = [
        "<h1>Published and ours</h1>",
        _paragraph(NOTE),
        *(_failure(name, error) for name, error in failed.items()),
        _table(_OVERVIEW, map(_overview, studies), links=True),
        "<h2>Errors</h2>",
        _paragraph(APART),
        _table(_ERRORS, _errors(studies)),
        "<h2>Worst predictions</h2>",
        *_worst_table(studies),
        "<h2>Bounds</h2>",
        *_bounds(studies),
        *(part for study in studies for part in _section(study, pictures[study.name])),
        "<h2>Manifest</h2>",
        f"<pre>{escape(json.dumps(manifest, indent=1, sort_keys=True))}</pre>",
    ]
    return head + "\n".join(parts) + "\n</body>\n</html>\n"


_OVERVIEW = (
    *("study", "predicted rows", "left-out rows", "fitted rows", "rows shown alone"),
    *("worst predicted row", "its error", "bounds met"),
)
_ERRORS = ("study", "group", "", "rows", "median error", "worst", "worst row")


def _overview(study: Study) -> tuple[str, ...]:
    kinds = [row.kind for row in study.rows]
    counts = (str(kinds.count(kind)) for kind in (PREDICTED, LEFT_OUT, FITTED, ALONE))
    last = worst(study.predicted())
    told = ("-", "-") if last is None else (f"{last.group}: {last.label}", error_shown(last))
    met = f"{sum(check.met for check in study.checks)} of {len(study.checks)}"
    return (study.name, *counts, *told, met)


def _errors(studies: Sequence[Study]) -> Iterator[tuple[str, ...]]:
    """Median and worst errors of each group of each study."""
    for study in studies:
        for found in study.errors():
            sizes = (size_shown(found[name], found["unit"]) for name in ("median", "worst"))
            where, count = found["group"] or study.title, str(found["rows"])
            yield (study.name, where, found["kind"], count, *sizes, found["worst_row"])


def _worst_table(studies: Sequence[Study]) -> tuple[str, ...]:
    """Predicted rows of largest relative error, of all studies together."""
    rows = [(study.name, row) for study in studies for row in study.predicted() if not row.absolute]
    rows.sort(key=lambda pair: -abs(pair[1].error or 0.0))
    if not rows:
        return (_paragraph("No predicted row has a relative error."),)
    body = [
        [name, row.group, row.label, row.unit, plain(row.published), ours_shown(row)]
        for name, row in rows[:WORST]
    ]
    for texts, (_, row) in zip(body, rows, strict=False):
        texts += [error_shown(row), row.note]
    columns = ("study", "group", "row", "unit", "published", "ours", "error", "")
    text = f"The {min(WORST, len(rows))} largest relative errors of {len(rows)} predicted rows."
    return (_paragraph(text), _table(columns, body))


def _bounds(studies: Sequence[Study]) -> tuple[str, ...]:
    checks = [(study.name, check) for study in studies for check in study.checks]
    missed = sum(not check.met for _, check in checks)
    body = []
    for name, check in sorted(checks, key=lambda pair: pair[1].met):
        asked = f"{'>=' if check.at_least else '<='} {plain(check.limit)}"
        verdict = "met" if check.met else "not met"
        body.append((name, check.label, plain(check.value), asked, verdict))
    text = f"{len(checks)} bounds were asked; {missed} are not met."
    return (_paragraph(text), _table(("study", "bound", "found", "asked", ""), body))


def _section(study: Study, picture: bytes) -> list[str]:
    data = b64encode(picture).decode()
    name = escape(study.name)
    texts = (*errors_shown(study), *map(check_shown, study.checks), *study.notes)
    return [
        f'<h2 id="{name}">{name}</h2>',
        _paragraph(f"{study.title}."),
        "<ul>",
        *(f"<li>{_marked(text)}</li>" for text in texts),
        "</ul>",
        f'<img alt="Errors of {name}, row by row" src="data:image/svg+xml;base64,{data}">',
        *(
            _group(group or study.title, list(rows))
            for group, rows in groupby(study.rows, key=lambda row: row.group)
        ),
    ]


def _group(name: str, rows: list[Row]) -> str:
    body = ((*cells(row), row.source) for row in rows)
    opened = "" if len(rows) >= LONG else " open"
    head = f"<summary>{escape(name)} ({len(rows)})</summary>"
    return f"<details{opened}>{head}\n{_table((*HEAD, 'source'), body)}\n</details>"


def _failure(name: str, error: str) -> str:
    return f'<p class="failed">{escape(name)} failed and is missing here: {escape(error)}</p>'


def _marked(text: str) -> str:
    """A sentence whose commands, in backticks, are set as code."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text))


def _paragraph(text: str) -> str:
    return f"<p>{escape(text)}</p>"


def _table(columns: Sequence[str], body: Iterable[Sequence[str]], *, links: bool = False) -> str:
    """A table; ``links``: the first column names sections."""
    lines = ["<table>", f"<tr>{''.join(f'<th>{escape(text)}</th>' for text in columns)}</tr>"]
    for row in body:
        texts = [f"<td{_kind(text)}>{escape(text)}</td>" for text in row]
        if links:
            texts[0] = f'<td><a href="#{escape(row[0])}">{escape(row[0])}</a></td>'
        lines.append(f"<tr>{''.join(texts)}</tr>")
    return "\n".join([*lines, "</table>"])


def _kind(text: str) -> str:
    """Class of a cell: figures are flush right, what is missed or fitted stands out."""
    if text == "not met":
        return ' class="missed"'
    if text.startswith("fitted"):
        return ' class="fitted"'
    figure = text.removesuffix(" %").lstrip("+-").replace(".", "", 1).isdigit()
    return ' class="figure"' if figure else ""
