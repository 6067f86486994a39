"""Running a plan: many steps in a row, and what they come to.

A run is a fold over steps: lower, simulate, observe. The first step is cold (every subgraph is
prepared, every shift is scanned for); the steady state is what a training epoch is made of. Long
warm-ups can be skipped: the state advances without lowering or simulating.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from cost_models.device import Device
from sim.checks import check
from sim.engines import run as run_engine
from sim.graph import TrainingGraph
from sim.lowering import Lowering, lowering
from sim.memory import peak_bytes
from sim.plan import Plan
from sim.rescaling import Every
from sim.state import (
    SCENARIOS,
    Observation,
    RecordedShifts,
    Scenario,
    ShiftSource,
    StepState,
    SyntheticShifts,
)
from sim.taskgraph import I64
from sim.timeline import Timeline

WARM_UP_STEPS = 256
"""Steps skipped before the steady state is sampled: adaptive periods have settled by then."""
SAMPLE_STRIDE = 7
"""Steps between two samples of the steady state, so that neighbours share few scans."""


class RunError(ValueError):
    """A run was asked for something impossible; the message names the argument."""


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """Timelines of the simulated steps, in order, and the state after the last.

    ``steps`` holds the step number of each timeline: consecutive from 0 in a full run, spaced in a
    sample of the steady state.
    """

    plan: Plan
    timelines: tuple[Timeline, ...]
    steps: tuple[int, ...]
    final: StepState

    @property
    def step_ns(self) -> I64:
        """Makespan of each step, nanoseconds."""
        return np.array([t.makespan_ns for t in self.timelines], dtype=np.int64)

    @property
    def step_pj(self) -> I64:
        """Energy of each step, picojoules."""
        return np.array([t.energy_pj for t in self.timelines], dtype=np.int64)

    @property
    def makespan_ns(self) -> int:
        """All simulated steps one after the other, nanoseconds."""
        return int(self.step_ns.sum())

    @property
    def energy_pj(self) -> int:
        """All simulated steps together, picojoules."""
        return int(self.step_pj.sum())

    @property
    def mean_ns(self) -> int:
        """Mean step, nanoseconds, rounded down."""
        return self.makespan_ns // len(self.timelines)

    @property
    def mean_pj(self) -> int:
        """Mean energy of a step, picojoules, rounded down."""
        return self.energy_pj // len(self.timelines)

    @property
    def peak_bytes(self) -> int:
        """Largest memory in use in any step."""
        return max(peak_bytes(timeline) for timeline in self.timelines)

    @property
    def sha256(self) -> str:
        """Digest of all timelines, in order."""
        digest = hashlib.sha256()
        for timeline in self.timelines:
            digest.update(timeline.sha256.encode())
        return digest.hexdigest()

    def percentile_ns(self, percent: int, skip: int = 0) -> int:
        """Return the smallest step time that ``percent`` % of the steps do not exceed."""
        if not 0 <= percent <= 100:
            raise RunError(f"percent is {percent}; it must lie in 0 .. 100")
        values = np.sort(self.step_ns[min(skip, len(self.timelines) - 1) :])
        rank = -(-percent * len(values) // 100)
        return int(values[max(0, rank - 1)])


def simulate(
    graph: TrainingGraph,
    plan: Plan,
    device: Device,
    *,
    steps: int = 20,
    seed: int = 0,
    engine: str = "compiled",
    scenario: str | Scenario = "quiet",
    shifts: ShiftSource | None = None,
    on_step: Callable[[Timeline, StepState], None] | None = None,
    checked: bool = True,
) -> Run:
    """Simulate ``steps`` training steps from the cold start.

    Parameters
    ----------
    engine
        ``compiled`` or ``simpy``; both give the same rows.
    scenario
        A name in :data:`sim.state.SCENARIOS`, or a scenario of your own.
    shifts
        Where true shifts come from; by default drawn ones, see
        :class:`sim.state.SyntheticShifts`.
    on_step
        Called after each step with its timeline and the state after it: progress, live plots.
    checked
        Whether the conservation checks (:mod:`sim.checks`) run on every timeline.

    Raises
    ------
    RunError
        ``steps`` is not positive, the seed is negative, or the scenario is unknown.
    PlanError
        The plan does not fit the graph or the device.

    Examples
    --------
    >>> from sim import build_plan, load_device, load_model, simulate, training_graph
    >>> graph = training_graph(load_model("lenet", batch=64))
    >>> device = load_device("snapdragon-865")
    >>> run = simulate(graph, build_plan("mandheling", graph, device), device, steps=3)
    >>> run.step_ns[0] > run.step_ns[1]  # the first step prepares subgraphs
    np.True_
    """
    state = _start(steps, seed, scenario, shifts)
    ready = lowering(graph, plan, device)
    _check_trace(state.shifts, ready)
    timelines = []
    seen: Observation | None = None
    for _ in range(steps):
        tasks, state = ready.step(state, seen)
        timeline = run_engine(tasks, engine)
        if checked:
            check(timeline)
        seen = Observation(timeline.makespan_ns, timeline.energy_pj)
        timelines.append(timeline)
        if on_step is not None:
            on_step(timeline, state)
    return Run(plan, tuple(timelines), tuple(range(steps)), state)


def sample_steady(
    graph: TrainingGraph,
    plan: Plan,
    device: Device,
    *,
    samples: int = 12,
    seed: int = 0,
    warm_up: int = WARM_UP_STEPS,
    engine: str = "compiled",
    scenario: str | Scenario = "quiet",
    shifts: ShiftSource | None = None,
    checked: bool = True,
) -> Run:
    """Simulate ``samples`` steps of the steady state, skipping the warm-up and what lies between.

    All plans sampled with the same seed see the same draws (common random numbers).

    Raises
    ------
    RunError
        As :func:`simulate`; and for a thermal scenario, in which no step can be skipped.
    """
    state = _start(samples, seed, scenario, shifts)
    if state.scenario.thermal:
        raise RunError(
            f"scenario {state.scenario.name!r} heats up step by step; none can be skipped: "
            "use simulate with as many steps as you need"
        )
    ready = lowering(graph, plan, device)
    _check_trace(state.shifts, ready)
    steady = all(isinstance(rule, Every) for rule in ready.rules.values())
    if steady and not ready.visits and not state.scenario.busy_cores_ppm:
        samples = 1  # nothing is drawn and nothing adapts: every step is the same
    state = ready.first_state(state)
    wanted = [warm_up + SAMPLE_STRIDE * k for k in range(samples)]
    timelines = []
    for step in wanted:
        state = skip_to(ready, state, step)
        tasks, state = ready.step(state)
        timelines.append(run_engine(tasks, engine))
        if checked:
            check(timelines[-1])
    return Run(plan, tuple(timelines), tuple(wanted), state)


def skip_to(ready: Lowering, state: StepState, step: int) -> StepState:
    """Advance the state to the beginning of ``step`` without simulating."""
    while state.step < step:
        state = ready.skip(state)
    return state


def _check_trace(shifts: ShiftSource, ready: Lowering) -> None:
    """Refuse a recorded trace that lacks a tensor of this plan."""
    if isinstance(shifts, RecordedShifts):
        missing = sorted(s for s in ready.rules if not shifts.trace.get(s))
        if missing:
            raise RunError(
                f"the recorded trace has no shifts of {missing[0]!r} ({len(missing)} tensors are "
                "missing); record it with this model and plan"
            )


def _start(
    steps: int, seed: int, scenario: str | Scenario, shifts: ShiftSource | None
) -> StepState:
    for name, value in (("steps", steps), ("seed", seed)):
        if not isinstance(value, int) or isinstance(value, bool):
            raise RunError(f"{name} is {value!r}; it must be a whole number")
    if steps < 1:
        raise RunError(f"steps is {steps}; it must be 1 or more")
    if not 0 <= seed < 2**63:
        raise RunError(f"seed is {seed}; it must lie in 0 .. 2**63 - 1")
    if isinstance(scenario, str):
        if scenario not in SCENARIOS:
            raise RunError(f"scenario {scenario!r} is unknown; choose one of {sorted(SCENARIOS)}")
        scenario = SCENARIOS[scenario]
    source = SyntheticShifts() if shifts is None else shifts
    return StepState(seed=seed, scenario=scenario, shifts=source)
