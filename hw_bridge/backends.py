"""What every backend is asked and answers: a plan to run for real, and how it went.

A backend takes the same plan as the simulator and runs it on real kernels. It gives a
:class:`~sim.timeline.Timeline` of each step, rows of the very task graph that an engine times, so
that the two can be laid side by side.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from cost_models.device import Device
from cost_models.samples import Fingerprint
from hw_bridge.errors import BridgeError
from kernels.operators import channels_last
from sim.autodiff import LOSS
from sim.graph import TrainingGraph
from sim.model import INPUT
from sim.numeric.executor import StepResult
from sim.numeric.session import TrainingSession
from sim.numeric.values import Floats
from sim.plan import Plan
from sim.timeline import Timeline

RATE_Q24 = 1 << 18
"""Learning rate of a run whose point is its times: 1/64."""


class BackendError(BridgeError):
    """A plan cannot be run; the message says what is missing, or what to do."""


@dataclass(frozen=True, slots=True, eq=False)
class PlanJob:
    """Training steps of one plan from the cold start, on drawn images.

    Attributes
    ----------
    graph, plan, device
        As for :func:`sim.lower_step`; the device says which units the plan has.
    steps
        How many.
    seed
        Of weights, images, labels and all draws.
    profile
        Arithmetic of INT8 layers, see :data:`kernels.profiles.PROFILES`.
    rate_q24
        Learning rate times ``2^24``.
    """

    graph: TrainingGraph
    plan: Plan
    device: Device
    steps: int = 1
    seed: int = 0
    profile: str = "sandbox"
    rate_q24: int = RATE_Q24

    def batch(self, step: int) -> tuple[Floats, NDArray[np.int64]]:
        """Return images ``(n, h, w, c)`` float32 and labels ``(n,)`` of a step, drawn by keys."""
        random = np.random.Generator(np.random.Philox(key=[self.seed, step]))
        shape = channels_last(self.graph.tensor(INPUT).shape)
        images = random.standard_normal(shape, dtype=np.float32)
        classes = self.graph.tensor(self.graph.node(LOSS).inputs[0]).shape[1]
        return images, random.integers(0, classes, shape[0])


@dataclass(frozen=True, slots=True, eq=False)
class PlanRun:
    """What came of a job.

    Attributes
    ----------
    timelines
        One for each step; :attr:`sim.timeline.Timeline.source` says what their times are.
    results
        What each step computed.
    parameters_sha256
        Digest of weights and optimiser state after the last step.
    fingerprint
        What it ran on.
    notes
        What a reader of the times must know, in sentences.
    """

    timelines: tuple[Timeline, ...]
    results: tuple[StepResult, ...]
    parameters_sha256: str
    fingerprint: Fingerprint
    notes: tuple[str, ...] = ()


@runtime_checkable
class Backend(Protocol):
    """Runs plans for real."""

    name: str

    def fingerprint(self) -> Fingerprint:
        """What it runs on."""

    def run(self, job: PlanJob, advance: Callable[[], None] = lambda: None) -> PlanRun:
        """Run a job; ``advance`` is called after every step.

        Raises
        ------
        BackendError
            What it needs is missing, a part of it died, or the plan has something that it lacks.
        """


def reference(job: PlanJob) -> tuple[tuple[StepResult, ...], str]:
    """Compute a job with the numeric executor: results, and the digest of the parameters.

    What every backend has to equal bit for bit.
    """
    session = TrainingSession(
        job.graph, job.plan, job.device, profile=job.profile, seed=job.seed, engine="none"
    )
    results = []
    for step in range(job.steps):
        images, labels = job.batch(step)
        results.append(session.step(images, labels, rate_q24=job.rate_q24).result)
    return tuple(results), session.executor.parameters.sha256()
