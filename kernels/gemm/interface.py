"""INT8 by INT8 matrix product with exact INT32 results: one call for every back-end.

Why int32 is enough: ``|a b| <= 128 * 128 = 2^14``, so a sum of ``K`` products is at most
``K 2^14``, below ``2^31`` for ``K <= 131071``. Longer sums are refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kernels.arrays import ArrayError, check_array, target
from kernels.gemm.backends import GemmError, chosen, load
from kernels.threads import thread_count

MAX_K = 2**17 - 1
"""Longest sum of INT8 products that always fits INT32."""
_SERIAL_MACS = 1 << 23
"""Work below which handing it to other threads costs more than it saves (tens of us)."""


@dataclass(frozen=True, slots=True, eq=False)
class PackedB:
    """A right-hand matrix in the form that one back-end reads; made by :func:`pack_b`.

    Attributes
    ----------
    backend
        Name of the back-end.
    depth, columns
        K and N of the matrix.
    panels
        The back-end's own form, a copy.
    """

    backend: str
    depth: int
    columns: int
    panels: NDArray[Any]


def _check_matrix(name: str, matrix: NDArray[Any], dtype: type[np.generic]) -> None:
    check_array(name, matrix, dtype)
    if matrix.ndim != 2:
        raise ArrayError(f"{name} has shape {matrix.shape}; allowed: two axes; reshape it")


def pack_b(b: NDArray[np.int8], backend: str | None = None, threads: int | None = None) -> PackedB:
    """Lay out B once for many products, as for weights used by several batches.

    Parameters
    ----------
    b
        (K, N) int8, C-contiguous; K at most :data:`MAX_K`.
    backend
        Back-end that will read it; default: as :func:`gemm_s8s8s32`.
    threads
        Threads at most; default: every core of this process.

    Raises
    ------
    ArrayError
        A matrix or number of threads that is not allowed.
    GemmError
        A K too long for int32, or a back-end that is unknown or that the CPU cannot run.
    """
    _check_matrix("b", b, np.int8)
    depth, columns = b.shape
    if depth > MAX_K:
        raise GemmError(
            f"K is {depth}; allowed: 1 .. {MAX_K}, where every sum fits int32; split K and add the"
            " parts in int64"
        )
    name = chosen(backend)
    return PackedB(name, depth, columns, load(name).pack(b, thread_count(threads)))


def _packed(b: NDArray[np.int8] | PackedB, backend: str | None, threads: int) -> PackedB:
    if not isinstance(b, PackedB):
        return pack_b(b, backend, threads)
    if backend is not None and backend != b.backend:
        raise GemmError(
            f"backend is {backend!r}, but b was packed for {b.backend!r}; leave backend out, or"
            " pack b again"
        )
    return b


def gemm_s8s8s32(
    a: NDArray[np.int8],
    b: NDArray[np.int8] | PackedB,
    out: NDArray[np.int32] | None = None,
    backend: str | None = None,
    threads: int | None = None,
) -> NDArray[np.int32]:
    """``a @ b``, exact: every back-end and number of threads gives the same integers.

    Parameters
    ----------
    a
        (M, K) int8, C-contiguous.
    b
        (K, N) int8, C-contiguous, with K at most :data:`MAX_K`; or what :func:`pack_b` made.
    out
        (M, N) int32, C-contiguous, to write to; a new array by default.
    backend
        One of ``vnni``, ``vnni256``, ``dotprod``, ``blas``, ``portable``, ``reference``; by
        default what the environment variable MANDHELING_GEMM names, or the fastest that the
        CPU can run.
    threads
        Threads at most, 1 or more; by default every core of this process. ``blas`` uses as many
        as BLAS was set up for, ``reference`` one.

    Returns
    -------
    numpy.ndarray
        ``out``: (M, N) int32.

    Raises
    ------
    ArrayError
        A wrong dtype, shape or memory order, an empty matrix, or fewer than 1 thread.
    GemmError
        A K too long for int32, or a back-end that is unknown or that the CPU cannot run.

    Examples
    --------
    >>> a = np.array([[-128, 1]], np.int8)
    >>> gemm_s8s8s32(a, np.array([[-128], [3]], np.int8))
    array([[16387]], dtype=int32)
    """
    _check_matrix("a", a, np.int8)
    count = thread_count(threads)
    packed = _packed(b, backend, count)
    if a.shape[1] != packed.depth:
        raise ArrayError(
            f"a has shape {a.shape} and b ({packed.depth}, {packed.columns}); the columns of a must"
            " be the rows of b"
        )
    read = packed.panels if isinstance(b, PackedB) else b
    product = target(out, (len(a), packed.columns), np.int32, a, read)
    if a.size * packed.columns < _SERIAL_MACS:
        count = 1
    load(packed.backend).multiply(a, packed.panels, product, count)
    return product
