"""Dynamic networks (MLCAD 2019): ranges by groups, cores and clocks; power; the manager."""

from __future__ import annotations

from experiments.reproduce.dynamic_dnn.managed import managed_rows
from experiments.reproduce.dynamic_dnn.power import largest_error, power_rows
from experiments.reproduce.dynamic_dnn.ranges import (
    accuracy_rows,
    cost_rows,
    kept_increments,
    known_accuracy,
    memory_row,
    nonlinearity,
    range_rows,
    tables,
)
from experiments.reproduce.study import Check, Study

WHAT = "Accuracy with 25, 50, 75 and 100 % of the network"
POWER_LIMIT_W = 0.4
"""Most that the fit of board power may be off."""


def study() -> Study:
    """Re-derive what is published of the dynamic network, and show the manager at work."""
    kept = kept_increments()
    accuracy, trained = known_accuracy(kept)
    simulated = tables(accuracy)
    managed = managed_rows(simulated)
    missed, naive, steady = managed.violations, managed.naive_switches, managed.steady_switches
    return Study(
        "dynamic-dnn",
        "Dynamic networks (MLCAD 2019): dynamic range by groups, cores and clocks; power; manager",
        (
            *range_rows(simulated),
            memory_row(),
            *cost_rows(),
            *accuracy_rows(accuracy, trained),
            *managed.rows,
            *power_rows(),
        ),
        notes=(*_notes(trained), kept.origin(WHAT) if trained else kept.missing(WHAT)),
        checks=(
            Check("parameters and MACs, largest deviation from k / G", nonlinearity(), 0.0),
            Check("board power, largest error of the fit, W", largest_error(), POWER_LIMIT_W),
            Check("steady manager, frames over a budget that can be met", missed, 0),
            Check("switches, steady per naive", steady / naive, 1.0),
        ),
        inputs=kept.inputs,
    )


def _notes(trained: bool) -> tuple[str, ...]:
    accuracies = "trained here" if trained else "recalled, unverified values of the paper"
    return (
        "Dynamic range is the largest over the smallest value of a metric. Published figures say "
        "how much wider it is than that of existing works, whose ranges are not at hand; here the "
        "reference is a network that cannot be scaled, with a range of 1.",
        "Of the paper only the abstract and a description of its data were at hand: layer sizes, "
        "software, cores per task and times are not. Each cluster runs with all its cores. "
        "No number here was fitted on the published ranges.",
        "Energy is that of the whole board, idle power included; that of Jetson Nano is assumed.",
        f"Accuracies that the manager goes by are {accuracies}.",
    )
