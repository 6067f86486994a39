"""Orthonormal bases by modified Gram-Schmidt, in float64 and in a fixed order of sums."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kernels.arrays import ArrayError, check_array
from kernels.jit import compiled

DEPENDENT = 1e-24
"""Share of a vector's squared length below which what is left of it is rounding alone."""


@compiled
def _clear(vectors: NDArray[np.float64], k: int) -> float:
    """Take from vector ``k`` its parts along the earlier ones; its squared length after.

    Twice: the first pass leaves rounding errors along them if little of the vector is left.
    """
    mine = vectors[k]
    for _ in range(2):
        for j in range(k):
            other, dot = vectors[j], 0.0
            for i in range(len(mine)):
                dot += other[i] * mine[i]
            for i in range(len(mine)):
                mine[i] -= dot * other[i]
    left = 0.0
    for i in range(len(mine)):
        left += mine[i] * mine[i]
    return left


@compiled
def _freest(vectors: NDArray[np.float64], k: int) -> int:
    """The first of the unit vectors that the first ``k`` vectors hold least of."""
    best, least = 0, np.inf
    for i in range(vectors.shape[1]):
        held = 0.0
        for j in range(k):
            held += vectors[j, i] * vectors[j, i]
        if held < least:
            best, least = i, held
    return best


@compiled
def _orthonormalise(vectors: NDArray[np.float64]) -> None:
    for k in range(vectors.shape[0]):
        mine = vectors[k]
        length = 0.0
        for i in range(len(mine)):
            length += mine[i] * mine[i]
        left = _clear(vectors, k)
        if not DEPENDENT * length < left < np.inf:
            mine[:] = 0.0
            mine[_freest(vectors, k)] = 1.0
            left = _clear(vectors, k)
        for i in range(len(mine)):
            mine[i] /= np.sqrt(left)


def orthonormalise(vectors: NDArray[np.float64]) -> None:
    """Make vectors orthonormal in place, each in the span of itself and the earlier ones.

    A vector that depends on earlier ones, or holds a NaN or an infinity, gives way to what is left
    of a unit vector, so that there are always as many directions as vectors.

    Parameters
    ----------
    vectors
        (count, size) float64, C-contiguous, a vector to a row; ``count`` is at most ``size``.

    Raises
    ------
    ArrayError
        An array of another dtype or order, or more vectors than each has elements.

    Examples
    --------
    >>> two = np.array([[3.0, 0.0, 4.0], [3.0, 0.0, 4.0]])
    >>> orthonormalise(two)
    >>> two.tolist()
    [[0.6, 0.0, 0.8], [0.0, 1.0, 0.0]]
    """
    check_array("vectors", vectors, np.float64)
    count, size = vectors.shape
    if count > size:
        raise ArrayError(f"vectors are {count} of {size} elements; allowed: at most {size} vectors")
    _orthonormalise(vectors)
