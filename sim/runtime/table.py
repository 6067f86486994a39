"""The table that a run-time manager picks from: every active part x unit x operating point.

Each row is one simulated inference: its time, its energy (the board's idle power included) and what
they make of power. Accuracy is given from outside: it is a matter of training, not of simulation.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from cost_models.cores import core_count
from cost_models.device import Device, named
from cost_models.errors import unknown_name
from cost_models.model import POOLS
from cost_models.parts import PowerMode
from sim.aspects import STEP, STEP_ASPECTS
from sim.autodiff import inference_graph
from sim.expected import expect
from sim.graph import TrainingGraph
from sim.model import ForwardModel
from sim.plan import Plan
from sim.taskgraph import I64

UNITS = ("cpu", "little", "gpu")
"""Units that rows differ by; the slowdown of each is its own."""


class RuntimeTableError(ValueError):
    """A table cannot be made; the message names what is wrong and what is allowed."""


@dataclass(frozen=True, slots=True)
class Row:
    """One way to run: its choices, and what it costs.

    Attributes
    ----------
    active
        Groups of the network that run.
    unit
        ``cpu:4``, ``little:2``, ``gpu``...
    point
        Its operating point, such as ``1400MHz``; ``max`` where it has no other.
    time_ns, energy_pj
        Of one inference, on the idle device.
    accuracy
        Of the active part; any unit, larger is better.
    """

    active: int
    unit: str
    point: str
    time_ns: int
    energy_pj: int
    accuracy: float

    @property
    def power_mw(self) -> int:
        """Mean power while it runs, milliwatts, rounded up."""
        return -(-self.energy_pj // self.time_ns)

    @property
    def cores(self) -> int:
        """Big cores that it needs."""
        name, _, count = self.unit.partition(":")
        return int(count) if name == "cpu" else 0


@dataclass(frozen=True, slots=True, eq=False)
class RuntimeTable:
    """Rows, and their columns as arrays.

    Attributes
    ----------
    rows
        All rows; a manager names them by index.
    time_ns, energy_pj, power_mw, cores, unit
        Columns, int64; ``unit`` is an index into :data:`UNITS`.
    accuracy
        Column, float64.
    """

    rows: tuple[Row, ...]
    time_ns: I64 = field(init=False)
    energy_pj: I64 = field(init=False)
    power_mw: I64 = field(init=False)
    cores: I64 = field(init=False)
    unit: I64 = field(init=False)
    accuracy: np.ndarray[tuple[int], np.dtype[np.float64]] = field(init=False)

    def __post_init__(self) -> None:
        if not self.rows:
            raise RuntimeTableError("rows is empty; a manager needs at least one way to run")
        for name in ("time_ns", "energy_pj", "power_mw", "cores"):
            column = np.array([getattr(row, name) for row in self.rows], np.int64)
            object.__setattr__(self, name, column)
        units = [UNITS.index(row.unit.partition(":")[0]) for row in self.rows]
        object.__setattr__(self, "unit", np.array(units, np.int64))
        accuracy = np.array([row.accuracy for row in self.rows], np.float64)
        object.__setattr__(self, "accuracy", accuracy)

    def __repr__(self) -> str:
        """How many rows of what; ``rows`` has them all."""
        groups = ", ".join(map(str, sorted({row.active for row in self.rows})))
        units = ", ".join(dict.fromkeys(row.unit for row in self.rows))
        return f"RuntimeTable({len(self.rows)} rows: {groups} groups; {units})"

    def range(self, metric: str) -> float:
        """Dynamic range of ``time_ns``, ``energy_pj`` or ``power_mw``: largest over smallest."""
        column = getattr(self, metric)
        return float(column.max() / column.min())

    def where(self, *, unit: str | None = None, point: str | None = None) -> RuntimeTable:
        """The rows on one unit, at one point, or both."""
        kept = [row for row in self.rows if unit in (None, row.unit) and point in (None, row.point)]
        return RuntimeTable(tuple(kept))


def runtime_table(
    models: Mapping[int, ForwardModel],
    device: Device,
    accuracy: Mapping[int, float],
    *,
    library: str | None = None,
    mode: str | None = None,
) -> RuntimeTable:
    """Simulate every row of a device.

    Parameters
    ----------
    models
        The network by active groups.
    accuracy
        By active groups.
    library
        Whose kernels run on the CPU; none: TFLite's, or the device's own where it has no choice.
    mode
        Power mode that the device is in, by name; none: no limit.

    Raises
    ------
    RuntimeTableError
        Accuracies are not of the same groups, or the device has no such power mode.
    """
    if not models or models.keys() != accuracy.keys():
        raise RuntimeTableError(
            f"accuracy is given for {sorted(accuracy)} active groups and models for "
            f"{sorted(models)}; give both for the same ones"
        )
    limit = _mode(device, mode)
    library = _usual_library(device) if library is None else library
    rows = []
    for active, model in sorted(models.items()):
        graph = inference_graph(model)
        for unit, point in configurations(device, limit):
            plan = row_plan(graph, unit, point, library)
            found = expect(graph, plan, _left_with(device, unit), checked=False)
            row = Row(active, unit, point, found.time_ns, found.energy_pj, accuracy[active])
            rows.append(row)
    return RuntimeTable(tuple(rows))


def row_plan(graph: TrainingGraph, unit: str, point: str, library: str) -> Plan:
    """The plan that runs a whole graph on one unit at one operating point."""
    choices: dict[tuple[str, str], str] = {("placement", node.name): unit for node in graph.nodes}
    choices["library", STEP] = library
    key = ("gpu_clock", STEP) if unit == "gpu" else ("operating_point", "cpu")
    choices[key] = point
    return Plan.make(f"{unit} {point}", graph.hash(), choices)


def configurations(device: Device, limit: PowerMode | None = None) -> Iterator[tuple[str, str]]:
    """Every unit with each of its operating points, under the limits of a power mode."""
    for label, pool in POOLS.items():
        clocks = {mhz for c in device.pool(pool) for mhz, _ in c.operating_points.rows}
        cores = core_count(device, pool)
        if limit is not None and label == "cpu":
            cores = min(cores, limit.big_cores)
        for count in range(1, cores + 1):
            for mhz in sorted(clocks) if device.cpu.settable else ():
                if limit is None or mhz <= limit.cpu_mhz.value:
                    yield f"{label}:{count}", named(mhz)
            if not device.cpu.settable:
                yield f"{label}:{count}", "max"
    if device.gpu is not None:
        points = device.gpu.operating_points
        if points is None:
            yield "gpu", "max"
            return
        most = limit.gpu_mhz.value if limit is not None and limit.gpu_mhz is not None else None
        for mhz, _ in points.rows:
            if most is None or mhz <= most:
                yield "gpu", "max" if mhz == device.gpu.clock.value else named(mhz)


def _left_with(device: Device, unit: str) -> Device:
    """The device with the cores of a unit alone in their pool: groups run one after the other.

    Left with all, groups of a network would run beside each other on cores that others hold.
    """
    label, _, count = unit.partition(":")
    if label not in POOLS:
        return device
    left, clusters = int(count), []
    for cluster in sorted(device.cpu.clusters, key=lambda one: -one.max_mhz):
        taken = cluster.cores
        if cluster.pool == POOLS[label]:
            taken = min(left, cluster.cores)
            left -= taken
        if taken:
            clusters.append(cluster.model_copy(update={"cores": taken}))
    cpu = device.cpu.model_copy(update={"clusters": tuple(clusters)})
    return device.model_copy(update={"cpu": cpu})


def _usual_library(device: Device) -> str:
    """The library that inference takes: a microcontroller has its own and offers no other."""
    (aspect,) = (one for one in STEP_ASPECTS if one.key == "library")
    return "tflite" if "tflite" in aspect.offered(device) else aspect.default


def _mode(device: Device, name: str | None) -> PowerMode | None:
    if name is None:
        return None
    for mode in device.power_modes:
        if mode.name == name:
            return mode
    names = [mode.name for mode in device.power_modes]
    if not names:
        raise RuntimeTableError(f"mode = {name!r}: {device.name} has no power modes; leave it out")
    raise RuntimeTableError(unknown_name(f"power mode of {device.name}", name, names))
