"""Which of the released 16-bit kernels runs: SIMD ones give way to narrower ones on small products.

Source: pulp-platform/pulp-trainlib, ``lib/sources/pulp_matmul_fp16.c``.
"""

from __future__ import annotations

from typing import Final

KERNELS: Final = ("naive", "naive_m", "unrolled", "simd_2x4", "simd_4x8")
"""Released kernels by the order of their sums; ``_m`` splits columns over cores, not rows."""


def that_fits(kernel: str, k: int, columns: int, shared: int, cores: int) -> str:
    """Name of the kernel that runs where ``kernel`` was asked for.

    Parameters
    ----------
    kernel
        ``simd_4x8``, ``simd_2x4``, or any other, which always fits.
    k
        Products of a sum.
    columns
        Columns of the result.
    shared, cores
        Rows (or columns) that are shared out, and the cores that share them.

    Examples
    --------
    >>> [that_fits("simd_4x8", 9, 8, rows, 8) for rows in (16, 15)]
    ['simd_4x8', 'simd_2x4']
    """
    if kernel == "simd_4x8" and (columns < 4 or k < 2 or shared // 2 * 2 // cores < 2):
        kernel = "simd_2x4"
    if kernel == "simd_2x4" and (columns < 2 or k < 2):
        kernel = "naive"
    return kernel
