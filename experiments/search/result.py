"""The result of a search as one file: what was found, beside what, and how to find it again.

JSON of schema ``mandheling-search``, version 1. ``manifest`` holds what the result follows from,
and nothing of the machine; ``run`` holds what it took there.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from pydantic import Field, PlainSerializer, PlainValidator, ValidationError

from cost_models.errors import one_line
from cost_models.quantity import Part
from cost_models.reading import each_key_once, read_bytes
from experiments.results import NOTE
from experiments.search.backends import Backend
from experiments.search.baselines import baselines, comparison_note
from experiments.search.contradictions import check_consistent, check_numbers, read_part
from experiments.search.drive import Outcome
from experiments.search.extras import ProvenBound
from experiments.search.front import front_sha256
from experiments.search.objectives import COLUMNS, SearchError
from experiments.search.problem import Problem
from experiments.search.provenance import versions_of
from experiments.search.robustness import Robustness
from experiments.search.verify import Verification
from experiments.search.why import Change
from sim.plan import Plan

SCHEMA: Final = "mandheling-search"
VERSION: Final = 1
LARGEST_FILE = 256 << 20
"""A front of a thousand plans of the largest networks takes less."""


PLAIN = PlainSerializer(lambda part: None if part is None else part.document())
"""Writes a part that another module made."""


class Measures(Part):
    """Measures of a plan by the expected step."""

    time_ns: int = Field(strict=True, gt=0)
    energy_pj: int = Field(strict=True, gt=0)
    risk_ppm: int = Field(strict=True, ge=0)
    memory_bytes: int = Field(strict=True, ge=0)


class BaselinePlan(Measures):
    """A plan to compare with; ``left_out`` says why it is no rival of the plans found, if so."""

    name: str
    left_out: str = ""
    plan: dict[str, Any]


class FrontPlan(Measures):
    """A plan that was found; ``genes`` encodes it in the space of the problem."""

    id: str
    plan: dict[str, Any]
    genes: tuple[int, ...]


class Manifest(Part):
    """What a result follows from: equal manifests, equal fronts."""

    command: str
    problem: dict[str, Any]
    problem_sha256: str
    space_sha256: str
    graph_sha256: str
    device_sha256: str
    versions: dict[str, str]
    shards: int = Field(strict=True, ge=0)
    evaluations: int = Field(strict=True, ge=0)
    front_sha256: str


class RunFacts(Part):
    """What finding it took: another in every run."""

    seconds: float = Field(ge=0)
    shard_seconds: float = Field(ge=0)
    shards_run: int = Field(strict=True, ge=0)
    backend: str
    workers: int = Field(strict=True, ge=1)
    workers_lost: int = Field(strict=True, ge=0)


class SearchResult(Part):
    """A finished search.

    Attributes
    ----------
    note
        That all numbers are predicted.
    objectives, limits
        What was made small, and what was limited: the default limit of risk included.
    baselines
        Every built-in plan that the device runs, those of plug-ins that the search started from,
        and the plan that the space is built around at the best clocks and rescale rules.
    notes
        What the figures rest on and what is compared, in sentences.
    front
        Plans that none of the others beats in every objective, sorted by objectives.
    chosen
        ``id`` of the plan that is best in the first objective, then in the others.
    bound
        Proven lower bound on the time of every plan of the space, whatever the limits.
    robustness, why, verified
        The chosen plan against baselines over resampled constants; what it changed and what that
        brings; finalists trained for real. ``None`` where it was not asked for.
    progress
        ``[shards, evaluations, least value of the first objective]`` after each shard.
    """

    document: Literal["mandheling-search"] = Field(default=SCHEMA, alias="schema")
    version: Literal[1] = VERSION
    note: str
    manifest: Manifest
    run: RunFacts
    objectives: tuple[str, ...] = Field(min_length=1)
    limits: dict[str, int]
    notes: tuple[str, ...] = ()
    baselines: tuple[BaselinePlan, ...]
    front: tuple[FrontPlan, ...] = Field(min_length=1)
    chosen: str
    bound: Annotated[ProvenBound | None, PlainValidator(partial(read_part, ProvenBound)), PLAIN] = (
        None
    )
    robustness: Annotated[
        Robustness | None, PlainValidator(partial(read_part, Robustness)), PLAIN
    ] = None
    why: Annotated[Change | None, PlainValidator(partial(read_part, Change)), PLAIN] = None
    verified: Annotated[
        Verification | None, PlainValidator(partial(read_part, Verification)), PLAIN
    ] = None
    progress: tuple[tuple[int, int, int], ...]

    @property
    def best(self) -> FrontPlan:
        """The chosen plan."""
        return next(plan for plan in self.front if plan.id == self.chosen)

    def to_json(self) -> dict[str, Any]:
        """Return the result as JSON values."""
        return self.model_dump(mode="json", by_alias=True)

    @classmethod
    def from_json(cls, document: object, where: str = "result") -> Self:
        """Read what :meth:`to_json` gives.

        Raises
        ------
        SearchError
            It is another schema or version; a field is missing, unknown or not allowed; or fields
            contradict each other.
        """
        known = document if isinstance(document, dict) else {}
        if known.get("schema") != SCHEMA:
            raise SearchError(f"{where}: is no result of a search; give what 'search -o' wrote")
        if known.get("version") != VERSION:
            raise SearchError(
                f"{where}: version {known.get('version')!r} of the schema; this version reads "
                f"{VERSION}: search again"
            )
        check_numbers(known, where)
        try:
            found = cls.model_validate(known)
        except ValidationError as error:
            raise SearchError(one_line(where, cls, error)) from None
        check_consistent(found, where)
        return found

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a file; see :meth:`from_json` for what is refused."""
        raw = read_bytes(path, LARGEST_FILE, SearchError)
        try:
            document = json.loads(raw, object_pairs_hook=each_key_once)
        except (ValueError, RecursionError) as error:
            raise SearchError(f"{path}: not JSON ({error}); search again") from None
        return cls.from_json(document, str(path))


