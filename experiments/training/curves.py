"""The picture of a run: loss and accuracy by epoch, and accuracy by simulated time."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NS_PER_S = 10**9
TRAIN, VALIDATION = "#4477aa", "#ee6677"
"""Of Paul Tol's bright scheme, which colour-blind readers can tell apart."""


def draw_curves(result: dict[str, Any], path: Path) -> bool:
    """Draw a result to a PNG file; return False, and do nothing, without matplotlib.

    Parameters
    ----------
    result
        The content of ``result.json``.
    path
        File to write, whole or not at all.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        return False
    from sim.files import replacing

    rows, timed = result["epochs"], result["simulated"] is not None
    figure = Figure(figsize=(4 * (2 + timed), 3.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, 2 + timed)
    epochs = [row["epoch"] + 1 for row in rows]
    axes[0].plot(epochs, [row["loss"] for row in rows], color=TRAIN, marker=".")
    axes[0].set(xlabel="epoch", ylabel="training loss")
    _accuracies(axes[1], epochs, rows)
    axes[1].set(xlabel="epoch", ylabel="accuracy, %")
    if timed:
        _accuracies(axes[2], [row["time_ns"] / NS_PER_S for row in rows], rows)
        axes[2].set(xlabel="simulated seconds (predicted)", ylabel="accuracy, %")
    names = result["identity"]
    figure.suptitle(
        f"{names['model']}, {names['dataset']}, {names['plan']}: "
        f"test {100 * result['test']['accuracy']:.2f} % after epoch {result['chosen_epoch'] + 1}"
    )
    drawn = BytesIO()
    figure.savefig(drawn, format="png", dpi=120, metadata={"Software": None})
    with replacing(path) as file:
        file.write(drawn.getvalue())
    return True


def _accuracies(axes: Axes, places: list[float], rows: list[dict[str, Any]]) -> None:
    for name, colour in (("train", TRAIN), ("validation", VALIDATION)):
        values = [row[f"{name}_accuracy"] for row in rows]
        if None not in values:
            axes.plot(places, [100 * v for v in values], color=colour, marker=".", label=name)
    axes.legend(frameon=False)
