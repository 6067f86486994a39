"""FP16 training on RISC-V microcontrollers: released cycle counts, and FP16 against FP32.

Nadalini et al. 2023 (arXiv 2305.19167) and PULP-TrainLib's tutorial. Six constants are fitted to
sixteen cycle counts. Each is shown by that fit and by fits that have not seen it; five other
published values, of which none was fitted, are predictions.
"""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median
from typing import Final

import numpy as np

from cost_models.cost import ITEM_BYTES
from cost_models.device import Device, load_device
from cost_models.fitting.table import FloatArray
from cost_models.mcu.fitted import LAW, fitted_constants, held_out, released_cycles
from cost_models.mcu.tuner import tune
from experiments import half_precision
from experiments.reproduce.kept import EVERY, Kept, read_kept
from experiments.reproduce.study import FITTED, LEFT_OUT, Check, Row, Study
from experiments.training.compare import accuracy_difference
from kernels.conv import Conv2d
from kernels.operators import Role
from sim.autodiff import training_graph
from sim.expected import expect
from sim.graph import TrainingGraph
from sim.policies.build import build_plan
from sim.zoo import load_model

PAPER: Final = "Nadalini et al. 2023 (arXiv 2305.19167), abstract"
SAMOS: Final = "Nadalini et al. 2022 (SAMOS XXII), abstract"
OURS: Final = "no published value at hand"
UNKNOWN: Final = "layers not published"
STEPS: Final = (Role.FORWARD, Role.WEIGHT_GRAD, Role.INPUT_GRAD)
MCU: Final = "vega"
"""Eight cores on four FPUs: the paper's microcontroller has 8+1 cores."""


def study() -> Study:
    """Fit, leave out, and compare."""
    cycles, workloads = (
        tuple(_cycle_rows(f"cycles, the {what} left out", held_out(by).predicted, LEFT_OUT))
        for what, by in (("row", "case"), ("workload", "workload"))
    )
    ratios = tuple(_ratio_rows())
    found = {
        what: [100 * abs(row.error or 0.0) for row in rows]
        for what, rows in (("row", cycles), ("workload", workloads))
    }
    top = ratios[-1]
    kept = read_kept(half_precision.RESULT, half_precision.COMMAND)
    trained, what = trained_rows(kept), "Accuracy of ResNet8 in FP16 and FP32"
    return Study(
        "pulp-fp16",
        "FP16 training on RISC-V microcontrollers: cycles, and FP16 against FP32",
        (*cycles, *workloads, *_fitted_rows(), *ratios, *_whole_steps(), *trained),
        (*_notes(), kept.origin(what) if trained else kept.missing(what)),
        (
            *(
                Check(f"cycles, {what} left out, {name} error in %", statistic(sizes), limit)
                for what, sizes in found.items()
                for name, statistic, limit in (("median", median, 10.0), ("worst", max, 20.0))
            ),
            Check("FP16 over FP32 on a convolution, error in %", 100 * abs(top.error or 0.0), 15.0),
        ),
        kept.inputs,
    )


def _fitted_rows() -> Iterator[Row]:
    values = fitted_constants()
    theta = np.array([getattr(values, one.name) for one in LAW.coefficients])
    yield from _cycle_rows("cycles, as fitted", LAW.predict(theta, released_cycles()), FITTED)


def _cycle_rows(group: str, ours: FloatArray, kind: str) -> Iterator[Row]:
    """The rows of the table that ``ours`` has a value for."""
    table = released_cycles()
    for index in np.flatnonzero(np.isfinite(ours)).tolist():
        yield Row(
            str(table.names[index]), float(table.values[index]), float(ours[index]),
            kind == FITTED, str(table.sources[index]), "cycles", group, left_out=kind == LEFT_OUT,
        )  # fmt: skip


def _ratio_rows() -> Iterator[Row]:
    """FP16 over FP32 on the training step of each convolution of ResNet8, the largest last."""
    device, group = load_device(MCU), "FP16 over FP32, training step of one convolution"
    found = {}
    for layer in load_model("resnet8", 1).layers[1:]:  # the first has no input gradient
        if isinstance(layer.op, Conv2d):
            wide, half = (_step_cycles(layer.op, dtype, device) for dtype in ("fp32", "fp16"))
            found[layer.name] = wide / half
            yield Row(layer.name, None, wide / half, False, f"ours, {MCU}", "x", group)
    yield Row(
        "up to", 1.72, max(found.values()), False, PAPER, "x", group,
        note="layer not published",
    )  # fmt: skip


