"""The README's picture: where a step's time goes under each plan, and what each technique brought.

``python -m experiments.figures`` computes the comparison and writes ``docs/img/comparison.svg``;
the same code and constants give the same bytes. Needs matplotlib: ``pip install
'mandheling-sandbox[report]'``.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.compare import Comparison, Row, Waterfall, compare
from experiments.demo import PLANS
from experiments.told import one_line_errors
from sim import load_device, load_model, training_graph
from sim.taskgraph import CATEGORIES

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TARGET = Path("docs/img/comparison.svg")
COLOURS = {
    "compute": "#4477aa",
    "memory": "#66ccee",
    "rescale": "#ee6677",
    "rpc": "#aa3377",
    "prepare": "#ccbb44",
    "cpu": "#228833",
    "idle": "#bbbbbb",
}
"""Paul Tol's bright scheme, which colour-blind readers can tell apart."""
MS = 1_000_000
STYLE: Any = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "svg.hashsalt": "mandheling",
}


def draw_breakdown(axes: Axes, rows: list[Row]) -> None:
    """Draw one stacked bar per plan with the 90 % interval of its whole."""
    names = [row.name for row in rows]
    left = [0.0] * len(rows)
    for category in CATEGORIES:
        widths = [row.breakdown_ns[category] / MS for row in rows]
        if any(widths):
            axes.barh(names, widths, left=left, color=COLOURS[category], label=category)
        left = [a + b for a, b in zip(left, widths, strict=True)]
    for row in rows:
        low, high = (value / MS for value in row.time_interval_ns)
        axes.plot([low, high], [row.name] * 2, color="black", linewidth=1, marker="|", markersize=7)
        text = f"{row.time_ns / MS:.0f} ms, {row.speedup:.2f}x"
        axes.annotate(text, (high, row.name), (6, 0), textcoords="offset points", va="center")
    axes.set_xlim(0, 1.28 * max(row.time_interval_ns[1] for row in rows) / MS)
    axes.invert_yaxis()
    axes.set_xlabel("expected step, ms (bar: predicted; line: 90 % when the constants vary)")
    axes.legend(loc="center right", bbox_to_anchor=(1, 0.6), ncols=2, frameon=False)


def draw_waterfall(axes: Axes, fall: Waterfall) -> None:
    """Draw the step time before, the change by each technique, and the time after."""
    labels = ["dsp-int8", *(f"+ {name}" for name in fall.names), "mandheling"]
    times = [time / MS for time in fall.times_ns]
    axes.bar(0, times[0], color=COLOURS["idle"])
    for k, (before, after) in enumerate(pairwise(times), start=1):
        axes.bar(k, before - after, bottom=after, color=COLOURS["cpu"])
        axes.plot([k - 1.4, k + 0.4], [before, before], color="black", linewidth=0.5)
        axes.annotate(f"{after - before:+.0f}", (k, before), (0, 2), **_ABOVE)
    axes.bar(len(times), times[-1], color=COLOURS["compute"])
    for k, time in ((0, times[0]), (len(times), times[-1])):
        axes.annotate(f"{time:.0f}", (k, time), (0, 2), **_ABOVE)
    axes.set_xticks(range(len(labels)), labels, rotation=30, ha="right")
    axes.set_ylim(0, 1.1 * max(times))
    axes.set_ylabel("expected step, ms")


_ABOVE: dict[str, Any] = {"textcoords": "offset points", "ha": "center", "va": "bottom"}


def draw(comparison: Comparison, target: Path) -> None:
    """Draw both panels for a comparison on a device with a DSP and a GPU, as SVG."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(11, 3.6), layout="constrained")
        left, right = figure.subplots(1, 2, width_ratios=(3, 2))
        draw_breakdown(left, [comparison.row(name) for name in PLANS])
        draw_waterfall(right, comparison.waterfalls[0])
        left.set_title("Where the time of a step goes; speed-up against mnn-fp32", loc="left")
        right.set_title("One technique after the other", loc="left")
        subject = f"{comparison.model}, batch {comparison.batch}, on {comparison.device}"
        figure.suptitle(f"{subject}: predicted, not measured", fontweight="bold")
        target.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(target, format="svg", metadata={"Date": None})


@one_line_errors()
def main() -> None:
    """Compare VGG-16's plans on snapdragon-865 and draw them."""
    graph = training_graph(load_model("vgg16", 64))
    draw(compare(graph, load_device("snapdragon-865")), TARGET)
    print(TARGET)


if __name__ == "__main__":
    main()
