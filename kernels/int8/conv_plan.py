"""Where a convolution's words lie: geometry as arrays of offsets, computed once per operator.

Forward, dX and dW are the same product of rows found by ``bases[i] + offsets[k]`` with packed
panels (:mod:`kernels.gemm.tiles`). A plan says how to make the padded map that the offsets point
into, and the offsets.

* Forward: rows are output positions, K is (tap, channels), the map is the padded input.
* dX: the same with errors and turned weights. With a stride ``s``, the inputs fall into ``s * s``
  phases, each of which sees its own taps: no zero is inserted.
* dW: rows are (tap, input channel), K is (sample, output position), four samples to a word, so
  that a tap is nothing but another place to start from.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from kernels.conv import Conv2d

Int64s = NDArray[np.int64]
_LINE_WORDS = 16
_ALIAS_WORDS = 256
"""Distance of words at which lines compete for the same sets of a cache."""


@dataclass(frozen=True, slots=True, eq=False)
class Pass:
    """Output positions that see the same taps.

    Attributes
    ----------
    rows
        Rows and columns of positions per image.
    reads
        Words from one image, row and column of positions to the next in the map, and the start.
    writes
        The same in elements of the result.
    offsets
        Place of each word of K, relative to its position's.
    taps
        Kernel positions, ``k_w * i + j``, in the order of K.
    """

    rows: tuple[int, int]
    reads: tuple[int, int, int, int]
    writes: tuple[int, int, int, int]
    offsets: Int64s
    taps: tuple[int, ...]


@dataclass(frozen=True, slots=True, eq=False)
class MapPlan:
    """A padded map and the passes over it.

    Attributes
    ----------
    places
        For each place of an image of the map, where it comes from in the image (elements), -1 for
        padding.
    words
        Words per place.
    passes
        What to compute; positions that are in no pass are 0.
    covered
        Whether the passes cover the result.
    """

    places: Int64s
    words: int
    passes: tuple[Pass, ...]
    covered: bool


@dataclass(frozen=True, slots=True, eq=False)
class GradPlan:
    """The map of dW, its rows and its K.

    Attributes
    ----------
    places, words
        As of :class:`MapPlan`; a word holds a group of samples of one channel.
    bases
        Place of each row (tap, channel), and some more to fill the last tile.
    offsets
        Place of each step (group of samples, output position).
    positions
        Element of each output position in an image of errors.
    """

    places: Int64s
    words: int
    bases: Int64s
    offsets: Int64s
    positions: Int64s


def _inside(first: int, count: int, size: int, stride: int) -> Int64s:
    """``stride`` times ``first .. first + count - 1`` where that is in ``0 .. size - 1``; or -1."""
    place = np.arange(first, first + count, dtype=np.int64)
    return np.where((place >= 0) & (place < size), place * stride, -1)


def _map_places(rows: Int64s, columns: Int64s) -> Int64s:
    """Places of a map from those of its axes; -1 where either is outside."""
    outside = (rows[:, None] < 0) | (columns < 0)
    return np.where(outside, -1, rows[:, None] + columns).reshape(-1)


def _input_places(op: Conv2d) -> tuple[Int64s, int, int]:
    """The padded input as far as windows reach: places, rows and columns."""
    tall = (op.h_out - 1) * op.stride + (op.k_h - 1) * op.dilation + 1
    broad = (op.w_out - 1) * op.stride + (op.k_w - 1) * op.dilation + 1
    rows = _inside(-op.pad_h, tall, op.h, op.w * op.c_in)
    columns = _inside(-op.pad_w, broad, op.w, op.c_in)
    return _map_places(rows, columns), tall, broad


def _tap_offsets(places: list[int], words: int) -> Int64s:
    return (np.array(places, np.int64)[:, None] + np.arange(words)).reshape(-1)


@lru_cache(maxsize=256)
def forward_plan(op: Conv2d, words: int) -> MapPlan:
    """Windows of the padded input, of ``words`` to a place."""
    places, tall, broad = _input_places(op)
    line, step = broad * words, op.stride * words
    taps = [
        (i * op.dilation * line) + j * op.dilation * words
        for i in range(op.k_h)
        for j in range(op.k_w)
    ]
    only = Pass(
        (op.h_out, op.w_out),
        (tall * line, op.stride * line, step, 0),
        (op.h_out * op.w_out * op.c_out, op.w_out * op.c_out, op.c_out, 0),
        _tap_offsets(taps, words),
        tuple(range(op.k_h * op.k_w)),
    )
    return MapPlan(places, words, (only,), covered=True)


@dataclass(frozen=True, slots=True)
class _Phase:
    """Inputs ``stride * t + first`` along an axis: how many, and which output each tap adds."""

    first: int
    count: int
    taps: tuple[tuple[int, int], ...]
    """Tap and ``o - t``, ascending in the latter."""


def _phases(size: int, k: int, pad: int, op: Conv2d) -> list[_Phase]:
    """Phases of an axis: input ``i`` meets output ``o`` where ``i + pad = s o + d tap``."""
    found = []
    for first in range(min(op.stride, size)):
        meets = [
            ((first + pad - op.dilation * tap) // op.stride, tap)
            for tap in range(k)
            if (first + pad - op.dilation * tap) % op.stride == 0
        ]
        count = -(-(size - first) // op.stride)
        found.append(_Phase(first, count, tuple((tap, shift) for shift, tap in sorted(meets))))
    return found


def _reach(phases: list[_Phase]) -> tuple[int, int]:
    """First output that any phase reads, and how many from there on; none: (0, 1)."""
    shifts = [(s, s + phase.count - 1) for phase in phases for _, s in phase.taps]
    if not shifts:
        return 0, 1
    least = min(first for first, _ in shifts)
    return least, max(last for _, last in shifts) - least + 1


@lru_cache(maxsize=256)
def input_grad_plan(op: Conv2d, words: int) -> MapPlan:
    """Phases of the inputs over the map of the errors, of ``words`` to a place."""
    down, across = _phases(op.h, op.k_h, op.pad_h, op), _phases(op.w, op.k_w, op.pad_w, op)
    (top, tall), (left, broad) = _reach(down), _reach(across)
    places = _map_places(
        _inside(top, tall, op.h_out, op.w_out * op.c_out), _inside(left, broad, op.w_out, op.c_out)
    )
    line = broad * words
    passes = []
    for y in down:
        for x in across:
            taps = [(i, j) for i in y.taps for j in x.taps]
            if not taps:
                continue
            starts = [(i[1] - top) * line + (j[1] - left) * words for i, j in taps]
            passes.append(
                Pass(
                    (y.count, x.count),
                    (tall * line, line, words, 0),
                    (
                        op.h * op.w * op.c_in,
                        op.stride * op.w * op.c_in,
                        op.stride * op.c_in,
                        (y.first * op.w + x.first) * op.c_in,
                    ),
                    _tap_offsets(starts, words),
                    tuple(op.k_w * i[0] + j[0] for i, j in taps),
                )
            )
    return MapPlan(places, words, tuple(passes), len(passes) == len(down) * len(across))


@lru_cache(maxsize=256)
def weight_grad_plan(op: Conv2d, group: int, spare: int) -> GradPlan:
    """Taps and channels by samples and positions, ``group`` samples to a word."""
    places, tall, broad = _input_places(op)
    channels = op.c_in // op.groups
    words = channels
    if words % _ALIAS_WORDS == 0:  # keep positions out of each other's cache sets
        words += _LINE_WORDS
    taps = [(i * broad + j) * op.dilation * words for i in range(op.k_h) for j in range(op.k_w)]
    bases = _tap_offsets(taps, channels)
    groups = np.arange(-(-op.n // group))[:, None, None] * tall * broad
    rows = np.arange(op.h_out)[:, None] * op.stride * broad
    offsets = (groups + rows + np.arange(op.w_out) * op.stride).reshape(-1) * words
    positions = np.arange(op.h_out * op.w_out, dtype=np.int64) * op.c_out
    filled = np.concatenate([bases, np.repeat(bases[-1:], spare)])
    return GradPlan(places, words, filled, offsets.astype(np.int64), positions)
