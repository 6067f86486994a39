"""GEMM for any CPU that Numba compiles for: dot products of int16 rows, summed in int32.

On x86 LLVM turns the inner loop into ``vpmaddwd``: products of int16 pairs added into int32.
That needs every width stated (Numba types ``int32 * int32`` as int64), and one sum per loop:
with a register tile of several sums LLVM no longer sees the pairs. Nothing saturates: a pair
of products is at most ``2 * 2^14``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from kernels.gemm.threads import over_rows
from kernels.jit import compiled

_ROWS, _COLUMNS, _DEPTH = 64, 8, 1024
"""Block of rows of A, columns of B, and K: the columns are 16 KiB, and stay in L1."""


def pack(b: NDArray[np.int8], threads: int) -> NDArray[np.int16]:
    """B transposed and widened, ``(N, K)``."""
    return np.ascontiguousarray(b.T, np.int16)


@compiled
def _dot(x: NDArray[np.int16], y: NDArray[np.int16]) -> np.int32:
    total = np.int32(0)
    for k in range(x.size):
        total = np.int32(total + np.int32(np.int32(x[k]) * np.int32(y[k])))
    return total


@compiled
def _rows(
    a: NDArray[np.int16], b: NDArray[np.int16], out: NDArray[np.int32], first: int, last: int
) -> None:
    """Rows ``first`` to ``last`` of the product, block by block."""
    depth = a.shape[1]
    for row in range(first, last):
        out[row, :] = np.int32(0)
    for k in range(0, depth, _DEPTH):
        for top in range(first, last, _ROWS):
            for left in range(0, b.shape[0], _COLUMNS):
                for row in range(top, min(top + _ROWS, last)):
                    x = a[row, k : k + _DEPTH]
                    for column in range(left, min(left + _COLUMNS, b.shape[0])):
                        dot = _dot(x, b[column, k : k + _DEPTH])
                        out[row, column] = np.int32(out[row, column] + dot)


def multiply(
    a: NDArray[np.int8], packed: NDArray[Any], out: NDArray[np.int32], threads: int
) -> None:
    """Fill ``out`` with ``a @ b``; ``packed`` is what :func:`pack` made of ``b``."""
    wide = a.astype(np.int16)
    over_rows(lambda first, last: _rows(wide, packed, out, first, last), a.shape[0], 1, threads)
