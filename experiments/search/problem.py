"""A search as data: everything that its result follows from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from math import sqrt
from typing import Any

from cost_models.device import Device
from experiments.loading import BATCH_LIMIT, IMAGE_LIMIT, SEED_LIMIT, load_device, load_graph
from experiments.search.feasible import made_feasible
from experiments.search.ground import Ground, Prepared, palettes_with, space_around
from experiments.search.objectives import SearchError, check_limits, check_objectives
from experiments.search.registry import check_searcher_name
from experiments.values import is_own, short, whole
from sim.encoding import HELD, Space
from sim.encoding.space import PALETTES
from sim.graph import TrainingGraph
from sim.memo import Memo
from sim.policies.recipes import RECIPES
from sim.rescaling import parse_rule

EVALUATION_LIMIT = 10_000_000
GENERATION_LIMIT = 100_000
LISTS = ("objectives", "held", "starts", "rules")
"""Fields that hold names."""


@dataclass(frozen=True, slots=True)
class Problem:
    """What to search, how, and in which portions.

    Attributes
    ----------
    model
        Name of a model, or an ``.onnx`` file.
    batch, image
        Samples per step; rows and columns of the images, ``None`` for the model's own.
    device
        Name of a device, or a ``.yaml`` file.
    objectives
        Of ``time``, ``energy``, ``risk`` and ``memory``.
    limits
        Largest value of an objective: nanoseconds, picojoules, parts per million, bytes.
        The risk is limited by that of Mandheling's own plan unless a limit is given here.
    held
        Aspects that stay as in Mandheling's plan.
    searcher
        Name of an entry point in ``mandheling.searchers``.
    seed
        Of every random draw.
    evaluations_per_shard
        Plans that each shard scores by a quiet step; 0 for as many as take a second or so, by the
        size of the network (:attr:`evaluations`).
    generation
        Shards that start from the same plans; the next ones start from what these found.
    starts
        Plans of plug-ins to start from and compare with, besides all built-in ones.
    rules
        Rescale rules that are searched besides those of the palette
        (:data:`sim.encoding.space.PALETTES`): of plug-ins, or built in with other numbers.

    Raises
    ------
    SearchError
        A value is not allowed.
    """

    model: str
    batch: int = 64
    image: int | None = None
    device: str = "snapdragon-865"
    objectives: tuple[str, ...] = ("time",)
    limits: Mapping[str, int] = field(default_factory=dict)
    held: tuple[str, ...] = HELD
    searcher: str = "annealing"
    seed: int = 0
    evaluations_per_shard: int = 0
    generation: int = 4
    starts: tuple[str, ...] = ()
    rules: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name, low, high in (
            ("batch", 1, BATCH_LIMIT),
            ("seed", 0, SEED_LIMIT),
            ("evaluations_per_shard", 0, EVALUATION_LIMIT),
            ("generation", 1, GENERATION_LIMIT),
        ):
            _check_whole(name, getattr(self, name), low, high)
        if self.image is not None:
            _check_whole("image", self.image, 1, IMAGE_LIMIT)
        object.__setattr__(self, "objectives", check_objectives(self.objectives))
        object.__setattr__(self, "limits", check_limits(self.limits))
        object.__setattr__(self, "held", tuple(sorted(set(self.held))))
        object.__setattr__(self, "starts", _check_starts(self.starts))
        object.__setattr__(self, "rules", _check_rules(self.rules, self.held))
        check_searcher_name(self.searcher)

    @property
    def evaluations(self) -> int:
        """Plans that each shard scores.

        By default it falls with the kernels of the step to the power of 5/4, as a plan's cost
        grows: a second or so of one core, for each objective alike.
        """
        if self.evaluations_per_shard:
            return self.evaluations_per_shard
        relative = 100 / len(self.space().graph.nodes)
        units = 128 * relative * sqrt(sqrt(relative)) / len(self.objectives)
        return 64 * min(512, max(4, round(units)))

    def ground(self, prepared: Prepared | None = None) -> Ground:
        """Return what the search stands on; remembered by content.

        Parameters
        ----------
        prepared
            What another process made of the same problem: it spares building the plans again.

        Raises
        ------
        SearchError
            No plan is within the limits, the device runs no plan to build the space around, or
            what was prepared is of another model, device or space than are here.
        ModelError, OnnxError, DeviceError
            The model or the device is unknown, or its file cannot be used.
        SpaceError
            A held aspect is unknown, or cannot be held alone.
        PlanError, PolicyError, PluginError
            A plan to start from cannot be made.
        """
        graph, device = self._named()
        if prepared is not None:
            prepared.check("model", self.model, graph.hash(), prepared.graph_sha256)
            prepared.check("device", self.device, device.sha256, prepared.device_sha256)
        key = self._space_key(graph, device)

        def make() -> Ground:
            if prepared is None:
                found = Ground.of(self.space(), self.objectives, self.limits, self.starts)
                return made_feasible(found)
            base, palettes = prepared.base, palettes_with(self.rules)

            def make_space() -> Space:
                return Space.of(graph, device, base, held=self.held, palettes=palettes)

            space = _SPACES.get(key, make_space)
            prepared.check("space around", base.name, space.sha256, prepared.space_sha256)
            return prepared.ground(space)

        parts = (self.objectives, tuple(self.limits.items()), self.starts)
        return _GROUNDS.get((key, parts), make)

    def space(self) -> Space:
        """Return the space of the search; remembered by content."""
        graph, device = self._named()
        key = self._space_key(graph, device)
        return _SPACES.get(key, lambda: space_around(graph, device, self.held, self.rules))

    def _named(self) -> tuple[TrainingGraph, Device]:
        """What the names stand for now: a file may have changed since."""
        return load_graph(self.model, self.batch, self.image), load_device(self.device)

    def _space_key(self, graph: TrainingGraph, device: Device) -> tuple[object, ...]:
        return graph.hash(), device.sha256, self.held, self.rules

    @property
    def sha256(self) -> str:
        """Digest of the problem and of what its names stand for: journals are kept under it."""
        text = json.dumps(self.to_json(), sort_keys=True)
        return hashlib.sha256(f"{text}\0{self.space().sha256}".encode()).hexdigest()

    def to_json(self) -> dict[str, Any]:
        """Return the problem as JSON values, by the names of its fields.

        ``rules`` is left out where there are none: digests are those of before there could be any.
        """
        document = {**asdict(self), **{name: list(getattr(self, name)) for name in LISTS}}
        return {name: value for name, value in document.items() if name != "rules" or value}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Problem:
        """Read what :meth:`to_json` gives.

        Raises
        ------
        SearchError
            A key is unknown or missing, or a value is not allowed.
        """
        document = {"rules": [], **document}
        known = {f.name for f in fields(cls)}
        for key in sorted(document.keys() ^ known):
            what = "missing" if key in known else "unknown"
            raise SearchError(f"problem: {short(key)} is {what}; it has {', '.join(sorted(known))}")
        for key, kind in (("model", str), ("device", str), ("searcher", str), ("limits", dict)):
            if not isinstance(document[key], kind):
                raise SearchError(
                    f"problem: {key} is {short(document[key])}; give a {kind.__name__}"
                )
        for key in LISTS:
            listed = document[key]
            if not isinstance(listed, list) or not all(isinstance(name, str) for name in listed):
                raise SearchError(f"problem: {key} is {short(listed)}; give a list of names")
        lists = {key: tuple(document[key]) for key in LISTS}
        return cls(**{**document, **lists})


_GROUNDS: Memo[Ground] = Memo(4)
_SPACES: Memo[Space] = Memo(4)
"""Pure results, remembered: a worker gets many shards of one problem."""


def _check_starts(names: tuple[str, ...]) -> tuple[str, ...]:
    """Return names of plans that plug-ins bring, each once; they are imported when they are made.

    Raises
    ------
    SearchError
        There is no plan of this name, or it is built in.
    """
    built_in = RECIPES.built_in()
    others = [name for name in RECIPES if name not in built_in]
    for name in names:
        if name in built_in:
            raise SearchError(
                f"start {short(name)} is built in, and all built-in plans are starts; leave it out"
            )
        if name not in others:
            raise SearchError(
                f"start {short(name)} is unknown; plans of plug-ins are "
                f"{', '.join(others) or 'none: install the distribution that brings it'}"
            )
    return tuple(sorted(set(names)))


def _check_rules(texts: tuple[str, ...], held: tuple[str, ...]) -> tuple[str, ...]:
    """Return rescale rules, sorted and each once, if they can be searched besides the palette.

    Raises
    ------
    SearchError
        One is no rule or in the palette; or rescale is held, so that none would be searched.
    PluginError
        A plug-in brings one, and cannot be used.
    """
    for text in texts:
        try:
            parse_rule(text)
        except ValueError as error:
            if is_own(error):
                raise
            raise SearchError(f"rule: {error}") from None
        if text in PALETTES["rescale"]:
            raise SearchError(f"rule {short(text)} is in every search; leave it out")
        if "rescale" in held:
            raise SearchError(
                f"rule {short(text)}: rescale is held, so that no rule is searched; hold it no "
                "more, or leave the rule out"
            )
    return tuple(sorted(set(texts)))


def _check_whole(name: str, value: object, low: int, high: int) -> None:
    if whole(value, low, high) is None:
        raise SearchError(f"{name} is {short(value)}; give a whole number from {low} to {high}")
