"""Every GEMM back-end of this CPU equals the reference, integer for integer."""

from __future__ import annotations

import platform
from collections.abc import Callable

import numpy as np
import pytest

from kernels.gemm import MAX_K, available_backends, gemm_s8s8s32, lacking, pack_b
from kernels.gemm.backends import NAMES

CASES, ACCEPT_CASES = 320, 10_000
SERIAL_MACS = 1 << 23  # below it one thread works; every 16th case is larger


def matrix(rng: np.random.Generator, rows: int, columns: int) -> np.ndarray:
    """Full-range int8; often with long runs of the extremes, where sums are largest."""
    kind = rng.integers(4)
    if kind == 0:
        values = rng.choice(np.array([-128, 127], np.int8), (rows, columns))
    elif kind == 1:
        values = np.full((rows, columns), rng.choice([-128, 127]))
    else:
        values = rng.integers(-128, 128, (rows, columns))
    return np.ascontiguousarray(values, np.int8)


def sizes(rng: np.random.Generator, large: bool) -> tuple[int, int, int]:
    """M, K and N: odd ones, ones around the tiles, and K up to 4608 (a 3x3 over 512)."""
    if large:
        depth = int(rng.choice([576, 1027, 2049, 2304, 4608]))
        columns = int(rng.integers(100, 200))
        return -(-(SERIAL_MACS + 1) // (depth * columns)) + int(rng.integers(7)), depth, columns
    depth = int(np.exp(rng.uniform(0, np.log(4608))).round())
    rows, columns = (int(np.exp(rng.uniform(0, np.log(140))).round()) for _ in range(2))
    return rows, depth, columns


def reference(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """int64 sums by float64 BLAS: exact below 2^53, and quick."""
    return (a.astype(np.float64) @ b.astype(np.float64)).astype(np.int64)


def check(backend: str, cases: int, seed: int) -> int:
    """Compare ``cases`` drawn products; return how many were compared."""
    rng, compared = np.random.default_rng(seed), 0
    for case in range(cases):
        rows, depth, columns = sizes(rng, large=case % 16 == 0)
        a, b = matrix(rng, rows, depth), matrix(rng, depth, columns)
        want = reference(a, b)
        for threads in (1, 2):
            got = gemm_s8s8s32(a, b, backend=backend, threads=threads)
            assert got.dtype == np.int32
            assert np.array_equal(got, want), (backend, rows, depth, columns, threads)
        compared += 1
    return compared


EXERCISED = [name for name in available_backends() if name != "reference"]
"""Those that this CPU lacks are named in the head of the test report."""


@pytest.mark.parametrize("backend", EXERCISED)
def test_backend_equals_the_reference(backend: str) -> None:
    check(backend, CASES, seed=20)


@pytest.mark.accept
@pytest.mark.parametrize("backend", EXERCISED)
def test_backend_equals_the_reference_on_ten_thousand_cases(
    backend: str, record_property: Callable[[str, object], None]
) -> None:
    record_property("cases", check(backend, ACCEPT_CASES, seed=21))


def test_reference_is_the_sum_of_products() -> None:
    rng = np.random.default_rng(3)
    for _ in range(30):
        rows, depth, columns = (int(n) for n in rng.integers(1, 9, 3))
        a, b = matrix(rng, rows, depth), matrix(rng, depth, columns)
        want = [
            [sum(int(a[i, k]) * int(b[k, j]) for k in range(depth)) for j in range(columns)]
            for i in range(rows)
        ]
        assert gemm_s8s8s32(a, b, backend="reference").tolist() == want


@pytest.mark.parametrize("backend", available_backends())
@pytest.mark.parametrize("depth", [1, 3, 4, 5, 1024, 1025, 2047, 2048, 2049, 4100])
def test_edges_of_blocks_in_k(backend: str, depth: int) -> None:
    rng = np.random.default_rng(depth)
    for rows, columns in ((1, 1), (5, 15), (6, 16), (7, 17), (97, 63), (8, 64), (6, 65)):
        a, b = matrix(rng, rows, depth), matrix(rng, depth, columns)
        assert np.array_equal(gemm_s8s8s32(a, b, backend=backend), reference(a, b))


@pytest.mark.parametrize("backend", available_backends())
def test_the_longest_sums_fit_int32(backend: str) -> None:
    low = np.full((2, MAX_K), -128, np.int8)
    high = np.full((2, MAX_K), 127, np.int8)
    for a, b in ((low, low), (low, high), (high, low), (high, high)):
        want = int(a[0, 0]) * int(b[0, 0]) * MAX_K
        got = gemm_s8s8s32(a, np.ascontiguousarray(b.T), backend=backend)
        assert (got == want).all()
    assert 128 * 128 * MAX_K < 2**31 <= 128 * 128 * (MAX_K + 1)


@pytest.mark.parametrize("backend", available_backends())
def test_packed_weights_serve_many_products_and_hold_a_copy(backend: str) -> None:
    rng = np.random.default_rng(5)
    b = matrix(rng, 37, 71)
    original = b.copy()
    packed = pack_b(b, backend)
    b[:] = 0
    for rows in (1, 6, 20):
        a = matrix(rng, rows, 37)
        assert np.array_equal(gemm_s8s8s32(a, packed), reference(a, original))


@pytest.mark.parametrize("backend", available_backends())
def test_out_is_filled_and_nothing_around_it_is_touched(backend: str) -> None:
    rng = np.random.default_rng(6)
    for rows, columns in ((5, 64), (7, 70), (1, 1)):
        a, b = matrix(rng, rows, 9), matrix(rng, 9, columns)
        a_before, b_before = a.copy(), b.copy()
        around = np.full((rows + 2, columns), 77, np.int32)
        out = around[1:-1]
        assert gemm_s8s8s32(a, b, out, backend) is out
        assert np.array_equal(out, reference(a, b))
        assert (around[[0, -1]] == 77).all()
        assert np.array_equal(a, a_before)
        assert np.array_equal(b, b_before)


def test_threads_do_not_change_the_result() -> None:
    rng = np.random.default_rng(7)
    a, b = matrix(rng, 1001, 1030), matrix(rng, 1030, 67)
    want = reference(a, b)
    for threads in (None, 1, 2, 3, 8, 40):
        assert np.array_equal(gemm_s8s8s32(a, b, threads=threads), want)


def test_every_x86_with_vnni_takes_the_vnni_backend() -> None:
    names = available_backends()
    assert names[-1] == "reference"
    assert {"blas", "portable"} <= set(names)
    if platform.machine() not in ("x86_64", "AMD64"):
        assert "vnni" not in names
    assert names == tuple(name for name in NAMES if lacking(name) is None)
