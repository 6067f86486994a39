"""Accuracy risk: how many values stale shifts are expected to damage, as a sum over genes.

A rescale rule that does not scan in every step sometimes uses a shift that is no longer true. One
that is too small saturates large values; one that is too large turns small values into zero that
the true shift would have kept. The risk of a plan is the expected share of values that meet
either, in parts per million: the mean over all tensors with an INT32 accumulator, each counted
alike, since a small gradient matters to its layer as a large activation to the next. A tensor of
a layer in FP32 counts as undamaged. What INT8 loses with true shifts is not in it.

What a rule does to a tensor is estimated from recorded trainings
(:mod:`experiments.search.damage`); here recorded tensors stand for those of any model, and plans
are summed up. The final judge of a plan is its own training (:mod:`experiments.search.verify`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cost_models.device import Device
from experiments.search.damage import Parts, recorded_risk
from experiments.search.recorded import Recording, depths, recordings, role_of
from sim.aspects import ORDER
from sim.encoding import Genes, Space, SpaceError
from sim.graph import TrainingGraph
from sim.lowering import draft_before, lowering
from sim.plan import Plan

MILLION = 1_000_000
MEAN = "mean of "
"""Begins the source of a tensor that was not recorded."""
CHUNK = 4096
"""Plans looked up at once, so that the table of places stays in the cache."""

I64 = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class TensorRisk:
    """Where the risk of one tensor comes from.

    Attributes
    ----------
    subject, layer
        Names in plans.
    source
        The recorded tensor, ``vgg11 conv2``; or the class whose mean it takes,
        ``mean of middle weight_grad``.
    """

    subject: str
    layer: str
    source: str


def tensors_of(graph: TrainingGraph, device: Device, plan: Plan) -> dict[str, str]:
    """Return the layer of each tensor that can be rescaled, by its subject, in order."""
    draft = draft_before("precision", graph, plan, device)
    return {item.subject: item.layer for item in draft.items if item.has_macs}


@dataclass(frozen=True, slots=True)
class Sources:
    """Which recorded tensors stand for each tensor of a model."""

    tensors: tuple[TensorRisk, ...]
    behind: tuple[tuple[tuple[int, str], ...], ...]
    """For each tensor the recordings' numbers and subjects whose mean it takes."""

    @classmethod
    def of(
        cls, model: str, layer_of: Mapping[str, str], known: Sequence[Recording] | None = None
    ) -> Sources:
        """Find the recorded tensors of a model's.

        Parameters
        ----------
        model
            Name of the training graph; a recording of that name is used tensor by tensor.
        layer_of
            Layer of each subject, as from :func:`tensors_of`.
        known
            Recordings to look in; by default all of the package.
        """
        layer_depth = depths(list(dict.fromkeys(layer_of.values())))
        numbers = {one.model: k for k, one in enumerate(recordings())}
        found = recordings() if known is None else known
        tensors, behind = [], []
        for subject, layer in layer_of.items():
            own = [one for one in found if one.model == model and subject in one.tensors]
            if own:
                source = f"{model} {subject}"
                places = [(numbers[one.model], subject) for one in own]
            else:
                role, depth = role_of(subject), layer_depth[layer]
                source, places = _class_of(role, depth, found, numbers)
            tensors.append(TensorRisk(subject, layer, source))
            behind.append(tuple(places))
        return cls(tuple(tensors), tuple(behind))

    def parts(self, tensor: int, rule: str) -> Parts:
        """Return the expected damage of a rule to the tensor of that number."""
        shares = [recorded_risk(rule, *place) for place in self.behind[tensor]]
        saturated, lost = (sum(part) / len(shares) for part in zip(*shares, strict=True))
        return saturated, lost


def _class_of(
    role: str, depth: str, found: Iterable[Recording], numbers: Mapping[str, int]
) -> tuple[str, list[tuple[int, str]]]:
    """Tensors of one role and depth; of the role alone where a class has none."""
    of_role = [
        (numbers[one.model], t.subject, t.depth)
        for one in found
        for t in one.tensors.values()
        if t.role == role
    ]
    of_class = [(k, subject) for k, subject, other in of_role if other == depth]
    if of_class:
        return f"{MEAN}{depth} {role}", of_class
    return f"{MEAN}{role}", [(k, subject) for k, subject, _ in of_role]


