"""The space of plans around a graph and a device, as arrays of small integers.

A *gene* is one decision of a plan: an aspect, a subject, and the choices it may take. An encoded
plan is one row of indices into those choices. Every row is a plan: what a choice cannot mean in its
surroundings (a DSP placement of a layer that computes in FP32) is repaired to the aspect's
default when the row is decoded, and by the evaluators in the same way.

Genes come from the aspects themselves, so that a new aspect is searched as soon as it is in
:data:`sim.aspects.ORDER` or among the step's.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cost_models.device import Device
from sim.aspects import ORDER, STEP_ASPECTS
from sim.encoding.discover import PALETTES as PALETTES
from sim.encoding.discover import SpaceError, found_choices, held_choices
from sim.encoding.repair import repaired
from sim.graph import TrainingGraph
from sim.lowering import draft_before
from sim.memo import Memo
from sim.plan import Key, Plan

Genes = NDArray[np.int16]
"""One encoded plan, shape ``(genes,)``, or many, shape ``(plans, genes)``."""

HELD = ("library", "input", "rpc_qos", "backward", "optimiser_state")
"""Aspects that a search leaves alone by default: circumstances, the backward rule and what the
optimiser keeps.

Another rule or state learns something else: search it (with ``held`` of the others) where accuracy
counts.
"""

SCHEDULE = ("placement", "grouping")
"""Aspects that decide who computes and in which calls."""
FRAME = tuple(a.name for a in ORDER if a.name not in SCHEDULE)
"""Aspects that decide what is computed."""


@dataclass(frozen=True, slots=True)
class Gene:
    """One decision: what an encoded plan holds an index into ``choices`` for."""

    aspect: str
    subject: str
    choices: tuple[str, ...]

    @property
    def key(self) -> Key:
        """Key of the decision in a plan."""
        return self.aspect, self.subject


@dataclass(frozen=True, slots=True, eq=False)
class Space:
    """Every plan that differs from ``base`` in the searched aspects.

    Attributes
    ----------
    base
        Plan whose choices hold for the aspects in ``held``.
    genes
        Decisions, in the order of rewriting, the step's last.
    """

    graph: TrainingGraph
    device: Device
    base: Plan
    held: tuple[str, ...]
    genes: tuple[Gene, ...]
    counts: NDArray[np.int64]
    """Number of choices of each gene, shape ``(genes,)``."""
    _index: Mapping[Key, int] = field(repr=False)

    @classmethod
    def of(
        cls,
        graph: TrainingGraph,
        device: Device,
        base: Plan,
        *,
        held: Iterable[str] = HELD,
        palettes: Mapping[str, Sequence[str]] = PALETTES,
    ) -> Space:
        """Build the space around ``base``.

        Parameters
        ----------
        held
            Aspects that keep the choices of ``base``. With placement or grouping, backward is
            held, too: it decides which kernels there are to place.
        palettes
            Choices of aspects that are open-ended, by aspect; also narrows others. A subject gets
            those that it allows.

        Raises
        ------
        SpaceError
            An aspect is unknown, a palette holds what an aspect allows for none of its
            subjects, or placement is held and precision is not.
        PlanError
            ``base`` does not fit the graph or the device.

        Examples
        --------
        >>> from sim import build_plan, load_device, load_model, training_graph
        >>> graph = training_graph(load_model("lenet", batch=64))
        >>> device = load_device("snapdragon-865")
        >>> plan = build_plan("mandheling", graph, device)
        >>> space = Space.of(graph, device, plan)
        >>> space.decode(space.encode(plan)).diff(plan)
        []
        """
        held = tuple(sorted(set(held)))
        known = {a.name for a in ORDER} | {a.name for a in STEP_ASPECTS}
        for name in (*held, *palettes):
            if name not in known:
                raise SpaceError(
                    f"aspect {name!r} is unknown; aspects are {', '.join(sorted(known))}"
                )
        follows = [name for name in SCHEDULE if name in held]
        if follows and "precision" not in held:
            raise SpaceError(
                f"{follows[0]} is held while precision is searched, and which kernels there are "
                "to place depends on precision; hold 'precision' too"
            )
        if follows:
            held = tuple(sorted({*held, "backward"}))
        found = found_choices(graph, device, base, held, palettes)
        genes = tuple(Gene(*key, choices) for key, choices in found.items())
        counts = np.array([len(g.choices) for g in genes], dtype=np.int64)
        counts.flags.writeable = False  # a searcher that changed it would change every check
        index = {g.key: k for k, g in enumerate(genes)}
        return cls(graph, device, base, held, genes, counts, index)

    @property
    def sha256(self) -> str:
        """Digest of all that an encoded plan means: graph, device, held choices and genes."""
        digest = hashlib.sha256()
        kept = [pair for pair in self.base.choices if pair[0][0] in self.held]
        genes = [(g.aspect, g.subject, g.choices) for g in self.genes]
        for part in (self.graph.hash(), self.device.sha256, repr(kept), repr(genes)):
            digest.update(part.encode() + b"\0")
        return digest.hexdigest()

    def index(self, aspect: str, subject: str) -> int:
        """Return the place of a decision among the genes; :class:`SpaceError` if it has none."""
        place = self._index.get((aspect, subject))
        if place is None:
            near = [g.subject for g in self.genes if g.aspect == aspect][:3]
            raise SpaceError(
                f"{aspect}.{subject} is no gene of this space"
                + (f"; those of {aspect} are like {', '.join(near)}" if near else "")
            )
        return place

    def encode(self, plan: Plan) -> Genes:
        """Return the genes of a plan; what it does not mention is the aspect's default.

        Raises
        ------
        SpaceError
            The plan is for another graph, or makes a choice that is not in this space.
        """
        if plan.graph_hash != self.graph.hash():
            raise SpaceError(
                f"plan {plan.name!r} is for another graph than this space; make it again for "
                "this model, batch and image size"
            )
        here, there = (
            held_choices(p, self.graph, self.device, self.held) for p in (self.base, plan)
        )
        for key, choice in there.items():
            if choice != here.get(key, choice):
                raise SpaceError(
                    f"plan {plan.name!r} has {key[0]}.{key[1]} = {choice!r}, which this space "
                    f"holds at {here[key]!r}; search with {key[0]!r} not held, or leave that "
                    "plan out"
                )
        row = self.defaults(plan)
        for (aspect, subject), choice in plan.choices:
            if aspect in self.held:
                continue
            gene = self.genes[self.index(aspect, subject)]
            if choice not in gene.choices:
                raise SpaceError(
                    f"plan {plan.name!r} has {aspect}.{subject} = {choice!r}, which is not in this "
                    f"space; its choices are {', '.join(gene.choices)}"
                )
            row[self._index[gene.key]] = gene.choices.index(choice)
        return row

    def defaults(self, plan: Plan) -> Genes:
        """Return the row in which every decision takes its default in the surroundings of a plan.

        The first of a gene's choices stands for a subject that the plan's graph does not have.
        """
        row = np.zeros(len(self.genes), dtype=np.int16)
        for aspect in ORDER:
            if aspect.name in self.held:
                continue
            draft = draft_before(aspect.name, self.graph, plan, self.device)
            for subject in aspect.subjects(draft, self.device):
                place = self._index.get((aspect.name, subject))
                default = aspect.default(draft, subject, self.device)
                if place is not None and default in self.genes[place].choices:
                    row[place] = self.genes[place].choices.index(default)
        for step in STEP_ASPECTS:
            place = self._index.get((step.name, step.subject))
            if place is not None:
                row[place] = self.genes[place].choices.index(step.default)
        return row

    def decode(self, row: Genes, name: str = "searched", *, leave: Collection[str] = ()) -> Plan:
        """Return the plan of one row: only choices that have an effect and are no defaults.

        Parameters
        ----------
        leave
            Aspects whose genes are left out.

        Raises
        ------
        SpaceError
            The row has another length, or an index beyond its gene's choices.
        """
        chosen = self.chosen(row)
        kept: dict[Key, str] = {k: c for k, c in self.base.choices if k[0] in self.held}
        chosen = {key: choice for key, choice in chosen.items() if key[0] not in leave}
        return repaired(name, self.graph, self.device, chosen, kept)

    def chosen(self, row: Genes) -> dict[Key, str]:
        """Return the choice of every gene in a row; raises as :meth:`decode`."""
        values = self.checked(np.asarray(row)[None])[0]
        return {g.key: g.choices[int(v)] for g, v in zip(self.genes, values, strict=True)}

    def checked(self, batch: Genes) -> Genes:
        """Return a batch of rows, shape ``(plans, genes)``, if every row is a plan.

        Raises
        ------
        SpaceError
            Another shape or type, or an index beyond its gene's choices.
        """
        values = np.asarray(batch)
        wanted = len(self.genes)
        if values.ndim != 2 or values.shape[1] != wanted or values.dtype.kind not in "iu":
            raise SpaceError(
                f"encoded plans are {values.dtype}{list(values.shape)}; give integers of shape "
                f"[plans, {wanted}], one per gene"
            )
        if len(values) and ((values < 0) | (values >= self.counts)).any():
            bad, gene = (int(v) for v in np.argwhere((values < 0) | (values >= self.counts))[0])
            which = self.genes[gene]
            raise SpaceError(
                f"gene {which.aspect}.{which.subject} is {int(values[bad, gene])}; allowed: 0 to "
                f"{len(which.choices) - 1}, an index into its choices"
            )
        return values

    @property
    def frame_genes(self) -> int:
        """How many genes, the first ones, decide what is computed rather than where and when."""
        return sum(g.aspect in FRAME for g in self.genes)

    def live(self, row: Genes) -> NDArray[np.bool_]:
        """Return which genes have a subject in the surroundings of a row, shape ``(genes,)``.

        The others stand for conversions and layout work that this row's precision does not need.
        """
        plan = self.decode(row)
        found = {(step.name, step.subject) for step in STEP_ASPECTS}
        for aspect in ORDER:
            draft = draft_before(aspect.name, self.graph, plan, self.device)
            found |= {(aspect.name, subject) for subject in aspect.subjects(draft, self.device)}
        return np.array([gene.key in found for gene in self.genes], dtype=np.bool_)

    def random(self, plans: int, seed: int) -> Genes:
        """Return uniformly drawn rows, shape ``(plans, genes)``; the same for the same seed."""
        draws = np.random.default_rng(np.random.SeedSequence(seed))
        return draws.integers(0, self.counts, size=(plans, len(self.genes))).astype(np.int16)


_SPACES: Memo[Space] = Memo(8)


def space_of(graph: TrainingGraph, device: Device, base: Plan, **options: Any) -> Space:
    """Return :meth:`Space.of`, remembered by content: workers ask for the same one again."""
    key = (graph.hash(), base.choices, device.sha256, repr(sorted(options.items())))
    return _SPACES.get(key, lambda: Space.of(graph, device, base, **options))
