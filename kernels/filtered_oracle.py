"""The filtered backward pass of a convolution, written to be read: one loop per definition.

It knows nothing of the operators that the fast kernels are made of. Arrays are channels-last;
with integer arrays every sum is exact, means included where they are kept as (sum, count).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kernels.conv import Conv2d

Doubles = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Axis:
    """Patches along one axis: ``size`` inputs, ``out`` outputs, ``r`` outputs to a patch."""

    size: int
    out: int
    r: int
    stride: int

    @property
    def count(self) -> int:
        """Patches."""
        return -(-self.out // self.r)

    def patch_of_output(self, place: int) -> int:
        """Patch that an output lies in; patches are centred, the odd place first."""
        missing = self.count * self.r - self.out
        return (place + -(-missing // 2)) // self.r

    def patch_of_input(self, place: int) -> int:
        """Patch that an input lies in; one that lies in none gives a number out of range."""
        wide = self.r * self.stride
        missing = self.count * wide - self.size
        return (place + -(-missing // 2)) // wide


def axes(op: Conv2d, r: int) -> tuple[Axis, Axis]:
    """Rows and columns."""
    return Axis(op.h, op.h_out, r, op.stride), Axis(op.w, op.w_out, r, op.stride)


def input_sums(x: NDArray[Any], op: Conv2d, r: int) -> NDArray[Any]:
    """Sum of the inputs in each patch: (n, rows, columns, c_in), int64 or float64."""
    down, across = axes(op, r)
    kind = np.int64 if x.dtype.kind == "i" else np.float64
    sums = np.zeros((op.n, down.count, across.count, op.c_in), kind)
    for i in range(op.h):
        for j in range(op.w):
            row, column = down.patch_of_input(i), across.patch_of_input(j)
            if 0 <= row < down.count and 0 <= column < across.count:
                sums[:, row, column] += x[:, i, j]
    return sums


def error_sums(e: NDArray[Any], op: Conv2d, r: int) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Sum of the errors in each patch, (n, rows, columns, c_out), and how many it holds."""
    down, across = axes(op, r)
    kind = np.int64 if e.dtype.kind == "i" else np.float64
    sums = np.zeros((op.n, down.count, across.count, op.c_out), kind)
    counts = np.zeros((down.count, across.count), np.int64)
    for i in range(op.h_out):
        for j in range(op.w_out):
            row, column = down.patch_of_output(i), across.patch_of_output(j)
            sums[:, row, column] += e[:, i, j]
            counts[row, column] += 1
    return sums, counts


def filtered_input_grad(e: NDArray[Any], w: NDArray[Any], op: Conv2d, r: int) -> Doubles:
    """dX: (n, h, w, c_in) float64; ``w`` is (c_out, k_h, k_w, c_in / groups)."""
    sums, counts = error_sums(e.astype(np.float64), op, r)
    means = sums / counts[..., None]
    down, across = axes(op, r)
    coarse = np.zeros((op.n, down.count, across.count, op.c_in))
    step = op.dilation // r
    apart = step > 0 and all(step * (k - 1) % 2 == 0 for k in (op.k_h, op.k_w))
    per_group = op.c_out // op.groups
    for o in range(op.c_out):
        first = o // per_group * (op.c_in // op.groups)
        inputs = slice(first, first + op.c_in // op.groups)
        for p in range(op.k_h):
            for q in range(op.k_w):
                # a tap that lies whole patches away from the middle one meets that patch's error
                rows = step * (p - (op.k_h - 1) / 2) if apart else 0
                columns = step * (q - (op.k_w - 1) / 2) if apart else 0
                met = _shifted(means[..., o], int(rows), int(columns))
                coarse[..., inputs] += met[..., None] * w[o, p, q].astype(np.float64)
    dx = np.zeros((op.n, op.h, op.w, op.c_in))
    for i in range(op.h):
        for j in range(op.w):
            row, column = down.patch_of_input(i), across.patch_of_input(j)
            if 0 <= row < down.count and 0 <= column < across.count:
                dx[:, i, j] = coarse[:, row, column]
    return dx


def _shifted(means: Doubles, rows: int, columns: int) -> Doubles:
    """``result[i, j] = means[i - rows, j - columns]``, 0 beyond the map."""
    result = np.zeros_like(means)
    for i in range(means.shape[1]):
        for j in range(means.shape[2]):
            a, b = i - rows, j - columns
            if 0 <= a < means.shape[1] and 0 <= b < means.shape[2]:
                result[:, i, j] = means[:, a, b]
    return result


def filtered_weight_grad(x: NDArray[Any], e: NDArray[Any], op: Conv2d, r: int) -> Doubles:
    """dW: (c_out, k_h, k_w, c_in / groups) float64, the same at every tap."""
    seen = input_sums(x.astype(np.float64), op, r)
    sums, counts = error_sums(e.astype(np.float64), op, r)
    means = sums / counts[..., None]
    ins, outs = op.c_in // op.groups, op.c_out // op.groups
    dw = np.zeros((op.c_out, op.k_h, op.k_w, ins))
    for o in range(op.c_out):
        for c in range(ins):
            products = seen[..., o // outs * ins + c] * means[..., o]
            dw[o, :, :, c] = products.sum()
    return dw
