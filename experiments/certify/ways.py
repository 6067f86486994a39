"""Ways to run one kernel of a step: what it takes at least, on each unit, however it is split.

A *way* is a data type, a unit, a number of its slots, a micro-batch and a rescale rule. What it
takes is counted without contention and at the fastest clocks of the space, so that no plan takes
less. Ways that another one beats in every respect are left out.

Notes
-----
Micro-batches of a forward or dX kernel may run side by side: ``n`` of them on ``m`` places take
``ceil(n / m)`` times one of them. Those of a dW accumulate, one after the other. A rule that scans
in a share of the steps weighs the step with and the step without a scan; :mod:`sim.expected` does
the same, and each bound of :mod:`experiments.certify.relaxation` is linear in the durations.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from cost_models.cost import DType, KernelCall, Rescaling, UnsupportedKernelError
from cost_models.dsp import repacked_bytes, result_shape
from cost_models.model import CostModel, Timed
from kernels.operators import Operator, Role, Shape
from kernels.precision import Requantise, RescaleScan
from sim.aspects.step import STEP_ASPECTS
from sim.draft import has_macs
from sim.encoding import Space
from sim.expected import SETTLED_TENSOR_STEPS, quiet_mode, scan_share
from sim.lowering import cost_model
from sim.rescaling import parse_rule

UNITS = ("cpu", "little", "dsp", "gpu")


class Way(NamedTuple):
    """One way to run a kernel, and what every plan that takes it pays at least.

    Attributes
    ----------
    time_ns
        From the start of its first task to the end of its last; on the DSP with the packing of
        its filter.
    area
        Slots times nanoseconds on its unit.
    ddr_bytes
        Bytes moved from and to DDR.
    energy_pj
        Energy beside static power.
    repack_ns
        Part of ``time_ns`` that packs filters.
    """

    dtype: DType
    unit: str
    time_ns: int
    area: int
    ddr_bytes: int
    energy_pj: int
    repack_ns: int


class Kernel(NamedTuple):
    """What of a node decides its cost; equal kernels have equal ways.

    ``result`` is the shape in which the kernel's result is stored.
    """

    op: Operator
    role: Role
    dtype: DType
    result: Shape


class Offer(NamedTuple):
    """What a space leaves open for one node."""

    placements: tuple[str, ...]
    micro_batches: tuple[int, ...]
    rules: tuple[str, ...]


class Parts(NamedTuple):
    """Sums over tasks: latency from first to last, slots times time, bytes, energy."""

    time_ns: int
    area: int
    ddr_bytes: int
    energy_pj: int


@dataclass(slots=True, eq=False)
class WayFinder:
    """Finds the ways of kernels on the device of ``space``, remembering those it has found."""

    space: Space
    costs: tuple[CostModel, ...] = field(init=False)
    points: Mapping[str, tuple[str, ...]] = field(init=False)
    """Operating points that the space offers, by unit."""
    slots: Mapping[str, int] = field(init=False)
    energy: bool = False
    """Whether a way may be worth keeping, and a clock worth running at, for its energy alone."""
    _known: dict[tuple[Kernel, Offer], tuple[Way, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        device = self.space.device
        self.costs = tuple(cost_model(device, name) for name in offered(self.space, "library"))
        cpu, dsp = (offered(self.space, "operating_point", unit) for unit in ("cpu", "dsp"))
        gpu = offered(self.space, "gpu_clock")
        self.points = {"cpu": cpu, "little": cpu, "dsp": dsp, "gpu": gpu}
        self.slots = capacities(self.space)

    def ways(self, kernel: Kernel, offer: Offer) -> tuple[Way, ...]:
        """Return the ways of a kernel, best first; none if no offered unit can run it."""
        key = kernel, offer
        known = self._known.get(key)
        if known is None:
            known = self._known[key] = tuple(_unbeaten(self._all(kernel, offer), self.energy))
        return known

    def _all(self, kernel: Kernel, offer: Offer) -> Iterator[Way]:
        splittable = has_macs(kernel.op, kernel.role) and kernel.op.batch_splittable
        batches = offer.micro_batches if splittable else (kernel.op.batch,)
        for costs in self.costs:
            for unit in offer.placements:
                for size in batches:
                    op = kernel.op.with_batch(size) if size < kernel.op.batch else kernel.op
                    try:
                        yield self._way(costs, kernel, op, unit, offer.rules)
                    except UnsupportedKernelError:
                        break

    def _way(
        self, costs: CostModel, kernel: Kernel, op: Operator, label: str, rules: Iterable[str]
    ) -> Way:
        parts = -(-kernel.op.batch // op.batch)
        unit, _, _ = label.partition(":")
        packing = (
            self._packing(costs, op, kernel.role, parts) if unit == "dsp" else Parts(0, 0, 0, 0)
        )
        if kernel.dtype == "int8" and has_macs(kernel.op, kernel.role):
            modes = {m: self._run(costs, kernel, op, label, m) for m in _modes(rules)}
            each = [_ruled(modes, rule) for rule in rules]
            best = Parts(*(min(column) for column in zip(*each, strict=True)))
        else:
            best = self._run(costs, kernel, op, label, "none")
        return Way(kernel.dtype, unit, *_sum(best, packing, 1), packing.time_ns)

    def _run(
        self, costs: CostModel, kernel: Kernel, op: Operator, label: str, mode: Rescaling
    ) -> Parts:
        """What a kernel takes in a step with this mode, scan and requantise included."""
        role, parts = kernel.role, -(-kernel.op.batch // op.batch)
        chained = role is Role.WEIGHT_GRAD and parts > 1
        wide = kernel.dtype == "int8" and has_macs(op, role) and (chained or mode == "dynamic")
        stored: Rescaling = "none" if wide and mode != "dynamic" else mode
        first = KernelCall(op, role, kernel.dtype, stored)
        total = self._tasks(costs, first, label, 1 if chained else parts)
        if chained:
            total = _sum(
                total, self._tasks(costs, first._replace(accumulates=True), label, 1), parts - 1
            )
        if wide:
            shape = result_shape(op, role) if role is Role.WEIGHT_GRAD else kernel.result
            passes: list[Operator] = [Requantise(shape)]
            if mode == "dynamic":
                passes.append(RescaleScan(shape))
            for each in passes:
                call = KernelCall(each, Role.FORWARD, "int8")
                total = _sum(total, self._tasks(costs, call, label, 1), 1)
        return total

    def _tasks(self, costs: CostModel, call: KernelCall, label: str, count: int) -> Parts:
        """What ``count`` equal tasks take that need not wait for each other."""
        unit, _, _ = label.partition(":")
        timed = [costs.timed(call, label, point) for point in self._worth(costs, label)]
        time = min(map(task_ns, timed))
        some = timed[0]
        places = self.slots[unit] // some.slots
        if some.vtcm_bytes and self.space.device.dsp is not None:
            places = min(places, int(self.space.device.dsp.vtcm_bytes.value) // some.vtcm_bytes)
        transfer = round(self.space.device.memory.pj_per_byte.value) * some.ddr_bytes
        energy = min(t.power_mw * task_ns(t) for t in timed) + transfer
        waves = -(-count // max(1, places))
        return Parts(
            waves * time, count * some.slots * time, count * some.ddr_bytes, count * energy
        )

    def _worth(self, costs: CostModel, label: str) -> tuple[str, ...]:
        """Operating points worth looking at: without energy, the fastest one."""
        unit, _, _ = label.partition(":")
        points = self.points[unit]
        if self.energy or len(points) == 1:
            return points
        return (max(points, key=lambda point: costs.clock_and_power(label, point)[0]),)

    def _packing(self, costs: CostModel, op: Operator, role: Role, parts: int) -> Parts:
        """What packing this kernel's share of its subgraph's filters takes."""
        device = self.space.device
        assert device.dsp is not None
        assert device.prepare is not None
        moved = 2 * parts * repacked_bytes(op, role) if has_macs(op, role) else 0
        time = moved * 1000 // (2 * int(device.prepare.repack_rate.value))
        slots = device.dsp.contexts
        power = min(costs.clock_and_power(f"dsp:{slots}", p)[1] for p in self.points["dsp"])
        energy = power * time + round(device.memory.pj_per_byte.value) * moved
        return Parts(time, slots * time, moved, energy)


def _modes(rules: Iterable[str]) -> tuple[Rescaling, ...]:
    """Modes that some step under one of these rules has."""
    found: dict[Rescaling, None] = {}
    for rule in map(parse_rule, rules):
        found[quiet_mode(rule)] = None
        if scan_share(rule):
            found["dynamic"] = None
    return tuple(found)


def _ruled(modes: Mapping[Rescaling, Parts], rule: str) -> Parts:
    """Mean over steps with and without a scan, as the rule shares them, rounded down."""
    parsed = parse_rule(rule)
    share, whole = scan_share(parsed), SETTLED_TENSOR_STEPS
    quiet = modes[quiet_mode(parsed)]
    scanned = modes["dynamic"] if share else quiet
    return Parts(
        *((a * (whole - share) + b * share) // whole for a, b in zip(quiet, scanned, strict=True))
    )


def task_ns(timed: Timed) -> int:
    """Time of a task that has the memory to itself, nanoseconds."""
    return timed.lead_ns + max(timed.compute_ns, -(-timed.ddr_bytes * 1000 // timed.rate_cap))


def _sum(one: Parts, other: Parts, times: int) -> Parts:
    return Parts(*(a + times * b for a, b in zip(one, other, strict=True)))


def _unbeaten(ways: Iterable[Way], energy: bool) -> Iterator[Way]:
    """Leave out each way that another on the same unit beats in time, area and bytes."""
    kept: list[Way] = []
    for way in sorted(set(ways), key=lambda w: (w.time_ns, w.area, w.ddr_bytes, w.energy_pj)):
        rivals = [k for k in kept if (k.unit, k.dtype) == (way.unit, way.dtype)]
        if not any(
            k.area <= way.area
            and k.ddr_bytes <= way.ddr_bytes
            and (not energy or k.energy_pj <= way.energy_pj)
            for k in rivals
        ):
            kept.append(way)
    yield from kept


def capacities(space: Space) -> dict[str, int]:
    """Slots of each unit that kernels run on."""
    from cost_models.cores import core_count

    device = space.device
    return {
        "cpu": core_count(device, "big"),
        "little": core_count(device, "little"),
        "dsp": device.dsp.contexts if device.dsp is not None else 0,
        "gpu": int(device.gpu is not None),
    }


def offered(space: Space, aspect: str, subject: str = "step") -> tuple[str, ...]:
    """Choices of a step aspect that plans of a space can make."""
    step = next(s for s in STEP_ASPECTS if (s.name, s.subject) == (aspect, subject))
    if aspect in space.held:
        return (step.resolve(space.base, space.device),)
    genes = {g.key: g.choices for g in space.genes}
    return genes.get((aspect, subject), (step.default,))
