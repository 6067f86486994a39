"""A study as a picture: the error of each row, hollow where it was fitted; same rows, same bytes.

Needs matplotlib: ``pip install 'mandheling-sandbox[report]'``.
"""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING, Any

from experiments.reproduce.study import Row, Study

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ROW_INCHES = 0.2
COLOUR = "#4477aa"


def draw(study: Study) -> bytes:
    """Return an SVG with a panel of relative errors and one of differences, where there are any."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    rows = [row for row in study.rows if row.error is not None]
    parts = ([row for row in rows if row.absolute is flag] for flag in (False, True))
    panels = [part for part in parts if part]
    style: Any = {"font.size": 8, "svg.hashsalt": "mandheling", "svg.fonttype": "none"}
    with mpl.rc_context(style):
        height = 1.2 + ROW_INCHES * len(rows) + 0.8 * len(panels)
        figure = Figure(figsize=(8, height), layout="constrained")
        if panels:
            ratios = [len(part) + 2 for part in panels]
            axes = figure.subplots(len(panels), 1, squeeze=False, height_ratios=ratios)
            for each, part in zip(axes[:, 0], panels, strict=True):
                _errors(each, part)
        figure.suptitle(f"{study.name}: {study.title}", fontweight="bold")
        content = BytesIO()
        figure.savefig(content, format="svg", metadata={"Date": None})
    return content.getvalue()


def _errors(axes: Axes, rows: list[Row]) -> None:
    absolute = rows[0].absolute
    names = [f"{row.group}: {row.label}".removeprefix(": ") for row in rows]
    values = [(row.error or 0.0) * (1 if absolute else 100) for row in rows]
    faces = ["white" if row.fitted else COLOUR for row in rows]
    places = range(len(rows))
    axes.barh(places, values, color=faces, edgecolor=COLOUR, height=0.7)
    axes.set_yticks(places, names)
    axes.axvline(0, color="black", linewidth=0.8)
    axes.invert_yaxis()
    what = "difference to the published value" if absolute else "error against published, %"
    axes.set_xlabel(f"{what} (hollow: fitted)")
