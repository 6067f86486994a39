"""The shapes that the packet model is fitted to and held out on: whole networks, and drawn ones.

A group is all shapes of a network, or drawn shapes of one size octave. A shape belongs to the
first group that has it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np

from cost_models.packets.shapes import FORMS, ROUNDINGS, STORES, PacketShape
from hw_bridge.hexagon import draws
from kernels.conv import Conv2d
from kernels.linear import Linear
from kernels.operators import Operator, Role
from kernels.pool import MaxPool2d
from sim.zoo import load_model

Grouped = Iterator[tuple[str, PacketShape]]

NETWORKS: Final = (
    ("lenet", 32, None), ("vgg11", 2, None), ("vgg16", 32, None), ("vgg-small-7", 16, None),
    ("resnet18", 4, None), ("resnet18", 32, None), ("resnet34-imagenet", 1, None),
    ("resnet50", 2, None), ("alexnet", 4, None), ("squeezenet1.0", 3, None),
    ("squeezenet1.1", 8, None), ("googlenet", 1, None), ("inception-v3", 1, None),
    ("mobilenet-v1", 1, None), ("mobilenet-v1", 32, 32),
)  # fmt: skip
"""Networks, batches, and images where they are not the network's own size."""
PRODUCTS: Final = ("gemm", "forward", "input_grad", "weight_grad")
PRODUCTS_ONLY: Final = ("googlenet", "inception-v3")
"""Networks of dozens of layers, of which only the products are counted."""
MOST_DEPTHWISE: Final = 1 << 24
"""MACs of a grouped convolution that is counted: its groups run one after the other."""
MOST_UPDATED: Final = 1 << 18
"""Weights of an update that is counted; it runs on the scalar units."""
MOST_GEMM: Final = 1 << 24
DRAWN: Final = 18
"""Drawn shapes of each family and octave."""


def network_shapes() -> Grouped:
    """Every distinct kernel call of a training step of each network."""
    for name, batch, image in NETWORKS:
        for shape in model_shapes(name, batch, image):
            if name not in PRODUCTS_ONLY or shape.family in PRODUCTS:
                yield name, shape


def model_shapes(name: str, batch: int, image: int | None = None) -> Iterator[PacketShape]:
    """Every distinct kernel call of a training step of one network."""
    ops = dict.fromkeys(layer.op for layer in load_model(name, batch, image).layers)
    for index, op in enumerate(ops):
        yield from _of_layer(op, index)


def _of_layer(op: Operator, index: int) -> Iterator[PacketShape]:
    """Forms take turns, so that each is seen on every kind of layer at a third of the cost."""
    if isinstance(op, Linear):
        yield PacketShape("gemm", (op.n, op.c_in, op.c_out), STORES[index % 3])
        op = op.as_conv()
    if isinstance(op, Conv2d):
        yield from _of_conv(op, index)
    elif isinstance(op, MaxPool2d):
        yield PacketShape.of_pool("max_pool_forward", op)
        yield PacketShape.of_pool("max_pool_input_grad", op)
    elif op.kind == "relu":
        n, *rest = op.output
        size = n * int(np.prod(rest))
        for family in ("relu_forward", "relu_input_grad", "amax"):
            yield PacketShape(family, (size,))
        yield PacketShape("requantise", (size,), ROUNDINGS[index % 3])
        yield PacketShape("rescale", (size,), ROUNDINGS[(index + 1) % 3])
    elif op.kind == "add":
        yield PacketShape("add", (2, int(np.prod(op.output))), FORMS["add"][index % 2])


