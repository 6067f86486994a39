"""Tiles of a layer that fit the scratchpad: what each holds, what DMA brings and takes.

A tile has whole divisors of the channels and of the rows and columns of the map that its step walks
over: output positions forward and in the weight gradient, input positions in the input gradient.
Windows overlap, so neighbouring tiles load some rows twice. Footprints are those of the released
memory tool (pulp-platform/pulp-trainlib, ``tools/AutoTuner``), the error of a weight gradient
included.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod

from cost_models.mcu.counts import Counts
from cost_models.mcu.products import MatMul, McuError
from cost_models.mcu.steps import Part, Phase, part_phases, phases_of, whole
from kernels.conv import Conv2d
from kernels.linear import Linear
from kernels.operators import Operator, Role

ADD_CYCLES = 5
"""Of adding an element of a partial result to the whole: as of an update."""


@dataclass(frozen=True, slots=True)
class Tile:
    """A part of a step that is loaded, computed and stored at once.

    Attributes
    ----------
    label
        Its sizes, for people: ``16x32x8x8`` are input and output channels, rows and columns.
    number
        Tiles in the step.
    phases
        Parallel calls for each tile.
    loaded, stored
        Elements that DMA brings and takes for each tile.
    transfers
        Transfers for each tile.
    scratch
        Elements in L1 beside operands: windows.
    partial
        Elements of partial results that each tile but the first of a sum adds; on average.
    """

    label: str
    number: int
    phases: tuple[Phase, ...]
    loaded: int
    stored: int
    transfers: int
    scratch: int = 0
    partial: float = 0.0

    def footprint_bytes(self, item_bytes: int, double_buffer: bool) -> int:
        """L1 that it takes; two of every operand where transfers overlap with work."""
        operands = (self.loaded + self.stored) * (2 if double_buffer else 1)
        return (operands + self.scratch) * item_bytes

    def added(self) -> Phase | None:
        """The call that adds its partial result, where there is one."""
        if not self.partial:
            return None
        elements = max(1, round(self.partial))
        return Phase(work=Counts(issued=ADD_CYCLES * self.partial), shared=elements)


def divisors(value: int) -> tuple[int, ...]:
    """Divisors, largest first.

    >>> divisors(12)
    (12, 6, 4, 3, 2, 1)
    """
    return tuple(d for d in range(value, 0, -1) if value % d == 0)


def tiles_of(op: Operator, role: Role, *, one_core_backward: bool) -> Iterator[Tile]:
    """All tiles of a step, the whole step first.

    Raises
    ------
    McuError
        See :func:`cost_models.mcu.steps.phases_of`.
    """
    phases = phases_of(op, role, one_core_backward=one_core_backward)
    if role is Role.UPDATE or not isinstance(op, Conv2d | Linear):
        yield from _element_tiles(op, role, phases)
    elif isinstance(op, Linear):
        yield from _linear_tiles(op, role)
    else:
        yield from _conv_tiles(op, role, one_core_backward)


def _element_tiles(op: Operator, role: Role, phases: tuple[Phase, ...]) -> Iterator[Tile]:
    """Halves, quarters... of operands that are read element by element."""
    work = op.work(role)
    loaded, stored, step = sum(work.reads), work.writes, phases[0]
    parts, units = 1, max(step.shared, 1)
    transfers = len(work.reads) + 1
    while parts <= max(units, 1):
        factor = 1 / parts
        counts = Counts(
            step.work.issued * factor, windows=step.work.windows * factor,
            compares=step.work.compares * factor, exponentials=step.work.exponentials * factor,
        )  # fmt: skip
        shared = max(1, -(-units // parts))
        part = Phase(work=counts, shared=shared)
        sizes = (-(-loaded // parts), -(-stored // parts))
        yield Tile(f"1/{parts}", parts, (part,), *sizes, transfers)
        if units == 1:
            return
        parts *= 2


def _linear_tiles(op: Linear, role: Role) -> Iterator[Tile]:
    outputs, inputs = op.weights[0]
    for out in divisors(outputs):
        for into in divisors(inputs):
            number = (outputs // out) * (inputs // into)
            label, area = f"{into}x{out}", out * into
            if role is Role.FORWARD:
                product, loaded, stored = MatMul(out, into, 1), area + into, out
                partial = out * (1 - into / inputs)
            elif role is Role.WEIGHT_GRAD:
                product, loaded, stored, partial = MatMul(out, 1, into), into + out, area, 0.0
            else:
                product, loaded, stored = MatMul(1, out, into), area + out, into
                partial = into * (1 - out / outputs)
            phase = Phase(product, by_columns=role is Role.INPUT_GRAD)
            yield Tile(label, number, (phase,), loaded, stored, 3, 0, partial)


def _conv_tiles(op: Conv2d, role: Role, one_core_backward: bool) -> Iterator[Tile]:
    all_of_it = whole(op, role)
    for c_out in divisors(op.c_out):
        for c_in in (c_out,) if op.groups > 1 else divisors(op.c_in):
            for rows in divisors(all_of_it.rows):
                for columns in divisors(all_of_it.columns):
                    part = Part(c_in, c_out, rows, columns)
                    phases = tuple(part_phases(op, role, one_core_backward, part))
                    yield _conv_tile(op, role, part, phases)


def _conv_tile(op: Conv2d, role: Role, part: Part, phases: tuple[Phase, ...]) -> Tile:
    """Elements and numbers of a tile; see :class:`Tile`."""
    window, places = op.k_h * op.k_w, part.places
    seen = [min(size, (n - 1) * op.stride + (k - 1) * op.dilation + 1)
            for size, n, k in zip((op.h, op.w), (part.rows, part.columns),
                                  (op.k_h, op.k_w), strict=True)]  # fmt: skip
    around = [min(size, (n + (k - 1) * op.dilation - 1) // op.stride + 1)
              for size, n, k in zip((op.h_out, op.w_out), (part.rows, part.columns),
                                    (op.k_h, op.k_w), strict=True)]  # fmt: skip
    weights = part.c_out * (1 if op.groups > 1 else part.c_in) * window
    spots = whole(op, role).places // places
    ways = (op.c_out // part.c_out) * (1 if op.groups > 1 else op.c_in // part.c_in)
    if role is Role.FORWARD:
        loaded, stored = part.c_in * prod(seen) + weights, part.c_out * places
        scratch, share = part.c_in * window * places, part.c_in / op.c_in
    elif role is Role.WEIGHT_GRAD:
        loaded, stored = part.c_in * prod(seen) + part.c_out * places, weights
        scratch, share = part.c_in * window * places, 1 / spots
    else:
        loaded, stored = part.c_out * prod(around) + weights, part.c_in * places
        scratch, share = part.c_out * window * places, part.c_out / op.c_out
    if op.groups > 1 and role is not Role.WEIGHT_GRAD:
        share = 1.0
    label = f"{part.c_in}x{part.c_out}x{part.rows}x{part.columns}"
    partial = stored * (1 - share)
    kept = 0 if op.pointwise and op.groups == 1 else scratch  # else windows are copied
    return Tile(label, spots * ways, phases, loaded, stored, 3, kept, partial)


def least_l1(op: Operator, role: Role, item_bytes: int, double_buffer: bool) -> int:
    """Bytes of the smallest tile."""
    tiles = tiles_of(op, role, one_core_backward=False)
    return min(tile.footprint_bytes(item_bytes, double_buffer) for tile in tiles)


def fitting_tiles(
    op: Operator, role: Role, item_bytes: int, l1_bytes: int, *,
    double_buffer: bool, one_core_backward: bool, most: int,
) -> list[Tile]:  # fmt: skip
    """The largest tiles that fit, at most ``most``; the whole step alone where it fits.

    Raises
    ------
    McuError
        None fits: it says how much L1 the smallest takes.
    """
    fitting = []
    for tile in tiles_of(op, role, one_core_backward=one_core_backward):
        if tile.footprint_bytes(item_bytes, double_buffer) <= l1_bytes:
            if tile.number == 1:
                return [tile]
            fitting.append(tile)
    if not fitting:
        least = least_l1(op, role, item_bytes, double_buffer)
        raise McuError(
            f"{op.kind} {role}: no tile fits l1_bytes = {l1_bytes}; the smallest takes {least} "
            f"bytes at {item_bytes} bytes an element"
            f"{', two of each operand' if double_buffer else ''}; use a smaller layer, fewer "
            "bytes an element, or a cluster with so much L1"
        )
    fitting.sort(key=lambda tile: -tile.footprint_bytes(item_bytes, double_buffer))
    return fitting[:most]
