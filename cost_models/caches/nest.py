"""Loop nests as data: which bytes a kernel touches, in which order.

A kernel is a sequence of nests. A nest walks *axes* (output positions, channels, the depth of a
reduction) by *loops* in steps: a tiled loop is one axis walked by several loops, the outer ones in
longer steps. *References* say what is touched: an array, how many bytes, how far apart along each
part of each axis, and inside how many of the loops.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from math import prod

from cost_models.caches.levels import CacheError, check_count

ALIGN = 128
"""Arrays start at multiples of a vector of HVX, as allocators for it give them."""
MAX_ARENA_BYTES = 1 << 60
"""Most bytes of all arrays of a kernel: addresses must fit int64."""


class Port(IntEnum):
    """Where an access enters: by a scalar or NEON access, by a vector of HVX, or the scratchpad."""

    FIRST = 0
    VECTOR = 1
    SCRATCHPAD = 2


@dataclass(frozen=True, slots=True)
class Axis:
    """A dimension of a nest, perhaps several fused: parts with their extents, outermost first.

    Examples
    --------
    >>> Axis((("n", 2), ("h", 8), ("w", 8))).size
    128
    """

    parts: tuple[tuple[str, int], ...]

    def __post_init__(self) -> None:
        for name, extent in self.parts:
            check_count("axis", f"extent of {name}", extent)

    @property
    def size(self) -> int:
        """Positions along the axis."""
        return prod(extent for _, extent in self.parts)


@dataclass(frozen=True, slots=True)
class Loop:
    """A loop over ``axis`` (an index) in steps of ``step`` positions."""

    axis: int
    step: int = 1


@dataclass(frozen=True, slots=True)
class Array:
    """Bytes of a tensor at their place in memory."""

    name: str
    base: int
    size: int


@dataclass(frozen=True, slots=True)
class Ref:
    """An access that a nest repeats.

    Attributes
    ----------
    array
        What it touches.
    strides
        Bytes from one position to the next, by the name of the axis part.
    length
        Bytes touched at a time.
    depth
        Number of loops it is inside of.
    store
        Whether it writes.
    after
        Whether it comes after the inner loops instead of before them.
    port
        Where it enters the hierarchy.
    spread
        ``(axis, count)``: repeated for up to ``count`` successive positions of that axis, as an
        unrolled loop does; ``None`` for once.
    offset
        Bytes from the start of the array.
    """

    array: Array
    strides: dict[str, int]
    length: int
    depth: int
    store: bool = False
    after: bool = False
    port: Port = Port.FIRST
    spread: tuple[int, int] | None = None
    offset: int = 0


@dataclass(frozen=True, slots=True)
class Nest:
    """Loops from the outermost in, and what they touch.

    Raises
    ------
    CacheError
        A loop over no axis, or in longer steps than those of the loop around it on the same axis;
        a reference inside more loops than there are, or that leaves its array.
    """

    name: str
    axes: tuple[Axis, ...]
    loops: tuple[Loop, ...]
    refs: tuple[Ref, ...]

    def __post_init__(self) -> None:
        steps = [axis.size for axis in self.axes]
        for loop in self.loops:
            if not 0 <= loop.axis < len(self.axes):
                raise CacheError(
                    f"nest {self.name}: loop over axis {loop.axis}; allowed: 0 to "
                    f"{len(self.axes) - 1}; correct the index"
                )
            check_count(f"nest {self.name}", "step", loop.step)
            if loop.step > steps[loop.axis]:
                raise CacheError(
                    f"nest {self.name}: step = {loop.step} on axis {loop.axis}; allowed: up to "
                    f"{steps[loop.axis]}, the loop around it or the axis; shorten it"
                )
            steps[loop.axis] = loop.step
        for ref in self.refs:
            self._check_ref(ref)

    def _check_ref(self, ref: Ref) -> None:
        here = f"nest {self.name}, {ref.array.name}"
        check_count(here, "length", ref.length)
        if not 0 <= ref.depth <= len(self.loops):
            raise CacheError(
                f"{here}: depth = {ref.depth}; allowed: 0 to {len(self.loops)} loops; correct it"
            )
        parts = [part for axis in self.axes for part, _ in axis.parts]
        unknown = sorted(set(ref.strides) - set(parts))
        if unknown:
            raise CacheError(
                f"{here}: strides name {unknown[0]!r}; allowed: {', '.join(parts)}, the parts of "
                "the axes; correct the name"
            )
        reach = [
            self._last(ref, index, part) * ref.strides.get(part, 0)
            for index, axis in enumerate(self.axes)
            for part, _ in axis.parts
        ]
        low = ref.offset + sum(min(0, distance) for distance in reach)
        high = ref.offset + sum(max(0, distance) for distance in reach) + ref.length
        if low < 0 or high > ref.array.size:
            raise CacheError(
                f"{here}: strides = {ref.strides} reach bytes {low} to {high}; allowed: 0 to "
                f"{ref.array.size}, the array; correct offset, strides or length"
            )

    def _last(self, ref: Ref, axis: int, part: str) -> int:
        """Largest index along an axis part at which a reference occurs; fused axes: the extent."""
        sizes = dict(self.axes[axis].parts)
        steps = [loop.step for loop in self.loops[: ref.depth] if loop.axis == axis]
        if len(sizes) > 1 or (ref.spread is not None and ref.spread[0] == axis):
            return sizes[part] - 1
        return (sizes[part] - 1) // steps[-1] * steps[-1] if steps else 0


class Arena:
    """Lays arrays out one after the other, as an allocator with one block of memory does."""

    def __init__(self) -> None:
        self._end = 0

    def array(self, name: str, size: int) -> Array:
        """Return a new array of ``size`` bytes."""
        check_count(f"array {name}", "size", size)
        made = Array(name, self._end, size)
        self._end += -(-size // ALIGN) * ALIGN + ALIGN
        if self._end > MAX_ARENA_BYTES:
            raise CacheError(
                f"array {name}: size = {size}; allowed: {MAX_ARENA_BYTES} bytes for all arrays of "
                "a kernel; use a smaller batch or image"
            )
        return made
