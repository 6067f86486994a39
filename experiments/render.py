"""Tables and numbers for people: what every command prints when no JSON was asked for.

Tables are narrow enough for 80 columns. Numbers are rounded here and nowhere else.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from rich.console import Group
from rich.text import Text

from experiments.sheet import Sheet

if TYPE_CHECKING:
    from rich.console import Console

NS_PER_MS = 1_000_000
PJ_PER_J = 10**12
DIGITS = 4
"""Significant digits of a shown number."""


def number(value: float, digits: int = DIGITS) -> str:
    """Return a number with about ``digits`` significant digits and no exponent.

    >>> number(1030.2498), number(243.607), number(0.01234567), number(1234567), number(0)
    ('1030', '243.6', '0.01235', '1234567', '0')
    """
    if value == 0:
        return "0"
    places, size = digits - 1, abs(value)
    while places > 0 and size >= 10:
        places, size = places - 1, size / 10
    while 0 < size < 1 and places < 9:
        places, size = places + 1, size * 10
    return f"{value:.{places}f}"


def ms(time_ns: int) -> str:
    """Nanoseconds as milliseconds."""
    return number(time_ns / NS_PER_MS)


def joules(energy_pj: int) -> str:
    """Picojoules as joules."""
    return number(energy_pj / PJ_PER_J, 3)


def mib(size_bytes: int) -> str:
    """Bytes as MiB."""
    return number(size_bytes / 2**20, 3)


def budget_mark(size_bytes: int, budget_bytes: int) -> str:
    """What follows a size in a table: ``!`` where it is more than the memory budget."""
    return "!" if size_bytes > budget_bytes else ""


def kib(size_bytes: int) -> str:
    """Bytes as KiB, without decimals where they are zero."""
    return f"{size_bytes / 2**10:.6g}"


def percent(share: float) -> str:
    """A share as percent with one decimal; a dash for none."""
    return f"{100 * share:.1f}" if share else "-"


def span(interval: tuple[float, float], digits: int = 3) -> str:
    """An interval ``low-high``."""
    return f"{number(interval[0], digits)}-{number(interval[1], digits)}"


def ms_span(interval_ns: tuple[int, int]) -> str:
    """An interval of nanoseconds as milliseconds."""
    return span((interval_ns[0] / NS_PER_MS, interval_ns[1] / NS_PER_MS))


def counted(amount: int, thing: str) -> str:
    """``1 step``, ``2 steps``."""
    return f"{amount} {thing}" if amount == 1 else f"{amount} {thing}s"


def table(
    title: str,
    columns: Sequence[str],
    rows: Iterable[Sequence[str]],
    left: int = 1,
    also_left: Sequence[int] = (),
    keys: int = 1,
) -> Group:
    """Return a titled table whose first ``left`` columns are flush left, the others flush right.

    Columns are two blanks apart, or one where that keeps the table within 80 columns. Where the
    terminal is narrower, texts are folded and, if that is not enough, the columns shown in parts.
    ``also_left`` holds indices of further columns that are flush left; each part has the first
    ``keys`` columns.
    """
    flush = tuple(k < left or k in also_left for k in range(len(columns)))
    body = tuple(map(tuple, rows))
    return Group(Text(title, style="bold"), Sheet(tuple(columns), body, flush, keys))


def show(console: Console, *parts: Group | str) -> None:
    """Print tables and paragraphs with a blank line after each."""
    for part in parts:
        if isinstance(part, str):
            console.print(Text(part))
        else:
            console.print(part, crop=False)
        console.print()


def line(console: Console, text: str, wrapped: bool = True) -> None:
    """Print one paragraph, wrapped at the console's width unless it is to be copied."""
    console.print(Text(text), soft_wrap=not wrapped)
