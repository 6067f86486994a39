"""Graphs of tasks in which each task has a choice of units, and drawn instances of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sim.engines import run as run_engine
from sim.taskgraph import TaskGraph, Unit, make_task_graph


@dataclass(frozen=True, slots=True)
class Variant:
    """A task on one unit, by the fields of :class:`sim.taskgraph.TaskGraph`."""

    unit: int
    compute_ns: int
    slots: int = 1
    lead_ns: int = 0
    ddr_bytes: int = 0
    rate_cap: int = 1

    @property
    def least_ns(self) -> int:
        """Its time when it has the memory to itself, nanoseconds."""
        return self.lead_ns + max(self.compute_ns, -(-self.ddr_bytes * 1000 // self.rate_cap))


@dataclass(frozen=True, slots=True)
class ChoiceGraph:
    """Tasks with variants, in a topological order.

    Attributes
    ----------
    preds
        Predecessors of each task: smaller indices.
    variants
        What each task can be; one is chosen.
    crossing_ns
        Latency at the start of a task that has a predecessor on another unit.
    priority
        Rank of each task in the queue of its unit, smaller first, ties by index.
    """

    units: tuple[Unit, ...]
    preds: tuple[tuple[int, ...], ...]
    variants: tuple[tuple[Variant, ...], ...]
    crossing_ns: int
    ddr_rate: int
    priority: tuple[int, ...]

    def __post_init__(self) -> None:
        count = len(self.variants)
        for name, found in (("preds", len(self.preds)), ("priority", len(self.priority))):
            if found != count:
                raise ValueError(f"{name}: {found} entries for {count} tasks; give one per task")
        for task, choices in enumerate(self.variants):
            if not choices:
                raise ValueError(f"variants of task {task}: none; give each task one or more")

    def __len__(self) -> int:
        return len(self.variants)

    def tasks(self, choice: Sequence[int]) -> TaskGraph:
        """Return the tasks when task ``k`` is its variant ``choice[k]``; raises IndexError."""
        chosen = [options[k] for options, k in zip(self.variants, choice, strict=True)]
        crosses = [
            any(chosen[p].unit != mine.unit for p in before)
            for mine, before in zip(chosen, self.preds, strict=True)
        ]
        return make_task_graph(
            self.units,
            [v.unit for v in chosen],
            preds=self.preds,
            slots=[v.slots for v in chosen],
            lead_ns=[
                v.lead_ns + self.crossing_ns * c for v, c in zip(chosen, crosses, strict=True)
            ],
            compute_ns=[v.compute_ns for v in chosen],
            ddr_bytes=[v.ddr_bytes for v in chosen],
            rate_cap=[v.rate_cap for v in chosen],
            priority=list(self.priority),
            ddr_rate=self.ddr_rate,
        )

    def time_ns(self, choice: Sequence[int]) -> int:
        """Makespan of a choice as the event engine computes it, contention included."""
        return run_engine(self.tasks(choice)).makespan_ns


def training_instance(layers: int, seed: int, *, memory: bool) -> ChoiceGraph:
    """Draw a training step of ``layers`` layers, three tasks each: forward, dX and dW.

    A CPU of four cores offers one or all of them, a DSP takes one task at a time. dW depends on
    the error as dX does, and on nothing after it.

    Parameters
    ----------
    memory
        Whether tasks move bytes, so that running ones slow each other down.
    """
    draws = np.random.default_rng(np.random.SeedSequence([seed, layers, int(memory)]))
    forward = list(range(layers))
    preds: list[tuple[int, ...]] = [(k - 1,) if k else () for k in forward]
    error = layers - 1
    for layer in reversed(forward):
        preds += [(error, layer), (error, layer)]
        error = len(preds) - 2
    variants = []
    for _ in preds:
        work = int(np.exp(draws.uniform(np.log(200_000), np.log(20_000_000))))
        gain = draws.uniform(0.5, 5.0)
        moved = int(work * draws.uniform(0, 4)) if memory else 0
        cpu = Variant(0, work, 1, 490_000, moved, 28_940)
        dsp = Variant(1, int(work / gain), 1, 39_000, moved, 15_400)
        variants.append((cpu, dsp))
    units = (Unit("cpu", 1), Unit("dsp", 1))
    return ChoiceGraph(
        units, tuple(preds), tuple(variants), 40_000, 30_080, tuple(range(len(preds)))
    )
