"""A training session: the numeric executor and the simulator run the same plan, step by step.

Each step is lowered from the same state: its modes say which tensors are scanned, the executor
computes those very items, the true shifts that it finds advance the rescale rules, and the
engine times the tasks of the step. So accuracy, simulated time and simulated energy belong to
one run, and a stale shift has its effect on all that follows (closed loop).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from cost_models.device import Device
from kernels.profiles import NumericProfile
from sim.checks import check
from sim.engines import run as run_engine
from sim.graph import TrainingGraph
from sim.lowering import lowering
from sim.numeric.calls import Call
from sim.numeric.entry import (
    NO_TIMING,
    SEEDS,
    check_engine,
    check_integer,
    check_what,
    chosen_scenario,
)
from sim.numeric.executor import NumericExecutor, StepResult
from sim.numeric.frame import Frame, StepInputs
from sim.numeric.trained import Hyper
from sim.numeric.values import Floats
from sim.plan import Plan
from sim.state import Observation, StepState
from sim.taskgraph import TaskGraph
from sim.timeline import Timeline


@dataclass(frozen=True, slots=True)
class MeasuredShifts:
    """True shifts that the executor found in real tensors in this step."""

    found: Mapping[str, int]
    kind: str = "measured"

    def shift(self, seed: int, step: int, subject: str, previous: int) -> int:
        """Return what was found."""
        return self.found[subject]


@dataclass(frozen=True, slots=True)
class SessionStep:
    """One step: what was computed, and how long the phone would have taken.

    ``timeline`` is None where timing is off.
    """

    result: StepResult
    timeline: Timeline | None


class TrainingSession:
    """Trains one plan on one graph while its time on a device is simulated.

    Parameters
    ----------
    graph, plan, device
        What is trained, how, and where it is simulated.
    profile, hyper, seed, threads, backend
        As for :class:`~sim.numeric.executor.NumericExecutor`.
    engine
        ``compiled`` or ``simpy``; ``none`` computes without timing.
    scenario
        A name in :data:`sim.state.SCENARIOS`; one that heats up needs an engine.

    Raises
    ------
    NumericError, GemmError
        An argument is of another type, out of range or an unknown name; see
        :class:`~sim.numeric.executor.NumericExecutor`.

    Examples
    --------
    >>> from sim import build_plan, load_device, load_model, training_graph
    >>> graph = training_graph(load_model("lenet", batch=8))
    >>> device = load_device("snapdragon-865")
    >>> session = TrainingSession(graph, build_plan("mandheling", graph, device), device)
    >>> images = np.zeros((8, 28, 28, 1), np.float32)
    >>> images[:, 4:9] = 1.0
    >>> step = session.step(images, np.arange(8), rate_q24=1 << 18)
    >>> 2.0 < step.result.loss < 2.6, step.timeline.makespan_ns > 0
    (True, True)
    """

    def __init__(
        self,
        graph: TrainingGraph,
        plan: Plan,
        device: Device,
        *,
        profile: str | NumericProfile = "sandbox",
        hyper: Hyper | None = None,
        seed: int = 0,
        engine: str = "compiled",
        scenario: str = "quiet",
        threads: int | None = None,
        backend: str | None = None,
    ) -> None:
        check_what(graph, plan, device)
        check_engine(engine)
        circumstances = chosen_scenario(scenario, engine)
        self.graph, self.plan, self.device, self.engine = graph, plan, device, engine
        self.executor = NumericExecutor(
            graph,
            plan,
            device,
            profile=profile,
            hyper=hyper,
            seed=seed,
            threads=threads,
            backend=backend,
        )
        self._ready = lowering(graph, plan, device)
        start = StepState(seed=int(seed), scenario=circumstances, shifts=MeasuredShifts({}))
        self.state = self._ready.first_state(start)
        self.seen: Observation | None = None
        """What the step before showed of the phone; only the thermal scenario needs it."""
        self._cold = self.state

    def restart(self, seed: int) -> None:
        """Begin again from the cold start with another seed; the parameters stay."""
        seed = check_integer("seed", seed, 0, SEEDS - 1)
        self.state, self.seen = replace(self._cold, seed=seed), None

    def step(
        self, images: Floats, labels: NDArray[np.int64], *, rate_q24: int, epoch: int = 0
    ) -> SessionStep:
        """Train on one batch.

        Parameters
        ----------
        images
            ``(n, h, w, c)`` float32, normalised; ``n`` is the batch of the graph.
        labels
            ``(n,)`` class indices.
        rate_q24
            Learning rate times ``2^24``, an integer: up to ``2^24`` where INT8 layers have wide
            weights, else below ``2^28``.
        epoch
            Epoch that the step belongs to, from 0; some profiles' gradient bits depend on it.

        Raises
        ------
        NumericError
            Images or labels of another dtype, shape or range; a rate or an epoch that is no
            integer, or out of range. Nothing has changed then.
        """
        state = self.state
        modes = self._ready.modes(state)
        used = {s: r.used for s, r in state.rescale.items() if modes[s] != "dynamic"}
        inputs = StepInputs(state.seed, state.step, epoch, rate_q24, used)
        draft = self._ready.draft(modes)
        result = self.executor.step(draft, images, labels, inputs, self.compute)
        found = MeasuredShifts({s: record.true for s, record in result.records.items()})
        state = replace(state, shifts=found)
        if self.engine == NO_TIMING:
            self.state = self._ready.skip(state)
            return SessionStep(result, None)
        tasks, self.state = self._ready.step(state, self.seen)
        timeline = self.timeline(tasks)
        check(timeline)
        self.seen = Observation(timeline.makespan_ns, timeline.energy_pj)
        return SessionStep(result, timeline)

    def compute(self, call: Call, frame: Frame) -> None:
        """Compute one item; a session on real kernels runs some of them elsewhere."""
        call.compute(frame)

    def timeline(self, tasks: TaskGraph) -> Timeline:
        """Time the tasks of a step that was just computed."""
        return run_engine(tasks, self.engine)
