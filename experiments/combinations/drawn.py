"""The picture of a study: test accuracy against simulated energy; same figures, same bytes.

Needs matplotlib: ``pip install 'mandheling-sandbox[report]'``.
"""

from __future__ import annotations

from collections.abc import Mapping
from io import BytesIO
from typing import Any

from experiments.combinations.analysis import all_tested, front
from experiments.combinations.settings import PJ_PER_J

COLOURS = {"fp32": "#4477aa", "switch": "#228833", "int8": "#ee6677"}
"""By precision; of Paul Tol's bright scheme, which colour-blind readers can tell apart."""
MARKS = {1: "o", 2: "s", 4: "^"}
"""By patch of the filter."""


def draw(content: Mapping[str, Any]) -> bytes:
    """Return an SVG: every tested training by precision, filter and width, and the front.

    The front is that of validation images, so it may lie below test accuracies beside it. A black
    cross marks a combination with a training that had diverged.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    tested = all_tested(content)
    style: Any = {"font.size": 8, "svg.hashsalt": "mandheling", "svg.fonttype": "none"}
    with mpl.rc_context(style):
        figure = Figure(figsize=(7, 4), layout="constrained")
        axes = figure.subplots()
        for precision, colour in COLOURS.items():
            for patch, mark in MARKS.items():
                mine = [
                    one
                    for one in tested
                    if (one.combination.precision, one.combination.patch) == (precision, patch)
                ]
                if mine:
                    how = "exact" if patch == 1 else f"r{patch}"
                    axes.scatter(
                        [one.energy_pj / PJ_PER_J for one in mine],
                        [100 * one.accuracy for one in mine],
                        s=[8 + 12 * one.combination.width for one in mine],
                        c=colour,
                        marker=mark,
                        alpha=0.7,
                        label=f"{precision}, {how}",
                    )
        lost = [one for one in tested if one.diverged]
        if lost:
            axes.scatter(
                [one.energy_pj / PJ_PER_J for one in lost],
                [100 * one.accuracy for one in lost],
                c="black",
                marker="x",
                label="diverged",
            )
        best = front(tested)
        axes.plot(
            [one.energy_pj / PJ_PER_J for one in best],
            [100 * one.accuracy for one in best],
            color="black",
            linewidth=1,
            label="front (validation)",
        )
        for one in best:
            place = (one.energy_pj / PJ_PER_J, 100 * one.accuracy)
            axes.annotate(
                one.combination.name, place, (-4, 3), textcoords="offset points", ha="right"
            )
        axes.set(
            xlabel="simulated energy of the training, J (size: width of the network)",
            ylabel="test accuracy, %",
        )
        axes.margins(x=0.5)  # room for the names
        axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
        content_bytes = BytesIO()
        figure.savefig(content_bytes, format="svg", metadata={"Date": None})
    return content_bytes.getvalue()
