"""GEMM back-ends that need only NumPy: the reference, and exact float32 BLAS.

A back-end has two functions: ``pack(b, threads)`` gives B in the form that it reads,
and ``multiply(a, packed, out, threads)`` fills ``out``. Checks were made by the caller
(:mod:`kernels.gemm.interface`).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

BLAS_K = 1024
"""Longest sum that float32 holds exactly: ``1024 * 128 * 128 = 2^24``, in any order."""


def pack_reference(b: NDArray[np.int8], threads: int) -> NDArray[np.int64]:
    """B as int64."""
    return b.astype(np.int64)


def multiply_reference(
    a: NDArray[np.int8], packed: NDArray[Any], out: NDArray[np.int32], threads: int
) -> None:
    """What a matrix product is: sums of products in int64, which then fit int32."""
    out[...] = a.astype(np.int64) @ packed


def pack_blas(b: NDArray[np.int8], threads: int) -> NDArray[np.float32]:
    """B as float32."""
    return b.astype(np.float32)


def multiply_blas(
    a: NDArray[np.int8], packed: NDArray[Any], out: NDArray[np.int32], threads: int
) -> None:
    """float32 products over at most :data:`BLAS_K` of K at a time, added up in int32.

    BLAS runs on as many threads as it was set up for; ``threads`` does not reach it.
    """
    out[...] = 0
    for start in range(0, a.shape[1], BLAS_K):
        part = slice(start, start + BLAS_K)
        out += (a[:, part].astype(np.float32) @ packed[part]).astype(np.int32)
