"""GEMM for any CPU that Numba compiles for: register tiles of int16 pairs, summed in int32.

See :mod:`kernels.gemm.tiles`. LLVM turns a pair of products and their sum into ``vpmaddwd`` on
x86; nothing saturates, as a pair of products is at most ``2 * 2^14``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from kernels.gemm.tiles import TILE_ROWS, product, tile_kind
from kernels.jit import compiled
from kernels.threads import over_rows

_KIND = tile_kind("portable")
_CODE, _WIDTH = _KIND.code, _KIND.width
_BLOCK_ROWS = 16 * TILE_ROWS


def pack(b: NDArray[np.int8], threads: int) -> NDArray[np.uint32]:
    """Panels of pairs of K, ``(N / width, K / 2, width)`` rounded up: a word for two int16."""
    depth, columns = b.shape
    steps, panels = -(-depth // 2), -(-columns // _WIDTH)
    wide = np.zeros((2 * steps, panels * _WIDTH), np.int16)
    wide[:depth, :columns] = b
    pairs = wide.reshape(steps, 2, panels, _WIDTH).transpose(2, 0, 3, 1)
    return np.ascontiguousarray(pairs).view(np.uint32)[..., 0]


@compiled
def _rows(
    a: NDArray[np.uint32], panels: NDArray[np.uint32], offsets: NDArray[np.int64],
    starts: NDArray[np.int32], out: NDArray[np.int32], bases: NDArray[np.int64],
    sums: NDArray[np.int32], first: int, last: int,
) -> None:  # fmt: skip
    """Rows ``first`` to ``last`` of the product, block by block, panel by panel."""
    steps, columns = offsets.size, out.shape[1]
    for top in range(first, last, _BLOCK_ROWS):
        count = min(_BLOCK_ROWS, last - top)
        for r in range(_BLOCK_ROWS):
            bases[r] = (top + min(r, count - 1)) * steps
        for left in range(0, columns, _WIDTH):
            product(
                _CODE, a, bases, count, offsets, 0, steps, panels, left * steps, starts, 0, sums
            )
            size = min(_WIDTH, columns - left)
            for r in range(count):
                line, values = out[top + r, left : left + size], sums[r * _WIDTH :]
                for n in range(size):
                    line[n] = values[n]


def multiply(
    a: NDArray[np.int8], packed: NDArray[Any], out: NDArray[np.int32], threads: int
) -> None:
    """Fill ``out`` with ``a @ b``; ``packed`` is what :func:`pack` made of ``b``."""
    rows, depth = a.shape
    steps = packed.shape[1]
    wide = np.zeros((rows, 2 * steps), np.int16)
    wide[:, :depth] = a
    words, panels = wide.reshape(-1).view(np.uint32), packed.reshape(-1)
    offsets, starts = np.arange(steps, dtype=np.int64), np.zeros(_WIDTH, np.int32)
    over_rows(
        lambda first, last: _rows(
            words, panels, offsets, starts, out, np.empty(_BLOCK_ROWS, np.int64),
            np.empty(_BLOCK_ROWS * _WIDTH, np.int32), first, last,
        ),
        rows,
        TILE_ROWS,
        threads,
        _BLOCK_ROWS,
    )  # fmt: skip
