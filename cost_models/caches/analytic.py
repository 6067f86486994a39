"""The working-set rule: bytes between levels in closed form, from the same loop nests.

For each level, the outermost loop is found whose *body* (one iteration) touches no more than the
level holds. What one iteration touched is then still there in the next, so that over this whole
loop each line is loaded once; every iteration of the loops around it loads them again. A line that
was written leaves the level once for each time it was loaded. Between the nests of a kernel, an
array survives as far as the lines touched since leave room for it: LRU, position by position.

What a body touches is counted in lines: runs of bytes, merged where they touch or overlap, times
the positions that are left. It *fits* where its arrays need no more ways than there are: an array
whose lines fall into few sets, as the columns of a power-of-two matrix do, needs more of them.
(Wolf and Lam, *A data locality optimizing algorithm*, PLDI 1991, for the reuse of affine loops.)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import gcd, prod
from typing import NamedTuple

from cost_models.caches.levels import Hierarchy, Level
from cost_models.caches.nest import Axis, Nest, Port, Ref

Lattice = list[tuple[int, float]]
"""Strides in bytes with how many positions they have, the shortest first."""


@dataclass(frozen=True, slots=True)
class LevelEstimate:
    """What a level is expected to exchange with the next, bytes."""

    name: str
    read_bytes: int
    written_bytes: int

    @property
    def moved_bytes(self) -> int:
        """Both directions together."""
        return self.read_bytes + self.written_bytes


@dataclass(frozen=True, slots=True)
class Estimate:
    """All levels, and the bytes to and from the scratchpad, which are exact."""

    levels: tuple[LevelEstimate, ...]
    scratchpad_read_bytes: int = 0
    scratchpad_written_bytes: int = 0

    @property
    def memory_bytes(self) -> int:
        """Bytes between the last level and memory, both directions."""
        return self.levels[-1].moved_bytes


def estimate(nests: Sequence[Nest], hierarchy: Hierarchy) -> Estimate:
    """Expected traffic of a kernel that starts on empty caches and writes back in the end.

    Parameters
    ----------
    nests
        The kernel, as :func:`cost_models.caches.kernels.kernel_nests` gives it.
    hierarchy
        The caches.

    Examples
    --------
    >>> from cost_models.caches.kernels import kernel_nests
    >>> from cost_models.cost import KernelCall
    >>> from kernels.operators import Role
    >>> from kernels.pointwise import Relu
    >>> relu = kernel_nests(KernelCall(Relu((8, 64, 32, 32)), Role.FORWARD, "int8"), "cpu")
    >>> estimate(relu, Hierarchy((Level("L1", 32768, 4, 64),))).memory_bytes
    1572864

    512 KiB are read, as many are loaded because they will be written, and then written back.
    """
    levels = []
    for index, level in enumerate(hierarchy.levels):
        entering = [Port.FIRST] + [Port.VECTOR] * (hierarchy.vector_level <= index)
        misses, evictions = _level_lines(nests, level, entering)
        line = level.line_bytes
        levels.append(LevelEstimate(level.name, round(misses) * line, round(evictions) * line))
    touched = [0, 0]
    for nest in nests:
        for ref in nest.refs:
            if ref.port is Port.SCRATCHPAD:
                touched[ref.store] += ref.length * _repeats(nest, ref)
    return Estimate(tuple(levels), *touched)


def accesses(nests: Sequence[Nest]) -> int:
    """Accesses of a kernel, exactly: how long its trace is."""
    return sum(_repeats(nest, ref) for nest in nests for ref in nest.refs)


# -- how often, and how far -------------------------------------------------------------------


def visits(size: int, steps: Sequence[int]) -> int:
    """Iterations of nested loops over ``size`` positions in ``steps``, the outer ones first.

    >>> visits(10, [4, 3])  # 4 = 3 + 1, twice; then 2
    5
    """
    if not steps:
        return 1
    whole, rest = divmod(size, steps[0])
    inner = visits(steps[0], steps[1:]) if whole else 0
    return whole * inner + (visits(rest, steps[1:]) if rest else 0)


def _axis_visits(nest: Nest, axis: int, depth: int) -> int:
    steps = [loop.step for loop in nest.loops[:depth] if loop.axis == axis]
    return visits(nest.axes[axis].size, steps)


def _bodies(nest: Nest, depth: int) -> int:
    """How often the body inside of ``depth`` loops runs."""
    return prod(_axis_visits(nest, axis, depth) for axis in range(len(nest.axes)))


def _repeats(nest: Nest, ref: Ref) -> int:
    """Accesses of a reference in the whole nest."""
    if ref.spread is None:
        return _bodies(nest, ref.depth)
    axis, count = ref.spread
    others = (i for i in range(len(nest.axes)) if i != axis)
    steps = [loop.step for loop in nest.loops[: ref.depth] if loop.axis == axis]
    size = nest.axes[axis].size
    span = steps[-1] if steps else size
    taken = min(count, span)  # positions touched in each span of the innermost loop
    whole = visits(size, steps) if steps else 1
    total = size if taken == span else whole * taken
    return total * prod(_axis_visits(nest, i, ref.depth) for i in others)


def _positions(nest: Nest, ref: Ref, axis: int, depth: int) -> Iterator[tuple[int, float]]:
    """Step and number of the positions of an axis that a body at ``depth`` touches by ``ref``."""
    size = nest.axes[axis].size
    free = [loop.step for loop in nest.loops[depth : ref.depth] if loop.axis == axis]
    spread = ref.spread[1] if ref.spread is not None and ref.spread[0] == axis else 1
    if not free:
        extent = size / _axis_visits(nest, axis, min(depth, ref.depth))
        if spread > 1:
            yield 1, min(spread, extent)
        return
    extent = size / _axis_visits(nest, axis, depth)
    if spread >= free[-1]:
        yield 1, extent
        return
    if spread > 1:
        yield 1, spread
    yield free[-1], _axis_visits(nest, axis, ref.depth) / _axis_visits(nest, axis, depth)


def _digits(axis: Axis, step: int, count: float, strides: dict[str, int]) -> Iterator[
    tuple[int, float]
]:  # fmt: skip
    """Strides and counts by part for ``count`` positions of a fused axis, ``step`` apart."""
    left = count
    for name, extent in reversed(axis.parts):
        if left <= 1:
            return
        room = float(-(-extent // step))
        here, step = min(left, room), max(1, step // extent)
        stride = strides.get(name, 0)
        if stride and here > 1:
            yield abs(stride) * (step if extent == 1 else 1), here
        left /= room


# -- lines ------------------------------------------------------------------------------------


def _lattice(nest: Nest, ref: Ref, depth: int, offsets: Sequence[int]) -> Lattice:
    """What a body at ``depth`` touches by references that differ in their offsets only."""
    found: Lattice = []
    for index, axis in enumerate(nest.axes):
        for step, count in _positions(nest, ref, index, depth):
            for stride, here in _digits(axis, step, count, ref.strides):
                inner = axis.parts[-1]
                scale = step if ref.strides.get(inner[0], 0) and stride == abs(
                    ref.strides[inner[0]]
                ) else 1  # fmt: skip
                found.append((stride * scale, here))
    if len(offsets) > 1:
        found.append(((max(offsets) - min(offsets)) // (len(offsets) - 1), len(offsets)))
    return sorted(found)


class Footprint(NamedTuple):
    """Lines that are touched, the share of the sets they fall into, and ways needed in these.

    ``share`` is 1 where they spread evenly: then ``ways`` may be a fraction.
    """

    lines: float
    ways: float
    share: float


def footprint(lattice: Lattice, length: int, level: Level, start: int = 0) -> Footprint:
    """What runs of ``length`` bytes on a lattice touch; ``start`` is the address of the first.

    >>> l1 = Level("L1", 32 * 1024, ways=4, line_bytes=64)
    >>> footprint([(64, 512)], 64, l1)  # 32 KiB in one piece: all four ways
    Footprint(lines=512.0, ways=4.0, share=1.0)
    >>> footprint([(8192, 16)], 64, l1)  # a column of 16 lines, all in one of 128 sets
    Footprint(lines=16.0, ways=16.0, share=0.0078125)
    """
    run = float(length)
    apart: Lattice = []
    for stride, count in lattice:
        if not apart and stride <= max(run, level.line_bytes):
            run = stride * (count - 1) + run
        elif apart and stride % apart[-1][0] == 0 and stride <= apart[-1][0] * apart[-1][1] * 1.01:
            unit, here = apart[-1]
            apart[-1] = (unit, here + stride / unit * (count - 1))
        else:
            apart.append((stride, count))
    line, sets = level.line_bytes, level.sets
    grain = gcd(line, *(stride for stride, _ in apart))
    begins = range(start % grain, line, grain) if apart else (start % line,)
    lines = sum((begin + run - 1) // line + 1 for begin in begins) / len(begins)
    span, wide, reach, common = sets * line, lines, lines, sets * line
    for stride, count in apart:
        lines *= count
        reach *= min(count, span // gcd(span, stride))  # positions until the sets repeat
        common = gcd(common, stride)
    reach = min(reach, wide * (span // common), float(sets))
    if reach < sets and lines > reach * 1.5:
        return Footprint(lines, lines / reach, reach / sets)
    return Footprint(lines, lines / sets, 1.0)


@dataclass(frozen=True, slots=True)
class _Touched:
    """An array in one nest: footprints by the depth of the body, and what finds it again."""

    prints: list[Footprint]
    deepest: int
    stored: bool
    offset: int
    reach: list[tuple[int, int]]

    def overlap(self, offset: int, line: int) -> float:
        """Share of the lines that the same walk from ``offset`` on touches as well."""
        apart, share = abs(offset - self.offset), 1.0
        for stride, extent in self.reach:
            if stride >= line:
                steps = min(extent - 1, round(apart / stride))
                apart = abs(apart - steps * stride)
                share *= 1 - steps / extent
        return share if apart < line else 0.0


def _arrays(nest: Nest, level: Level, entering: Sequence[Port]) -> dict[int, _Touched]:
    """What each array (by its base) has at stake at a level."""
    groups: dict[tuple[object, ...], tuple[Ref, set[int]]] = {}
    for ref in nest.refs:
        if ref.port in entering:
            key = (ref.array.base, tuple(sorted(ref.strides.items())), ref.length, ref.depth)
            groups.setdefault((*key, ref.spread), (ref, set()))[1].add(ref.offset)
    stored = {ref.array.base for ref in nest.refs if ref.store and ref.port in entering}
    extents = {name: extent for axis in nest.axes for name, extent in axis.parts}
    found: dict[int, _Touched] = {}
    for ref, offsets in groups.values():
        base = ref.array.base
        prints = [
            footprint(
                _lattice(nest, ref, depth, sorted(offsets)), ref.length, level, base + min(offsets)
            )
            for depth in range(len(nest.loops) + 1)
        ]
        deepest = ref.depth
        if base in found:
            old = found[base]
            prints = [max(a, b) for a, b in zip(prints, old.prints, strict=True)]
            deepest = max(deepest, old.deepest)
        strides = {abs(s): extents[part] for part, s in ref.strides.items() if s}
        reach = sorted(strides.items(), reverse=True)
        found[base] = _Touched(prints, deepest, base in stored, min(offsets), reach)
    return found


class _Seen(NamedTuple):
    """An array as an earlier nest left it."""

    offset: int
    lines: float
    nest_lines: float
    then: float
    dirty: bool


def _level_lines(
    nests: Sequence[Nest], level: Level, entering: Sequence[Port]
) -> tuple[float, float]:
    """Lines that a level loads and writes back over all nests."""
    capacity = float(level.sets * level.ways)
    misses = evictions = between = 0.0
    seen: dict[int, list[_Seen]] = {}
    for nest in nests:
        arrays = _arrays(nest, level, entering)
        total = sum(array.prints[0].lines for array in arrays.values())
        for base, array in arrays.items():
            loaded = sum(
                share * array.prints[depth].lines * _bodies(nest, depth)
                for depth, share in _shares(nest, array, arrays, level)
            )
            shared, last = max(
                ((array.overlap(s.offset, level.line_bytes), s) for s in seen.get(base, [])),
                key=lambda pair: pair[0],
                default=(0.0, None),
            )
            kept = 0.0
            if last is not None:
                share = _surviving(last.nest_lines, total, between - last.then, capacity)
                kept = shared * share * min(last.lines, array.prints[0].lines, loaded)
            misses += loaded - kept
            was_dirty = last is not None and last.dirty
            if array.stored:
                evictions += loaded - (kept if was_dirty else 0.0)
            dirty = array.stored or (was_dirty and kept > 0)
            left = _Seen(array.offset, array.prints[0].lines, total, between + total, dirty)
            seen[base] = [left, *seen.get(base, [])]
        between += total
    return misses, evictions


def _shares(
    nest: Nest, array: _Touched, arrays: dict[int, _Touched], level: Level
) -> list[tuple[int, float]]:
    """Depths of bodies over which an array's lines are loaded once, with the share that holds for.

    Sets where a body needs less than one way too many overflow in that share.
    """

    def fits(ways: float) -> float:
        return min(1.0, max(0.0, level.ways + 1 - ways))

    found, fitting = [], 0.0
    for depth in range(len(nest.loops) + 1):
        even = sum(a.prints[depth].ways for a in arrays.values() if a.prints[depth].share == 1)
        crowded = [a.prints[depth] for a in arrays.values() if a.prints[depth].share < 1]
        own = array.prints[depth]
        if depth == len(nest.loops):
            here = 1.0
        elif own.share < 1:
            here = fits(even + own.ways)
        else:
            free = max(0.0, 1 - sum(one.share for one in crowded))
            here = free * fits(even)
            here += sum(min(one.share, 1 - free) * fits(even + one.ways) for one in crowded)
            here = min(1.0, here)
        if here > fitting:
            found.append((min(max(0, depth - 1), array.deepest), here - fitting))
            fitting = here
    return found


def _surviving(before: float, now: float, between: float, capacity: float) -> float:
    """Share of an array that is still there when a second pass comes to it.

    At a share ``x`` of both passes, ``before * (1 - x) + between + now * x`` lines were touched
    since.
    """
    first, last = before + between, now + between
    if first <= capacity and last <= capacity:
        return 1.0
    if first > capacity and last > capacity:
        return 0.0
    crossing = (capacity - first) / (last - first)
    return crossing if first <= capacity else 1.0 - crossing
