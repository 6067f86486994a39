"""How a convolution walks over its source, as numbers that compiled code reads.

Forward, and dX of each phase of a stride, are one thing: each position of a grid sums over taps,
and a tap is a run of neighbouring pixels of a channels-last map. Zero padding is what a run finds
outside the map; no zero is inserted for a stride.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kernels.conv import Conv2d

_AxisTap = tuple[int, int]
"""Index in the kernel window, and offset from ``step * position`` in the source."""


@dataclass(frozen=True, slots=True, eq=False)
class Walk:
    """One group of a convolution, or of a phase of its dX.

    Attributes
    ----------
    source, target
        (h, w, c) of the map that is read and of the map that is written; all groups.
    first_in, first_out
        First channel of the group in the source and in the target.
    channels, columns
        Channels of the group that are summed, and that are written.
    grid
        (rows, columns) of positions per sample.
    step
        Pixels of the source between positions.
    place
        (step, first row, first column) of the positions in the target.
    taps
        (taps, 2) int64: row and first column of each run, from ``step * position``.
    span
        Neighbouring pixels in a run.
    window
        Index ``row * k_w + column`` in the kernel window of each pixel of each run: int64.
    """

    source: tuple[int, int, int]
    target: tuple[int, int, int]
    first_in: int
    first_out: int
    channels: int
    columns: int
    grid: tuple[int, int]
    step: int
    place: tuple[int, int, int]
    taps: NDArray[np.int64]
    span: int
    window: NDArray[np.int64]

    @property
    def depth(self) -> int:
        """Products in each sum."""
        return self.window.size * self.channels

    @property
    def is_plain(self) -> bool:
        """Whether each position reads exactly the pixel of its own number, and all of it."""
        same = self.grid == self.source[:2] and self.step == 1 and self.window.size == 1
        return same and self.channels == self.source[2] and not self.taps.any()

    def numbers(self) -> NDArray[np.int64]:
        """All of it that is one number each, in the order in which ``kernels`` unpack them."""
        values = (*self.source, self.first_in, self.channels, self.step, self.span)
        places = (*self.grid, *self.target, self.first_out, self.columns, *self.place)
        return np.array(values + places, np.int64)


def _runs(
    rows: list[_AxisTap], columns: list[_AxisTap], joined: bool, k_w: int
) -> tuple[NDArray[np.int64], int, NDArray[np.int64]]:
    """Taps, span and window of the pairs of axis taps, runs joined where pixels are neighbours."""
    rows, columns = (sorted(axis, key=lambda tap: tap[1]) for axis in (rows, columns))
    offsets = [offset for _, offset in columns]
    neighbours = offsets == list(range(offsets[0], offsets[0] + len(offsets)))
    span = len(columns) if joined and neighbours else 1
    taps = [(y, offsets[x]) for _, y in rows for x in range(0, len(columns), span)]
    window = [row * k_w + column for row, _ in rows for column, _ in columns]
    return np.array(taps, np.int64), span, np.array(window, np.int64)


def forward_walk(op: Conv2d, group: int = 0) -> Walk:
    """The walk of the forward pass, which dW reads its input by, too."""
    channels, columns = op.c_in // op.groups, op.c_out // op.groups
    rows = [(i, i * op.dilation - op.pad_h) for i in range(op.k_h)]
    across = [(i, i * op.dilation - op.pad_w) for i in range(op.k_w)]
    taps, span, window = _runs(rows, across, op.groups == 1, op.k_w)
    return Walk(
        source=(op.h, op.w, op.c_in),
        target=(op.h_out, op.w_out, op.c_out),
        first_in=group * channels,
        first_out=group * columns,
        channels=channels,
        columns=columns,
        grid=(op.h_out, op.w_out),
        step=op.stride,
        place=(1, 0, 0),
        taps=taps,
        span=span,
        window=window,
    )


def _phase(op: Conv2d, k: int, pad: int, phase: int) -> list[_AxisTap]:
    """Taps of an axis by which inputs ``phase + stride * i`` read errors ``i + offset``."""
    reach = [(tap, phase + pad - tap * op.dilation) for tap in range(k)]
    return [(tap, far // op.stride) for tap, far in reach if far % op.stride == 0]


def input_grad_walks(op: Conv2d, group: int = 0) -> Iterator[Walk]:
    """The walks of dX over the error: one per phase of the stride that any tap reaches."""
    channels, columns = op.c_out // op.groups, op.c_in // op.groups
    for y in range(min(op.stride, op.h)):
        for x in range(min(op.stride, op.w)):
            rows, across = _phase(op, op.k_h, op.pad_h, y), _phase(op, op.k_w, op.pad_w, x)
            if not rows or not across:
                continue
            taps, span, window = _runs(rows, across, op.groups == 1, op.k_w)
            yield Walk(
                source=(op.h_out, op.w_out, op.c_out),
                target=(op.h, op.w, op.c_in),
                first_in=group * channels,
                first_out=group * columns,
                channels=channels,
                columns=columns,
                grid=(-(-(op.h - y) // op.stride), -(-(op.w - x) // op.stride)),
                step=1,
                place=(op.stride, y, x),
                taps=taps,
                span=span,
                window=window,
            )


def reaches_all(op: Conv2d) -> bool:
    """Whether the walks of dX write every element of it."""
    axes = ((op.h, op.k_h, op.pad_h), (op.w, op.k_w, op.pad_w))
    return all(
        _phase(op, k, pad, phase) for size, k, pad in axes for phase in range(min(op.stride, size))
    )
