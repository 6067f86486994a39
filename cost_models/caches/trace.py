"""Address traces of loop nests, in chunks: compiled, with a plain twin to compare with.

Order of a nest: what is touched before the inner loops, the inner loops, what is touched after
them. References at the same place come in the order in which they are listed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from cost_models.caches.levels import Hierarchy
from cost_models.caches.nest import Nest, Port, Ref
from cost_models.caches.simulator import Chunk, Codes, Int32s, Int64s
from kernels.jit import compiled

CHUNK = 1 << 17
"""Accesses of a chunk, at least; 13 bytes each."""
_DEPTH, _ORDER, _SPREAD, _STEPS, _FIRST, _LAST, _START, _LENGTH, _CODE = range(9)
_LOOP, _DIVISOR, _MODULUS, _STRIDE, _MOVES = range(5)


def plain_trace(nest: Nest, hierarchy: Hierarchy) -> Iterator[tuple[int, int, int]]:
    """Give ``(address, length, code)`` of each access of a nest, by recursion."""
    starts = [0] * len(nest.axes)

    def touch(ref: Ref, at: list[int]) -> Iterator[tuple[int, int, int]]:
        axis, count = ref.spread if ref.spread is not None else (0, 1)
        limit = nest.axes[axis].size if ref.spread is not None else at[axis] + 1
        for place in range(at[axis], min(at[axis] + count, limit)):
            address = ref.array.base + ref.offset
            for index, one in enumerate(nest.axes):
                rest = place if index == axis else at[index]
                for part, extent in reversed(one.parts):
                    address += rest % extent * ref.strides.get(part, 0)
                    rest //= extent
            yield address, ref.length, entry_code(ref, hierarchy)

    def walk(depth: int, at: list[int], ends: list[int]) -> Iterator[tuple[int, int, int]]:
        for ref in nest.refs:
            if ref.depth == depth and not ref.after:
                yield from touch(ref, at)
        if depth < len(nest.loops):
            loop = nest.loops[depth]
            for place in range(at[loop.axis], ends[loop.axis], loop.step):
                inner, bounds = list(at), list(ends)
                inner[loop.axis] = place
                bounds[loop.axis] = min(place + loop.step, ends[loop.axis])
                yield from walk(depth + 1, inner, bounds)
        for ref in nest.refs:
            if ref.depth == depth and ref.after:
                yield from touch(ref, at)

    return walk(0, starts, [axis.size for axis in nest.axes])


def entry_code(ref: Ref, hierarchy: Hierarchy) -> int:
    """Where a reference enters the hierarchy, and whether it stores: a code of a chunk."""
    entry = {
        Port.FIRST: 0,
        Port.VECTOR: hierarchy.vector_level,
        Port.SCRATCHPAD: len(hierarchy.levels),
    }[ref.port]
    return 2 * entry + ref.store


@compiled
def _emit(
    row: Int64s, terms: Int64s, places: Int64s, axis_size: int, addresses: Int64s, lengths: Int32s,
    codes: Codes, filled: int,
) -> int:  # fmt: skip
    """Write one reference's accesses, ``_SPREAD`` of them at most; the new fill."""
    fixed = row[_START]
    for t in range(row[_FIRST], row[_LAST]):
        if terms[t, _MOVES] == 0 and terms[t, _LOOP] >= 0:
            digit = places[terms[t, _LOOP]]
            if terms[t, _DIVISOR] != 1:
                digit //= terms[t, _DIVISOR]
            if terms[t, _MODULUS]:
                digit %= terms[t, _MODULUS]
            fixed += digit * terms[t, _STRIDE]
    start = places[row[_STEPS]] if row[_STEPS] >= 0 else 0
    count = min(row[_SPREAD], axis_size - start)
    for i in range(count):
        address = fixed
        for t in range(row[_FIRST], row[_LAST]):
            if terms[t, _MOVES]:
                digit = start + i
                if terms[t, _DIVISOR] != 1:
                    digit //= terms[t, _DIVISOR]
                if terms[t, _MODULUS]:
                    digit %= terms[t, _MODULUS]
                address += digit * terms[t, _STRIDE]
        addresses[filled], lengths[filled], codes[filled] = address, row[_LENGTH], row[_CODE]
        filled += 1
    return filled


