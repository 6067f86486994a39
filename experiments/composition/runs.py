"""Running a set of techniques: both engines on every step, and real tensors through the kernels."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from functools import cache
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from experiments.accept_engines import what_is_wrong
from experiments.composition.combine import Parts, combined, with_needs
from experiments.composition.techniques import CATALOGUE, IMAGE
from sim import TaskGraph, Timeline, validate
from sim.draft import Item
from sim.numeric.calls import Call
from sim.numeric.frame import Frame
from sim.numeric.session import TrainingSession
from sim.numeric.values import Floats

STEPS = 2
"""Of each plan: in the second, subgraphs are prepared and shifts are known."""
RATE_Q24 = 1 << 16
"""Learning rate of 1/256, times ``2^24``."""


class CompositionError(Exception):
    """Techniques that were accepted together do not work together; this is a fault."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """Digests of what one plan came to."""

    kernels: str
    tasks: str
    arithmetic: str


class _Compared(TrainingSession):
    """A session that times each step in both engines, and keeps what it timed and computed."""

    def start_keeping(self) -> None:
        """Forget what was kept."""
        self.timed: list[TaskGraph] = []
        self.computed: list[Item] = []

    def timeline(self, tasks: TaskGraph) -> Timeline:
        """Time the tasks, after making sure that both engines give the same rows."""
        wrong = what_is_wrong(tasks)
        if wrong:
            raise CompositionError(wrong)
        self.timed.append(tasks)
        return super().timeline(tasks)

    def compute(self, call: Call, frame: Frame) -> None:
        """Compute one item, and keep it."""
        self.computed.append(call.item)
        super().compute(call, frame)


def evidence(parts: Parts) -> tuple[Evidence, ...]:
    """Train some techniques together and return what each of their plans came to.

    There is a plan more for a technique that leaves another: it goes on from the weights.

    Raises
    ------
    PlanError
        They exclude each other.
    CompositionError
        A conservation check fails, the engines differ, or the loss is no number.
    """
    found, weights = [], None
    for stage in stages(parts):
        session = _session(stage)
        if weights is not None:
            session.executor.parameters.load_floats(weights)
        found.append(_trained(session))
        weights = session.executor.parameters.floats()
    return tuple(found)


def stages(parts: Parts) -> list[Parts]:
    """Return the techniques of each plan in turn."""
    left = {CATALOGUE[name].leaves for name in parts} - {""}
    if not left:
        return [parts]
    rest = {name: halves for name, halves in parts.items() if not left & {*with_needs(name)}}
    return [parts, rest]


def _session(parts: Parts) -> _Compared:
    made = combined(parts)
    validate(made.graph, made.plan, made.device)
    session = _Compared(made.graph, made.plan, made.device, profile=made.profile, threads=1)
    session.start_keeping()
    return session


def _trained(session: _Compared) -> Evidence:
    images, labels = _batch(session.graph.batch)
    losses = [session.step(images, labels, rate_q24=RATE_Q24).result.loss for _ in range(STEPS)]
    if not all(map(math.isfinite, losses)):
        raise CompositionError(f"the loss of {STEPS} steps is {losses}")
    unplaced = [item.placed("") for item in session.computed]
    return Evidence(
        kernels=_digest(unplaced),
        tasks=_digest(chain.from_iterable(map(_columns, session.timed))),
        arithmetic=session.executor.parameters.sha256(),
    )


def _columns(tasks: TaskGraph) -> Iterator[object]:
    """All that a task graph holds."""
    for field in fields(tasks):
        value = getattr(tasks, field.name)
        yield value.tobytes() if isinstance(value, np.ndarray) else value


def _digest(parts: Iterable[object]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(repr(part).encode() + b"\0")
    return digest.hexdigest()


@cache
def _batch(size: int) -> tuple[Floats, NDArray[np.int64]]:
    """Images and labels, the same for every training."""
    draws = np.random.default_rng(0)
    images = draws.standard_normal((size, IMAGE, IMAGE, 3)).astype(np.float32)
    return images, np.arange(size)
