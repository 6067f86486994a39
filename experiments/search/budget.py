"""How long a search goes on: for some time, or for a number of shards."""

from __future__ import annotations

import re
from dataclasses import dataclass

from experiments.search.objectives import SearchError
from experiments.values import short

SECONDS = {"s": 1, "m": 60, "h": 3600}
MOST_SECONDS = 30 * 24 * 3600
MOST_SHARDS = 10_000_000
FORM = re.compile(r"([0-9]{1,9})(s|m|h|-shards?)", re.ASCII)


@dataclass(frozen=True, slots=True)
class Budget:
    """When a search starts no further shard.

    Attributes
    ----------
    seconds
        Time from its start after which no shard is started; those that run are finished, and at
        least one is run. 0 where shards are counted.
    shards
        Shards that are finished in the end, those of a resumed journal included; 0 where time
        is.
    """

    seconds: int = 0
    shards: int = 0

    @classmethod
    def parse(cls, text: str) -> Budget:
        """Read ``10s``, ``2m``, ``1h`` or ``16-shards``.

        Raises
        ------
        SearchError
            It is none of these, nothing, or more than 30 days or 10 million shards.

        Examples
        --------
        >>> Budget.parse("2m"), Budget.parse("16-shards")
        (Budget(seconds=120, shards=0), Budget(seconds=0, shards=16))
        """
        found = FORM.fullmatch(text)
        amount, unit = (int(found[1]), found[2]) if found else (0, "")
        seconds = amount * SECONDS.get(unit, 0)
        shards = amount if unit.startswith("-") else 0
        if not (0 < seconds <= MOST_SECONDS or 0 < shards <= MOST_SHARDS):
            raise SearchError(
                f"budget {short(text)} is not allowed; give a time such as 10s, 2m or 1h (up to "
                f"{MOST_SECONDS // 3600}h), or a number of shards such as 16-shards (up to "
                f"{MOST_SHARDS})"
            )
        return cls(seconds, shards)

    def __str__(self) -> str:
        return f"{self.shards}-shards" if self.shards else f"{self.seconds}s"
