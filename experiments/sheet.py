"""A table that loses nothing, however narrow the terminal: it folds texts, then splits its columns.

Where the output is no terminal and ``COLUMNS`` is not set, there is no width to keep to: a piped
table has every column, on one line per row.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from rich.box import SIMPLE_HEAD
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

NARROW = 80
"""Columns that tables try to keep within."""
LEAST_TEXT = 16
"""Characters that a column of texts is folded to at most."""


@dataclass(frozen=True, slots=True)
class Sheet:
    """Titles and cells; of each column whether it is flush left, which texts are and numbers not.

    Parameters
    ----------
    keys
        How many of the first columns say what a row is about: each part of a split table has them.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    flush: tuple[bool, ...]
    keys: int

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Give the one table that fits, or several with a blank line between."""
        told = console.is_terminal or "COLUMNS" in os.environ
        widths = self._widths()
        gap = 2 if _whole(widths, 2) <= NARROW else 1
        room = options.max_width if told else _whole(widths, gap)
        widths = _folded(widths, self.flush, room, gap)
        beside = room - sum(widths[: self.keys]) - gap * self.keys
        for column in range(self.keys, len(widths)):
            if self.flush[column]:  # in a part of its own it has this much
                widths[column] = min(widths[column], max(beside, LEAST_TEXT))
        wide = options.update(max_width=max(room, _whole(widths, gap)))
        for number, part in enumerate(self._parts(widths, room, gap)):
            if number:
                yield Text()
            yield from console.render(self._table(part, widths, gap), wide)

    def _widths(self) -> list[int]:
        """Widest line of each column."""
        cells = zip(self.columns, *self.rows, strict=True)
        return [max(len(line) for cell in each for line in cell.split("\n")) for each in cells]

    def _parts(self, widths: Sequence[int], room: int, gap: int) -> Iterator[list[int]]:
        """Yield the columns of each part: the keys, and as many others as there is room for."""
        keys = list(range(self.keys))
        part = list(keys)
        for column in range(self.keys, len(self.columns)):
            if len(part) > self.keys and _whole([widths[k] for k in (*part, column)], gap) > room:
                yield part
                part = list(keys)
            part.append(column)
        yield part

    def _table(self, part: Sequence[int], widths: Sequence[int], gap: int) -> Table:
        made = Table(
            box=SIMPLE_HEAD,
            header_style="bold",
            padding=(0, gap - 1, 0, 0),
            pad_edge=False,
            show_edge=False,
        )
        for column in part:
            made.add_column(
                Text(self.columns[column]),
                justify="left" if self.flush[column] else "right",
                overflow="fold",
                width=widths[column],
            )
        for row in self.rows:
            made.add_row(*(Text(row[column]) for column in part))
        return made


def _whole(widths: Sequence[int], gap: int) -> int:
    return sum(widths) + gap * (len(widths) - 1)


def _folded(widths: Sequence[int], flush: Sequence[bool], room: int, gap: int) -> list[int]:
    """Narrow the widest columns of texts until all fit; as they were if that cannot be."""
    found = list(widths)
    texts = sorted((k for k in range(len(found)) if flush[k]), key=lambda k: -found[k])
    least = [min(w, LEAST_TEXT) if flush[k] else w for k, w in enumerate(found)]
    if _whole(found, gap) <= room or _whole(least, gap) > room:
        return found
    levels = [*(found[k] for k in texts), LEAST_TEXT]
    for count, (level, lower) in enumerate(pairwise(levels), start=1):
        excess = _whole(found, gap) - room
        step = min(level - max(lower, LEAST_TEXT), -(-excess // count))
        for k in texts[:count]:
            found[k] -= max(step, 0)
        if _whole(found, gap) <= room:
            break
    return found
