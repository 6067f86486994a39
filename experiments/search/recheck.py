"""Is a front what its shards can have found? Its plans are scored once more before it is used.

A journal's checksums tell damage, not nonsense: a line may be whole and state what no search of
its problem finds. So whatever comes out of a journal, or back from workers, is held against the
problem: how many plans each shard scored, what a plan is, the limits, and the figures of the front.
Figures of plans that are not on it are taken as they are: scoring all would be searching again.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

import numpy as np

from experiments.search.budget import MOST_SHARDS
from experiments.search.front import Found
from experiments.search.ground import Ground
from experiments.search.objectives import COLUMNS, OBJECTIVES, SearchError
from experiments.search.problem import Problem
from experiments.search.shard import ShardResult


def recheck(
    problem: Problem, shards: Sequence[ShardResult], front: Sequence[Found], where: str = ""
) -> None:
    """Verify shards and their merged front.

    Parameters
    ----------
    where
        What messages begin with, such as the name of the journal.

    Raises
    ------
    SearchError
        A shard scored more plans than the problem gives it, or fewer than it found; it holds what
        is no plan of the space or is beyond a limit; or a plan of the front has other figures by
        the expected step. The message names the shard.
    """
    if not shards:
        return
    ground, most = problem.ground(), problem.evaluations
    for one in shards:
        wrong = _wrong_shard(ground, one, most)
        if wrong is not None:
            _refuse(where, one.shard, wrong)
    _check_evaluated(problem, shards, where)
    if not front:
        return
    figures = ground.measurer(np.stack([f.row for f in front]), "expected", memory=True)
    for found, row in zip(front, figures.tolist(), strict=True):
        for column, stated, computed in zip(COLUMNS, found.values, row, strict=True):
            if stated != computed:
                source = next(one.shard for one in shards if found in one.found)
                _refuse(
                    where, source, f"{column} of a plan is {stated}, and {computed} when scored"
                )


def _wrong_shard(ground: Ground, one: ShardResult, most: int) -> str | None:
    """What a shard of the problem cannot state; plans are not scored for it."""
    if one.shard >= MOST_SHARDS:
        return f"its number is beyond the last, {MOST_SHARDS - 1}"
    if one.evaluated > most:
        return f"evaluated is {one.evaluated}, and a shard of this search scores at most {most}"
    if not one.found:
        return None
    space = ground.space
    odd = next((f for f in one.found if len(f.genes) != len(space.genes)), None)
    if odd is not None:
        return f"a plan has {len(odd.genes)} genes, and those of the space have {len(space.genes)}"
    rows = np.stack([found.row for found in one.found])
    for row, place in np.argwhere(rows >= space.counts):
        gene, most = space.genes[place], space.counts[place] - 1
        return f"a plan has {gene.aspect}.{gene.subject} = {rows[row, place]}; allowed: 0 to {most}"
    for name, limit in ground.limits.items():
        value = max(found.values[OBJECTIVES.index(name)] for found in one.found)
        if value > limit:
            return f"a plan is beyond the limit on {name}: {value}, and {limit} is allowed"
    return None


def _check_evaluated(problem: Problem, shards: Sequence[ShardResult], where: str) -> None:
    """Refuse a shard that found more than it scored, starts and plans of earlier ones apart."""
    known = {tuple(start.row.tolist()) for start in problem.ground().starts}
    in_order = sorted(shards, key=lambda one: one.shard)
    for _, generation in groupby(in_order, lambda one: one.shard // problem.generation):
        found: set[tuple[int, ...]] = set()
        for one in generation:
            new = {plan.genes for plan in one.found} - known
            if one.evaluated < len(new):
                _refuse(
                    where,
                    one.shard,
                    f"evaluated is {one.evaluated}, and {len(new)} of its plans are neither starts "
                    "nor of earlier shards",
                )
            found |= new
        known |= found


def _refuse(where: str, shard: int, wrong: str) -> None:
    advice = (
        f"cut the file before the line of shard {shard} and go on by --resume, or search again"
        if where
        else "search again, with the same version of this project on every worker"
    )
    raise SearchError(f"{where}shard {shard}: {wrong}; it was changed or damaged: {advice}")
