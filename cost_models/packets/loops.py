"""Loop counts of each HVX kernel, by its shape: the features of the packet laws."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from cost_models.packets.products import (
    DEPTH_STEP,
    TILE_COLUMNS,
    VLEN,
    WORDS,
    Loops,
    Map,
    Product,
    added,
    copied,
    packed_columns,
    up,
)
from cost_models.packets.shapes import PacketShape
from kernels.conv import Conv2d
from kernels.pool import MaxPool2d


def loops_of(shape: PacketShape) -> Loops:
    """Count how often each loop of the kernel runs for this shape.

    Examples
    --------
    >>> loops_of(PacketShape("requantise", (300,), "half_away"))["vectors_half_away"]
    3
    """
    return _LOOPS[shape.family](shape)


def _deep(channels: int) -> int:
    return up(channels, DEPTH_STEP) * DEPTH_STEP


def _product(m: Map, columns: int, form: str, stride: int, *, start: int, scattered: bool) -> Loops:
    """The product over a map, whose windows are one run per row where columns touch."""
    product = Product(
        m.windows, columns, m.k_h, m.k_w * m.channels // DEPTH_STEP, form, stride, start, scattered
    )
    return product.loops()


def _forward(shape: PacketShape) -> Loops:
    op = shape.layer()
    assert isinstance(op, Conv2d)
    ins, outs = op.c_in // op.groups, op.c_out // op.groups
    taps, channels = op.k_h * op.k_w, _deep(op.c_in // op.groups)
    m = Map(
        op.n, op.h, op.w, op.c_in, ins, channels, op.h + 2 * op.pad_h, op.w + 2 * op.pad_w,
        op.h_out, op.w_out, op.k_h, op.k_w, op.pad_h, op.pad_w,
    )  # fmt: skip
    found = m.opened() + added(m.filled(), op.groups)
    across = up(taps * channels, VLEN) * op.groups
    found.update(pack_squares=2 * up(outs, TILE_COLUMNS) * across, pack_rows=outs * across)
    if ins != channels:  # weights are copied to their padded depth
        found.update(added(copied(outs * taps, ins, channels), op.groups))
    return found + _groups(op, m, shape.form, outs, op.c_out)


def _groups(op: Conv2d, m: Map, form: str, columns: int, stride: int, apart: bool = False) -> Loops:
    """The products of all groups; a group's output starts at its channels."""
    found = Loops()
    for group in range(op.groups):
        found.update(
            _product(m, columns, form, stride, start=group * columns % VLEN, scattered=apart)
        )
    return found


