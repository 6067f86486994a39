"""Whole plans with every INT8 kernel of the DSP on the emulated DSP, and times from its packets.

Items placed on the DSP run as HVX binaries, all others as the kernels of :mod:`kernels`. The
numbers equal those of :class:`sim.numeric.TrainingSession` bit for bit. The timeline has the rows
that the simulator times. Its DSP kernels take the time of their packets; every other row keeps
its simulated cost, and the engine lays them out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import ceil
from typing import Final

from cost_models.packets.rates import PACKETS_PER_CYCLE
from cost_models.samples import Fingerprint
from hw_bridge.backends import BackendError, PlanJob, PlanRun
from hw_bridge.hexagon.arithmetic import HexagonArithmetic, Spent
from hw_bridge.hexagon.backend import HexagonKernels
from hw_bridge.hexagon.counting import fingerprint
from hw_bridge.hexagon.errors import HexagonError
from hw_bridge.hexagon.runner import Runner
from sim.draft import Item
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

    spent: dict[str, Spent]

    @property
    def packets(self) -> int:
        """Of all items and HVX threads."""
        return sum(one.packets for one in self.spent.values())

    @property
    def kernels(self) -> int:
        """HVX kernels that ran."""
        return sum(one.kernels for one in self.spent.values())

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

    def __init__(self, job: PlanJob, runner: Runner) -> None:
        super().__init__(job.graph, job.plan, job.device, profile=job.profile, seed=job.seed)
        self._dsp = self.kernels(runner)
        self._hvx = HexagonArithmetic(self._dsp)
        self._table = self._hvx.table()
        self.work = DspWork({})
        self._spent: dict[str, Spent] = {}

    def kernels(self, runner: Runner) -> HexagonKernels:
        """The kernels that DSP items run on; those in turn get the threads of each item."""
        return HexagonKernels(runner, in_turn=True)

    def compute(self, call: Call, frame: Frame) -> None:
        """Compute an item where the plan has it."""
        if not call.item.unit.startswith("dsp"):
            frame.arithmetic = PLAIN
            call.compute(frame)
            return
        frame.arithmetic = self._table
        if self._dsp.in_turn:
            self._dsp.threads = self.contexts(call.item)
        call.compute(frame)
        self._spent[call.item.name] = self._hvx.take()

    def timeline(self, tasks: TaskGraph) -> Timeline:
        """Time the tasks with the DSP's kernels by their packets."""
        self.work, self._spent = DspWork(self._spent), {}
        compute = tasks.compute_ns.copy()
        for row, name in enumerate(tasks.names):
            spent = self.work.spent.get(name)
            if spent is not None and spent.kernels:
                compute[row] = self.item_ns(name, int(tasks.slots[row]))
        timed = super().timeline(replace(tasks, compute_ns=compute))
        return replace(timed, source=DERIVED)

    def item_ns(self, name: str, contexts: int) -> int:
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
        """Build, compiler and emulator."""
        return fingerprint(self.arch)

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
        f"context, two cycles each at {clock_hz / 1e6:g} MHz: derived, not measured",
        "CPU kernels, FastRPC, preparation and DDR traffic: simulated",
        "every HVX kernel was one framed call: tensors came back in between",
    ]
    return (*notes, *notes_without(works))


def notes_without(works: list[DspWork]) -> tuple[str, ...]:
    """What no HVX kernel computed, in a sentence; nothing if all was."""
    without = {name: what for work in works for name, what in work.without().items()}
    if not without:
        return ()
    named = [f"{name} ({what})" for name, what in list(without.items())[:_SHOWN]]
    more = f" and {len(without) - _SHOWN} more" if len(without) > _SHOWN else ""
    return (
        f"no HVX kernel, so computed here and timed by the simulator: {', '.join(named)}{more}",
    )
