"""Drives a search: shards generation by generation, on any backend, with a journal.

Shards of a generation start from the merged front of all earlier generations and from nothing else,
and count only once all shards before them are done. So the result follows from the problem
and the number of shards alone: not from workers, order, time, losses or interruptions.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from time import monotonic, perf_counter

from experiments.search.backends import Backend, Call, LostWorkerError
from experiments.search.budget import MOST_SHARDS, Budget
from experiments.search.front import Found, merge
from experiments.search.ground import Prepared
from experiments.search.journal import Finished, Journal
from experiments.search.objectives import SearchError, places
from experiments.search.problem import Problem
from experiments.search.provenance import differing, versions_of
from experiments.search.recheck import recheck
from experiments.search.shard import run_shard
from experiments.values import is_own

LOSSES = 3
"""Losses of workers in a row, without a shard finished between, after which a search gives up."""


@dataclass(frozen=True, slots=True)
class Row:
    """How far a search is after some shards.

    Attributes
    ----------
    best
        Least value of the first objective.
    """

    shards: int
    evaluations: int
    best: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a search found.

    Attributes
    ----------
    finished
        Shards from the first on without a gap: searching that many again gives the same front.
    front
        Their merged front, sorted by objectives.
    ran
        Shards that were run now rather than found in the journal.
    seconds
        Wall time of this run.
    lost
        Times that workers were lost.
    """

    problem: Problem
    finished: tuple[Finished, ...]
    front: tuple[Found, ...]
    ran: int
    seconds: float
    lost: int

    @property
    def shards(self) -> int:
        """How many shards are finished."""
        return len(self.finished)

    @property
    def evaluations(self) -> int:
        """Plans that they scored."""
        return sum(one.result.evaluated for one in self.finished)

    @property
    def shard_ms(self) -> int:
        """Wall time that they took, summed over workers."""
        return sum(one.wall_ms for one in self.finished)

    @property
    def rows(self) -> tuple[Row, ...]:
        """How far the search was after each of them, from the first that found a plan on."""
        (first,) = places(self.problem.objectives[:1])
        rows, best, evaluations = [], None, 0
        for shards, one in enumerate(self.finished, 1):
            evaluations += one.result.evaluated
            values = [f.values[first] for f in one.result.found]
            best = min(values if best is None else [best, *values], default=None)
            if best is not None:
                rows.append(Row(shards, evaluations, best))
        return tuple(rows)


Watch = Callable[["Run"], None]


@dataclass(slots=True)
class Run:
    """A search under way; whoever watches it may read it after each shard.

    Attributes
    ----------
    finished
        Shards that are done, by number; those of a journal included.
    front
        Merged front of all of them.
    ran, evaluations
        Shards run now, and plans that they scored.
    """

    problem: Problem
    budget: Budget
    backend: Backend
    journal: Journal | None
    finished: dict[int, Finished] = field(default_factory=dict)
    front: tuple[Found, ...] = ()
    ran: int = 0
    evaluations: int = 0
    lost: int = 0
    began: float = field(default_factory=monotonic)

    @property
    def seconds(self) -> float:
        """Wall time since it began."""
        return monotonic() - self.began

    @property
    def best(self) -> Found | None:
        """The plan that is best in the first objective, then in the others."""
        return self.front[0] if self.front else None

    def take(self, one: Finished) -> None:
        """Keep a shard that came back: in the journal first."""
        if self.journal is not None:
            self.journal.add(one)
        self.finished[one.result.shard] = one
        self.front = merge(self.problem.objectives, self.front, one.result.found)
        self.ran += 1
        self.evaluations += one.result.evaluated


def search(
    problem: Problem,
    budget: Budget,
    backend: Backend,
    journal: Journal | None = None,
    watch: Watch = lambda run: None,
) -> Outcome:
    """Search until the budget is used up.

    Parameters
    ----------
    backend
        See :func:`experiments.search.backends.started`.
    journal
        Where finished shards are kept, and those of an earlier run found.
    watch
        Called after each shard.

    Raises
    ------
    SearchError
        The problem cannot be searched; workers are lost again and again; the journal cannot be
        written, or holds what no shard can have found. What was finished before is in the journal.
    """
    run = Run(problem, budget, backend, journal, dict(journal.finished) if journal else {})
    run.front = merge(problem.objectives, *(one.result.found for one in run.finished.values()))
    _recheck(run, run.finished, run.front)
    losses = 0
    while not _used_up(run):
        before = run.ran
        try:
            _run_generations(run, watch)
        except LostWorkerError as error:
            run.lost += 1
            losses = 1 if run.ran > before else losses + 1
            if losses == LOSSES:
                raise SearchError(
                    f"workers died {LOSSES} times without finishing a shard ({error}); if memory "
                    "is short, take fewer workers or a smaller batch"
                ) from error
            run.backend = run.backend.shrunk()
    return _outcome(run)


