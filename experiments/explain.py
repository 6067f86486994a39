"""Why an operator runs where it does, and what each alternative would have cost.

For one subject of a placement: its time alone on each unit, what that time is made of, the
constants behind it, and the expected step if this subject alone were moved.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from cost_models.cost import TIMES, Cost, UnsupportedKernelError
from cost_models.device import Device
from cost_models.quantity import Quantity
from cost_models.vtcm import conv_slice_bytes
from kernels.conv import Conv2d
from sim.aspects.placement import units_for
from sim.draft import Draft, Item
from sim.expected import expected_ns, quiet_mode
from sim.graph import TrainingGraph
from sim.lowering import Lowering, lowering
from sim.plan import Plan, PlanError

NS = 1_000_000_000
PARTS = ("launch", "compute", "bytes")
"""What the time of a kernel alone can be dominated by."""


@dataclass(frozen=True, slots=True)
class Alone:
    """Time of a subject alone on one unit, nanoseconds, all its micro-batches and scans together.

    ``launch_ns`` comes before; ``compute_ns`` and ``bytes_ns`` overlap, of each kernel the longer
    one counts. ``behind_ns`` is the part of ``time_ns`` that rests on each constant, the longest
    first; where several multiply, each carries the whole part.
    """

    unit: str
    launch_ns: int
    compute_ns: int
    bytes_ns: int
    time_ns: int
    behind_ns: dict[str, int]

    @property
    def dominated_by(self) -> str:
        """``launch``, ``compute`` or ``bytes``, whichever is longest."""
        times = (self.launch_ns, self.compute_ns, self.bytes_ns)
        return PARTS[times.index(max(times))]


@dataclass(frozen=True, slots=True)
class Option:
    """A unit that a subject could run on; ``step_ns`` is the expected step if it did."""

    alone: Alone
    step_ns: int


@dataclass(frozen=True, slots=True)
class Vtcm:
    """VTCM that the slice of a convolution wants, and has; bytes."""

    slice_bytes: int
    vtcm_bytes: int
    micro_batch: int
    batch: int

    @property
    def fits(self) -> bool:
        """Whether the convolution keeps the fast path."""
        return self.slice_bytes <= self.vtcm_bytes


@dataclass(frozen=True, slots=True)
class Explanation:
    """One subject: where it runs, how long, and what else was possible.

    ``options`` holds the chosen unit first, then the alternatives by rising expected step.
    """

    subject: str
    kind: str
    role: str
    dtype: str
    unit: str
    step_ns: int
    options: tuple[Option, ...]
    vtcm: Vtcm | None
    constants: dict[str, Quantity]

    @property
    def chosen(self) -> Option:
        """The option that the plan took."""
        return self.options[0]

    @property
    def best_alternative(self) -> Option | None:
        """The alternative with the shortest expected step, if there is any."""
        return self.options[1] if len(self.options) > 1 else None


class Explainer:
    """Explains the placement of one plan.

    Parameters
    ----------
    graph, plan, device
        A plan that fits the graph and the device; :class:`sim.plan.PlanError` otherwise.
    """

    def __init__(self, graph: TrainingGraph, plan: Plan, device: Device) -> None:
        self.graph, self.plan, self.device = graph, plan, device
        self._ready: Lowering = lowering(graph, plan, device)
        modes = {s: quiet_mode(rule) for s, rule in self._ready.rules.items()}
        self._draft: Draft = self._ready.draft(modes)
        self._items: dict[str, list[Item]] = {}
        for item in self._draft.items:
            self._items.setdefault(item.follows or item.subject, []).append(item)
        self._quantities = self._ready.costs.quantities()

    def subjects(self) -> list[str]:
        """Return every subject of the placement, in order."""
        return self._draft.subjects()

    def first(self, subject: str) -> Item:
        """Return the first kernel of a subject, as placed; KeyError if there is none."""
        return self._draft.first(subject)

    def longest(self, count: int) -> list[str]:
        """Return the subjects that take longest on their units, the longest first."""
        times = {s: self.alone(s, self._items[s][0].unit).time_ns for s in self.subjects()}
        return sorted(times, key=lambda s: (-times[s], s))[:count]

    def alone(self, subject: str, unit: str) -> Alone:
        """Return the time of a subject alone on a unit.

        Raises
        ------
        UnsupportedKernelError
            The unit has no kernel for it.
        """
        launch = compute = moved = time = 0
        behind: Counter[str] = Counter()
        costs = self._ready.costs
        hz, _ = costs.clock_and_power(unit)
        for item in self._items[subject]:
            cost: Cost = costs.cost(item.call, unit)
            computing, moving = (
                -(-cost.cycles * NS // hz),
                -(-cost.ddr_bytes * 1000 // cost.rate_cap),
            )
            launch, compute, moved = launch + cost.lead_ns, compute + computing, moved + moving
            for path, ns in zip(cost.parameters, _counting(cost, computing, moving), strict=True):
                time += ns
                for constant in path.split(TIMES):
                    behind[constant] += ns
        found = {path: ns for path, ns in behind.most_common() if ns}
        return Alone(unit, launch, compute, moved, time, found)

    def explain(self, subject: str, *, widest: bool = False) -> Explanation:
        """Explain one subject.

        Parameters
        ----------
        subject
            A name as in ``plan show``, ``conv2.weight_grad`` say.
        widest
            Look only at the widest placement on each kind of unit, not at fewer cores.

        Raises
        ------
        PlanError
            There is no such subject.
        """
        if subject not in self._items or subject not in self.subjects():
            known = self.subjects()
            close = get_close_matches(subject, known, 1)
            hint = f"did you mean {close[0]!r}?" if close else f"names look like {known[0]!r}"
            raise PlanError(f"operator {subject!r} is no subject of this plan; {hint}")
        first = self._items[subject][0]
        step = expected_ns(self.graph, self.plan, self.device)
        others = [
            Option(alone, expected_ns(self.graph, self._moved(subject, unit), self.device))
            for unit in self._alternatives(first, widest)
            if (alone := self._alone_or_none(subject, unit)) is not None
        ]
        chosen = self.alone(subject, first.unit)
        others.sort(key=lambda option: (option.step_ns, option.alone.unit))
        return Explanation(
            subject=subject,
            kind=first.op.kind,
            role=first.role.value,
            dtype=first.dtype,
            unit=first.unit,
            step_ns=step,
            options=(Option(chosen, step), *others),
            vtcm=self._vtcm(first),
            constants={path: self._quantities[path] for path in chosen.behind_ns},
        )

    def _alone_or_none(self, subject: str, unit: str) -> Alone | None:
        try:
            return self.alone(subject, unit)
        except UnsupportedKernelError:
            return None

    def _alternatives(self, item: Item, widest: bool) -> Sequence[str]:
        units = [unit for unit in units_for(item, self.device) if unit != item.unit]
        if not widest:
            return units
        kinds = {item.unit.partition(":")[0]}
        kept = []
        for unit in units:  # the widest of a kind comes first
            kind = unit.partition(":")[0]
            if kind not in kinds:
                kinds.add(kind)
                kept.append(unit)
        return kept

    def _moved(self, subject: str, unit: str) -> Plan:
        """Return the plan with one subject elsewhere; only DSP kernels can be cut."""
        choices = dict(self.plan.choices)
        choices["placement", subject] = unit
        if not unit.startswith("dsp"):
            choices.pop(("grouping", subject), None)
        return Plan.make(self.plan.name, self.plan.graph_hash, choices)

    def _vtcm(self, item: Item) -> Vtcm | None:
        dsp = self.device.dsp
        if dsp is None or not isinstance(item.op, Conv2d) or item.dtype != "int8":
            return None
        if not item.has_macs or item.op.depthwise:
            return None
        wanted = conv_slice_bytes(item.op, item.role)
        return Vtcm(wanted, int(dsp.vtcm_bytes.value), item.op.n, self.graph.batch)


def _counting(cost: Cost, computing: int, moving: int) -> tuple[int, int, int]:
    """Nanoseconds that count of launch, compute and bytes: of the latter two the longer."""
    if computing >= moving:
        return cost.lead_ns, computing, 0
    return cost.lead_ns, 0, moving