def _phases(
    size: int, k: int, stride: int, pad: int, dilation: int
) -> list[tuple[int, int, int, int]]:
    """Taps, places, rows of the map and where errors start in it, of each phase that has work."""
    found = []
    for phase in range(stride):
        taps = [tap for tap in range(k) if dilation * tap % stride == phase]
        first = (phase - pad) % stride
        places = len(range(first, size, stride))
        if not taps or not places:
            continue
        reach = [(dilation * tap - phase) // stride for tap in taps]
        top = reach[-1] - (first + pad - phase) // stride
        found.append((len(taps), places, places + reach[-1] - reach[0], top))
    return found


def _input_grad(shape: PacketShape) -> Loops:
    """Every phase of a stride is a product of its own, over the errors, with its own taps."""
    op = shape.layer()
    assert isinstance(op, Conv2d)
    ins, outs = op.c_in // op.groups, op.c_out // op.groups
    channels = _deep(outs)
    found = Loops()
    size = op.n * op.h * op.w * op.c_in * (4 if shape.form == "int32" else 1)
    if op.stride > min(op.k_h, op.k_w) or op.dilation > 1:
        found.update(zero_vectors=up(size, VLEN))
    columns = _phases(op.w, op.k_w, op.stride, op.pad_w, op.dilation)
    for k_h, out_h, rows_h, top in _phases(op.h, op.k_h, op.stride, op.pad_h, op.dilation):
        for k_w, out_w, rows_w, left in columns:
            m = Map(
                op.n, op.h_out, op.w_out, op.c_out, outs, channels, rows_h, rows_w, out_h, out_w,
                k_h, k_w, top, left,
            )  # fmt: skip
            found.update(m.opened())
            if op.stride > 1:
                found.update(scattered=m.windows)
            found.update(added(m.filled(), op.groups))
            found.update(added(packed_columns(k_h * k_w, outs, channels, ins), op.groups))
            found.update(_groups(op, m, shape.form, ins, op.c_in, apart=op.stride > 1))
    return found


def _weight_grad(shape: PacketShape) -> Loops:
    """The batch is the depth: both operands are packed with the samples innermost."""
    op = shape.layer()
    assert isinstance(op, Conv2d)
    ins, outs, taps = op.c_in // op.groups, op.c_out // op.groups, op.k_h * op.k_w
    depth, places = _deep(op.n), op.h_out * op.w_out
    border = (op.h + 2 * op.pad_h) * (op.w + 2 * op.pad_w) - op.h * op.w
    length = up(places * depth, VLEN)
    found = packed_columns(op.h * op.w, op.n, depth, ins) + packed_columns(border, 0, depth, ins)
    found.update(packed_columns(places, op.n, depth, outs))
    blocks = up(outs, WORDS)
    found.update(turn_squares=blocks * length, sum_blocks=blocks)
    found.update(rows=outs, fills=1)
    runs = op.h_out if op.stride == 1 else places
    steps = (op.w_out if op.stride == 1 else 1) * depth // DEPTH_STEP
    found.update(gaps=runs)
    form = "into" if shape.form == "into" else "int32"
    for tap in range(taps):
        product = Product(outs, ins, runs, steps, form, taps * ins, tap * ins)
        found.update(product.loops())
    zeros = up(outs, TILE_COLUMNS) * TILE_COLUMNS * length
    return added(found, op.groups) + Loops(zero_vectors=zeros)


def _gemm(shape: PacketShape) -> Loops:
    m, k, n = shape.sizes
    depth, blocks = _deep(k), up(m, WORDS)
    found = packed_columns(1, k, depth, n) + Loops(
        rows=m, sum_blocks=blocks, sum_vectors=blocks * WORDS * (depth // VLEN),
        sum_tails=blocks * WORDS * (depth % VLEN > 0),
    )  # fmt: skip
    if depth != k:
        found.update(copied(m, k, depth))
        found.update(zero_vectors=up(m * depth, VLEN))
    return found + Product(m, n, 1, depth // DEPTH_STEP, shape.form, n).loops()


def _vectors(shape: PacketShape) -> Loops:
    """Kernels that go once over a tensor, 128 values at a time."""
    count = shape["elements"]
    name = f"vectors_{shape.form}" if shape.form else "vectors"
    return Loops({name: up(count, VLEN), "tails": int(count % VLEN > 0)})


def _amax(shape: PacketShape) -> Loops:
    count = shape["elements"]
    return Loops(vectors=count // WORDS, tails=int(count % WORDS > 0))


def _rescale(shape: PacketShape) -> Loops:
    count = shape["elements"]
    return _vectors(shape) + Loops(scan_vectors=count // WORDS)


def _max_pool(shape: PacketShape) -> Loops:
    """Taps inside the map, 128 channels at a time."""
    op = shape.layer()
    assert isinstance(op, MaxPool2d)
    blocks, taps = up(op.c, VLEN), _inside(op)
    windows = op.h_out * op.w_out
    lines = sum(min(i * op.stride - op.pad_h + op.k_h, op.h) - max(i * op.stride - op.pad_h, 0)
                for i in range(op.h_out)) * op.w_out  # fmt: skip
    found = Loops(
        tap_vectors=op.n * taps * blocks, tap_lines=op.n * lines * blocks,
        window_vectors=op.n * windows * blocks, windows=op.n * windows, lines=op.n * op.h_out,
    )  # fmt: skip
    if shape.family == "max_pool_forward":
        found.update(masked=op.n * windows * blocks * (op.c % VLEN > 0))
        return found
    overlaps = op.stride < op.k_h or op.stride < op.k_w
    size = op.n * op.h * op.w * op.c
    found.update(zero_vectors=up(size * (4 if overlaps else 1), VLEN))
    if overlaps:
        words = op.n * taps * up(op.c, WORDS)
        found.update(wide_stores=words, wide_masked=words * (op.c % WORDS > 0))
    else:
        found.update(masked=op.n * taps * blocks * (op.c % VLEN > 0))
    return found


def _inside(op: MaxPool2d) -> int:
    """Taps of all windows of one sample that lie inside the map."""
    sides = []
    for out, size, k, pad in (
        (op.h_out, op.h, op.k_h, op.pad_h),
        (op.w_out, op.w, op.k_w, op.pad_w),
    ):
        starts = (i * op.stride - pad for i in range(out))
        sides.append(sum(min(s + k, size) - max(s, 0) for s in starts))
    return sides[0] * sides[1]


def _add(shape: PacketShape) -> Loops:
    blocks = up(shape["elements"], VLEN)
    passes = 2 if shape.form == "dynamic" else 1
    return Loops(
        vectors=blocks, term_vectors=blocks * shape["terms"] * passes,
        scan_vectors=blocks * (passes - 1), scans=passes - 1,
    )  # fmt: skip


def _transpose(shape: PacketShape) -> Loops:
    matrices, rows, columns = shape.sizes
    blocks = matrices * up(rows, VLEN) * up(columns, TILE_COLUMNS)
    squares = (
        matrices
        * up(rows, VLEN)
        * (columns // TILE_COLUMNS * 2 + up(columns % TILE_COLUMNS, WORDS))
    )
    aligned = rows % VLEN == 0
    lines = matrices * columns
    return Loops(
        matrices=matrices, blocks=blocks, squares=squares,
        whole_lines=lines * (rows // VLEN) * aligned,
        masked_lines=lines * (up(rows, VLEN) if not aligned else 0),
    )  # fmt: skip


def _depth32(shape: PacketShape) -> Loops:
    n, h, w, c = shape.sizes
    slices = up(c, WORDS)
    return Loops(
        lines=n * h, slices=n * h * slices, places=n * h * slices * w,
        parts=n * h * w * (c % WORDS > 0),
    )  # fmt: skip


def _rotate180(shape: PacketShape) -> Loops:
    outputs, taps, channels = shape.sizes
    return Loops(outputs=outputs) + copied(outputs * taps, channels, channels)


def _wide_update(shape: PacketShape) -> Loops:
    count = shape["elements"]
    return Loops({f"elements_{shape.form}": count, "vectors": up(count, VLEN)})


_LOOPS: Final[dict[str, Callable[[PacketShape], Loops]]] = {
    "gemm": _gemm,
    "forward": _forward,
    "input_grad": _input_grad,
    "weight_grad": _weight_grad,
    "amax": _amax,
    "requantise": _vectors,
    "rescale": _rescale,
    "relu_forward": _vectors,
    "relu_input_grad": _vectors,
    "max_pool_forward": _max_pool,
    "max_pool_input_grad": _max_pool,
    "add": _add,
    "transpose": _transpose,
    "to_d32": _depth32,
    "from_d32": _depth32,
    "rotate180": _rotate180,
    "niti_update": _vectors,
    "wide_update": _wide_update,
}
