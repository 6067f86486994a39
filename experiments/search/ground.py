"""What a search stands on: the graph, the device, the space of plans, its starts and limits."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from cost_models.device import Device
from experiments.search.front import Found
from experiments.search.measuring import Measurer
from experiments.search.objectives import OBJECTIVES, SearchError, Values, places
from experiments.search.starts import (
    Start,
    built_in_names,
    crosses,
    named_starts,
    repriced,
    retuned,
)
from sim.encoding import Genes, Space
from sim.encoding.space import PALETTES
from sim.graph import TrainingGraph
from sim.plan import Plan
from sim.policies.build import build_plan

REFERENCE = "mandheling"
"""Plan that the space is built around, and whose risk no plan found exceeds by default."""
WITHOUT_DSP = "mnn-int8"
"""The same on a device that has no DSP."""
TUNED = " at the best clocks and rules"
"""Follows the name of a plan that was given these and nothing else."""


@dataclass(frozen=True, slots=True, eq=False)
class Ground:
    """Made from a :class:`~experiments.search.problem.Problem` in any process, always alike.

    Attributes
    ----------
    limits
        Largest value of each limited objective, the default one of risk included.
    starts
        Built-in plans and those asked for, crosses of them, the quickest of these with other
        rescale rules, and the plan of the space at the best clocks and rescale rules.
    values
        All measures of the starts by the expected step, shape ``(starts, measures)``.
    """

    graph: TrainingGraph
    device: Device
    space: Space
    measurer: Measurer
    objectives: tuple[str, ...]
    limits: Mapping[str, int]
    starts: tuple[Start, ...]
    values: Values

    @classmethod
    def of(
        cls,
        space: Space,
        objectives: tuple[str, ...],
        limits: Mapping[str, int],
        others: Sequence[str] = (),
    ) -> Ground:
        """Build the ground of a search in ``space``: make the starts and score them.

        Parameters
        ----------
        others
            Plans of plug-ins to start from as well.
        """
        return cls.around(space, objectives, limits, named_starts(space, others))

    @classmethod
    def around(
        cls,
        space: Space,
        objectives: tuple[str, ...],
        limits: Mapping[str, int],
        named: tuple[Start, ...],
    ) -> Ground:
        """Build the ground of a search from starts of any making: cross, reprice and score them.

        Parameters
        ----------
        named
            Starts; the plan that ``space`` is around is among them, under its name.
        """
        starts = (*named, *crosses(space, named))
        measurer = Measurer.of(space)
        values = measurer(_rows(starts), "expected", memory=True)
        reference = [s.name for s in starts].index(space.base.name)
        default = {"risk": int(values[reference, OBJECTIVES.index("risk")])}
        limits = {**default, **limits}
        more = repriced(space, starts, values, limits["risk"])
        if more:
            values = np.concatenate([values, measurer(_rows(more), "expected", memory=True)])
            starts = (*starts, *more)
        ground = cls(
            space.graph,
            space.device,
            space,
            measurer,
            objectives,
            limits,
            starts,
            values,
        )
        return ground._with_tuned(starts[reference].row)

    def _with_tuned(self, row: Genes) -> Ground:
        """Return the ground with one start more: a plan at the best clocks and rescale rules.

        Of those within all limits it is the least in the first objective.
        """
        rows = retuned(self.space, row, self.limits["risk"])
        values = self.measurer(rows, "expected", memory=True)
        first = values[:, places(self.objectives[:1])[0]]
        best = int(np.lexsort((first, self.excess_ppm(values)))[0])
        if np.array_equal(rows[best], row):
            return self
        start = Start(self.space.base.name + TUNED, rows[best])
        return replace(
            self,
            starts=(*self.starts, start),
            values=np.concatenate([self.values, values[best : best + 1]]),
        )

    @property
    def prepared(self) -> Prepared:
        """What of it takes long to make: plans and their values."""
        return Prepared(
            self.graph.hash(),
            self.device.sha256,
            self.space.sha256,
            self.space.base,
            self.objectives,
            self.limits,
            self.starts,
            self.values,
        )

    @property
    def needs_memory(self) -> bool:
        """Whether memory is an objective or limited."""
        return "memory" in self.objectives or "memory" in self.limits

    def excess_ppm(self, values: Values) -> NDArray[np.int64]:
        """Return by how much each row of measures exceeds the limits, summed, parts per million.

        0 is within all limits.
        """
        total = np.zeros(len(values), dtype=np.int64)
        for name, limit in self.limits.items():
            over = np.maximum(values[:, OBJECTIVES.index(name)] - limit, 0)
            share = np.minimum(over.astype(np.float64) / max(limit, 1), 1e3) * 1e6
            total += np.ceil(share).astype(np.int64)
        return total

    @property
    def feasible(self) -> tuple[Found, ...]:
        """Starts within all limits."""
        inside = self.excess_ppm(self.values) == 0
        pairs = zip(self.starts, self.values, inside, strict=True)
        return tuple(Found.of(start.row, values) for start, values, ok in pairs if ok)

    def chosen(self, values: Values) -> Values:
        """Return the columns of the objectives, shape ``(plans, objectives)``."""
        return np.ascontiguousarray(values[:, places(self.objectives)])


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """A ground without graph, device and tables: small enough to be sent to a worker.

    The digests are those of what it leaves out.
    """

    graph_sha256: str
    device_sha256: str
    space_sha256: str
    base: Plan
    objectives: tuple[str, ...]
    limits: Mapping[str, int]
    starts: tuple[Start, ...]
    values: Values

    @staticmethod
    def check(what: str, name: str, here: str, there: str) -> None:
        """Raise :class:`SearchError` unless the digest of something here is the one there."""
        if here != there:
            raise SearchError(
                f"{what} {name!r} is another on {platform.node()} than where the search was begun "
                f"({here[:12]}..., not {there[:12]}...); give every machine the same files"
            )

    def ground(self, space: Space) -> Ground:
        """Return the ground in a space around ``base``."""
        return Ground(
            space.graph,
            space.device,
            space,
            Measurer.of(space),
            self.objectives,
            self.limits,
            self.starts,
            self.values,
        )


def base_plan_name(device: Device) -> str:
    """Return the name of the plan that spaces on a device are built around."""
    names = built_in_names(device)
    for name in (REFERENCE, WITHOUT_DSP):
        if name in names:
            return name
    raise SearchError(
        f"device {device.name} can run neither {REFERENCE} nor {WITHOUT_DSP}; give one that can"
    )


def space_around(
    graph: TrainingGraph, device: Device, held: tuple[str, ...], rules: tuple[str, ...] = ()
) -> Space:
    """Return the space of a search: everything but ``held``, which stays as in the base plan.

    ``rules``: rescale rules that are searched besides those of the palette.
    """
    base = build_plan(base_plan_name(device), graph, device)
    return Space.of(graph, device, base, held=held, palettes=palettes_with(rules))


def palettes_with(rules: tuple[str, ...]) -> Mapping[str, tuple[str, ...]]:
    """Return the palettes of a search, with more rescale rules at the end of theirs."""
    return {**PALETTES, "rescale": (*PALETTES["rescale"], *rules)}


def _rows(starts: tuple[Start, ...]) -> Genes:
    return np.stack([start.row for start in starts])
