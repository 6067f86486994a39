"""Orthonormal vectors: against NumPy's QR, and where vectors depend on each other."""

from __future__ import annotations

import numpy as np
import pytest

from kernels.arrays import ArrayError
from kernels.fp32.orthonormal import orthonormalise


@pytest.mark.parametrize(("count", "size"), [(1, 1), (1, 9), (4, 9), (9, 9), (30, 64)])
def test_independent_vectors_become_those_of_a_qr(count: int, size: int) -> None:
    for seed in range(3):
        vectors = np.random.default_rng(seed).standard_normal((count, size))
        q, r = np.linalg.qr(vectors.T)
        orthonormalise(vectors)
        np.testing.assert_allclose(vectors, (q * np.sign(np.diag(r))).T, atol=1e-11)


def test_nearly_dependent_vectors_become_orthonormal() -> None:
    rng = np.random.default_rng(4)
    same = rng.standard_normal(40)
    vectors = same + 1e-9 * rng.standard_normal((12, 40))
    orthonormalise(vectors)
    np.testing.assert_allclose(vectors @ vectors.T, np.eye(12), atol=1e-12)


def test_a_vector_without_a_direction_of_its_own_gives_way() -> None:
    row = np.arange(5.0)
    for rest in (row, 0 * row, np.full(5, np.nan), np.array([0, 0, np.inf, 0, 0.0])):
        vectors = np.array([row, rest, rest, rest, rest])
        orthonormalise(vectors)
        np.testing.assert_allclose(vectors[0], row / np.linalg.norm(row))
        np.testing.assert_allclose(vectors @ vectors.T, np.eye(5), atol=1e-12)
    with pytest.raises(ArrayError, match="vectors are 3 of 2 elements; allowed: at most 2"):
        orthonormalise(np.zeros((3, 2)))
    with pytest.raises(ArrayError, match="vectors is float32"):
        orthonormalise(np.zeros((1, 2), np.float32))
