"""Limits that no start keeps to: a plan within them is looked for, or the limit is named."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from experiments.search.annealing import Annealing
from experiments.search.archive import Archive
from experiments.search.ground import Ground
from experiments.search.objectives import OBJECTIVES, SearchError, Values, column_of
from experiments.search.scoring import Scorer
from experiments.search.starts import Start
from sim.encoding import Genes

PROBE = 4096
"""Plans that are tried for each limit."""
SEED = 0
"""Of these trials: they belong to the ground, which is the same for every seed of a search."""
FINALISTS = 8


def made_feasible(ground: Ground) -> Ground:
    """Return the ground, with a plan within all limits as another start if it has none.

    Raises
    ------
    SearchError
        None was found: which limit is to blame, and the least value that was found.
    """
    if ground.feasible:
        return ground
    for name, limit in ground.limits.items():
        column = OBJECTIVES.index(name)
        least = int(ground.values[:, column].min())
        if least > limit:
            rows = _descend(ground, partial(_column, column))
            least = min(least, int(_expected(ground, rows)[:, column].min()))
        if least > limit:
            raise SearchError(
                f"limit on {name}: no plan has {column_of(name)} <= {limit}; the least found is "
                f"{least} ({PROBE} plans tried); raise it"
            )
    rows = _descend(ground, ground.excess_ppm)
    values = _expected(ground, rows)
    best = int(np.argmin(ground.excess_ppm(values)))
    if ground.excess_ppm(values[best : best + 1])[0]:
        told = ", ".join(f"{column_of(n)} <= {limit}" for n, limit in ground.limits.items())
        near = ", ".join(
            f"{column_of(n)} = {values[best, OBJECTIVES.index(n)]}" for n in ground.limits
        )
        raise SearchError(
            f"limits {told}: each can be kept to, but no plan found keeps to all; the nearest has "
            f"{near} ({PROBE} plans tried); raise one"
        )
    start = Start("within the limits", rows[best])
    return replace(
        ground,
        starts=(*ground.starts, start),
        values=np.concatenate([ground.values, values[best : best + 1]]),
    )


def _descend(ground: Ground, worth: Callable[[Values], NDArray[np.int64]]) -> Genes:
    """Return the plans with the least worth that a short search finds, whatever the limits."""
    rows = np.stack([start.row for start in ground.starts])
    searcher, scorer = Annealing(ground.space, rows, SEED, ("worth",)), Scorer(ground)
    archive, batch, tried = Archive(FINALISTS), rows, 0
    searcher.begin(PROBE, 0)
    while tried < PROBE:
        values = worth(scorer.measures(batch))[:, None]
        archive.add(batch, values)
        searcher.tell(batch, values)
        batch = searcher.ask(Annealing.batch)
        tried += len(batch)
    return archive.rows()


def _column(column: int, values: Values) -> NDArray[np.int64]:
    return values[:, column]


def _expected(ground: Ground, rows: Genes) -> Values:
    return ground.measurer(rows, "expected", memory=True)
