"""The VTCM rule: when a convolution keeps its fast path, and how far a batch must be split.

hexagon_nn keeps one slice of weights, 32 output channels deep, in VTCM while activations
stream past it. The slice of a filter of ``k_h x k_w`` over ``depth`` input channels takes
``k_h * k_w * roundup32(depth) * 32`` bytes. If it fits, weights are read once; if not, they
are streamed again for each element of the convolution's batch axis.
(``weight_batch_size`` in ``hexagon/ops/src/niti_op_supernode_new.c``, Mandheling-DSP-Training.)

For a weight gradient the "filter" is the output error: its kernel is ``(h_out, w_out)`` and its
depth is the *batch*. That is why splitting the batch brings the fast path back, and why
the largest maps cannot be saved: depth rounds up to 32, whatever the micro-batch.
"""

from __future__ import annotations

from kernels.conv import Conv2d
from kernels.operators import Role

DEPTH_ALIGN = 32
"""Channels per D32 slice, in and out (hexagon_nn's depth-32 layout)."""


def round_up(value: int, multiple: int) -> int:
    """Smallest multiple of ``multiple`` that is at least ``value``."""
    return -(-value // multiple) * multiple


def slice_bytes(k_h: int, k_w: int, depth: int) -> int:
    """Bytes of one 32-output-channel slice of a ``k_h x k_w`` filter over ``depth`` channels.

    >>> slice_bytes(16, 16, 64) // 1024
    512
    """
    return k_h * k_w * round_up(depth, DEPTH_ALIGN) * DEPTH_ALIGN


def conv_slice_bytes(op: Conv2d, role: Role) -> int:
    """Bytes of the slice that a role of a convolution wants in VTCM."""
    if role is Role.WEIGHT_GRAD:
        return slice_bytes(op.h_out, op.w_out, op.n)
    depth = op.c_in if role is Role.FORWARD else op.c_out
    return slice_bytes(op.k_h, op.k_w, depth // op.groups)


def fits(op: Conv2d, role: Role, vtcm_bytes: int) -> bool:
    """Whether that role keeps the fast path with ``vtcm_bytes`` of VTCM."""
    return conv_slice_bytes(op, role) <= vtcm_bytes


def largest_fitting_batch(h_out: int, w_out: int, vtcm_bytes: int) -> int:
    """Largest batch, a multiple of 32, whose weight gradient fits; 0 when none does.

    >>> largest_fitting_batch(16, 16, 256 * 1024), largest_fitting_batch(28, 28, 256 * 1024)
    (32, 0)
    """
    return vtcm_bytes // (h_out * w_out * DEPTH_ALIGN) // DEPTH_ALIGN * DEPTH_ALIGN


def micro_batch(op: Conv2d, vtcm_bytes: int) -> int | None:
    """Largest micro-batch that divides the batch and fits; ``None`` when no split helps.

    Returns the batch itself when it already fits.
    """
    largest = largest_fitting_batch(op.h_out, op.w_out, vtcm_bytes)
    for size in range(min(op.n, largest), 0, -1):
        if op.n % size == 0:
            return size
    return None
