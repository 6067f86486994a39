"""A study as a picture, a panel for each group of rows; same rows, same bytes.

Where there are published values, bars are errors, hollow where the row was fitted; where there are
none, grey bars are our values. Needs matplotlib: ``pip install 'mandheling-sandbox[report]'``.
"""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO
from itertools import groupby
from typing import TYPE_CHECKING, Any

from experiments.reproduce.shown import error_shown, ours_shown
from experiments.reproduce.study import Row, Study

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WIDTH_INCHES = 9.0
ROW_INCHES = 0.2
PANEL_INCHES = 0.85
"""Height of a panel's title and axis."""
COLOUR, ALONE = "#4477aa", "#bbbbbb"
ROOM = 0.16
"""Room for figures beside the longest bar, as a share of the axis."""


@dataclass(frozen=True, slots=True)
class Panel:
    """Rows of one group and one kind: relative errors, differences, or values of one unit."""

    title: str
    rows: tuple[Row, ...]
    axis: str

    @property
    def alone(self) -> bool:
        """Whether nothing is published that these could be compared with."""
        return self.rows[0].error is None

    def value(self, row: Row) -> float:
        """Length of a row's bar."""
        if row.error is None:
            return row.ours
        return row.error if row.absolute else 100 * row.error

    def text(self, row: Row) -> str:
        """Figure beside a row's bar."""
        return ours_shown(row) if row.error is None else error_shown(row)


def panels(study: Study) -> list[Panel]:
    """Return the panels of a study.

    Rows without a published value are drawn only where their group has none at all.
    """
    found = []
    for group, members in groupby(study.rows, key=lambda row: row.group):
        rows = list(members)
        compared = [row for row in rows if row.error is not None]
        for absolute in (False, True):
            part = tuple(row for row in compared if row.absolute is absolute)
            if part:
                axis = f"ours less published, {part[0].unit}" if absolute else "error, %"
                found.append(Panel(group or study.title, part, f"{axis} (hollow: fitted)"))
        if not compared:
            for unit in dict.fromkeys(row.unit for row in rows):
                part = tuple(row for row in rows if row.unit == unit)
                found.append(Panel(group, part, f"ours, {unit}; nothing published"))
    return found


def draw(study: Study) -> bytes:
    """Return the picture of a study as SVG."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    parts = panels(study)
    style: Any = {
        "font.size": 8,
        "svg.hashsalt": "mandheling",
        "svg.fonttype": "none",
        "axes.spines.top": False,
        "axes.spines.right": False,
    }
    with mpl.rc_context(style):
        heights = [PANEL_INCHES + ROW_INCHES * len(part.rows) for part in parts]
        figure = Figure(figsize=(WIDTH_INCHES, sum(heights) or 1), layout="constrained")
        if parts:
            axes = figure.subplots(len(parts), 1, squeeze=False, height_ratios=heights)
            for each, part in zip(axes[:, 0], parts, strict=True):
                _draw_panel(each, part)
        content = BytesIO()
        figure.savefig(content, format="svg", metadata={"Date": None})
    return content.getvalue()


def _draw_panel(axes: Axes, panel: Panel) -> None:
    values = [panel.value(row) for row in panel.rows]
    edge = ALONE if panel.alone else COLOUR
    faces = ["white" if row.fitted else edge for row in panel.rows]
    places = range(len(panel.rows))
    axes.barh(places, values, color=faces, edgecolor=edge, height=0.7)
    for place, value, row in zip(places, values, panel.rows, strict=True):
        side = "right" if value < 0 else "left"
        shift = (-3 if value < 0 else 3, 0)
        axes.annotate(
            panel.text(row), (value, place), shift,
            textcoords="offset points", ha=side, va="center", fontsize=7,
        )  # fmt: skip
    low, high = min(0.0, *values), max(0.0, *values)
    room = ROOM * (high - low or 1.0)
    axes.set_xlim(low - room * (low < 0), high + room * (high > 0 or low == high))
    axes.set_ylim(len(values) - 0.4, -0.6)
    axes.set_yticks(places, [row.label for row in panel.rows])
    axes.axvline(0, color="black", linewidth=0.8)
    axes.set_title(panel.title, loc="left", fontweight="bold", fontsize=9)
    axes.set_xlabel(panel.axis)
