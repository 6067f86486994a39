"""Whole plans with every INT8 kernel of the DSP on a board's DSP, and that DSP's own times.

Items placed on the DSP run on the board; all others run here, as the kernels of :mod:`kernels`:
the CPU part does not run on the board yet. The numbers equal those of
:class:`sim.numeric.TrainingSession` bit for bit. DSP kernels take the time that the DSP measured,
and nothing beside it: it has their DDR traffic and the packing of weights in it. Every other row of
the timeline keeps its simulated cost, and the engine lays them out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import median_low
from typing import Any, ClassVar, Final

from numpy.typing import NDArray

from cost_models.samples import Fingerprint
from hw_bridge.backends import BackendError, PlanJob, PlanRun
from hw_bridge.board.board import Board
from hw_bridge.board.doctor import CORNER
from hw_bridge.board.launcher import Launcher
from hw_bridge.hexagon.backend import HexagonKernels
from hw_bridge.hexagon.errors import HexagonError
from hw_bridge.hexagon.plans import HexagonSession, notes_without
from hw_bridge.hexagon.protocol import Answer, Counts, Kernel
from hw_bridge.hexagon.runner import Runner
from sim.numeric.calls import Call
from sim.numeric.frame import Frame

MIXED: Final = "mixed"
NULL_CALLS, NULL_WARM = 100, 20
"""Calls of nothing by which whole calls are shortened where the DSP's timer stands still."""


class TimedKernels(HexagonKernels):
    """Kernels of one session with a board, and the time that they took there.

    Parameters
    ----------
    launcher
        The open session.
    threads
        HVX threads of each kernel.

    Attributes
    ----------
    spent_ns
        On the DSP, since :meth:`take`.
    by_dsp
        Whether the DSP's own timer counts; if not, times are those of whole calls.
    null_ns
        What is taken off a whole call, since the timeline has FastRPC as rows of its own: the
        session's median call of nothing. 0 where the DSP's timer counts.
    """

    def __init__(self, launcher: Launcher, threads: int) -> None:
        super().__init__(launcher, threads)
        self.launcher = launcher
        self.by_dsp = launcher.tell().loop.ticks > 0
        self.null_ns = 0
        if not self.by_dsp:
            self.null_ns = median_low(launcher.null_calls(NULL_CALLS, NULL_WARM))
        self.spent_ns = 0

    def _run(
        self, kernel: Kernel, params: Sequence[int], *tensors: NDArray[Any]
    ) -> tuple[Answer, Counts]:
        found = super()._run(kernel, params, *tensors)
        timed = self.launcher.timed()
        if self.by_dsp:
            self.spent_ns += sum(lap.time_ns for lap in timed.laps)
        else:
            self.spent_ns += max(timed.call_ns - self.null_ns, 0)
        return found

    def take(self) -> int:
        """Give what was spent, and start anew."""
        spent, self.spent_ns = self.spent_ns, 0
        return spent


class BoardSession(HexagonSession):
    """A training session whose DSP items run on a board.

    Parameters
    ----------
    job
        What is trained, and how.
    launcher
        An open session with the board.
    threads
        HVX threads of each kernel.
    """

    source: ClassVar[str] = MIXED
    keeps_ddr: ClassVar[bool] = False

    def __init__(self, job: PlanJob, launcher: Launcher, threads: int) -> None:
        self._timed = TimedKernels(launcher, threads)
        self._taken: dict[str, int] = {}
        super().__init__(job, launcher)

    @property
    def clock(self) -> str:
        """What times the kernels, in words."""
        if self._timed.by_dsp:
            return "the DSP's timer"
        return (
            f"the CPU's clock, less the {self._timed.null_ns} ns of a median call of nothing:"
            " copies of tensors are in it"
        )

    def kernels(self, runner: Runner) -> HexagonKernels:
        """Those that are timed."""
        return self._timed

    def compute(self, call: Call, frame: Frame) -> None:
        """Compute an item where the plan has it, and note the board's time."""
        super().compute(call, frame)
        self._taken[call.item.name] = self._timed.take()

    def item_ns(self, name: str) -> int:
        """What the board measured; its number of threads was the session's."""
        return self._taken[name]


class BoardBackend:
    """Runs the DSP part of plans on a board; a :class:`hw_bridge.backends.Backend`.

    Parameters
    ----------
    board
        Where.
    """

    name = "board"

    def __init__(self, board: Board) -> None:
        self.board = board

    def fingerprint(self) -> Fingerprint:
        """The board, its firmware and versions."""
        return self.board.fingerprint()

    def run(self, job: PlanJob, advance: Callable[[], None] = lambda: None) -> PlanRun:
        """Run a job; see :class:`hw_bridge.backends.Backend`.

        Raises
        ------
        BackendError
            The board cannot be reached or was lost, or a kernel refused its input.
        """
        dsp = job.device.dsp
        if dsp is None:
            raise BackendError(f"device {job.device.name} has no DSP; take one that has")
        results, timelines, works = [], [], []
        try:
            found = self.fingerprint()
            with self.board.session() as launcher:
                contexts = launcher.tell().hvx_contexts or 1
                threads = min(contexts, dsp.contexts)
                vote = launcher.vote(CORNER)
                session = BoardSession(job, launcher, threads)
                for index in range(job.steps):
                    images, labels = job.batch(index)
                    step = session.step(images, labels, rate_q24=job.rate_q24)
                    assert step.timeline is not None
                    results.append(step.result)
                    timelines.append(step.timeline)
                    works.append(session.work)
                    advance()
                launcher.vote(None)
        except HexagonError as error:
            raise BackendError(str(error)) from None
        kernels = sum(work.kernels for work in works)
        notes = (
            f"DSP kernels: {kernels} HVX kernels on {threads} threads of the board, timed by"
            f" {session.clock}; clocks: {vote.words}",
            "their DDR traffic and the packing of weights are in these times and cost none beside"
            " them; the energy of that traffic is not counted",
            "CPU kernels ran on this machine and are simulated in the timeline, as are FastRPC and"
            " preparation: the board's CPU part does not run plans yet",
            "every HVX kernel was one FastRPC call: tensors came back in between",
            *notes_without(works),
        )
        digest = session.executor.parameters.sha256()
        return PlanRun(tuple(timelines), tuple(results), digest, found, notes)
