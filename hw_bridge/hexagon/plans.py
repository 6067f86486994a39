"""Whole plans with every INT8 kernel of the DSP on the emulated DSP, and times from its packets.

Items placed on the DSP run as HVX binaries, all others as the kernels of :mod:`kernels`. The
numbers equal those of :class:`sim.numeric.TrainingSession` bit for bit. The timeline has the rows
that the simulator times, and the engine lays them out. A DSP kernel takes the time of its packets,
or of its simulated DDR traffic where that is longer; packing weights is among the packets, so rows
that pack take no time. Every other row keeps its simulated cost.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from math import ceil
from typing import ClassVar, Final

from cost_models.packets.rates import PACKETS_PER_CYCLE
from cost_models.samples import Fingerprint
from hw_bridge.backends import BackendError, PlanJob, PlanRun
from hw_bridge.hexagon.arithmetic import HexagonArithmetic, Spent
from hw_bridge.hexagon.backend import HexagonKernels
from hw_bridge.hexagon.counting import fingerprint
from hw_bridge.hexagon.errors import HexagonError
from hw_bridge.hexagon.runner import Runner
from sim.aspects.grouping import held_bytes
from sim.draft import Item, has_macs
from sim.numeric.arithmetic import PLAIN
from sim.numeric.calls import Call
from sim.numeric.frame import Frame
from sim.numeric.session import TrainingSession
from sim.taskgraph import TaskGraph
from sim.timeline import Timeline

DERIVED: Final = "derived"
_SHOWN: Final = 4
"""Items without an HVX kernel that a note names."""


@dataclass(frozen=True, slots=True)
class DspWork:
    """What the DSP items of one step took, by item."""

    spent: dict[str, Spent] = field(default_factory=dict)
    items: dict[str, Item] = field(default_factory=dict)

    @property
    def packets(self) -> int:
        """Of all items and HVX threads."""
        return sum(one.packets for one in self.spent.values())

    @property
    def kernels(self) -> int:
        """HVX kernels that ran."""
        return sum(one.kernels for one in self.spent.values())

    def timed(self, name: str) -> bool:
        """Whether HVX kernels did all of an item, so that what they took is its time."""
        spent = self.spent.get(name)
        return spent is not None and spent.kernels > 0 and not spent.without

    def left_to_pack(self, group: int) -> int:
        """Bytes of a subgraph's filters whose packing is in the time of no item."""
        return sum(
            held_bytes(item.op, item.role)[0]
            for name, item in self.items.items()
            if item.group == group and has_macs(item.op, item.role) and not self.timed(name)
        )

    def without(self) -> dict[str, str]:
        """Items that this process computed, all or in part, and what no HVX kernel does."""
        parts = {name: ", ".join(one.without) for name, one in self.spent.items() if one.without}
        none = {name: "all of it" for name, one in self.spent.items() if not one.kernels}
        return none | parts


