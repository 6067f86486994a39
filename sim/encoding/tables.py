"""Tables of a space for the compiled evaluator: machine, costs, and the frames met so far."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

import numpy as np

from kernels.threads import over_rows
from sim.aspects import STEP_ASPECTS
from sim.aspects.step import DSP_POINTS, cpu_points
from sim.dispatch import DISPATCH_RULES
from sim.encoding.batch import Meaning, Scratch, make_scratch, score
from sim.encoding.costs import CostTable
from sim.encoding.frames import Frame, make_frame
from sim.encoding.machine import machine_of
from sim.encoding.space import Genes, Space
from sim.lowering import cost_model
from sim.memo import Memo
from sim.reuse import RULES
from sim.taskgraph import I64

FAST = ("placement", "grouping", "reuse", "dispatch", "operating_point")
"""Aspects that the compiled evaluator decides for each plan; a frame is made for all others."""
TURNS = 4
"""Blocks of a batch that each thread takes: handing one over costs as much as some plans."""
FRAMES = 64
"""Frames that are remembered: some hundred kilobytes each."""


class _Ground:
    """What all frames with one library, FastRPC mode and GPU clock share."""

    def __init__(self, space: Space, library: str, qos: str, gpu_clock: str) -> None:
        costs = cost_model(space.device, library)
        self.machine = machine_of(space.device, costs, qos)
        self.costs = CostTable(costs, gpu_clock)


class Ready:
    """A frame with the numbers of its device, and spare scratch for threads."""

    def __init__(self, frame: Frame, ground: _Ground) -> None:
        self.frame, self.machine, self._costs = frame, ground.machine, ground.costs
        self._spare: deque[Scratch] = deque()

    def score(
        self, rows: Genes, fidelity: int, memory: bool, meaning: Meaning, threads: int
    ) -> I64:
        """Return time, energy and memory of rows of this frame, int64 of shape ``(rows, 3)``."""
        costs = self._costs.array
        out = np.zeros((len(rows), 3), np.int64)

        def some(first: int, last: int) -> None:
            try:
                scratch = self._spare.pop()
            except IndexError:
                scratch = make_scratch(self.frame, self.machine)
            score(
                rows,
                first,
                last,
                fidelity,
                int(memory),
                self.frame,
                meaning,
                costs,
                self.machine,
                scratch,
                out,
            )
            self._spare.append(scratch)

        over_rows(some, len(rows), -(-len(rows) // (TURNS * threads)) or 1, threads)
        return out


class Tables:
    """Tables of one space; frames are made on first sight."""

    def __init__(self, space: Space) -> None:
        self.space = space
        self.meaning = _meaning(space)
        self._slow = np.array([k for k, g in enumerate(space.genes) if g.aspect not in FAST], int)
        self._grounds: dict[tuple[str, str, str], _Ground] = {}
        self._frames: Memo[Ready] = Memo(FRAMES)

    @classmethod
    def of(cls, space: Space) -> Tables:
        """Return the tables of a space, shared by its evaluators."""
        return _TABLES.get(space.sha256, lambda: cls(space))

    def by_frame(self, rows: Genes) -> Iterator[tuple[I64, Ready]]:
        """Go through the frames of a batch: places of their rows, and the frame."""
        kinds = rows[:, self._slow]
        if (kinds == kinds[:1]).all():
            if len(rows):
                yield np.arange(len(rows)), self.ready(rows[0])
            return
        _, first, inverse = np.unique(kinds, axis=0, return_index=True, return_inverse=True)
        for k, row in enumerate(first):
            yield np.flatnonzero(inverse.reshape(-1) == k), self.ready(rows[row])

    def ready(self, row: Genes) -> Ready:
        """Return the frame of a row."""
        return self._frames.get(row[self._slow].tobytes(), lambda: self._make(row))

    def _make(self, row: Genes) -> Ready:
        space = self.space
        plan = space.decode(row, leave=FAST)
        settings = {a.key: a.resolve(plan, space.device) for a in STEP_ASPECTS}
        key = settings["library"], settings["rpc_qos"], settings["gpu_clock"]
        if key not in self._grounds:
            self._grounds[key] = _Ground(space, *key)
        ground = self._grounds[key]
        return Ready(make_frame(space, plan, ground.costs), ground)


_TABLES: Memo[Tables] = Memo(8)


def _meaning(space: Space) -> Meaning:
    """Return what the genes that are decided for each plan mean."""
    numbers: dict[str, tuple[str, ...]] = {
        "reuse": RULES,
        "dispatch": DISPATCH_RULES,
        "operating_point.cpu": cpu_points(space.device),
        "operating_point.dsp": DSP_POINTS,
    }
    table = np.zeros((len(space.genes), int(space.counts.max(initial=1))), np.int64)
    places: dict[str, int] = {}
    for k, gene in enumerate(space.genes):
        name = gene.aspect if gene.aspect in numbers else f"{gene.aspect}.{gene.subject}"
        if name in numbers:
            table[k, : len(gene.choices)] = [numbers[name].index(c) for c in gene.choices]
            places[name] = k
    for step in STEP_ASPECTS:
        if step.key in numbers and step.key not in places:
            held = step.resolve(space.base, space.device)
            places[step.key] = -1 - numbers[step.key].index(held)
    return Meaning(
        table,
        places["reuse"],
        places["dispatch"],
        places["operating_point.cpu"],
        places["operating_point.dsp"],
    )
