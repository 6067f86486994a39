"""A change from one plan to another as tables for a terminal of 80 columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from experiments.render import counted, joules, ms, number, show, table
from experiments.search.why import Change, ChangedChoice, Moved, PathShare

if TYPE_CHECKING:
    from rich.console import Console, Group

ROWS = 12
"""Rows of a table, at most; the rest is counted."""
NAMED = 28
"""Characters for the names of subjects."""


def print_change(console: Console, change: Change) -> None:
    """Print what changed, where the time went, and which change brings what."""
    share = change.saved_ns / change.before_ns
    verb = "saves" if share >= 0 else "costs"
    show(
        console,
        f"{change.after} {verb} {abs(share):.1%} of the step of {change.before} (predicted):\n"
        f"{ms(change.before_ns)} -> {ms(change.after_ns)} ms, "
        f"{joules(change.before_pj)} -> {joules(change.after_pj)} J",
    )
    if not (change.moved or change.choices):
        show(console, "The two plans make the same choices.")
        return
    if change.contributions:
        show(
            console,
            _contributions(change),
            "'last': what undoing it in the plan after would cost. 'alone': what it saves as the "
            "only change. Changes that need each other bring more last than alone, and neither "
            "column adds up.",
        )
    show(console, _breakdown(change), _paths(change.before_path, change.after_path))
    if change.moved:
        show(console, _moves(change.moved))
    if change.choices:
        show(console, _choices(change.choices))


def _contributions(change: Change) -> Group:
    rows = []
    for each in change.contributions:
        last, alone = change.brings_ns(each)
        rows.append((each.group, str(each.changes), _signed_ms(last), _signed_ms(alone)))
    return table(
        "What each group of changes saves", ("group", "changes", "last ms", "alone ms"), rows
    )


def _breakdown(change: Change) -> Group:
    before, after = change.before_breakdown_ns, change.after_breakdown_ns
    return _two_columns("Where the time of a step goes, ms", "component", before, after)


def _paths(before: PathShare, after: PathShare) -> Group:
    title = "Whose work the critical path is, ms"
    return _two_columns(title, "unit", before.by_unit_ns, after.by_unit_ns)


def _two_columns(
    title: str, first: str, before: Mapping[str, int], after: Mapping[str, int]
) -> Group:
    rows = [
        (name, ms(old), ms(new), _signed_ms(new - old))
        for name in {**before, **after}
        if (old := before.get(name, 0)) | (new := after.get(name, 0))
    ]
    return table(title, (first, "before", "after", "change"), rows)


def _moves(moved: Sequence[Moved]) -> Group:
    rows = [
        (
            m.family,
            f"{m.before} -> {m.after}",
            str(len(m.subjects)),
            ms(m.before_ns),
            ms(m.after_ns),
        )
        for m in moved[:ROWS]
    ]
    rest = moved[ROWS:]
    if rest:
        kernels = sum(len(m.subjects) for m in rest)
        times = (ms(sum(m.before_ns for m in rest)), ms(sum(m.after_ns for m in rest)))
        rows.append((f"{counted(len(rest), 'more group')}", "", str(kernels), *times))
    return table(
        "Operators on other units, times alone",
        ("family", "unit", "kernels", "before ms", "after ms"),
        rows,
        left=2,
    )


def _choices(choices: Sequence[ChangedChoice]) -> Group:
    rows = [
        (c.aspect, f"{c.before} -> {c.after}", str(len(c.subjects)), _names(c.subjects))
        for c in choices[:ROWS]
    ]
    if len(choices) > ROWS:
        rows.append((counted(len(choices) - ROWS, "more"), "", "", ""))
    return table(
        "Other choices that changed",
        ("aspect", "choice", "subjects", "such as"),
        rows,
        left=2,
        also_left=(3,),
    )


def _names(subjects: Sequence[str]) -> str:
    text = ", ".join(subjects[:2])
    return text if len(text) <= NAMED else f"{text[: NAMED - 3]}..."


def _signed_ms(time_ns: int) -> str:
    sign = "-" if time_ns < 0 else "+"
    return f"{sign}{number(abs(time_ns) / 1_000_000)}"
