"""The cache simulator written to be read: the oracle of :mod:`cost_models.caches.simulator`.

The rules are those of pycachesim 0.3.1 (``cachesim/backend.c``, RRZE-HPC) for LRU caches that
allocate on writes and write back:

* A load counts its hits and misses line by line. A hit moves its line to the front. A miss loads
  the line from the next level, then takes the place of the last line of the set.
* A dirty line that loses its place counts as an eviction and is stored to the next level, after
  the load that displaced it.
* A store that finds its line marks it dirty. That counts as no hit, *and does not move the line*.
  One that does not find it loads the line first, which counts as a load and a miss.
* Nothing is invalidated above when a level drops a line: levels contain each other only by habit.
* ``flush`` writes dirty lines back level by level, the nearest first; the lines stay.
"""

from __future__ import annotations

from dataclasses import dataclass

from cost_models.caches.levels import Hierarchy, Level, LevelCounts, Traffic


@dataclass
class _Line:
    number: int
    dirty: bool = False


class PlainCache:
    """One level, its sets as lists with the line used last in front."""

    def __init__(self, level: Level, behind: PlainCache | None) -> None:
        self.level = level
        self.behind = behind
        self.sets: list[list[_Line]] = [[] for _ in range(level.sets)]
        self.loads = self.stores = self.hits = self.misses = self.evictions = 0

    def _lines(self, address: int, length: int) -> range:
        size = self.level.line_bytes
        return range(address // size, (address + length - 1) // size + 1)

    def _find(self, number: int) -> _Line | None:
        for line in self.sets[number % self.level.sets]:
            if line.number == number:
                return line
        return None

    def load(self, address: int, length: int) -> None:
        """Read ``length`` bytes from ``address`` on."""
        self.loads += 1
        for number in self._lines(address, length):
            here, line = self.sets[number % self.level.sets], self._find(number)
            if line is not None:
                self.hits += 1
                here.remove(line)
                here.insert(0, line)
                continue
            self.misses += 1
            size = self.level.line_bytes
            if self.behind is not None:
                self.behind.load(number * size, size)
            here.insert(0, _Line(number))
            if len(here) > self.level.ways:
                self._write_back(here.pop())

    def store(self, address: int, length: int) -> None:
        """Write ``length`` bytes from ``address`` on."""
        self.stores += 1
        for number in self._lines(address, length):
            if self._find(number) is None:
                self.load(number * self.level.line_bytes, self.level.line_bytes)
            line = self._find(number)
            assert line is not None
            line.dirty = True

    def _write_back(self, line: _Line) -> None:
        if not line.dirty:
            return
        self.evictions += 1
        if self.behind is not None:
            self.behind.store(line.number * self.level.line_bytes, self.level.line_bytes)
        line.dirty = False

    def flush(self) -> None:
        """Write all dirty lines back."""
        for lines in self.sets:
            for line in lines:
                self._write_back(line)

    def counts(self) -> LevelCounts:
        """Counts so far."""
        return LevelCounts(
            self.level.name,
            self.loads,
            self.stores,
            self.hits,
            self.misses,
            self.evictions,
            self.level.line_bytes,
        )


class PlainSimulator:
    """All levels of a hierarchy; the interface is that of ``simulator.Simulator``."""

    def __init__(self, hierarchy: Hierarchy) -> None:
        self.caches: list[PlainCache] = []
        for level in reversed(hierarchy.levels):
            self.caches.insert(0, PlainCache(level, self.caches[0] if self.caches else None))
        self.scratchpad = [0, 0]

    def access(self, address: int, length: int, entry: int, store: bool) -> None:
        """One access at level ``entry``; beyond the last, at the scratchpad."""
        if entry == len(self.caches):
            self.scratchpad[store] += length
        elif store:
            self.caches[entry].store(address, length)
        else:
            self.caches[entry].load(address, length)

    def flush(self) -> None:
        """Write all dirty lines back to memory."""
        for cache in self.caches:
            cache.flush()

    def traffic(self) -> Traffic:
        """Counts so far."""
        return Traffic(tuple(cache.counts() for cache in self.caches), *self.scratchpad)
