"""What the GEMM takes, what it refuses and how, and how a back-end is chosen."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest

from kernels.arrays import ArrayError
from kernels.gemm import MAX_K, GemmError, available_backends, backends, gemm_s8s8s32, pack_b

A = np.ones((3, 4), np.int8)
B = np.ones((4, 5), np.int8)


def test_wrong_matrices_are_refused_with_what_to_do() -> None:
    read_only = np.zeros((3, 5), np.int32)
    read_only.flags.writeable = False
    cases = [
        ((A.astype(np.uint8), B), "a is uint8; allowed: an array of int8; convert"),
        ((A, B.astype(np.float32)), "b is float32; allowed"),
        (([[1]], B), "a is list; allowed"),
        ((A[0], B), r"a has shape \(4,\); allowed: two axes"),
        ((A, np.zeros((4, 0), np.int8)), r"b has shape \(4, 0\); allowed: one element or more"),
        ((np.zeros((0, 4), np.int8), B), r"a has shape \(0, 4\)"),
        ((A, np.ones((5, 4), np.int8).T), r"b is not C-contiguous .*ascontiguousarray\(b\)"),
        ((A[:, ::2], B), r"a is not C-contiguous .*ascontiguousarray\(a\)"),
        ((A, A), r"a has shape \(3, 4\) and b \(3, 4\); the columns of a"),
        ((A, B, np.zeros((3, 5))), "out is float64; allowed: an array of int32"),
        ((A, B, np.zeros((5, 3), np.int32)), r"out has shape \(5, 3\); allowed: \(3, 5\)"),
        ((A, B, np.zeros((5, 3), np.int32).T), "out is not C-contiguous"),
        ((A, B, read_only), "out is read-only"),
    ]
    for arguments, message in cases:
        with pytest.raises(ArrayError, match=message):
            gemm_s8s8s32(*arguments)


def test_a_sum_too_long_for_int32_is_refused_with_what_to_do() -> None:
    deep = np.zeros((1, MAX_K + 1), np.int8)
    with pytest.raises(GemmError, match=r"K is 131072; allowed: 1 \.\. 131071, .* split K"):
        gemm_s8s8s32(deep, deep.reshape(-1, 1))


def test_out_may_not_lie_over_an_input() -> None:
    memory = np.zeros((4, 4), np.int32)
    with pytest.raises(ArrayError, match="out shares memory"):
        gemm_s8s8s32(np.ones((4, 16), np.int8), memory.view(np.int8).reshape(16, 4), memory)


def test_threads_are_checked() -> None:
    for threads in (0, -2):
        with pytest.raises(ArrayError, match=f"threads is {threads}; allowed: 1 or more"):
            gemm_s8s8s32(A, B, threads=threads)


def test_a_back_end_is_named_by_argument_or_environment(monkeypatch) -> None:
    monkeypatch.delenv(backends.ENVIRONMENT, raising=False)
    assert pack_b(B).backend == available_backends()[0]
    monkeypatch.setenv(backends.ENVIRONMENT, "blas")
    assert pack_b(B).backend == "blas"
    assert pack_b(B, "reference").backend == "reference"  # the argument goes first
    monkeypatch.setenv(backends.ENVIRONMENT, "mkl")
    with pytest.raises(GemmError, match="MANDHELING_GEMM is 'mkl'; allowed: vnni, vnni256, dot"):
        gemm_s8s8s32(A, B)
    with pytest.raises(GemmError, match="backend is 'fast'; allowed: vnni, vnni256, dotprod"):
        gemm_s8s8s32(A, B, backend="fast")
    with pytest.raises(GemmError, match="backend is 'fast'; allowed"):
        backends.lacking("fast")


def test_a_back_end_that_the_cpu_lacks_is_refused(monkeypatch) -> None:
    monkeypatch.setattr(backends, "_cpu_features", lambda: frozenset({"avx2"}))
    assert available_backends() == ("blas", "portable", "reference")
    with pytest.raises(
        GemmError,
        match=r"backend is 'vnni', which needs the CPU features avx512vnni\+avx512bw; this CPU can"
        " run: blas, portable, reference",
    ):
        gemm_s8s8s32(A, B, backend="vnni")
    monkeypatch.setenv(backends.ENVIRONMENT, "vnni256")
    with pytest.raises(GemmError, match=r"MANDHELING_GEMM is 'vnni256', .* avxvnni or avx512vnni"):
        gemm_s8s8s32(A, B)
    monkeypatch.setattr(backends, "_cpu_features", lambda: frozenset({"avxvnni"}))
    assert available_backends()[0] == "vnni256"


def test_a_packed_matrix_stays_with_its_back_end() -> None:
    packed = pack_b(B, "blas")
    assert (packed.depth, packed.columns) == (4, 5)
    assert (gemm_s8s8s32(A, packed, backend="blas") == 4).all()
    with pytest.raises(GemmError, match="backend is 'reference', but b was packed for 'blas'"):
        gemm_s8s8s32(A, packed, backend="reference")


def run(code: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return done.stdout.strip()


def test_numba_is_imported_by_compiled_back_ends_only() -> None:
    code = (
        "import sys, numpy as np; from kernels.gemm import gemm_s8s8s32; a = np.ones((2, 2), 'i1');"
        "gemm_s8s8s32(a, a, backend='blas'); print('numba' in sys.modules)"
    )
    assert run(code) == "False"


def test_a_cpu_pinned_for_numba_is_believed() -> None:
    code = "from kernels.gemm import available_backends; print(*available_backends())"
    found = run(code, NUMBA_CPU_NAME="generic", NUMBA_CPU_FEATURES="")
    assert found == "blas portable reference"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_child_has_threads_of_its_own() -> None:
    code = """
import os, warnings, numpy as np
from kernels.gemm import gemm_s8s8s32
warnings.simplefilter("ignore")
a = np.ones((900, 256), np.int8)
b = np.ones((256, 256), np.int8)
product = gemm_s8s8s32(a, b, backend="portable", threads=2)
child = os.fork()
if child == 0:
    os._exit(int(not np.array_equal(gemm_s8s8s32(a, b, backend="portable", threads=2), product)))
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    assert run(code) == "0"
