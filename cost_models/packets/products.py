"""How often the loops of a product run: counts that packets are proportional to.

The loops are those of the HVX kernels in ``hw_bridge/hexagon/c``: a product of rows by packed
columns in tiles of 8 rows by 64 columns, a map with its border whose windows are the rows, and the
packing of the columns. Counts are of one thread.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from math import gcd

VLEN = 128
"""Bytes of an HVX vector."""
WORDS = 32
TILE_ROWS, TILE_COLUMNS = 8, 64
DEPTH_STEP = 8

Loops = Counter[str]


def up(value: int, to: int) -> int:
    """``value`` in units of ``to``, rounded up."""
    return -(-value // to)


@dataclass(frozen=True, slots=True)
class Pieces:
    """Where pieces of ``width`` bytes lie that start ``stride`` bytes apart.

    Attributes
    ----------
    aligned
        How many start at a vector.
    crossing
        How many reach into the next vector, by what is left of ``width`` behind whole ones.

    Examples
    --------
    >>> Pieces.of(4, 96, 0, 96)
    Pieces(aligned=1, crossing=2)
    """

    aligned: int
    crossing: int

    @classmethod
    def of(cls, count: int, stride: int, start: int, width: int) -> Pieces:
        """Count them, the first of which is at byte ``start``."""
        period = VLEN // gcd(stride, VLEN)
        offsets = [(start + i * stride) % VLEN for i in range(period)]
        whole, rest = divmod(count, period)

        def times(hits: list[bool]) -> int:
            return whole * sum(hits) + sum(hits[:rest])

        left = width % VLEN or min(width, VLEN)
        return cls(times([o == 0 for o in offsets]), times([o + left > VLEN for o in offsets]))


def copied(copies: int, size: int, stride: int) -> Loops:
    """Copies of ``size`` bytes to places ``stride`` bytes apart.

    Whole vectors go straight to an aligned place; the rest, and all to other places, is masked.
    """
    whole, rest = divmod(size, VLEN)
    there = Pieces.of(copies, stride, 0, rest or VLEN)
    apart = copies - there.aligned
    return Loops(
        copies=copies, copy_loops=copies * (whole > 0), copy_vectors=there.aligned * whole,
        copy_parts=apart * whole + copies * (rest > 0),
        copy_crossings=apart * whole + there.crossing * (rest > 0),
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Product:
    """Rows by columns over a depth of ``runs`` pieces of ``steps`` times 8.

    Attributes
    ----------
    form
        ``int32``, a rounding rule (INT8), or ``into`` (added to INT32 in memory).
    stride
        Elements from one row of the output to the next.
    start
        Element of the output at which the first row starts.
    scattered
        Whether rows lie apart in the output, as those of a strided input_grad do.
    """

    rows: int
    columns: int
    runs: int
    steps: int
    form: str
    stride: int
    start: int = 0
    scattered: bool = False

    def loops(self) -> Loops:
        """Steps of the depth, runs, tiles, and what stores take."""
        rows, panels = up(self.rows, TILE_ROWS), up(self.columns, TILE_COLUMNS)
        tiles = rows * panels
        found = Loops(
            tile_steps=tiles * self.runs * self.steps, tile_runs=tiles * self.runs, tiles=tiles,
            products=1,
        )  # fmt: skip
        found.update(self._words() if self.form in ("int32", "into") else self._bytes(panels))
        return found

    def _words(self) -> Loops:
        """Whole tiles of INT32 go straight through; others by rows and halves, masked."""
        found, aligned = Loops(), self.stride % WORDS == 0 and self.start % WORDS == 0
        for column in range(0, self.columns, TILE_COLUMNS):
            width = min(self.columns - column, TILE_COLUMNS)
            whole = self.rows // TILE_ROWS if aligned and width == TILE_COLUMNS else 0
            found["whole_tiles"] += whole
            for half in range(0, width, WORDS):
                words = min(width - half, WORDS)
                rows, start = self.rows - whole * TILE_ROWS, 4 * (self.start + column + half)
                there = Pieces.of(rows, 4 * self.stride, start, 4 * words)
                found["part_rows"] += rows
                found["part_masked"] += rows - (there.aligned if words == WORDS else 0)
        return found

    def _bytes(self, panels: int) -> Loops:
        """Two rows make a vector; how it is stored depends on where rows start."""
        full, rest = divmod(self.rows, TILE_ROWS)
        pairs = full * TILE_ROWS // 2 + up(rest, 2)
        found = Loops({f"pairs_{self.form}": pairs * panels})
        for column in range(0, self.columns, TILE_COLUMNS):
            width = min(self.columns - column, TILE_COLUMNS)
            start = self.start + column
            halves = width == TILE_COLUMNS and self.stride % VLEN == 0
            if halves and start % TILE_COLUMNS == 0:
                continue
            joined = not self.scattered and self.stride == width == TILE_COLUMNS
            if not joined or start % VLEN:
                found["masked_rows"] += self.rows
                there = Pieces.of(self.rows, self.stride, start, width)
                found["crossing_rows"] += there.crossing
        return found


@dataclass(frozen=True, slots=True)
class Map:
    """A bordered map of ``n`` samples and the windows over it.

    ``source_*`` is the map that is copied in, of which a group has ``width`` of ``all`` channels;
    ``channels`` are those of the bordered map, a multiple of 8.
    """

    n: int
    source_h: int
    source_w: int
    all: int
    width: int
    channels: int
    rows_h: int
    rows_w: int
    out_h: int
    out_w: int
    k_h: int
    k_w: int
    top: int
    left: int
    """Where the source's first place lies in the bordered map; what lies outside is left out."""

    @property
    def windows(self) -> int:
        """Rows of the product."""
        return self.n * self.out_h * self.out_w

    def opened(self) -> Loops:
        """Zeros, and where the windows start: once, whatever groups there are."""
        places = self.n * self.rows_h * self.rows_w
        return Loops(
            zero_vectors=up(places * self.channels, VLEN) + 2, windows=self.windows,
            window_lines=self.n * self.out_h,
        )  # fmt: skip

    def filled(self) -> Loops:
        """Copies and window sums of one group."""
        places, lines = self.n * self.rows_h * self.rows_w, self.n * self.source_h
        blocks = up(places, WORDS)
        found = Loops(
            sum_blocks=blocks, window_taps=blocks * self.k_h * self.k_w,
            sum_vectors=blocks * WORDS * (self.channels // VLEN),
            sum_tails=blocks * WORDS * (self.channels % VLEN > 0),
            windows=self.windows, source_lines=lines, fills=1,
        )  # fmt: skip
        inside = self.n * _overlap(self.top, self.source_h, self.rows_h)
        across = _overlap(self.left, self.source_w, self.rows_w)
        if across == self.source_w and self.all == self.channels:
            # Whole lines: other groups' channels come along and meet weights of 0.
            size, stride = self.source_w * self.channels, self.rows_w * self.channels
            return found + copied(inside, size, stride)
        return found + copied(inside * across, self.width, self.channels)


def _overlap(first: int, size: int, room: int) -> int:
    """How many of ``size`` places from ``first`` on lie in ``0 .. room - 1``."""
    return max(0, min(first + size, room) - max(first, 0))


def packed_columns(calls: int, depths: int, padded: int, columns: int) -> Loops:
    """``calls`` packings of depths by columns, four by 128 at a time; zeros from ``depths`` on."""
    groups = up(depths, 4)
    whole, rest = divmod(columns, VLEN)
    return Loops(
        pack_blocks=calls * up(columns, VLEN), pack_groups=calls * whole * groups,
        pack_zeros=calls * up(columns, VLEN) * (padded // 4 - groups),
        pack_part_groups=calls * (rest > TILE_COLUMNS) * groups,
        pack_half_groups=calls * (0 < rest <= TILE_COLUMNS) * groups,
    )  # fmt: skip


def added(parts: Mapping[str, int], times: int) -> Loops:
    """Counts that run ``times`` times."""
    return Loops({name: count * times for name, count in parts.items()})