def _of_conv(op: Conv2d, index: int) -> Iterator[PacketShape]:
    if op.groups > 1 and op.work(Role.FORWARD).macs > MOST_DEPTHWISE:
        return
    yield PacketShape.of_conv("forward", op, STORES[index % 3])
    yield PacketShape.of_conv("input_grad", op, STORES[(index + 1) % 3])
    yield PacketShape.of_conv("weight_grad", op, FORMS["weight_grad"][index % 2])
    depth, rows = op.k_h * op.k_w * op.c_in // op.groups, op.n * op.h_out * op.w_out
    if op.groups == 1 and max(depth * rows, rows * op.c_out) <= MOST_GEMM:
        yield PacketShape("gemm", (rows, depth, op.c_out), STORES[(index + 2) % 3])
    weights = op.c_out * depth
    taps, channels = op.k_h * op.k_w, op.c_in // op.groups
    yield PacketShape("rotate180", (op.c_out, taps, channels))
    yield PacketShape("transpose", (1, op.c_out, depth))
    yield PacketShape("to_d32", (op.n, op.h, op.w, op.c_in))
    yield PacketShape("from_d32", (op.n, op.h_out, op.w_out, op.c_out))
    yield PacketShape("niti_update", (weights,))
    if weights <= MOST_UPDATED:
        yield PacketShape("wide_update", (weights,), FORMS["wide_update"][index % 2])


def drawn_shapes(seed: int = 0) -> Grouped:
    """Shapes that no network has, by size octave: of MACs, or of elements."""
    for octave in (10, 12, 14, 16, 18, 20, 22):
        rng, group = np.random.default_rng([seed, octave]), f"drawn 2^{octave}"
        for index in range(DRAWN):
            for shape in _drawn(rng, octave, index):
                yield group, shape


def _drawn(rng: np.random.Generator, octave: int, index: int) -> Iterator[PacketShape]:
    op = _drawn_conv(rng, octave)
    if op.groups == 1 or octave < 20:
        yield PacketShape.of_conv("forward", op, STORES[index % 3])
        yield PacketShape.of_conv("input_grad", op, STORES[(index + 1) % 3])
        yield PacketShape.of_conv("weight_grad", op, FORMS["weight_grad"][index % 2])
    m, k = (int(2 ** rng.uniform(0, octave / 2.2)) for _ in range(2))
    yield PacketShape("gemm", (m, k, max(1, 2**octave // (m * k))), STORES[(index + 2) % 3])
    if index % 3:
        return
    elements = int(2 ** (octave - 2 + rng.uniform(0, 2)))
    for family in ("relu_forward", "relu_input_grad", "amax", "niti_update"):
        yield PacketShape(family, (elements,))
    for family in ("requantise", "rescale", "add", "wide_update"):
        form = FORMS[family][index // 3 % len(FORMS[family])]
        sizes = (int(rng.integers(2, 5)), elements) if family == "add" else (elements,)
        if family != "wide_update" or elements <= MOST_UPDATED:
            yield PacketShape(family, sizes, form)
    yield from _drawn_moves(rng, elements)


def _drawn_conv(rng: np.random.Generator, octave: int) -> Conv2d:
    """Of 2^octave to 2^(octave + 2) MACs."""
    while True:
        op = draws.conv(rng, 1 << octave + 2)
        if op.work(Role.FORWARD).macs >= 1 << octave:
            return op
        wider = op.with_batch(op.n * (1 + (1 << octave) // op.work(Role.FORWARD).macs))
        if wider.n <= 64:
            return wider


def _drawn_moves(rng: np.random.Generator, elements: int) -> Iterator[PacketShape]:
    columns = int(2 ** rng.uniform(0, np.log2(elements)))
    yield PacketShape("transpose", (int(rng.integers(1, 4)), max(1, elements // columns), columns))
    taps = int(rng.integers(1, 6)) ** 2
    channels = min(elements, int(2 ** rng.uniform(0, 9)))
    yield PacketShape("rotate180", (max(1, elements // (taps * channels)), taps, channels))
    side = int(rng.integers(1, 9))
    lines = max(1, elements // (side * channels))
    for family in ("to_d32", "from_d32"):
        yield PacketShape(family, (1, lines, side, channels))
    pool = draws.max_pool(rng)
    more = max(1, elements // (pool.n * pool.c * pool.h * pool.w))
    pool = pool.with_batch(min(pool.n * more, 1 << 12))
    for family in ("max_pool_forward", "max_pool_input_grad"):
        yield PacketShape.of_pool(family, pool)


def all_shapes() -> Grouped:
    """Networks first, then what is drawn."""
    yield from network_shapes()
    yield from drawn_shapes()
