"""Samples of plans, read back: their rows are lowered again from the plan, never stored."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from cost_models.device import load_device
from cost_models.host import HostLaws, Row, Tiles, Work
from cost_models.host.law import ALONE
from cost_models.samples import Sample, SampleError
from experiments.host.drawn import drawn_plan
from experiments.host.measure import AGAIN, DEVICE, modes_of, network_of
from experiments.host.stored import Steps, steps_of
from hw_bridge.host.errors import HostError
from hw_bridge.host.predict import beside, predicted, slept_ns
from hw_bridge.host.rows import CPU, DSP, StepRows, rows_of
from hw_bridge.host.session import measured
from hw_bridge.host.work import row_works
from sim.lowering import Lowering, lowering
from sim.numeric.calls import calls_of
from sim.taskgraph import I64
from sim.timeline import Timeline


@dataclass(frozen=True, slots=True, eq=False)
class Kind:
    """Rows that steps with the same modes and misses have, and their work."""

    rows: StepRows
    works: list[Work]


@dataclass(eq=False)
class MeasuredPlan:
    """One plan of one network: what was measured, and what the laws say of it."""

    sample: Sample

    @property
    def model(self) -> str:
        """Name of the network."""
        return str(self.sample.config["model"])

    @property
    def name(self) -> str:
        """Network, size and plan; the same for both visits."""
        return self.sample.key.partition("/")[2].removesuffix(AGAIN)

    @property
    def makespans_ns(self) -> I64:
        """Step times, nanoseconds, shape ``(steps,)``."""
        return np.array(self.steps.makespans_ns, np.int64)

    @property
    def equal(self) -> bool:
        """Whether its numbers were those of the numeric executor, bit for bit."""
        return self.steps.equal is True

    @cached_property
    def steps(self) -> Steps:
        """What was measured of its steps."""
        return steps_of(self.sample)

    @cached_property
    def _ready(self) -> Lowering:
        graph, device = network_of(self.sample.config).graph(), load_device(DEVICE)
        seed = int(str(self.sample.config["plan"]))
        return lowering(graph, drawn_plan(graph, device, seed), device)

    @cached_property
    def kinds(self) -> list[Kind]:
        """Rows and work of each kind of step."""
        ready, found = self._ready, []
        for place, (letters, misses) in enumerate(self.steps.kinds):
            if (len(letters), len(misses)) != (len(ready.rules), len(ready.visits)):
                raise self._other(
                    f"conditions.kinds[{place}] has {len(letters)} letters and {len(misses)} "
                    f"misses, and the plan {len(ready.rules)} rescaled tensors and "
                    f"{len(ready.visits)} subgraphs"
                )
            modes = modes_of(letters, ready.rules)
            draft = ready.draft(modes)
            calls = calls_of(draft.items)
            rows = rows_of(ready, modes, tuple(miss == "1" for miss in misses), calls)
            found.append(Kind(rows, row_works(draft, calls, rows, Tiles())))
        return found

    def kept(self) -> Iterator[tuple[Kind, Timeline]]:
        """Measured timelines of the steps whose rows were kept.

        Raises
        ------
        SampleError
            The sample has other rows (it was taken with another version), or ends that no run
            can have.
        """
        kinds = [self.kinds[self.steps.kind[step]] for step in self.steps.kept]
        rows = sum(len(kind.works) for kind in kinds)
        if len(self.sample.raw) != rows:
            raise self._other(f"raw has {len(self.sample.raw)} ends, and the plan {rows} rows")
        first = 0
        for step, kind in zip(self.steps.kept, kinds, strict=True):
            ends = np.array(self.sample.raw[first : first + len(kind.works)], np.int64)
            first += len(kind.works)
            if ends.max() != (makespan := self.steps.makespans_ns[step]):
                raise self._other(
                    f"raw of step {step} ends at {ends.max()}, and conditions.makespans_ns[{step}] "
                    f"is {makespan}"
                )
            try:
                timeline = _timeline(kind.rows, ends)
            except HostError as error:
                raise self._other(f"raw of step {step}: {error}") from None
            early = np.flatnonzero(timeline.end_ns < timeline.start_ns)
            if len(early):
                name, end = timeline.graph.names[early[0]], ends[early[0]]
                raise self._other(f"raw of step {step}: {name} ends at {end}, before it can begin")
            yield kind, timeline

    def _other(self, what: str) -> SampleError:
        return SampleError(
            f"sample {self.sample.key!r}: its rows are not those of the plan as it is lowered now: "
            f"{what}; measure again into another file"
        )

    def rows(self) -> Iterator[Row]:
        """Every kept row with its work, its time, and how long its process slept before."""
        for kind, timeline in self.kept():
            times = (timeline.end_ns - timeline.start_ns).tolist()
            slept, shared = slept_ns(timeline).tolist(), beside(timeline).tolist()
            for work, ns, before, share in zip(kind.works, times, slept, shared, strict=True):
                yield Row(work, float(max(ns, 1)), float(before), share, self.model, self.name)

    def predicted(self, laws: HostLaws) -> list[Timeline]:
        """Predicted timeline of each kind of step."""
        return [predicted(kind.rows, kind.works, laws) for kind in self.kinds]

    def step_ns(self, timelines: Sequence[Timeline]) -> float:
        """Median over the measured steps of the timelines of their kinds, nanoseconds."""
        each = [timeline.makespan_ns for timeline in timelines]
        return float(np.median([each[kind] for kind in self.steps.kind]))


def _timeline(rows: StepRows, ends: I64) -> Timeline:
    """Timeline from the ends of rows: a process ran its rows in the order in which they ended."""
    unit = rows.graph.unit
    cpu, dsp = (np.flatnonzero(unit == process) for process in (CPU, DSP))
    orders = tuple(one[np.argsort(ends[one], kind="stable")].tolist() for one in (cpu, dsp))
    return measured(rows, ends, 0, (orders[0], orders[1]))


def plans_of(samples: Iterable[Sample], use: str) -> list[MeasuredPlan]:
    """The visits to plans that were measured for a use: ``predict`` or ``calibrate``."""
    return [MeasuredPlan(s) for s in samples if s.kind == "plan" and s.config["use"] == use]


def distinct(rows: Iterable[Row], others: int = 3000) -> list[Row]:
    """One row, with its median time, for equal work in one network whose process was alone.

    So a block that a network repeats counts once. Of the rows after sleep, and of those beside
    the other process, at most ``others`` stay, evenly taken: no two are alike.
    """
    alone: dict[tuple[str, str, tuple[tuple[str, float], ...]], list[Row]] = {}
    slept, shared = [], []
    for row in rows:
        if row.slept_ns:
            slept.append(row)
        elif row.beside > ALONE:
            shared.append(row)
        else:
            key = (row.group, row.work.family, tuple(sorted(row.work.counts.items())))
            alone.setdefault(key, []).append(row)
    found = [
        replace(each[0], ns=float(np.median([row.ns for row in each]))) for each in alone.values()
    ]
    return found + [row for kind in (slept, shared) for row in kind[:: 1 + len(kind) // others]]
