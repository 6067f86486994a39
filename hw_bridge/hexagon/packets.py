"""MAC per packet of the HVX kernels on a network's own layers: what ``mandheling hw packets`` runs.

A count covers the whole call on one thread: packing, borders, zero-point correction, stores and
the kernel's own bookkeeping. A packet is what one DSP thread issues at a time; it is not a cycle.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from cost_models.packets import PacketShape
from hw_bridge.hexagon.backend import HexagonKernels
from hw_bridge.hexagon.counting import count
from hw_bridge.hexagon.runner import Runner
from kernels.conv import Conv2d
from kernels.linear import Linear
from kernels.operators import Role
from sim.zoo import load_model

FAMILIES = ("gemm", "forward", "input_grad", "weight_grad")
COUNTED_CHANNELS = 32
"""Input channels from which on a shape counts in the mean: with fewer, a step of the depth is
mostly padding, and its work is under 1 % of VGG-16's."""


@dataclass(frozen=True, slots=True)
class Row:
    """One kernel on one shape.

    Attributes
    ----------
    family
        One of :data:`FAMILIES`.
    shape
        In words, the same for the layers that share it.
    layers
        How many layers of the network have it.
    macs, packets, instructions, hvx
        Of one layer.
    counted
        Whether it is in the mean.
    """

    family: str
    shape: str
    layers: int
    macs: int
    packets: int
    instructions: int
    hvx: int
    counted: bool

    @property
    def macs_per_packet(self) -> float:
        """Work per packet, everything included."""
        return self.macs / self.packets


@dataclass(frozen=True, slots=True)
class Rescaling:
    """A forward convolution with its shift known, and with dynamic rescaling.

    ``bytes`` are those that outputs move: 1 stored; or 4 stored, 4 scanned, 4 read, 1 stored.
    """

    shape: str
    elements: int
    fused_packets: int
    dynamic_packets: int

    @property
    def fused_bytes(self) -> int:
        """Stored as INT8."""
        return self.elements

    @property
    def dynamic_bytes(self) -> int:
        """Stored as INT32, scanned, read, stored as INT8."""
        return 13 * self.elements


def layers_of(model: str, batch: int) -> list[tuple[Conv2d | Linear, int]]:
    """Convolutions and linear layers of a network, each shape once, and how often it occurs."""
    found: dict[Conv2d | Linear, int] = {}
    for layer in load_model(model, batch).layers:
        if isinstance(layer.op, Conv2d | Linear):
            found[layer.op] = found.get(layer.op, 0) + 1
    return list(found.items())


def shape_words(op: Conv2d | Linear) -> str:
    """A layer's sizes in a few words.

    Examples
    --------
    >>> shape_words(Conv2d(n=32, c_in=64, h=16, w=16, c_out=128, k=3, pad=1))
    '32x16x16, 64 to 128, 3x3'
    """
    if isinstance(op, Linear):
        return f"{op.n}, {op.c_in} to {op.c_out}"
    return f"{op.n}x{op.h}x{op.w}, {op.c_in} to {op.c_out}, {op.k_h}x{op.k_w}"


def _shapes(op: Conv2d) -> Iterator[PacketShape]:
    """Each family's call; forward and input_grad store INT8 by a known shift, as most steps do."""
    depth = op.k_h * op.k_w * op.c_in
    yield PacketShape("gemm", (op.n * op.h_out * op.w_out, depth, op.c_out), "int32")
    yield PacketShape.of_conv("forward", op, "half_away")
    yield PacketShape.of_conv("input_grad", op, "half_away")
    yield PacketShape.of_conv("weight_grad", op, "into")


def measure(
    arch: str,
    model: str = "vgg16",
    batch: int = 32,
    advance: Callable[[], None] = lambda: None,
) -> list[Row]:
    """Count the packets of every family on every shape of a network.

    Parameters
    ----------
    arch
        Build to run.
    model, batch
        A network of the zoo at its own image size, and samples per step.
    advance
        Called after each row.

    Raises
    ------
    ToolError, RunnerError
        No compiler or emulator; the runner ended.
    """
    rows = []
    with Runner(arch) as runner:
        dsp = HexagonKernels(runner)
        for op, layers in layers_of(model, batch):
            conv = op.as_conv() if isinstance(op, Linear) else op
            macs, counted = conv.work(Role.FORWARD).macs, conv.c_in >= COUNTED_CHANNELS
            for shape in _shapes(conv):
                c = count(dsp, shape)
                numbers = (layers, macs, c.packets, c.instructions, c.hvx)
                rows.append(Row(shape.family, shape_words(op), *numbers, counted))
                advance()
    return rows


def mean_macs_per_packet(rows: list[Row], family: str) -> float:
    """All counted layers' MACs over all their packets: the mean weighted by work."""
    counted = [row for row in rows if row.family == family and row.counted]
    return sum(r.macs * r.layers for r in counted) / sum(r.packets * r.layers for r in counted)


def compare_rescaling(arch: str, model: str = "vgg16", batch: int = 32) -> list[Rescaling]:
    """Known against dynamic shift, on the convolutions that count."""
    found = []
    with Runner(arch) as runner:
        dsp = HexagonKernels(runner)
        for op, _ in layers_of(model, batch):
            if not isinstance(op, Conv2d) or op.c_in < COUNTED_CHANNELS:
                continue
            fused, plain = (PacketShape.of_conv("forward", op, f) for f in ("half_up", "int32"))
            elements = op.n * op.h_out * op.w_out * op.c_out
            after = PacketShape("rescale", (elements,), "half_up")
            known, dynamic = count(dsp, fused).packets, count(dsp, plain).packets
            dynamic += count(dsp, after).packets
            found.append(Rescaling(shape_words(op), elements, known, dynamic))
    return found