@dataclass(frozen=True, slots=True)
class Extras:
    """What is found out about a front once it is there; see :class:`SearchResult`."""

    bound: ProvenBound | None = None
    robustness: Robustness | None = None
    why: Change | None = None
    verified: Verification | None = None


def result_of(outcome: Outcome, backend: Backend, extras: Extras) -> SearchResult:
    """Put together what a search found, beside the built-in plans."""
    problem, ground = outcome.problem, outcome.problem.ground()
    front = [
        FrontPlan(
            id=f"P{number}",
            plan=_document(ground.space.decode(found.row, f"searched P{number}")),
            genes=found.genes,
            **_measures(found.values),
        )
        for number, found in enumerate(outcome.front, 1)
    ]
    compared = baselines(ground, problem.starts)
    manifest = Manifest(
        command=command_of(problem, f"{outcome.shards}-shards"),
        problem=problem.to_json(),
        problem_sha256=problem.sha256,
        space_sha256=ground.space.sha256,
        graph_sha256=ground.graph.hash(),
        device_sha256=ground.device.sha256,
        versions=versions_of(problem),
        shards=outcome.shards,
        evaluations=outcome.evaluations,
        front_sha256=front_sha256(outcome.front),
    )
    run = RunFacts(
        seconds=round(outcome.seconds, 3),
        shard_seconds=outcome.shard_ms / 1e3,
        shards_run=outcome.ran,
        backend=backend.name,
        workers=backend.workers,
        workers_lost=outcome.lost,
    )
    return SearchResult(
        note=NOTE,
        manifest=manifest,
        run=run,
        objectives=problem.objectives,
        limits=dict(ground.limits),
        notes=tuple(filter(None, (ground.measurer.risk.note, comparison_note(ground, compared)))),
        baselines=tuple(
            BaselinePlan(
                name=one.plan.name,
                left_out=one.left_out,
                plan=_document(one.plan),
                **_measures(one.values),
            )
            for one in compared
        ),
        front=tuple(front),
        chosen=front[0].id,
        progress=tuple((row.shards, row.evaluations, row.best) for row in outcome.rows),
        bound=extras.bound,
        robustness=extras.robustness,
        why=extras.why,
        verified=extras.verified,
    )


def command_of(problem: Problem, budget: str) -> str:
    """Return the command line that searches this problem."""
    default = Problem(problem.model)
    words = ["mandheling", "search", "--model", problem.model, "--device", problem.device]
    words += ["--batch", str(problem.batch), "--objectives", ",".join(problem.objectives)]
    words += ["--searcher", problem.searcher, "--seed", str(problem.seed)]
    if problem.image is not None:
        words += ["--image", str(problem.image)]
    for aspect in sorted(set(problem.held) - set(default.held)):
        words += ["--hold", aspect]
    for aspect in sorted(set(default.held) - set(problem.held)):
        words += ["--free", aspect]
    for name in problem.starts:
        words += ["--start", name]
    for rule in problem.rules:
        words += ["--rule", rule]
    if problem.limits:
        words += ["--limit", ",".join(f"{n}={limit}" for n, limit in problem.limits.items())]
    for option in ("evaluations_per_shard", "generation"):
        if getattr(problem, option) != getattr(default, option):
            words += [f"--{option.replace('_', '-')}", str(getattr(problem, option))]
    return shlex.join([*words, "--budget", budget])


def _document(plan: Plan) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(plan.to_json())
    return document


def _measures(values: Sequence[int]) -> dict[str, int]:
    return dict(zip(COLUMNS, values, strict=True))
