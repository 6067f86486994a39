"""On what terms plans are compared: units, precision, layout, library and the constants behind.

A comparison is only as fair as its baselines. This says for each plan what runs where and on which
constants most of its time rests, with their evidence.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from cost_models.device import Device
from cost_models.model import POOLS
from cost_models.quantity import Quantity
from sim.critical import parameter_shares
from sim.draft import Item
from sim.expected import expect, quiet_mode
from sim.graph import TrainingGraph
from sim.lowering import cost_model, lowering
from sim.plan import Plan

LAYOUTS: dict[str, str] = {
    "mnn": "NC4HW4",
    "tflite": "NHWC",
    "mnn_opencl": "image2d",
    "hexagon_nn": "D32",
}
"""In-memory layout of each library's kernels: MNN packs channels by 4 (MNN docs, NC4HW4) and keeps
them in images on OpenCL; TFLite is NHWC; hexagon_nn packs channels by 32 (its depth-32 layout)."""
SHOWN_CONSTANTS = 3


@dataclass(frozen=True, slots=True)
class Constant:
    """A number that predicted time rests on, and the share of the step's time that does."""

    path: str
    share: float
    quantity: Quantity


@dataclass(frozen=True, slots=True)
class Terms:
    """Terms of one plan.

    Attributes
    ----------
    name
        The plan.
    units
        Kernels by unit with its slots (``cpu:4``: four big cores), the most used first.
    int8_macs
        Share of the multiply-accumulates done in INT8; the rest is FP32.
    libraries
        Kernel libraries, those of the most used unit first, each with its layout.
    constants
        The constants behind most of the time, largest share first.
    """

    name: str
    units: dict[str, int]
    int8_macs: float
    libraries: dict[str, str]
    constants: tuple[Constant, ...]

    @property
    def precision(self) -> str:
        """``FP32``, ``INT8``, or how much of it is INT8."""
        if self.int8_macs in (0.0, 1.0):
            return "INT8" if self.int8_macs else "FP32"
        return f"INT8 {100 * self.int8_macs:.0f} %"


def terms(name: str, plan: Plan, graph: TrainingGraph, device: Device) -> Terms:
    """Return the terms of a plan that is known to fit the graph and the device."""
    ready = lowering(graph, plan, device)
    items = ready.draft({s: quiet_mode(rule) for s, rule in ready.rules.items()}).items
    units = Counter(item.unit for item in items)
    library = ready.settings["library"]
    by_unit = {unit: library_of(unit, library) for unit, _ in units.most_common()}
    used = list(dict.fromkeys(by_unit.values()))
    return Terms(
        name,
        dict(units.most_common()),
        _int8_share(items),
        {name: LAYOUTS.get(name, "own") for name in used},
        _constants(plan, graph, device, library),
    )


def library_of(unit: str, cpu_library: str) -> str:
    """Return the name of the library whose kernels run on a unit."""
    label = unit.partition(":")[0]
    if label in POOLS:
        return cpu_library
    return {"gpu": "mnn_opencl", "dsp": "hexagon_nn"}[label]


def _int8_share(items: list[Item]) -> float:
    macs: Counter[str] = Counter()
    for item in items:
        macs[item.dtype] += item.op.work(item.role).macs
    return macs["int8"] / macs.total() if macs.total() else 0.0


def _constants(
    plan: Plan, graph: TrainingGraph, device: Device, library: str
) -> tuple[Constant, ...]:
    expected = expect(graph, plan, device)
    known = cost_model(device, library).quantities()
    time: Counter[str] = Counter()
    for weight, timeline in zip(expected.weights, expected.timelines, strict=True):
        for path, ns in parameter_shares(timeline).items():
            time[path] += weight * ns
    whole = max(1, time.total())
    return tuple(
        Constant(path, ns / whole, known[path]) for path, ns in time.most_common() if path in known
    )[:SHOWN_CONSTANTS]
