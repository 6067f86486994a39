"""Expected step time of a plan: what techniques that decide by latency compare.

A few steps of the steady state are simulated with contention, with every FastRPC tail at its
mean instead of a draw. That makes the comparison of two plans free of luck, whatever their calls
are named. The steps and the seed are fixed, so planning is a pure function.
"""

from __future__ import annotations

from functools import lru_cache

from cost_models.device import Device
from sim.engines import run as run_engine
from sim.graph import TrainingGraph
from sim.lowering import lowering
from sim.plan import Plan
from sim.run import skip_to
from sim.state import StepState

PLANNING_SEED = 20_220_615
PLANNING_STEPS = (256, 263)


def expected_ns(graph: TrainingGraph, plan: Plan, device: Device) -> int:
    """Return the expected step time in steady state, nanoseconds (mean of the planning steps)."""
    return _expected(graph.hash(), device.sha256, plan.choices, _Args(graph, plan, device))


class _Args:
    """Carries the objects past the cache key, which holds their digests."""

    def __init__(self, graph: TrainingGraph, plan: Plan, device: Device) -> None:
        self.graph, self.plan, self.device = graph, plan, device

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Args)

    def __hash__(self) -> int:
        return 0


@lru_cache(maxsize=4096)
def _expected(graph_hash: str, device_hash: str, choices: object, args: _Args) -> int:
    ready = lowering(args.graph, args.plan, args.device)
    state = ready.first_state(StepState(seed=PLANNING_SEED))
    total = 0
    for step in PLANNING_STEPS:
        state = skip_to(ready, state, step)
        tasks, state = ready.step(state, expected=True)
        total += run_engine(tasks).makespan_ns
    return total // len(PLANNING_STEPS)
