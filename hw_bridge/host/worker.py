"""One process of the two during a step: it runs its rows as their predecessors end.

Both processes follow the rule of the engines: among the rows that are ready the one with the
smallest (priority, index) goes first. Only ends of rows are stamped. A row began when its
process was free and the last of its predecessors had ended, so choosing a row, waking up for it
and taking the message that released it are part of its time.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from heapq import heappop, heappush
from time import perf_counter_ns
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hw_bridge.host.errors import HostError
from hw_bridge.host.memory import Arena
from hw_bridge.host.rows import CPU, DSP, Kind, Row, StepRows
from hw_bridge.host.wire import Channel, Message, heard, told
from sim.draft import Draft
from sim.numeric.executor import NumericExecutor
from sim.numeric.frame import Frame, Kernel, kernel_of
from sim.numeric.values import Floats
from sim.taskgraph import I64

END = "end"
"""First word of a message with what the accelerator's step came to; it may be done first."""
FAILED = "failed"
"""First word of a message with what went wrong in the other process."""


@dataclass(frozen=True, slots=True, eq=False)
class Shared:
    """What a process has for a whole run.

    Attributes
    ----------
    ends
        When each row of the step ended, ns of the monotonic clock; both processes write to it.
    programs
        Kernels of the prepared subgraphs, by key; only the accelerator has any.
    """

    executor: NumericExecutor
    arena: Arena
    channel: Channel
    ends: I64
    programs: dict[str, tuple[Kernel, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Images and labels of a step in shared memory, and where the images come from."""

    images: Floats
    labels: NDArray[np.int64]
    source: Floats | None = None
    target: Floats | None = None


class Worker:
    """Runs the rows of one process in one step.

    Attributes
    ----------
    order
        Rows that it ran, in this order.
    correct
        Samples that were classified rightly; None where the logits are in the other process.
    end
        Of the CPU process: what the accelerator's step came to.
    """

    def __init__(
        self,
        process: int,
        shared: Shared,
        steps: StepRows,
        draft: Draft,
        frame: Frame,
        batch: Batch,
    ) -> None:
        self.process, self.shared, self.steps = process, shared, steps
        self.draft, self.frame, self.batch = draft, frame, batch
        self.order: list[int] = []
        self.correct: int | None = None
        self.end: dict[str, Any] | None = None
        self._uses = steps.uses(process)
        self._sent: set[str] = set()
        self._ready: list[tuple[bool, int, int]] = []
        self._priority = steps.graph.priority.tolist()
        self._left = 0
        self._pending: dict[int, int] = {}
        self._to_release: dict[int, int] = {}
        """Of the CPU process: predecessors that a preparation in the other waits for."""
        for index, row in enumerate(steps.rows):
            before = [steps.rows[p] for p in steps.preds[index]]
            if row.process == process:
                self._left += 1
                self._pending[index] = self._count(row, before)
            elif row.kind is Kind.PREPARE:
                self._to_release[index] = len(before)
        for index, count in self._pending.items():
            if count == 0:
                self._push(index)

    def _count(self, row: Row, before: list[Row]) -> int:
        """Ends and messages that a row of this process waits for."""
        if self.process == CPU:
            return len(before)
        told = row.kind is Kind.PREPARE and bool(before)  # the CPU process says when
        return told + sum(one.process == DSP or one.kind is Kind.CALL for one in before)

    def _push(self, index: int) -> None:
        row = self.steps.rows[index]
        heappush(self._ready, (row.kind is not Kind.RETURN, self._priority[index], index))

    def run(self) -> None:
        """Run every row of this process; the CPU process also waits for the other's end."""
        channel = self.shared.channel
        while self._left or (self.process == CPU and self.end is None):
            while (message := channel.receive(wait=False)) is not None:
                self._take(message)
            if self._ready:
                self._execute(heappop(self._ready)[2])
                self._left -= 1
            elif self._left or self.end is None:
                message = channel.receive(wait=True)
                assert message is not None
                self._take(message)

    def _take(self, message: Message) -> None:
        """Take what the other process did."""
        index, values = message
        if index == FAILED:
            raise HostError(values)
        if index == END:
            self.end = values
            return
        row = self.steps.rows[index]
        for value in values:
            self.frame.put(*heard(value, self.shared.arena))
        if row.kind is Kind.PREPARE and row.process == self.process:
            self._one_less(index)
            return
        self._release(self._done(index))

    def _done(self, index: int) -> list[int]:
        """Note that a row has ended; preparations that the other process may begin now."""
        released = []
        for user in self.steps.users[index]:
            self._one_less(user)
            if (waiting := self._to_release.get(user)) is not None:
                self._to_release[user] = waiting - 1
                if waiting == 1:
                    released.append(user)
        return released

    def _release(self, rows: list[int]) -> None:
        for one in rows:
            self.shared.channel.send([one, []])

    def _one_less(self, index: int) -> None:
        left = self._pending.get(index)
        if left is not None:
            self._pending[index] = left - 1
            if left == 1:
                self._push(index)

    def _execute(self, index: int) -> None:
        row, ends = self.steps.rows[index], self.shared.ends
        message = self._work(index, row)
        self.order.append(index)
        released = self._done(index)
        ends[index] = perf_counter_ns()  # before the other process can act on it
        if message is not None:
            self.shared.channel.send(message)
        self._release(released)

    def _work(self, index: int, row: Row) -> Message | None:
        """Do what a row stands for; what to tell the other process about it."""
        if row.kind is Kind.ITEM:
            self._compute(row)
        elif row.kind in (Kind.CALL, Kind.RETURN):
            return [index, self._told(row.sends)]
        elif row.kind is Kind.PREPARE:
            self._prepare(row.group)
            return [index, []]
        elif row.kind is Kind.INPUT and self.batch.target is not None:
            self.batch.target[...] = self.batch.source
        return None

    def _compute(self, row: Row) -> None:
        call, frame = row.call, self.frame
        assert call is not None
        kernel = call.kernel
        if row.position >= 0:
            kernel = self._program(row.group)[row.position]
        call.compute(frame, kernel)
        executor = self.shared.executor
        if executor.logits in call.complete:
            self.correct = executor.correct(frame, self.batch.labels)
        self._used({*call.item.reads, *call.item.writes})

    def _used(self, names: set[str] | tuple[str, ...]) -> None:
        for name in names:
            self._uses[name] -= 1
            if not self._uses[name]:
                self.frame.release(name)

    def _told(self, names: tuple[str, ...]) -> list[Message]:
        """Publish values that the other process has not seen in this step."""
        new = [n for n in names if n not in self._sent and n in self.frame.values]
        self._sent.update(new)
        values = [told(n, self.frame.values[n], self.shared.arena) for n in new]
        self._used(names)
        return values

    def _program(self, group: int) -> tuple[Kernel, ...]:
        """The program of a subgraph.

        Of two subgraphs with one key the first in the list has the row that prepares it, and
        dispatch may begin with the second, which then has to.
        """
        key = self.draft.subgraphs[group].key
        if key not in self.shared.programs:
            self._prepare(group)
        return self.shared.programs[key]

    def _prepare(self, group: int) -> None:
        """Build the program of a subgraph: its kernels, found by operator, role and data type."""
        members = [i for i in self.draft.items if i.group == group and not i.follows]
        key = self.draft.subgraphs[group].key
        self.shared.programs[key] = tuple(kernel_of(item) for item in members)


@contextmanager
def undisturbed() -> Iterator[None]:
    """Keep Python's garbage collector out of what is timed."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()
