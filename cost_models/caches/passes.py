"""Which taps see which positions: convolutions and dX, on either unit, axis by axis."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, gcd

from cost_models.cost import ITEM_BYTES, KernelCall
from kernels.conv import Conv2d
from kernels.linear import Linear
from kernels.operators import Role


def as_conv(op: Conv2d | Linear) -> Conv2d:
    """A fully connected layer as a convolution of one place."""
    if isinstance(op, Conv2d):
        return op
    return Conv2d(n=op.n, c_in=op.c_in, h=1, w=1, c_out=op.c_out, k=1)


def result_item(call: KernelCall) -> int:
    """Bytes per element that a MAC kernel writes."""
    wide = call.dtype == "int8" and call.rescaling in ("dynamic", "none")
    return ITEM_BYTES["int32" if wide or call.accumulates else call.dtype]


@dataclass(frozen=True, slots=True)
class Pass:
    """Positions that see the same taps, along one axis: of positions, and of taps.

    ``step`` is how far the source moves per position, ``tap_step`` per tap, ``write_step`` how
    far the result does, ``first`` where it begins.
    """

    count: int
    taps: int
    step: int
    tap_step: int
    write_step: int
    first: int = 0

    @property
    def reach(self) -> int:
        """Places of the source that the pass sees."""
        return (self.count - 1) * self.step + (self.taps - 1) * self.tap_step + 1


def passes(op: Conv2d, role: Role, vertical: bool) -> list[Pass]:
    """Passes along one axis: one forward, up to ``stride`` of them for dX.

    An input at ``i`` hears from tap ``k`` if ``i + pad - dilation * k`` is a multiple of the
    stride: positions of one residue share their taps, and no zero is inserted.
    """
    size, k, pad = (op.h, op.k_h, op.pad_h) if vertical else (op.w, op.k_w, op.pad_w)
    if role is Role.FORWARD:
        count = op.h_out if vertical else op.w_out
        return [Pass(count, k, op.stride, op.dilation, 1)]
    step = op.dilation // gcd(op.stride, op.dilation)
    found = []
    for first in range(min(op.stride, size)):
        taps = sum((first + pad - op.dilation * tap) % op.stride == 0 for tap in range(k))
        if taps:
            found.append(Pass(ceil((size - first) / op.stride), taps, 1, step, op.stride, first))
    return found
