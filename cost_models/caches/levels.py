"""What a cache hierarchy is and what it counts.

Levels are set-associative, LRU, write-allocate and write-back, the nearest first. Behind the last
one lies memory; beside them may lie a scratchpad (VTCM), where every access hits.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

MAX_LEVELS = 6
"""Most levels of a hierarchy: more is a slip, and the simulator's work list is sized by it."""
MAX_LINES = 1 << 26
"""Most lines of a level: 4 GiB of 64-byte lines, well beyond any cache."""


class CacheError(ValueError):
    """A cache, trace or loop nest cannot be; the message names field, value and remedy."""


def check_count(owner: str, field: str, value: object, least: int = 1) -> None:
    """Refuse a ``field`` that is not an ``int`` of at least ``least``."""
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise CacheError(
            f"{owner}: {field} = {value!r}; allowed: an integer of {least} or more; correct it"
        )


@dataclass(frozen=True, slots=True)
class Level:
    """One cache.

    Parameters
    ----------
    name
        What reports call it.
    size_bytes
        Capacity; a multiple of ``ways * line_bytes``. Sets need not be a power of two.
    ways
        Lines per set.
    line_bytes
        Bytes of a line, a power of two.

    Raises
    ------
    CacheError
        For any other value.

    Examples
    --------
    >>> Level("L1", 32 * 1024, ways=4, line_bytes=64).sets
    128
    """

    name: str
    size_bytes: int
    ways: int
    line_bytes: int

    def __post_init__(self) -> None:
        for field in ("size_bytes", "ways", "line_bytes"):
            check_count(self.name, field, getattr(self, field))
        line = self.line_bytes
        if line & (line - 1):
            raise CacheError(
                f"{self.name}: line_bytes = {line}; allowed: a power of two; use "
                f"{1 << (line.bit_length() - 1)} or {1 << line.bit_length()}"
            )
        if self.size_bytes % (self.ways * line):
            raise CacheError(
                f"{self.name}: ways = {self.ways} lines of {line} bytes do not divide size_bytes "
                f"= {self.size_bytes}; allowed: a whole number of sets; change ways or size_bytes"
            )
        if self.size_bytes // line > MAX_LINES:
            raise CacheError(
                f"{self.name}: size_bytes = {self.size_bytes}; allowed: up to {MAX_LINES} lines "
                f"of {line} bytes; make it smaller"
            )

    @property
    def sets(self) -> int:
        """Number of sets."""
        return self.size_bytes // (self.ways * self.line_bytes)


@dataclass(frozen=True, slots=True)
class Hierarchy:
    """Levels from the nearest to the last, and a scratchpad beside them.

    Parameters
    ----------
    levels
        One to :data:`MAX_LEVELS`; lines do not get shorter towards memory.
    scratchpad_bytes
        Size of the scratchpad; 0 for none.
    vector_level
        Index of the level where vector accesses enter: 1 on Hexagon, whose HVX loads and stores
        go to L2 directly, 0 elsewhere.

    Raises
    ------
    CacheError
        For anything else.
    """

    levels: tuple[Level, ...]
    scratchpad_bytes: int = 0
    vector_level: int = 0

    def __post_init__(self) -> None:
        if not 1 <= len(self.levels) <= MAX_LEVELS:
            raise CacheError(
                f"hierarchy: levels = {len(self.levels)} of them; allowed: 1 to {MAX_LEVELS}; "
                "add or remove some"
            )
        check_count("hierarchy", "scratchpad_bytes", self.scratchpad_bytes, 0)
        check_count("hierarchy", "vector_level", self.vector_level, 0)
        if self.vector_level >= len(self.levels):
            raise CacheError(
                f"hierarchy: vector_level = {self.vector_level}; allowed: an index of its "
                f"{len(self.levels)} levels; use 0 where vectors pass through all"
            )
        for near, far in pairwise(self.levels):
            if far.line_bytes < near.line_bytes:
                raise CacheError(
                    f"{far.name}: line_bytes = {far.line_bytes} is less than the "
                    f"{near.line_bytes} of {near.name}; allowed: at least as long; lengthen it"
                )


@dataclass(frozen=True, slots=True)
class LevelCounts:
    """What one level counted.

    Attributes
    ----------
    loads, stores
        Requests from the side of the processor; a store that misses also loads its line.
    hits, misses
        Lines that loads found or did not find. A store that finds its line counts as neither.
    evictions
        Dirty lines written back.
    line_bytes
        Bytes of a line.
    """

    name: str
    loads: int
    stores: int
    hits: int
    misses: int
    evictions: int
    line_bytes: int

    @property
    def read_bytes(self) -> int:
        """Bytes read from the next level: a line per miss."""
        return self.misses * self.line_bytes

    @property
    def written_bytes(self) -> int:
        """Bytes written to the next level: a line per eviction."""
        return self.evictions * self.line_bytes

    @property
    def moved_bytes(self) -> int:
        """Bytes between this level and the next, both directions."""
        return self.read_bytes + self.written_bytes


@dataclass(frozen=True, slots=True)
class Traffic:
    """Counts of all levels, and the bytes that went to and from the scratchpad."""

    levels: tuple[LevelCounts, ...]
    scratchpad_read_bytes: int = 0
    scratchpad_written_bytes: int = 0

    @property
    def memory_bytes(self) -> int:
        """Bytes between the last level and memory, both directions."""
        return self.levels[-1].moved_bytes
