"""Nests of kernels with windows: pooling and depthwise convolutions, by blocks of channels."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

from cost_models.caches.nest import Arena, Axis, Loop, Nest, Ref
from cost_models.caches.passes import passes
from cost_models.caches.streams import Lanes
from cost_models.cost import ITEM_BYTES, KernelCall
from kernels.conv import Conv2d
from kernels.operators import Operator, Role
from kernels.pool import AvgPool2d, MaxPool2d


@dataclass(frozen=True, slots=True)
class _Map:
    """Bytes from one sample, row, column and block of channels of a tensor to the next."""

    n: int
    h: int
    w: int
    c: int

    def strides(self, rows: int = 1, columns: int = 1) -> dict[str, int]:
        return {"n": self.n, "h": rows * self.h, "w": columns * self.w, "c": self.c}


def _map(shape: tuple[int, ...], size: int, lanes: Lanes, block: int) -> _Map:
    """The layout of an (n, c, h, w) tensor without its margins."""
    _, c, h, w = shape
    if lanes.padded:
        column = lanes.run // 4 * size
        row = ceil(w / 4) * 4 * column + 4 * column
        return _Map((h + 8) * ceil(c / 32) * row, ceil(c / 32) * row, column, row)
    return _Map(h * w * c * size, w * c * size, c * size, block * size)


def _reach(axes: tuple[Axis, ...], strides: dict[str, int], length: int) -> int:
    return length + sum((n - 1) * strides.get(p, 0) for axis in axes for p, n in axis.parts)


def window_nests(call: KernelCall, lanes: Lanes) -> list[Nest]:
    """Pooling and depthwise convolutions: windows of channels that are treated alike.

    Forward gathers; dX of pooling scatters into a result that is cleared first; dX of a depthwise
    convolution gathers, phase by phase; dW of one keeps a block of channels and sums over all else.
    """
    op = call.op
    assert isinstance(op, Conv2d | MaxPool2d | AvgPool2d)
    size = ITEM_BYTES[call.dtype]
    channels = op.inputs[0][1]
    block = 32 if lanes.padded else min(lanes.run // size, channels)
    columns = 4 if lanes.padded else 1
    blocks = ceil(channels / block)
    length = block * columns * size
    if isinstance(op, Conv2d) and call.role is not Role.INPUT_GRAD:
        return _depthwise(call, op, lanes, (block, blocks, columns, length))
    if isinstance(op, Conv2d):
        return _depthwise_grad(op, lanes, (block, blocks, columns, length), size)
    return _pool(call, op, lanes, (block, blocks, columns, length))


def _pool(
    call: KernelCall, op: MaxPool2d | AvgPool2d, lanes: Lanes, blocks: tuple[int, int, int, int]
) -> list[Nest]:
    (block, count, columns, length), size = blocks, ITEM_BYTES[call.dtype]
    x, y = _map(op.inputs[0], size, lanes, block), _map(op.output, size, lanes, block)
    axes = (
        Axis((("n", op.n), ("h", op.h_out))),
        Axis((("w", ceil(op.w_out / columns)),)),
        Axis((("c", count),)),
        Axis((("k_h", op.k_h), ("k_w", op.k_w))),
    )
    loops = tuple(Loop(i) for i in range(4))
    seen = x.strides(op.stride, op.stride * columns) | {"k_h": x.h, "k_w": x.w}
    made = y.strides(1, columns)
    arena = Arena()
    source = arena.array("source", max(op.n * x.n, _reach(axes, seen, length)))
    result = arena.array("result", max(op.n * y.n, _reach(axes, made, length)))
    port = lanes.port
    if call.role is Role.FORWARD:
        refs = (
            Ref(source, seen, length, 4, port=port),
            Ref(result, made, length, 3, store=True, after=True, port=port),
        )
        return [Nest("windows", axes, loops, refs)]
    grad = arena.array("gradient", source.size)
    cleared = Axis((("i", ceil(source.size / lanes.run)),))
    clear = Ref(grad, {"i": lanes.run}, min(lanes.run, source.size), 1, store=True, port=port)
    if source.size % lanes.run and source.size > lanes.run:
        cleared = Axis((("i", source.size // lanes.run),))
    again = (Ref(source, seen, length, 4, port=port),) if isinstance(op, MaxPool2d) else ()
    refs = (
        Ref(result, made, length, 3, port=port),
        *again,
        Ref(grad, seen, length, 4, port=port),
        Ref(grad, seen, length, 4, store=True, port=port),
    )
    return [Nest("clear", (cleared,), (Loop(0),), (clear,)), Nest("windows", axes, loops, refs)]


def _depthwise(
    call: KernelCall, op: Conv2d, lanes: Lanes, blocks: tuple[int, int, int, int]
) -> list[Nest]:
    (block, count, columns, length), size = blocks, ITEM_BYTES[call.dtype]
    x, y = _map(op.inputs[0], size, lanes, block), _map(op.output, size, lanes, block)
    axes = (
        Axis((("n", op.n), ("h", op.h_out))),
        Axis((("w", ceil(op.w_out / columns)),)),
        Axis((("c", count),)),
        Axis((("k_h", op.k_h), ("k_w", op.k_w))),
    )
    seen = x.strides(op.stride, op.stride * columns)
    seen |= {"k_h": op.dilation * x.h, "k_w": op.dilation * x.w}
    made = y.strides(1, columns)
    arena, port, taps = Arena(), lanes.port, op.k_h * op.k_w
    tap = {"c": length, "k_h": op.k_w * count * length, "k_w": count * length}
    source = arena.array("source", max(op.n * x.n, _reach(axes, seen, length)))
    weights = arena.array("weights", taps * count * length)
    result = arena.array("result", max(op.n * y.n, _reach(axes, made, length)))
    if call.role is Role.FORWARD:
        refs = (
            Ref(weights, tap, length, 4, port=port),
            Ref(source, seen, length, 4, port=port),
            Ref(result, made, length, 3, store=True, after=True, port=port),
        )
        return [Nest("windows", axes, tuple(Loop(i) for i in range(4)), refs)]
    refs = (
        Ref(result, made, length, 3, port=port),
        Ref(source, seen, length, 4, port=port),
        Ref(weights, tap, length, 1, store=True, after=True, port=port, spread=(3, taps)),
    )
    return [Nest("sums", axes, (Loop(2), Loop(0), Loop(1), Loop(3)), refs)]


def _depthwise_grad(
    op: Conv2d, lanes: Lanes, blocks: tuple[int, int, int, int], size: int
) -> list[Nest]:
    """DX of a depthwise convolution: each phase of positions gathers from the errors it hears."""
    block, count, columns, length = blocks
    x, y = _map(op.inputs[0], size, lanes, block), _map(op.output, size, lanes, block)
    arena, nests, port = Arena(), [], lanes.port
    phases = [
        (high, wide)
        for high in passes(op, Role.INPUT_GRAD, True)
        for wide in passes(op, Role.INPUT_GRAD, False)
    ]
    tall, broad = max(h.reach for h, _ in phases), max(w.reach + columns for _, w in phases)
    errors = arena.array("errors", op.n * y.n + tall * y.h + broad * y.w + count * y.c + length)
    weights = arena.array("weights", op.k_h * op.k_w * count * length)
    room = op.stride * (x.h + (columns + 1) * x.w) + count * x.c + length
    grad = arena.array("gradient", op.n * x.n + room)
    for high, wide in phases:
        axes = (
            Axis((("n", op.n), ("h", high.count))),
            Axis((("w", ceil(wide.count / columns)),)),
            Axis((("c", count),)),
            Axis((("k_h", high.taps), ("k_w", wide.taps))),
        )
        seen = y.strides(high.step, wide.step * columns)
        seen |= {"k_h": high.tap_step * y.h, "k_w": wide.tap_step * y.w}
        made = x.strides(high.write_step, wide.write_step * columns)
        tap = {"c": length, "k_h": wide.taps * count * length, "k_w": count * length}
        offset = high.first * x.h + wide.first * x.w
        refs = (
            Ref(weights, tap, length, 4, port=port),
            Ref(errors, seen, length, 4, port=port),
            Ref(grad, made, length, 3, store=True, after=True, port=port, offset=offset),
        )
        nests.append(Nest("windows", axes, tuple(Loop(i) for i in range(4)), refs))
    return nests


def is_windowed(op: Operator) -> bool:
    """Whether :func:`window_nests` has the nests of an operator."""
    return isinstance(op, MaxPool2d | AvgPool2d) or (isinstance(op, Conv2d) and op.depthwise)
