"""A shard: a fixed portion of a search, the same wherever and whenever it runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from experiments.search.archive import Archive
from experiments.search.front import Found, merge
from experiments.search.ground import Ground
from experiments.search.objectives import SearchError
from experiments.search.problem import Problem
from experiments.search.protocol import SearcherFactory
from experiments.search.registry import load_searcher
from experiments.search.scoring import Scorer
from experiments.values import short, whole
from sim.encoding import Genes

FINALISTS = 16
"""Plans of a shard that are scored by the expected step at its end."""
LARGEST_BATCH = 2**31 - 1


@dataclass(frozen=True, slots=True)
class ShardResult:
    """What a shard found.

    Attributes
    ----------
    evaluated
        Plans scored by a quiet step.
    found
        Plans within all limits that none of the others dominates.
    """

    shard: int
    evaluated: int
    found: tuple[Found, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the result as JSON values."""
        found = [plan.to_json() for plan in self.found]
        return {"shard": self.shard, "evaluated": self.evaluated, "found": found}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> ShardResult:
        """Read what :meth:`to_json` gives; :class:`SearchError` if it is something else."""
        shard, evaluated = (whole(document.get(k), 0, 2**53) for k in ("shard", "evaluated"))
        found = document.get("found")
        if shard is None or evaluated is None or not isinstance(found, list):
            raise SearchError(
                f"a shard's result is {short(dict(document))}; give whole numbers for shard and "
                "evaluated, and a list of plans for found"
            )
        if not all(isinstance(plan, dict) for plan in found):
            raise SearchError(f"shard {shard}: found is {short(found)}; give a list of plans")
        return cls(shard, evaluated, tuple(Found.from_json(plan) for plan in found))


def run_shard(problem: Problem, shard: int, elites: Iterable[Found] = ()) -> ShardResult:
    """Run one shard: a search of its own with a seed of its own, from starts and elites.

    Parameters
    ----------
    shard
        Number of the shard; with the problem's seed, it seeds every draw.
    elites
        Front of all earlier generations.

    Returns
    -------
    ShardResult
        Depends on the arguments alone. Without elites, the starts compete with what is found.

    Raises
    ------
    SearchError
        The problem cannot be searched, or its searcher breaks a rule.
    """
    seed = int(np.random.SeedSequence((problem.seed, shard)).generate_state(1, np.uint64)[0])
    factory = load_searcher(problem.searcher)
    return explore(problem.ground(), factory, seed, problem.evaluations, shard=shard, elites=elites)


def explore(
    ground: Ground,
    factory: SearcherFactory,
    seed: int,
    evaluations: int,
    *,
    shard: int = 0,
    elites: Iterable[Found] = (),
) -> ShardResult:
    """Run a searcher of any making on a ground; :func:`run_shard` with a seed of its own.

    Raises
    ------
    SearchError
        The searcher refuses the space or the objectives, or breaks a rule.
    """
    earlier = tuple(elites)
    rows = np.stack([*(f.row for f in earlier), *(s.row for s in ground.starts)])
    scorer, archive = Scorer(ground), Archive(FINALISTS)
    searcher = factory(ground.space, rows, seed, ground.objectives)
    size = checked_batch(searcher.batch)
    searcher.begin(evaluations, shard)
    batch, evaluated = rows, 0
    while len(batch):
        values = scorer(batch)
        archive.add(batch, values)
        searcher.tell(batch, values)
        wanted = min(size, evaluations - evaluated)
        batch = checked(ground, searcher.ask(wanted), wanted) if wanted else batch[:0]
        evaluated += len(batch)
    if not evaluated and shard == 0:  # later ones may lie beyond the end of a small space
        raise SearchError(
            f"the searcher asked for no plan at once in shard 0; return up to {size} plans, and "
            "none only when nothing is left to try"
        )
    finalists = _expected(ground, archive.rows())
    known = () if earlier else ground.feasible
    return ShardResult(shard, evaluated, merge(ground.objectives, finalists, known))


def _expected(ground: Ground, rows: Genes) -> list[Found]:
    """Score plans by the expected step, and keep those within all limits."""
    values = ground.measurer(rows, "expected", memory=True)
    inside = ground.excess_ppm(values) == 0
    return [Found.of(row, v) for row, v, ok in zip(rows, values, inside, strict=True) if ok]


def checked_batch(batch: object) -> int:
    """Return how many plans a searcher wants to be asked for at a time.

    Raises
    ------
    SearchError
        It is no whole number of at least 1.
    """
    size = whole(batch, 1, LARGEST_BATCH)
    if size is None:
        raise SearchError(
            f"the searcher's batch is {short(batch)}; give a whole number from 1 to {LARGEST_BATCH}"
        )
    return size


def checked(ground: Ground, batch: Genes, wanted: int) -> Genes:
    """Return what a searcher asked for, after making sure that it is plans.

    Raises
    ------
    SearchError
        It is none, or more than wanted.
    """
    genes = len(ground.space.genes)
    if not isinstance(batch, np.ndarray) or batch.dtype != np.int16 or batch.ndim != 2:
        raise SearchError(
            f"the searcher asked for {short(batch)}; return int16 of shape (plans, {genes})"
        )
    if batch.shape[1] != genes or len(batch) > wanted:
        raise SearchError(
            f"the searcher asked for plans of shape {batch.shape}; allowed: up to {wanted} plans "
            f"of {genes} genes"
        )
    bad = np.argwhere((batch < 0) | (batch >= ground.space.counts))
    if len(bad):
        row, place = bad[0]
        gene = ground.space.genes[place]
        raise SearchError(
            f"the searcher asked for {gene.aspect}.{gene.subject} = {batch[row, place]}; allowed: "
            f"0 to {len(gene.choices) - 1}"
        )
    return batch
