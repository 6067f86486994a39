"""The accelerator process: a fork of the CPU process on a core of its own.

It serves steps until its socket closes, which happens when the CPU process ends, however it ends.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np

from hw_bridge.host.errors import GoneError
from hw_bridge.host.rows import DSP, StepRows, rows_of
from hw_bridge.host.wire import Channel, Message, heard, told_float
from hw_bridge.host.worker import END, FAILED, Batch, Shared, Worker, undisturbed
from sim.draft import Draft
from sim.lowering import Lowering
from sim.numeric.executor import NumericExecutor
from sim.numeric.frame import StepInputs
from sim.numeric.values import as_floats


@dataclass(slots=True, eq=False)
class Steps:
    """Rows of the newest step, made again only where modes or misses change."""

    ready: Lowering
    executor: NumericExecutor
    _newest: tuple[Draft, tuple[bool, ...], StepRows] | None = None

    def rows(self, modes: Mapping[str, Any], misses: tuple[bool, ...]) -> tuple[Draft, StepRows]:
        """Draft and rows of a step in which these subgraphs are not prepared yet."""
        draft = self.ready.draft(modes)
        newest = self._newest
        if newest is None or newest[0] is not draft or newest[1] != misses:
            rows = rows_of(self.ready, modes, misses, self.executor.program(draft))
            newest = self._newest = draft, misses, rows
        return draft, newest[2]


def start(
    shared: Shared, steps: Steps, ends: tuple[socket.socket, socket.socket], core: int
) -> int:
    """Fork the accelerator process; returns its process number.

    ``ends`` are those of the CPU process and of the accelerator; the other's is closed in each.
    """
    mine, theirs = ends
    parent = os.getpid()
    sys.stdout.flush()
    sys.stderr.flush()
    with warnings.catch_warnings():  # threads of kernels sleep, and are not used in the child
        warnings.simplefilter("ignore", DeprecationWarning)
        process = os.fork()
    if process:
        theirs.close()
        return process
    _child(shared, steps, mine, Channel(theirs, parent), core)


def _child(
    shared: Shared, steps: Steps, other_end: socket.socket, channel: Channel, core: int
) -> NoReturn:
    """Serve, and leave without the exit handlers of the process that this is a copy of."""
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to both; the socket tells
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        other_end.close()
        os.sched_setaffinity(0, {core})
        shared.arena.split(DSP)
        mine = Shared(shared.executor, shared.arena, channel, shared.ends)
        try:
            _serve(mine, steps)
        except GoneError:
            pass
        except Exception as error:
            channel.send([FAILED, f"the accelerator process: {type(error).__name__}: {error}"])
    finally:
        os._exit(0)


def _serve(shared: Shared, steps: Steps) -> None:
    while True:
        message = shared.channel.receive(wait=True)
        assert message is not None
        shared.channel.send(_step(shared, steps, message[1]))


def _step(shared: Shared, steps: Steps, order: Mapping[str, Any]) -> Message:
    """Run one step; what the CPU process has to know of it."""
    trained = shared.executor.parameters.trained
    for name, scalars in order["scalars"].items():
        trained[name].set_scalars(scalars)
    before = {name: one.scalars() for name, one in trained.items()}
    draft, rows = steps.rows(order["modes"], tuple(order["misses"]))
    batch = batch_of(shared, order)
    inputs = StepInputs(**order["inputs"])
    frame = shared.executor.start(draft, batch.images, batch.labels, inputs)
    worker = Worker(DSP, shared, rows, draft, frame, batch)
    shared.channel.send(["ready", []])
    shared.channel.receive(wait=True)
    with undisturbed():
        worker.run()
    keep = set(order["prepared"])
    for key in [key for key in shared.programs if key not in keep]:
        del shared.programs[key]
    records = {
        subject: [getattr(record, field) for field in record.__slots__]
        for subject, record in frame.records.items()
    }
    return [
        END,
        {
            "order": worker.order,
            "correct": worker.correct,
            "loss": told_float(frame.loss),
            "records": records,
            "scalars": changed_scalars(shared.executor, before),
        },
    ]


def batch_of(shared: Shared, order: Mapping[str, Any]) -> Batch:
    """Images and labels that the CPU process laid into shared memory."""
    (_, images), (_, labels) = (heard(order[name], shared.arena) for name in ("images", "labels"))
    assert isinstance(images, np.ndarray)
    assert isinstance(labels, np.ndarray)
    return Batch(as_floats(images), labels.astype(np.int64, copy=False))


def changed_scalars(
    executor: NumericExecutor, before: Mapping[str, list[int]]
) -> dict[str, list[int]]:
    """Scalars of the parameters that this process updated in the step."""
    now = {name: one.scalars() for name, one in executor.parameters.trained.items()}
    return {name: scalars for name, scalars in now.items() if scalars != before[name]}
