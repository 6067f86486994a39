"""The picture of a federated run: accuracy by round, by simulated time, and by bytes sent."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Any

NS_PER_S = 10**9
TRAIN, TEST = "#4477aa", "#ee6677"
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

    rows, timed = result["rounds"], result["simulated"] is not None
    tested = [row for row in rows if row["test_accuracy"] is not None]
    figure = Figure(figsize=(4 * (2 + timed), 3.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, 2 + timed)
    train = [100 * row["train_accuracy"] for row in rows]
    test = [100 * row["test_accuracy"] for row in tested]
    own = "local, while training"
    axes[0].plot([row["round"] + 1 for row in rows], train, color=TRAIN, marker=".", label=own)
    axes[0].plot([row["round"] + 1 for row in tested], test, color=TEST, marker=".", label="test")
    axes[0].set(xlabel="round", ylabel="accuracy, %")
    axes[0].legend(frameon=False)
    axes[1].plot([row["total_bytes"] / 2**20 for row in tested], test, color=TEST, marker=".")
    axes[1].set(xlabel="MiB sent and received, all phones", ylabel="test accuracy, %")
    if timed:
        axes[2].plot([row["total_ns"] / NS_PER_S for row in tested], test, color=TEST, marker=".")
        axes[2].set(xlabel="simulated seconds (predicted)", ylabel="test accuracy, %")
    config = result["config"]
    local = config["training"]
    figure.suptitle(
        f"{local['model']}, {local['dataset']}, {local['plan']}, {config['aggregate']}: "
        f"test {100 * result['test']['accuracy']:.2f} % after {len(rows)} rounds"
    )
    drawn = BytesIO()
    figure.savefig(drawn, format="png", dpi=120, metadata={"Software": None})
    with replacing(path) as file:
        file.write(drawn.getvalue())
    return True
