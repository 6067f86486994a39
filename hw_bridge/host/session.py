"""Training steps of a plan in two processes, with a measured timeline of each."""

from __future__ import annotations

import os
import signal
import socket
from dataclasses import replace
from math import prod
from time import perf_counter_ns
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from cost_models.device import Device
from hw_bridge.host import accelerator
from hw_bridge.host.errors import GoneError, HostError
from hw_bridge.host.memory import Arena
from hw_bridge.host.rows import CPU, RPC, Kind, StepRows, crossing
from hw_bridge.host.wire import Channel, heard_float, told
from hw_bridge.host.worker import FAILED, Batch, Shared, Worker, undisturbed
from sim.checks import check
from sim.graph import TrainingGraph
from sim.lowering import lowering
from sim.numeric.executor import NumericExecutor, StepResult
from sim.numeric.frame import Frame, StepInputs
from sim.numeric.records import ShiftRecord
from sim.numeric.session import MeasuredShifts, SessionStep
from sim.numeric.values import Floats
from sim.plan import Plan
from sim.state import StepState
from sim.taskgraph import I64
from sim.timeline import Timeline

CORES = 2
"""Cores that the two processes need, one each."""
_SLACK = 1 << 20
_SLOTS = 64
"""Returns under way at once: bits of a slot mask."""
_INPUTS = 2
"""Places for images: of this step, and of the next one while it is prefetched."""


def two_cores() -> tuple[int, int]:
    """Cores of the CPU process and of the accelerator: the first two that this process may use.

    Raises
    ------
    HostError
        There are fewer, or the system does not say.
    """
    if not hasattr(os, "sched_setaffinity"):
        raise HostError("backend host pins processes to cores, which takes Linux; run it there")
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < CORES:
        raise HostError(
            f"backend host needs {CORES} cores, one for each process, and may use {len(cores)} "
            "here; give it more (taskset, cpuset), or use another machine"
        )
    return cores[0], cores[1]