def _used_up(run: Run) -> bool:
    if run.budget.shards:
        return _prefix(run.finished) >= run.budget.shards
    return run.ran > 0 and run.seconds >= run.budget.seconds


def _run_generations(run: Run, watch: Watch) -> None:
    size = run.problem.generation
    with run.backend.pool() as results:
        while not _used_up(run):
            generation = _prefix(run.finished) // size
            elites = merged(run.problem, run.finished, generation * size)
            numbers = range(generation * size, (generation + 1) * size)
            for one in results(_calls(run, numbers, elites)):
                run.take(one)
                watch(run)


def _calls(run: Run, numbers: Iterable[int], elites: tuple[Found, ...]) -> Iterator[Call[Finished]]:
    """Give the shards that are to be run, until the budget is used up.

    A backend takes calls before it has a free worker for them; a time budget therefore counts how
    long a call would have to wait for one.
    """
    ran_before, given = run.ran, 0
    known, prepared = versions_of(run.problem), run.problem.ground().prepared
    for shard in numbers:
        if run.budget.shards and shard >= run.budget.shards:
            return
        if shard in run.finished:
            continue
        if run.budget.seconds and (run.ran or given):
            waiting = given - (run.ran - ran_before) - run.backend.workers + 1
            if run.seconds + max(0, waiting) * _pace(run) >= run.budget.seconds:
                return
        given += 1
        yield finished_shard, (run.problem, shard, elites, known, prepared)


def _pace(run: Run) -> float:
    """Seconds from one finished shard to the next, with all workers busy."""
    done = [one.wall_ms for one in run.finished.values()]
    return sum(done) / len(done) / 1e3 / run.backend.workers if done else 0.0


def finished_shard(
    problem: Problem,
    shard: int,
    elites: tuple[Found, ...],
    known: dict[str, str],
    prepared: Prepared | None = None,
) -> Finished:
    """Run one shard on a worker; versions, model and device there must be those of whoever asks.

    Raises
    ------
    SearchError
        They are not, or the shard cannot be run.
    """
    other = differing(versions_of(problem), known)
    if other:
        raise SearchError(
            f"worker on {platform.node()} has other versions ({other}), whose results may differ; "
            "install the same on every machine"
        )
    start = perf_counter()
    problem.ground(prepared)
    try:
        result = run_shard(problem, shard, elites)
    except (Exception, SystemExit) as error:  # a user's searcher may raise anything, or exit
        if is_own(error):
            raise
        raise SearchError(
            f"shard {shard}, searcher {problem.searcher!r}: {type(error).__name__}: {error}"
        ) from error
    return Finished(result, round((perf_counter() - start) * 1e3))


def _prefix(finished: dict[int, Finished]) -> int:
    """How many shards are finished from the first on without a gap."""
    count = 0
    while count in finished:
        count += 1
    return count


def merged(problem: Problem, finished: dict[int, Finished], shards: int) -> tuple[Found, ...]:
    """Return the front of the first ``shards`` shards."""
    return merge(problem.objectives, *(finished[k].result.found for k in range(shards)))


def _recheck(run: Run, shards: Iterable[int], front: tuple[Found, ...]) -> None:
    """Refuse shards of a journal, or of workers, that this problem cannot have had."""
    where = "" if run.journal is None else f"{run.journal.path}: "
    recheck(run.problem, [run.finished[k].result for k in shards], front, where)


def _outcome(run: Run) -> Outcome:
    shards = min(_prefix(run.finished), run.budget.shards or MOST_SHARDS)
    front = merged(run.problem, run.finished, shards)
    _recheck(run, range(shards), front)
    return Outcome(
        run.problem,
        tuple(run.finished[k] for k in range(shards)),
        front,
        run.ran,
        run.seconds,
        run.lost,
    )