def _step_cycles(op: Conv2d, dtype: str, device: Device) -> int:
    assert device.mcu is not None
    tuned = [tune(op, role, ITEM_BYTES[dtype], device.mcu, 8) for role in STEPS]
    return sum(one.best.cycles for one in tuned)


def _whole_steps() -> Iterator[Row]:
    """Training steps of whole networks, and the fastest FP32 kernel anywhere in them."""
    group, device = "whole training steps", load_device(MCU)
    graphs = {name: training_graph(load_model(name, 1)) for name in ("resnet8", "ds-cnn")}
    for name, published in (("resnet8", 3.11), ("ds-cnn", 0.81)):
        graph = graphs[name]
        ours = _macs(graph) / _cycles(graph, "pulp-fp16", device)
        label = f"{name}, FP16, average"
        yield Row(label, published, ours, False, PAPER, "MAC/cycle", group, note=UNKNOWN)
    speedup = _cycles(graphs["resnet8"], "pulp-fp32", device) / _cycles(
        graphs["resnet8"], "pulp-fp16", device
    )
    yield Row(
        "ResNet8, FP16 over FP32", 1.6, speedup, False, PAPER, "x", group,
        note="of continual learning",
    )  # fmt: skip
    simulated = load_device("gvsoc-cluster")
    assert simulated.mcu is not None
    rates = [
        node.op.work(node.role).macs / tune(node.op, node.role, 4, simulated.mcu, 8).best.cycles
        for graph in graphs.values()
        for node in graph.nodes
        if node.op.work(node.role).macs
    ]
    yield Row(
        "FP32, auto-tuned, up to", 4.39, max(rates), False, SAMOS, "MAC/cycle", group,
        note="layer not published",
    )  # fmt: skip


def trained_rows(kept: Kept) -> tuple[Row, ...]:
    """Test accuracies of what was trained, and each less FP32 where both were."""
    runs, group = kept.content.get("runs", {}), "test accuracy of ResNet8 on CIFAR-10, batch 1"
    rows = []
    if runs:
        kept.check_numbers("runs", EVERY, "test", "accuracy")
    with kept.reading():
        for name in half_precision.PLANS:
            if name in runs:
                accuracy, epochs = 100 * runs[name]["test"]["accuracy"], len(runs[name]["epochs"])
                note = f"{epochs} epochs, {runs[name]['overflowed']} results overflowed"
                rows.append(Row(name.upper(), None, accuracy, False, OURS, "%", group, note=note))
        wide = half_precision.WIDE
        for name in half_precision.PLANS:
            if name != wide and {name, wide} <= runs.keys():
                gap = accuracy_difference(runs[wide], runs[name])
                note = f"95 %: {100 * gap.low:+.2f} to {100 * gap.high:+.2f}"
                label, points = f"{name.upper()} less {wide.upper()}", 100 * gap.difference
                rows.append(Row(label, None, points, False, OURS, "points", group, note=note))
    return tuple(rows)


def _macs(graph: TrainingGraph) -> int:
    return sum(node.op.work(node.role).macs for node in graph.nodes)


def _cycles(graph: TrainingGraph, plan: str, device: Device) -> float:
    """Cycles of an expected step."""
    time_ns = expect(graph, build_plan(plan, graph, device), device).time_ns
    return time_ns * device.clock_hz("big") / 1e9


def _notes() -> tuple[str, ...]:
    values = fitted_constants()
    shown = ", ".join(f"{c.name} {getattr(values, c.name):.3g}" for c in LAW.coefficients)
    return (
        f"Fitted to sixteen counts, in cycles (contention: a share): {shown}. Instructions and "
        "stalls of inner loops are counted, not fitted.",
        "With the row left out, the same layer on another number of cores stays; with the workload "
        "left out it does not, and convolution has no prediction: nothing else has windows.",
        "Which stalls an inner loop has was decided with these counts in view, so errors on new "
        "layers may be larger than these.",
        "The networks of whole steps are MLPerf Tiny's without batch norm; the published averages "
        "are of variants that are not described.",
        "DMA, FPU sharing and tiles take part only in the rows below the cycle counts; no released "
        "count tests them.",
        "Published times per step (17.1 and 6.4 ms) are no rows: with the published MAC per cycle "
        "they fit no one network at any clock of such a chip.",
    )
