"""What packet counts say of rates: the share of a context's peak, and elements per packet.

Packets are not cycles. A context's measured peak is 128 MAC per cycle, and the densest packet of a
product holds 256: two multiplies of 32 lanes by 4. So at the peak a packet takes two cycles, and a
kernel whose packets all take two cycles reaches the share ``MAC / (256 packets)`` of it. That every
packet takes two cycles is assumed: stalls, L2 and VTCM are in no emulator.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from cost_models.dsp import padded_macs
from cost_models.fitting.law import Coefficient, Law
from cost_models.fitting.table import FloatArray, Table
from cost_models.packets.shapes import PacketShape
from cost_models.samples import Sample
from kernels.conv import Conv2d
from kernels.linear import Linear
from kernels.operators import Operator, Role

MACS_PER_PACKET: Final = 256
"""Two ``vrmpy`` of 32 lanes x 4 products."""
PACKETS_PER_CYCLE: Final = 0.5
"""Per context at the measured peak of 128 MAC per cycle."""
ROLES: Final = {
    "forward": Role.FORWARD,
    "input_grad": Role.INPUT_GRAD,
    "weight_grad": Role.WEIGHT_GRAD,
}
ELEMENTWISE: Final = (
    "amax", "requantise", "rescale", "relu_forward", "relu_input_grad", "add", "transpose",
    "rotate180", "niti_update", "wide_update",
)  # fmt: skip
LEAST_CHANNELS: Final = 32
LEAST_BATCH: Final = 16
_ANY_BATCH: Final = ("strided.input_grad",)
LEAST_ELEMENTS: Final = 1 << 12
"""Smaller tensors cost a call more than elements."""


def _shares(theta: FloatArray, rows: Table) -> FloatArray:
    """``padded MAC / (256 share)``."""
    return np.asarray(rows.numbers["full_rate_packets"] / theta[0])


SHARES: Final = Law(
    "packet-shares",
    "Share of a context's peak that HVX kernels reach, padded MAC of the depth-32 layout counted",
    "packets",
    (
        Coefficient(
            "share", "share", 0.5, 1e-4, 4, "MAC per packet over 256", "layers of this family"
        ),
    ),
    _shares,
    block="kind",
)
"""The MAC are those that :func:`cost_models.dsp.padded_macs` charges; these kernels pad less, so
that a share of a layer with few channels may be above 1."""

ELEMENTS: Final = Law(
    "packet-elements",
    "Elements per packet of HVX kernels without MAC",
    "packets",
    (
        Coefficient(
            "elements_per_packet", "elements/packet", 10, 1e-3, 128, "of large tensors", "tensors"
        ),
    ),
    lambda theta, rows: np.asarray(rows.numbers["elements"] / theta[0]),
    block="kind",
)


def share_table(samples: Sequence[Sample], digest: str) -> Table:
    """Give the layers of networks as rows, by family and role.

    Families are ``conv``, ``depthwise``, ``linear`` and ``strided`` (gradients of a stride). Layers
    of fewer than :data:`LEAST_CHANNELS` channels are mostly padding and left out; so are all of
    fewer than :data:`LEAST_BATCH` samples but strided input gradients: the depth of a weight
    gradient is mostly padding there, and roles are to be compared on the same layers.
    """
    rows = []
    for sample in samples:
        drawn = str(sample.config.get("group")).startswith("drawn")
        if drawn or sample.config.get("family") not in ROLES:
            continue
        shape = PacketShape.of_document(sample.config)
        op, role = shape.layer(), ROLES[shape.family]
        assert isinstance(op, Conv2d)
        kind, known = _kind(op, role)
        large = op.n >= LEAST_BATCH or kind in _ANY_BATCH
        if large and min(op.c_in, op.c_out) >= LEAST_CHANNELS:
            rows.append((sample, kind, padded_macs(known, role)))
    work = np.array([macs for _, _, macs in rows], dtype=np.float64)
    numbers = {"full_rate_packets": work / MACS_PER_PACKET}
    return _table([row[0] for row in rows], [row[1] for row in rows], numbers, digest)


def _kind(op: Conv2d, role: Role) -> tuple[str, Operator]:
    """Family and role in words, and the operator as the cost model knows it."""
    if (op.h, op.w, op.k_h, op.k_w) == (1, 1, 1, 1):
        return f"linear.{role.value}", Linear(n=op.n, c_in=op.c_in, c_out=op.c_out)
    if op.depthwise:
        return f"depthwise.{role.value}", op
    strided = op.stride > 1 and role is not Role.FORWARD
    return f"{'strided' if strided else 'conv'}.{role.value}", op


def element_table(samples: Sequence[Sample], digest: str) -> Table:
    """Give the kernels without MAC on large tensors as rows."""
    rows, kinds, elements = [], [], []
    for sample in samples:
        if sample.config.get("family") not in ELEMENTWISE:
            continue
        shape = PacketShape.of_document(sample.config)
        sizes = shape.sizes[1:] if shape.family == "add" else shape.sizes
        count = int(np.prod(sizes, dtype=np.int64))
        if count >= LEAST_ELEMENTS:
            rows.append(sample)
            kinds.append(shape.family)
            elements.append(count)
    return _table(rows, kinds, {"elements": np.array(elements, dtype=np.float64)}, digest)


def _table(
    rows: Sequence[Sample], kinds: Sequence[str], numbers: dict[str, FloatArray], digest: str
) -> Table:
    labels = {"kind": kinds, "group": [str(s.config["group"]) for s in rows]}
    return Table(
        "packets",
        np.array([s.key for s in rows], dtype=np.str_),
        np.array([s.median for s in rows]),
        np.array([s.fingerprint for s in rows], dtype=np.str_),
        {name: np.array(values, dtype=np.str_) for name, values in labels.items()},
        numbers,
        digest,
    )