class HostSession:
    """Trains one plan on one graph in two processes of this machine.

    The CPU process is this one: it is pinned to a core while a session is open. Numbers equal those
    of :class:`sim.numeric.TrainingSession` bit for bit. Use it in a ``with`` block, one at a time.

    Parameters
    ----------
    graph, plan, device, profile, seed
        As for :class:`sim.numeric.TrainingSession`; the device decides which units and
        subgraphs the plan has.

    Raises
    ------
    HostError
        Fewer than two cores, or not enough memory.

    Examples
    --------
    >>> from sim import build_plan, load_device, load_model, training_graph
    >>> graph = training_graph(load_model("lenet", batch=4))
    >>> device = load_device("snapdragon-865")
    >>> images, labels = np.ones((4, 28, 28, 1), np.float32), np.arange(4)
    >>> with HostSession(graph, build_plan("mandheling", graph, device), device) as session:
    ...     step = session.step(images, labels, rate_q24=1 << 18)
    >>> step.timeline.source
    'measured'
    """

    def __init__(
        self,
        graph: TrainingGraph,
        plan: Plan,
        device: Device,
        *,
        profile: str = "sandbox",
        seed: int = 0,
    ) -> None:
        self._process = 0
        self._cores = two_cores()
        self._before = os.sched_getaffinity(0)
        self.executor = NumericExecutor(graph, plan, device, profile=profile, seed=seed, threads=1)
        self._ready = lowering(graph, plan, device)
        start = StepState(seed=seed, shifts=MeasuredShifts({}))
        self.state = self._ready.first_state(start)
        draft = self._ready.draft({})
        arena = Arena(self._bound(graph))
        self.executor.parameters.move(arena.place)
        ends = arena.take((4 * len(draft.items) + 1,), np.int64)
        shape = graph.tensor("input").shape
        batch = shape[0]
        images = [arena.take((batch, *shape[2:], shape[1]), np.float32) for _ in range(_INPUTS)]
        self._images, self._labels = images, arena.take((batch,), np.int64)
        self._steps = accelerator.Steps(self._ready, self.executor)
        self._scalars: dict[str, list[int]] = {}
        self._fork(arena, ends)

    def _bound(self, graph: TrainingGraph) -> int:
        """Most bytes of shared memory: parameters, images, and twice what may cross."""
        draft = self._ready.draft({})
        names = {name for sent in crossing(draft).values() for name in sent}
        sent = sum(prod(draft.buffers[name].shape) * 8 + 64 for name in names)
        held = self.executor.parameters.arrays().values()
        kept = sum(2 * array.nbytes + 256 for array in held)
        images = 4 * prod(graph.tensor("input").shape) * _INPUTS
        return kept + 2 * sent + images + 64 * len(draft.items) + _SLACK

    def _fork(self, arena: Arena, ends: I64) -> None:
        pair = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        core, other = self._cores
        waiting = Channel(pair[0], os.getpid())
        self._shared = Shared(self.executor, arena, waiting, ends)
        self._process = accelerator.start(self._shared, self._steps, pair, other)
        self._shared = replace(self._shared, channel=Channel(pair[0], self._process))
        arena.split(CPU)
        os.sched_setaffinity(0, {core})

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def accelerator_process(self) -> int:
        """Process number of the accelerator; 0 once the session is closed."""
        return self._process

    def close(self) -> None:
        """End the accelerator and take this process off its core. The memory goes with the last."""
        process, self._process = self._process, 0
        if process:
            self._shared.channel.close()
            os.kill(process, signal.SIGKILL)  # it holds nothing: an ended one is a zombie until now
            os.waitpid(process, 0)
            os.sched_setaffinity(0, self._before)

    def step(
        self, images: Floats, labels: NDArray[np.int64], *, rate_q24: int, epoch: int = 0
    ) -> SessionStep:
        """Train on one batch; arguments as for :meth:`sim.numeric.TrainingSession.step`.

        Raises
        ------
        NumericError
            Images, labels, rate or epoch that are not allowed.
        HostError
            The accelerator died or failed. The session is closed then.
        """
        if not self._process:
            raise HostError("the session is closed; open a new one")
        state = self.state
        modes = self._ready.modes(state)
        cache = self._ready.reuse(state.prepared)
        draft, rows = self._steps.rows(modes, cache.misses)
        used = {s: r.used for s, r in state.rescale.items() if modes[s] != "dynamic"}
        inputs = StepInputs(state.seed, state.step, epoch, rate_q24, used)
        frame = self.executor.start(draft, images, labels, inputs)
        batch = self._batch(frame, rows, images, labels)
        order = {
            "modes": modes,
            "misses": cache.misses,
            "prepared": [key for key, _ in cache.prepared],
            "inputs": {name: getattr(inputs, name) for name in inputs.__slots__},
            "scalars": self._scalars,
            "images": told("input", batch.images, self._shared.arena),
            "labels": told("label", batch.labels, self._shared.arena),
        }
        try:
            result, timeline = self._run(
                order, Worker(CPU, self._shared, rows, draft, frame, batch)
            )
        except GoneError:
            raise self._ended() from None
        except BaseException:
            self.close()
            raise
        check(timeline)
        found = MeasuredShifts({s: record.true for s, record in result.records.items()})
        self.state = self._ready.skip(replace(state, shifts=found))
        return SessionStep(result, timeline)

    def _batch(
        self, frame: Frame, rows: StepRows, images: Floats, labels: NDArray[np.int64]
    ) -> Batch:
        """Lay images and labels into shared memory, or leave that to the row that does it."""
        here, spare = self._images
        self._labels[...] = labels
        source = target = None
        for index, row in enumerate(rows.rows):
            if row.kind is Kind.INPUT:  # nobody waits for the batch of the next step
                source, target = images, here if rows.users[index] else spare
        if target is not here:
            here[...] = images
        frame.put("input", here)
        frame.put("label", self._labels)
        return Batch(here, self._labels, source, target)

    def _run(self, order: dict[str, Any], worker: Worker) -> tuple[StepResult, Timeline]:
        channel, trained = self._shared.channel, self.executor.parameters.trained
        before = {name: one.scalars() for name, one in trained.items()}
        channel.send(["step", order])
        self._await_ready()
        with undisturbed():
            begin = perf_counter_ns()
            channel.send(["start", []])
            worker.run()
        there = worker.end
        assert there is not None
        self._scalars = accelerator.changed_scalars(self.executor, before)
        for name, scalars in there["scalars"].items():
            trained[name].set_scalars(scalars)
        frame = worker.frame
        records = dict(frame.records)
        records |= {s: ShiftRecord(*values) for s, values in there["records"].items()}
        loss = heard_float(there["loss"]) if there["loss"] is not None else frame.loss
        correct = there["correct"] if worker.correct is None else worker.correct
        timeline = measured(worker.steps, self._shared.ends, begin, (worker.order, there["order"]))
        return StepResult(loss, int(correct or 0), records), timeline

    def _await_ready(self) -> None:
        word, what = self._shared.channel.receive(wait=True) or ["", None]
        if word == FAILED:
            raise HostError(what)

    def _ended(self) -> HostError:
        """Say how the accelerator ended; the session is closed."""
        process, self._process = self._process, 0
        _, status = os.waitpid(process, 0)
        self._shared.channel.close()
        os.sched_setaffinity(0, self._before)
        how = os.waitstatus_to_exitcode(status)
        what = f"was ended by signal {-how}" if how < 0 else f"ended with code {how}"
        return HostError(
            f"the accelerator process {what} in step {self.state.step}; its memory is freed and "
            "the step is lost: open a new session (if it was the system's memory killer, take a "
            "smaller batch)"
        )


def measured(
    rows: StepRows, ends: I64, begin_ns: int, orders: tuple[list[int], list[int]]
) -> Timeline:
    """Timeline of a step from the ends of its rows.

    A row began when its process was free and its last predecessor had ended; a return, which
    holds no process, when its last predecessor had.
    """
    graph = rows.graph
    end = ends[: len(graph)] - begin_ns
    start = np.zeros(len(graph), np.int64)
    for index in range(len(graph)):
        before = graph.pred[graph.pred_ptr[index] : graph.pred_ptr[index + 1]]
        if len(before):
            start[index] = end[before].max()
    for order in orders:
        free = 0
        for index in order:
            if graph.unit[index] != RPC:
                start[index] = max(start[index], free)
                free = int(end[index])
    return Timeline(graph, start, end, _slots(graph.unit, start, end), source="measured")


def _slots(unit: NDArray[np.int32], start: I64, end: I64) -> I64:
    """Slot of each row: the only one of a process, the lowest free one for returns."""
    mask = np.ones(len(unit), np.int64)
    held: dict[int, int] = {}
    for index in sorted(np.flatnonzero(unit == RPC).tolist(), key=lambda i: (start[i], end[i])):
        slot = next((s for s in range(_SLOTS) if held.get(s, 0) <= start[index]), None)
        if slot is None:
            raise HostError(f"more than {_SLOTS} returns were under way at once; check the ends")
        held[slot] = int(end[index])
        mask[index] = 1 << slot
    return mask
