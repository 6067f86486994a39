"""What a larger search would cost, from the rate that this one ran at."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from statistics import median

from experiments.search.journal import Finished

BILLION = 10**9


@dataclass(frozen=True, slots=True)
class Projection:
    """A number of plans at a measured rate.

    Attributes
    ----------
    plans_per_second
        Of one core: that of the median shard, all that a shard does included.
    """

    plans: int
    plans_per_second: float

    @property
    def core_hours(self) -> float:
        """Hours of one core."""
        return self.plans / self.plans_per_second / 3600

    def hours(self, cores: int) -> float:
        """Hours on ``cores`` cores that are never idle."""
        return self.core_hours / cores


def projected(
    finished: Iterable[Finished], plans: int = BILLION, workers: int = 1
) -> Projection | None:
    """Project from finished shards; ``None`` from two or fewer per worker.

    The first shard of a worker prepares and compiles; the median of many leaves that out.

    Examples
    --------
    >>> from experiments.search.shard import ShardResult
    >>> shards = [Finished(ShardResult(k, 20_000, ()), 2000) for k in range(3)]
    >>> found = projected(shards)
    >>> found.plans_per_second, round(found.core_hours, 1), round(found.hours(100), 2)
    (10000.0, 27.8, 0.28)
    """
    rates = [
        one.result.evaluated / one.wall_ms * 1e3
        for one in finished
        if one.wall_ms and one.result.evaluated
    ]
    return Projection(plans, median(rates)) if len(rates) > 2 * workers else None