@dataclass(frozen=True, slots=True, eq=False)
class RiskTable:
    """Risk of every rescale gene of a space, ready to be added up.

    Attributes
    ----------
    tensors
        Where each tensor's risk comes from.
    """

    space: Space
    tensors: tuple[TensorRisk, ...]
    _places: I64
    """Gene of the precision and of the rule of each tensor, ``(tensors, 2)``; -1: held."""
    _strides: I64
    """What a step of its precision gene is worth in ``_risk``."""
    _first: I64
    """First entry of each tensor in ``_risk``."""
    _risk: I64
    """Parts per million of a tensor's values, times :data:`MILLION`, by precision and rule."""

    @property
    def note(self) -> str:
        """What the estimate rests on, in a sentence for reports."""
        whole, classes = len(self.tensors), sum(t.source.startswith(MEAN) for t in self.tensors)
        known = " and ".join(f"{one.model} on {one.dataset}" for one in recordings())
        return (
            f"Accuracy risk is estimated from recorded trainings of {known}: {whole - classes} of "
            f"{whole} tensors are recorded ones, {classes} take the mean of their role and depth."
        )

    def of(self, batch: Genes) -> I64:
        """Return the risk of each row of ``batch``, int16 ``(plans, genes)``, ppm, rounded down.

        Raises
        ------
        SpaceError
            The batch has another number of genes than the space.

        Examples
        --------
        >>> from sim import build_plan, load_device, load_model, training_graph
        >>> graph = training_graph(load_model("lenet", batch=64))
        >>> device = load_device("snapdragon-865")
        >>> space = Space.of(graph, device, build_plan("mandheling", graph, device))
        >>> rows = [space.encode(build_plan(n, graph, device)) for n in ("mnn-int8", "mandheling")]
        >>> always, adaptive = risk_table(space).of(np.array(rows))
        >>> int(always), 0 < adaptive < 100_000
        (0, np.True_)
        """
        if batch.ndim != 2 or batch.shape[1] != len(self.space.genes):
            raise SpaceError(
                f"a batch is of shape {list(batch.shape)}; give [plans, {len(self.space.genes)}], "
                "one column per gene"
            )
        total = np.zeros(len(batch), dtype=np.int64)
        for first in range(0, len(batch), CHUNK):
            rows = batch[first : first + CHUNK]
            out = total[first : first + CHUNK]
            for k, (precision, rule) in enumerate(self._places.tolist()):
                place = np.full(len(rows), self._first[k])
                if precision >= 0:
                    place += rows[:, precision] * self._strides[k]
                if rule >= 0:
                    place += rows[:, rule]
                out += self._risk[place]
        return total // (MILLION * max(1, len(self.tensors)))


def risk_table(space: Space) -> RiskTable:
    """Make the table of a space; it takes a second for the first space of a process.

    Raises
    ------
    experiments.search.recorded.RecordingError
        The recording in the package cannot be read.
    """
    layer_of = tensors_of(space.graph, space.device, space.base)
    sources = Sources.of(space.graph.name, layer_of)
    genes = {gene.key: (k, gene.choices) for k, gene in enumerate(space.genes)}
    base = dict(space.base.choices)
    places: list[tuple[int, int]] = []
    strides: list[int] = []
    first: list[int] = []
    risk: list[int] = []
    for k, (subject, layer) in enumerate(layer_of.items()):
        held_type = base.get(("precision", layer), _default("precision", space, layer))
        held_rule = base.get(("rescale", subject), _default("rescale", space, subject))
        type_gene, types = genes.get(("precision", layer), (-1, (held_type,)))
        rule_gene, rules = genes.get(("rescale", subject), (-1, (held_rule,)))
        places.append((type_gene, rule_gene))
        strides.append(len(rules))
        first.append(len(risk))
        for dtype in types:
            risk += [_scaled(sources.parts(k, r)) if dtype == "int8" else 0 for r in rules]
    return RiskTable(
        space,
        sources.tensors,
        np.array(places, dtype=np.int64).reshape(-1, 2),
        np.array(strides, dtype=np.int64),
        np.array(first, dtype=np.int64),
        np.array(risk, dtype=np.int64),
    )


def _default(aspect_name: str, space: Space, subject: str) -> str:
    aspect = next(a for a in ORDER if a.name == aspect_name)
    draft = draft_before("precision", space.graph, space.base, space.device)
    return aspect.default(draft, subject, space.device)


def _scaled(parts: Parts) -> int:
    return round(sum(parts) * MILLION * MILLION)


@dataclass(frozen=True, slots=True)
class PlanRisk:
    """Risk of one plan, parts per million of the values of a tensor, mean over tensors.

    ``total_ppm`` is rounded down from exact integers; the two parts are rounded each for itself.
    """

    total_ppm: int
    saturated_ppm: float
    lost_ppm: float


def plan_risk(
    graph: TrainingGraph,
    plan: Plan,
    device: Device,
    *,
    known: Sequence[Recording] | None = None,
) -> PlanRisk:
    """Return the risk of any plan, be it in a space or not; equal to :meth:`RiskTable.of`.

    Parameters
    ----------
    known
        Recordings to estimate from; by default all of the package.

    Raises
    ------
    PlanError
        The plan does not fit the graph or the device.
    """
    layer_of = tensors_of(graph, device, plan)
    sources = Sources.of(graph.name, layer_of, known)
    rules = {s: choice for s, choice in _rules(graph, plan, device).items() if s in layer_of}
    found = [sources.parts(k, rules[s]) for k, s in enumerate(layer_of) if s in rules]
    whole = max(1, len(layer_of))
    return PlanRisk(
        sum(map(_scaled, found)) // (MILLION * whole),
        round(sum(part[0] for part in found) * MILLION / whole, 1),
        round(sum(part[1] for part in found) * MILLION / whole, 1),
    )


def _rules(graph: TrainingGraph, plan: Plan, device: Device) -> dict[str, str]:
    """Rule of each tensor that the plan computes in INT8, as text."""
    ready = lowering(graph, plan, device)
    chosen = plan.aspect("rescale")
    return {subject: chosen.get(subject, "every") for subject in ready.rules}