@compiled
def _walk(
    loops: Int64s, rows: Int64s, sizes: Int64s, terms: Int64s, places: Int64s, ends: Int64s,
    state: Int64s, addresses: Int64s, lengths: Int32s, codes: Codes, worst: int,
) -> int:  # fmt: skip
    """Fill a chunk from where ``state`` is (outermost loop just entered; done); accesses in it.

    ``loops`` holds (step, loop around it on the same axis or -1, axis size) per loop.
    """
    filled, levels = 0, len(loops)
    while not state[1] and filled + worst <= addresses.size:
        entered = state[0]
        for loop in range(entered + 1, levels):
            outer = loops[loop, 1]
            places[loop] = places[outer] if outer >= 0 else 0
            ends[loop] = loops[loop, 2]
            if outer >= 0:
                ends[loop] = min(ends[outer], places[outer] + loops[outer, 0])
        for r in range(len(rows)):
            if rows[r, _ORDER] == 0 and rows[r, _DEPTH] > entered:
                filled = _emit(rows[r], terms, places, sizes[r], addresses, lengths, codes, filled)
        advanced = levels - 1
        while advanced >= 0 and places[advanced] + loops[advanced, 0] >= ends[advanced]:
            advanced -= 1
        for r in range(len(rows)):
            if rows[r, _ORDER] == 1 and rows[r, _DEPTH] > advanced:
                filled = _emit(rows[r], terms, places, sizes[r], addresses, lengths, codes, filled)
        if advanced < 0:
            state[1] = 1
        else:
            places[advanced] += loops[advanced, 0]
            state[0] = advanced
    return filled


def _source(nest: Nest, axis: int, depth: int) -> int:
    """The innermost loop over ``axis`` that a reference at ``depth`` is inside of, or -1."""
    return max((i for i in range(depth) if nest.loops[i].axis == axis), default=-1)


def _tables(nest: Nest, hierarchy: Hierarchy) -> tuple[Int64s, Int64s, Int64s]:
    """References as rows, the axis sizes that bound their spreads, and their address terms."""
    before = sorted((ref for ref in nest.refs if not ref.after), key=lambda ref: ref.depth)
    after = sorted((ref for ref in nest.refs if ref.after), key=lambda ref: -ref.depth)
    sizes: list[int] = []
    rows: list[tuple[int, ...]] = []
    terms: list[tuple[int, ...]] = []
    for ref in (*before, *after):
        first = len(terms)
        moving, count = ref.spread if ref.spread is not None else (-1, 1)
        for index, axis in enumerate(nest.axes):
            divisor = axis.size
            for part, extent in axis.parts:
                divisor //= extent
                if ref.strides.get(part, 0):
                    modulus = 0 if part == axis.parts[0][0] else extent
                    loop = _source(nest, index, ref.depth)
                    terms.append((loop, divisor, modulus, ref.strides[part], int(index == moving)))
        start = ref.array.base + ref.offset
        source = _source(nest, moving, ref.depth) if ref.spread is not None else -1
        code = entry_code(ref, hierarchy)
        rows.append(
            (ref.depth, int(ref.after), count, source, first, len(terms), start, ref.length, code)
        )
        sizes.append(nest.axes[moving].size if ref.spread is not None else 1)
    return _table(rows, 9), np.array(sizes, np.int64), _table(terms, 5)


def _table(rows: list[tuple[int, ...]], width: int) -> Int64s:
    table: NDArray[np.int64] = np.array(rows, np.int64).reshape(len(rows), width)
    return table


def trace(nests: Iterable[Nest], hierarchy: Hierarchy) -> Iterator[Chunk]:
    """Give the accesses of nests one after the other, in chunks of some :data:`CHUNK`.

    A chunk's arrays are used again for the next one: copy what must last longer.

    Examples
    --------
    >>> from cost_models.caches.levels import Level
    >>> from cost_models.caches.nest import Arena, Axis, Loop
    >>> x = Arena().array("x", 256)
    >>> copy = Nest("read", (Axis((("i", 4),)),), (Loop(0),), (Ref(x, {"i": 64}, 64, depth=1),))
    >>> caches = Hierarchy((Level("L1", 4096, ways=4, line_bytes=64),))
    >>> [chunk.addresses.tolist() for chunk in trace([copy], caches)]
    [[0, 64, 128, 192]]
    """
    for nest in nests:
        rows, sizes, terms = _tables(nest, hierarchy)
        loops = _table(
            [
                (loop.step, _source(nest, loop.axis, i), nest.axes[loop.axis].size)
                for i, loop in enumerate(nest.loops)
            ],
            3,
        )
        worst = sum(
            min(int(row[_SPREAD]), int(size)) for row, size in zip(rows, sizes, strict=True)
        )
        capacity = max(CHUNK, worst)
        chunk = Chunk(
            np.empty(capacity, np.int64), np.empty(capacity, np.int32), np.empty(capacity, np.uint8)
        )
        places, ends = np.zeros(len(loops), np.int64), np.zeros(len(loops), np.int64)
        state = np.array([-1, 0], np.int64)
        while not state[1]:
            filled = _walk(loops, rows, sizes, terms, places, ends, state, *chunk, worst)
            if filled:
                yield Chunk(chunk.addresses[:filled], chunk.lengths[:filled], chunk.codes[:filled])