class HexagonSession(TrainingSession):
    """A training session whose DSP items run on HVX; see :class:`sim.numeric.TrainingSession`.

    Parameters
    ----------
    job
        What is trained, and how.
    runner
        The process that runs the kernels.

    Attributes
    ----------
    work
        What the DSP items of the newest step took.
    """

    source: ClassVar[str] = DERIVED
    """What the times of a timeline are, see :class:`sim.timeline.Timeline`."""
    keeps_ddr: ClassVar[bool] = True
    """Whether a kernel's DDR traffic is simulated beside its time, which has none of it."""

    def __init__(self, job: PlanJob, runner: Runner) -> None:
        super().__init__(job.graph, job.plan, job.device, profile=job.profile, seed=job.seed)
        self._dsp = self.kernels(runner)
        self._hvx = HexagonArithmetic(self._dsp)
        self._table = self._hvx.table()
        self._subgraphs = [one.name for one in self._ready.draft({}).subgraphs]
        self.work, self._now = DspWork(), DspWork()

    def kernels(self, runner: Runner) -> HexagonKernels:
        """The kernels that DSP items run on; those in turn get the threads of each item."""
        return HexagonKernels(runner, in_turn=True)

    def compute(self, call: Call, frame: Frame) -> None:
        """Compute an item where the plan has it."""
        item = call.item
        if not item.unit.startswith("dsp"):
            frame.arithmetic = PLAIN
            call.compute(frame)
            return
        frame.arithmetic = self._table
        if self._dsp.in_turn:
            self._dsp.threads = self.contexts(item)
        call.compute(frame)
        self._now.items[item.name] = item
        self._now.spent[item.name] = self._hvx.take()

    def timeline(self, tasks: TaskGraph) -> Timeline:
        """Time the tasks with the DSP's kernels by what they took."""
        self.work, self._now = self._now, DspWork()
        return replace(super().timeline(self._retimed(tasks)), source=self.source)

    def _retimed(self, tasks: TaskGraph) -> TaskGraph:
        """The tasks with the time of items that HVX did in full, and no packing twice."""
        lead, compute, moved = (
            column.copy() for column in (tasks.lead_ns, tasks.compute_ns, tasks.ddr_bytes)
        )
        for row, name in enumerate(tasks.names):
            if self.work.timed(name):
                lead[row] = 0  # of the library that the device file describes: another one
                compute[row] = self.item_ns(name)
                if not self.keeps_ddr:
                    moved[row] = 0
        rows = {name: row for row, name in enumerate(tasks.names)}
        for group, name in enumerate(self._subgraphs):
            repack = rows.get(f"{name}.repack")
            if repack is not None:
                moved[repack] = 2 * self.work.left_to_pack(group)
        return replace(tasks, lead_ns=lead, compute_ns=compute, ddr_bytes=moved)

    def item_ns(self, name: str) -> int:
        """Time of an item of this step, nanoseconds."""
        packets = self.work.spent[name].busiest
        return ceil(packets * 1_000_000_000 / (PACKETS_PER_CYCLE * self.clock_hz))

    def contexts(self, item: Item) -> int:
        """HVX contexts that the simulator gives a kernel."""
        point = self._ready.settings["operating_point.dsp"]
        return self._ready.costs.timed(item.call, item.unit, point).slots

    @property
    def clock_hz(self) -> int:
        """Clock of the DSP in this plan."""
        point = self._ready.settings["operating_point.dsp"]
        return self._ready.costs.clock_and_power("dsp:1", point)[0]


class HexagonBackend:
    """Runs plans with the emulated DSP; a :class:`hw_bridge.backends.Backend`.

    Parameters
    ----------
    arch
        Hexagon version of the kernels' build.
    """

    name = "hexagon"

    def __init__(self, arch: str = "v66") -> None:
        self.arch = arch

    def fingerprint(self) -> Fingerprint:
        """Build, compiler and emulator; each item has the threads that its plan gives it."""
        return fingerprint(self.arch, "of each item, in turn")

    def run(self, job: PlanJob, advance: Callable[[], None] = lambda: None) -> PlanRun:
        """Run a job; see :class:`hw_bridge.backends.Backend`.

        Raises
        ------
        BackendError
            No compiler or emulator, a runner that ended, or a kernel that refused its input.
        """
        results, timelines, works = [], [], []
        try:
            found = self.fingerprint()
            with Runner(self.arch) as runner:
                session = HexagonSession(job, runner)
                for index in range(job.steps):
                    images, labels = job.batch(index)
                    step = session.step(images, labels, rate_q24=job.rate_q24)
                    assert step.timeline is not None
                    results.append(step.result)
                    timelines.append(step.timeline)
                    works.append(session.work)
                    advance()
        except HexagonError as error:
            raise BackendError(str(error)) from None
        parameters = session.executor.parameters.sha256()
        notes = _notes(works, session.clock_hz)
        return PlanRun(tuple(timelines), tuple(results), parameters, found, notes)


def _notes(works: list[DspWork], clock_hz: int) -> tuple[str, ...]:
    packets, kernels = (sum(getattr(w, what) for w in works) for what in ("packets", "kernels"))
    notes = [
        f"DSP kernels: {packets} packets of {kernels} HVX kernels; each takes those of its busiest "
        f"context, two cycles each at {clock_hz / 1e6:g} MHz, or as long as its simulated DDR "
        "traffic where that is longer: derived, not measured",
        "packing weights is among the packets: rows that pack them take no time",
        "CPU kernels, FastRPC, preparation and DDR traffic: simulated",
        "every HVX kernel was one framed call: tensors came back in between",
    ]
    return (*notes, *notes_without(works))


def notes_without(works: list[DspWork]) -> tuple[str, ...]:
    """Items that HVX did not do in full, in a sentence; nothing if it did all."""
    without = {name: what for work in works for name, what in work.without().items()}
    if not without:
        return ()
    named = [f"{name} ({what})" for name, what in list(without.items())[:_SHOWN]]
    more = f" and {len(without) - _SHOWN} more" if len(without) > _SHOWN else ""
    return (
        "no HVX kernel for a part or all of these, so that part was computed here and the "
        f"simulator times the whole item: {', '.join(named)}{more}",
    )
