"""The trace-driven cache simulator: compiled, and equal to its oracle count by count.

Importing this module imports Numba. A set is a queue with the line used last in front, so that
the commonest access, a hit on that line, costs one comparison.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cost_models.caches.levels import (
    MAX_LEVELS,
    CacheError,
    Hierarchy,
    LevelCounts,
    Traffic,
)
from kernels.jit import compiled

Int64s = NDArray[np.int64]
Int32s = NDArray[np.int32]
Codes = NDArray[np.uint8]

LOADS, STORES, HITS, MISSES, EVICTIONS = range(5)
_LOAD, _STORE, _PLACE, _PLACE_DIRTY = range(4)
_PENDING = 4 * MAX_LEVELS
"""Most steps that wait at a time: a miss leaves one behind per level, a write-back one more."""
MAX_ADDRESS = 1 << 62


class Chunk(NamedTuple):
    """A piece of a trace: accesses in program order.

    Attributes
    ----------
    addresses
        First byte of each, int64.
    lengths
        Bytes of each, int32, 1 or more.
    codes
        uint8: the level where it enters, times two, plus one for a store. The level after the last
        is the scratchpad.
    """

    addresses: Int64s
    lengths: Int32s
    codes: Codes


@compiled
def _place(
    level: int, number: int, dirty: int, shape: Int64s, tags: Int64s, marks: Codes, counts: Int64s
) -> int:
    """Put a line in front of its set; the number of the dirty line that fell out, or -1."""
    ways = shape[level, 1]
    base = shape[level, 3] + number % shape[level, 0] * ways
    last = base + ways - 1
    victim = tags[last] if marks[last] else -1
    for at in range(last, base, -1):
        tags[at], marks[at] = tags[at - 1], marks[at - 1]
    tags[base], marks[base] = number, dirty
    if victim >= 0:
        counts[level, EVICTIONS] += 1
    return victim


@compiled
def _load(level: int, number: int, shape: Int64s, tags: Int64s, marks: Codes) -> bool:
    """Whether a load finds its line, which then moves to the front."""
    ways = shape[level, 1]
    base = shape[level, 3] + number % shape[level, 0] * ways
    if tags[base] == number:
        return True
    for at in range(base + 1, base + ways):
        if tags[at] == number:
            mark = marks[at]
            for to in range(at, base, -1):
                tags[to], marks[to] = tags[to - 1], marks[to - 1]
            tags[base], marks[base] = number, mark
            return True
    return False


@compiled
def _store(level: int, number: int, shape: Int64s, tags: Int64s, marks: Codes) -> bool:
    """Whether a store finds its line, which is dirty then and stays where it is."""
    ways = shape[level, 1]
    base = shape[level, 3] + number % shape[level, 0] * ways
    for at in range(base, base + ways):
        if tags[at] == number:
            marks[at] = 1
            return True
    return False


@compiled
def _drain(
    pending: int, work: Int64s, shape: Int64s, tags: Int64s, marks: Codes, counts: Int64s
) -> None:
    """Carry out the steps in ``work``, (what, level, line), the last one first."""
    levels = len(shape)
    while pending:
        pending -= 1
        what, level, number = work[pending, 0], work[pending, 1], work[pending, 2]
        if what >= _PLACE:
            victim = _place(level, number, what == _PLACE_DIRTY, shape, tags, marks, counts)
            if victim >= 0 and level + 1 < levels:
                work[pending, 0], work[pending, 1] = _STORE, level + 1
                work[pending, 2] = victim >> (shape[level + 1, 2] - shape[level, 2])
                counts[level + 1, STORES] += 1
                pending += 1
            continue
        if what == _STORE:
            if _store(level, number, shape, tags, marks):
                continue
            counts[level, LOADS] += 1
        elif _load(level, number, shape, tags, marks):
            counts[level, HITS] += 1
            continue
        counts[level, MISSES] += 1
        work[pending, 0] = _PLACE_DIRTY if what == _STORE else _PLACE
        pending += 1
        if level + 1 < levels:
            work[pending, 0], work[pending, 1] = _LOAD, level + 1
            work[pending, 2] = number >> (shape[level + 1, 2] - shape[level, 2])
            counts[level + 1, LOADS] += 1
            pending += 1


@compiled
def _run(
    addresses: Int64s, lengths: Int32s, codes: Codes, shape: Int64s, tags: Int64s, marks: Codes,
    counts: Int64s, scratchpad: Int64s, work: Int64s,
) -> None:  # fmt: skip
    """Every access of a chunk, line by line."""
    levels = len(shape)
    for i in range(addresses.size):
        level, store = np.int64(codes[i] >> 1), codes[i] & 1
        if level == levels:
            scratchpad[store] += lengths[i]
            continue
        counts[level, STORES if store else LOADS] += 1
        bits = shape[level, 2]
        for number in range(addresses[i] >> bits, ((addresses[i] + lengths[i] - 1) >> bits) + 1):
            work[0, 0], work[0, 1], work[0, 2] = _STORE if store else _LOAD, level, number
            _drain(1, work, shape, tags, marks, counts)


@compiled
def _flush(shape: Int64s, tags: Int64s, marks: Codes, counts: Int64s, work: Int64s) -> None:
    """Store all dirty lines to the next level, set by set, level by level."""
    levels = len(shape)
    for level in range(levels):
        base = shape[level, 3]
        for at in range(base, base + shape[level, 0] * shape[level, 1]):
            if not marks[at]:
                continue
            counts[level, EVICTIONS] += 1
            marks[at] = 0
            if level + 1 < levels:
                counts[level + 1, STORES] += 1
                work[0, 0], work[0, 1] = _STORE, level + 1
                work[0, 2] = tags[at] >> (shape[level + 1, 2] - shape[level, 2])
                _drain(1, work, shape, tags, marks, counts)


class Simulator:
    """Caches that start empty and keep their state from chunk to chunk.

    Parameters
    ----------
    hierarchy
        Its levels and whether there is a scratchpad.

    Examples
    --------
    >>> from cost_models.caches.levels import Level
    >>> caches = Simulator(Hierarchy((Level("L1", 128, ways=2, line_bytes=64),)))
    >>> one = np.array([0, 64, 0, 128], np.int64)
    >>> caches.run(Chunk(one, np.full(4, 4, np.int32), np.zeros(4, np.uint8)))
    >>> caches.traffic().levels[0].hits, caches.traffic().levels[0].misses
    (1, 3)
    """

    def __init__(self, hierarchy: Hierarchy) -> None:
        self.hierarchy = hierarchy
        rows, base = [], 0
        for level in hierarchy.levels:
            rows.append((level.sets, level.ways, level.line_bytes.bit_length() - 1, base))
            base += level.sets * level.ways
        self._shape = np.array(rows, np.int64)
        self._tags = np.full(base, -1, np.int64)
        self._marks = np.zeros(base, np.uint8)
        self._counts = np.zeros((len(rows), 5), np.int64)
        self._scratchpad = np.zeros(2, np.int64)
        self._work = np.zeros((_PENDING, 3), np.int64)

    def run(self, chunk: Chunk) -> None:
        """Carry out the accesses of a chunk.

        Raises
        ------
        CacheError
            Arrays of different sizes or types, a negative address, a length below 1, or an entry
            beyond the scratchpad.
        """
        self._check(chunk)
        _run(
            chunk.addresses, chunk.lengths, chunk.codes, self._shape, self._tags, self._marks,
            self._counts, self._scratchpad, self._work,
        )  # fmt: skip

    def run_all(self, chunks: Iterable[Chunk]) -> Traffic:
        """Run a whole trace, write dirty lines back, and return what was counted."""
        for chunk in chunks:
            self.run(chunk)
        self.flush()
        return self.traffic()

    def flush(self) -> None:
        """Write all dirty lines back to memory; the lines stay."""
        _flush(self._shape, self._tags, self._marks, self._counts, self._work)

    def traffic(self) -> Traffic:
        """Counts so far."""
        levels = tuple(
            LevelCounts(
                level.name,
                loads=int(row[LOADS]),
                stores=int(row[STORES]),
                hits=int(row[HITS]),
                misses=int(row[MISSES]),
                evictions=int(row[EVICTIONS]),
                line_bytes=level.line_bytes,
            )
            for level, row in zip(self.hierarchy.levels, self._counts, strict=True)
        )
        return Traffic(levels, *(int(size) for size in self._scratchpad))

    def _check(self, chunk: Chunk) -> None:
        types = {"addresses": np.int64, "lengths": np.int32, "codes": np.uint8}
        for field, dtype in types.items():
            values: NDArray[Any] = getattr(chunk, field)
            if values.dtype != dtype or values.shape != (len(chunk.addresses),):
                raise CacheError(
                    f"trace: {field} is {values.dtype} of shape {values.shape}; allowed: "
                    f"{np.dtype(dtype)}, one per address; convert it with astype"
                )
        if not len(chunk.addresses):
            return
        low, high = int(chunk.addresses.min()), int(chunk.addresses.max())
        if low < 0 or high >= MAX_ADDRESS:
            raise CacheError(
                f"trace: addresses has {low if low < 0 else high}; allowed: 0 or more, below "
                "2^62; start arrays at 0 or above"
            )
        if int(chunk.lengths.min()) < 1:
            raise CacheError(
                f"trace: lengths has {int(chunk.lengths.min())}; allowed: 1 or more bytes; leave "
                "out accesses of none"
            )
        last = len(self.hierarchy.levels) - 1 + (self.hierarchy.scratchpad_bytes > 0)
        entry = int(chunk.codes.max()) >> 1
        if entry > last:
            raise CacheError(
                f"trace: codes enters level {entry}; allowed: up to {last} in this hierarchy; "
                "give it more levels or a scratchpad"
            )
