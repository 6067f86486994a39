"""Dynamic range of time and energy, memory, and what each increment costs to train."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from experiments.dynamic.increments import increment_graph, step_macs
from experiments.reproduce.kept import EVERY, Kept, read_kept
from experiments.reproduce.study import Row
from sim import load_device
from sim.autodiff import training_graph
from sim.runtime import Row as TableRow
from sim.runtime import RuntimeTable, runtime_table
from sim.zoo.grouped import GROUPS, grouped_alexnet

ABSTRACT: Final = "Xun et al., MLCAD 2019 (arXiv 2105.03600), abstract"
OURS: Final = "no published value"
TRAINED: Final = Path(__file__).parent / "trained.json"
COMMAND: Final = (
    "python -m experiments.dynamic.increments --dataset cifar10 --data DIR --out DIR "
    "--keep experiments/reproduce/dynamic_dnn/trained.json"
)
"""What trains the increments, and keeps them in :data:`TRAINED`."""
RECALLED: Final = {1: 56.0, 2: 62.7, 3: 68.8, 4: 71.2}
"""Top-1 of the four models in percent, from memory: priors, not published values."""
BOARDS: Final = ("odroid-xu3", "jetson-nano")
WHOLE: Final = {"odroid-xu3": ("cpu:4", "little:4"), "jetson-nano": ("cpu:4", "gpu")}
"""Units of the paper: clusters with all their cores, and the GPU."""
NAMES: Final = {
    ("odroid-xu3", "cpu:4"): "A15",
    ("odroid-xu3", "little:4"): "A7",
    ("jetson-nano", "cpu:4"): "A57",
    ("jetson-nano", "gpu"): "Maxwell GPU",
}
METRICS: Final = (("time", "time_ns", 2.73, 41.6), ("energy", "energy_pj", 2.36, 10.6))
"""Metric, column, and published width with the model alone and with mapping and DVFS."""

Tables = Mapping[str, RuntimeTable]


def kept_increments() -> Kept:
    """The incremental training's figures."""
    return read_kept(TRAINED, COMMAND)


def known_accuracy(kept: Kept) -> tuple[dict[int, float], bool]:
    """Accuracy in percent by active groups, and whether it was trained here."""
    rows = kept.content.get("increments")
    if not rows:
        return dict(RECALLED), False
    kept.check_numbers("increments", EVERY, "active", low=1, high=GROUPS, whole=True)
    kept.check_numbers("increments", EVERY, "test", "accuracy")
    with kept.reading():
        return {row["active"]: 100 * row["test"]["accuracy"] for row in rows}, True


def tables(accuracy: Mapping[int, float]) -> Tables:
    """Every row of both boards, simulated."""
    models = {active: grouped_alexnet(1, active) for active in accuracy}
    return {board: runtime_table(models, load_device(board), accuracy) for board in BOARDS}


def range_rows(simulated: Tables) -> tuple[Row, ...]:
    """Dynamic ranges: groups alone on each unit, and with mapping and clocks."""
    rows = []
    for metric, column, alone, together in METRICS:
        group = f"dynamic range of {metric}"
        first = True
        for (board, unit), name in NAMES.items():
            fixed = simulated[board].where(unit=unit)
            at_top = fixed.where(point=fixed.rows[-1].point)
            label = f"groups alone, {name} at its highest clock"
            published = alone if first else None
            rows.append(_row(label, published, at_top.range(column), group))
            first = False
        whole = {
            board: [row for unit in WHOLE[board] for row in table.where(unit=unit).rows]
            for board, table in simulated.items()
        }
        both = RuntimeTable(tuple(row for each in whole.values() for row in each))
        label = "groups x mapping x clocks, both boards"
        rows.append(_row(label, together, both.range(column), group))
        if column == "energy_pj":
            label = "groups x mapping x clocks, both boards, without their idle power"
            rows.append(_row(label, None, _range_without_idle(whole), group))
        for board, each in whole.items():
            value = RuntimeTable(tuple(each)).range(column)
            rows.append(_row(f"groups x mapping x clocks, {board}", None, value, group))
        ratio = both.range(column) / at_top.range(column)
        rows.append(_row("the same over groups alone, both boards", None, ratio, group))
    return tuple(rows)


def _range_without_idle(rows: Mapping[str, list[TableRow]]) -> float:
    """Dynamic range of what cores, GPU and memory use alone, as sensors on their rails see it."""
    idle = {board: sum(s.mw.value for s in load_device(board).static) for board in rows}
    busy = [
        row.energy_pj - idle[board] * row.time_ns for board, each in rows.items() for row in each
    ]
    return max(busy) / min(busy)


def _row(label: str, published: float | None, ours: float, group: str) -> Row:
    source = OURS if published is None else ABSTRACT
    return Row(label, published, ours, fitted=False, source=source, unit="x", group=group)


def memory_row() -> Row:
    """Weights of four separate networks over those of the one that holds them all."""
    sizes = [grouped_alexnet(1, active).params for active in range(1, GROUPS + 1)]
    return Row(
        "weights, four separate networks per dynamic one",
        2.4,
        sum(sizes) / sizes[-1],
        fitted=False,
        source=ABSTRACT,
        unit="x",
        group="memory at the same compression",
        note="what the paper compares with is not at hand; separate networks are taken",
    )


def nonlinearity() -> float:
    """Largest deviation of parameters and MACs of ``k`` groups from ``k / G`` of the whole."""
    models = [grouped_alexnet(1, active) for active in range(1, GROUPS + 1)]
    whole = models[-1]
    return max(
        abs(part / full - active / GROUPS)
        for active, model in enumerate(models, 1)
        for part, full in ((model.params, whole.params), (model.macs, whole.macs))
    )


def cost_rows() -> tuple[Row, ...]:
    """MACs of training a sample once in every increment, in forward passes of the whole network."""
    whole = training_graph(grouped_alexnet(1, GROUPS))
    forward = step_macs(whole)["forward"]
    counts = {
        f"increment {active} of {GROUPS}": sum(step_macs(increment_graph(active, 1)).values())
        for active in range(1, GROUPS + 1)
    }
    counts["all increments"] = sum(counts.values())
    counts["all groups at once"] = sum(step_macs(whole).values())
    return tuple(
        Row(
            label,
            None,
            count / forward,
            fitted=False,
            source=OURS,
            unit="forward passes",
            group="MACs of training",
        )
        for label, count in counts.items()
    )


def accuracy_rows(accuracy: Mapping[int, float], trained: bool) -> tuple[Row, ...]:
    """Accuracies trained here, with the recalled ones as remarks; none where none was trained."""
    if not trained:
        return ()
    return tuple(
        Row(
            f"{100 * active // GROUPS} % of the groups",
            None,
            value,
            fitted=False,
            source=OURS,
            unit="%",
            group="accuracy on CIFAR-10",
            note=f"recalled, unverified: {RECALLED[active]:g} %",
        )
        for active, value in accuracy.items()
    )
