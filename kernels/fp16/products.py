"""Matrix products in 16-bit floats, bit by bit as the released microcontroller kernels sum.

Every output is summed in the format itself, product by product. Kernels differ in the order:
scalar and unrolled ones, and SIMD on a matrix that is not transposed, add along ``k``. SIMD on a
transposed one multiplies pairs: one lane sums the even ``k``, the other the odd, and the two are
added at the end (pulp-platform/pulp-trainlib, ``lib/sources/pulp_matmul_fp16.c``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
from numba import njit
from numpy.typing import NDArray

from kernels.arrays import ArrayError, Floats
from kernels.fp16.formats import FP16, HalfFormat
from kernels.fp16.released import KERNELS, that_fits
from kernels.fp16.rounding import fused, fused_binary16, rounded, unfused
from kernels.jit import compiled
from kernels.threads import over_rows, thread_count

Order = Literal["product", "sequential", "lanes", "lanes_apart"]
Doubles = NDArray[np.float64]
_CODES: Final[dict[Order, int]] = {"product": 0, "sequential": 1, "lanes": 2, "lanes_apart": 3}
_BINARY16, _FUSED, _UNFUSED = range(3)
"""How the compiled loops add a product."""
LEAST_WORK: Final = 1 << 14
"""Products that one thread takes at least."""


@dataclass(frozen=True, slots=True)
class HalfRule:
    """How products are summed.

    Attributes
    ----------
    form
        The format.
    kernel
        One of :data:`KERNELS`.
    fused
        Whether a product is added with a single rounding, as the FPU's multiply-add does.
    cores
        Cores that share the rows: SIMD kernels fall back to narrower ones on few rows.
    """

    form: HalfFormat = FP16
    kernel: str = "simd_4x8"
    fused: bool = True
    cores: int = 8

    def __post_init__(self) -> None:
        if self.kernel not in KERNELS:
            raise ArrayError(
                f"kernel is {self.kernel!r}; allowed: {', '.join(KERNELS)}; choose one of these"
            )
        if self.cores < 1:
            raise ArrayError(f"cores is {self.cores}; allowed: 1 or more")


def order_of(rule: HalfRule, n: int, k: int, m: int, transposed: bool) -> tuple[Order, int]:
    """Order of summation of the first columns, and how many they are; later ones are sequential.

    Parameters
    ----------
    n, k, m
        Sizes of ``C[n, m] = A[n, k] B[k, m]``.
    transposed
        Whether B lies in memory as ``m`` rows of ``k``.
    """
    kernel = that_fits(rule.kernel, k, m, n, rule.cores)
    if kernel == "naive":
        return ("product" if k == 1 else "sequential"), m
    if not kernel.startswith("simd") or not transposed:
        return "sequential", m
    if kernel == "simd_4x8":
        return "lanes", m // 4 * 4
    return "lanes_apart", m // 2 * 2


def matmul(
    a: Floats, b: Floats, rule: HalfRule, *, transposed: bool = False, threads: int | None = 1
) -> Floats:
    """``C[g, n, m] = sum_k A[g, n, k] B[g, k, m]``, summed in the format in the kernel's order.

    Parameters
    ----------
    a, b
        (groups, n, k) and (groups, k, m) float32 that carry values of the format.
    rule
        Format, kernel, fused or not.
    transposed
        Whether the kernel finds B transposed in its memory; ``b`` itself is (groups, k, m).
    threads
        Threads at most; no bit depends on it.

    Raises
    ------
    ArrayError
        Shapes that do not fit.

    Examples
    --------
    >>> import numpy as np
    >>> a = np.array([[[2048.0, 1.0, 1.0]]], np.float32)
    >>> matmul(a, np.ones((1, 3, 4), np.float32), HalfRule())[0, 0, 0]  # 2049 has 12 bits
    np.float32(2048.0)
    """
    if a.ndim != 3 or b.ndim != 3 or a.shape[0] != b.shape[0] or a.shape[2] != b.shape[1]:
        raise ArrayError(
            f"a is {a.shape}, b {b.shape}; allowed: (groups, n, k) and (groups, k, m); reshape them"
        )
    n, k, m = a.shape[1], a.shape[2], b.shape[2]
    order, columns = order_of(rule, n, k, m, transposed)
    out = np.empty((a.shape[0], n, m), np.float32)
    if columns == m:
        out[...] = _product(a, b, order, rule, threads)
    else:
        if columns:
            out[..., :columns] = _product(a, b[..., :columns], order, rule, threads)
        out[..., columns:] = _product(a, b[..., columns:], "sequential", rule, threads)
    return out


def _product(a: Floats, b: Floats, order: Order, rule: HalfRule, threads: int | None) -> Floats:
    """Compute along the longer side: products commute, so both ways give the same bits."""
    if a.shape[1] > b.shape[2]:
        turned = _summed(b.swapaxes(1, 2), a.swapaxes(1, 2), order, rule, threads)
        return turned.swapaxes(1, 2)
    return _summed(a, b, order, rule, threads)


def _summed(a: Floats, b: Floats, order: Order, rule: HalfRule, threads: int | None) -> Floats:
    with np.errstate(invalid="ignore"):  # a signalling NaN becomes a quiet one
        left = np.ascontiguousarray(a, np.float64)
        right = np.ascontiguousarray(b, np.float64)
    groups, n, k = left.shape
    m = right.shape[2]
    out = np.empty((groups, n, m), np.float32)
    adding = (_BINARY16 if rule.form is FP16 else _FUSED) if rule.fused else _UNFUSED
    code, shared = _CODES[order], groups * n * m * k > LEAST_WORK

    def rows(first: int, last: int) -> None:
        sums = np.empty((2, m), np.float64)
        _rows(left, right, sums, out, code, adding, first, last, *rule.form.rule)

    over_rows(rows, groups * n, 1, thread_count(threads, shared=shared))
    return out


@compiled
def _rows(
    a: Doubles, b: Doubles, sums: Doubles, out: Floats, order: int, adding: int,
    first: int, last: int, widen: float, tiny: float, limit: float,
) -> None:  # fmt: skip
    """Rows ``first`` to ``last`` of all groups, flat; ``sums`` holds two lanes, or two rows."""
    n, k_end, m = a.shape[1], a.shape[2], b.shape[2]
    if order == 0:
        for row in range(first, last):
            g, i = row // n, row % n
            for j in range(m):
                out[g, i, j] = rounded(a[g, i, 0] * b[g, 0, j], widen, tiny, limit)
        return
    if order == 1:
        for row in range(first, last, 2):
            second = min(row + 1, last - 1)  # the last row of all may be computed twice
            g, i, h, below = row // n, row % n, second // n, second % n
            _add(a[g, i], b[g], a[h, below], b[h], k_end, 0, sums, adding, widen, tiny, limit)
            for j in range(m):
                out[g, i, j] = sums[0, j]
                out[h, below, j] = sums[1, j]
        return
    pairs = k_end - k_end % 2
    for row in range(first, last):
        g, i = row // n, row % n
        _add(a[g, i], b[g], a[g, i], b[g], pairs, 1, sums, adding, widen, tiny, limit)
        if pairs < k_end and order == 2:
            x = a[g, i, pairs]
            for j in range(m):
                sums[0, j] = _added(x, b[g, pairs, j], sums[0, j], adding, widen, tiny, limit)
        for j in range(m):
            total = rounded(sums[0, j] + sums[1, j], widen, tiny, limit)
            if pairs < k_end and order == 3:
                # one product of its own, to which the two lanes are added
                one = rounded(a[g, i, pairs] * b[g, pairs, j] + 0.0, widen, tiny, limit)
                total = rounded(one + total, widen, tiny, limit)
            elif order == 3:
                total = total + 0.0  # the scalar sum starts from +0
            out[g, i, j] = total


@njit(inline="always")
def _added(
    a: float, b: float, c: float, adding: int, widen: float, tiny: float, limit: float
) -> Any:
    if adding == _BINARY16:
        return fused_binary16(a, b, c, widen, tiny, limit)
    if adding == _FUSED:
        return fused(a, b, c, widen, tiny, limit)
    return unfused(a, b, c, widen, tiny, limit)


@njit(inline="always")
def _loops(
    a: Doubles, b: Doubles, other: Doubles, across: Doubles, k_end: int, ahead: int,
    sums: Doubles, adding: int, widen: float, tiny: float, limit: float,
) -> None:  # fmt: skip
    for k in range(0, k_end, 1 + ahead):
        x, y = a[k], other[k + ahead]
        for j in range(b.shape[1]):
            sums[0, j] = _added(x, b[k, j], sums[0, j], adding, widen, tiny, limit)
            sums[1, j] = _added(y, across[k + ahead, j], sums[1, j], adding, widen, tiny, limit)


@compiled
def _add(
    a: Doubles, b: Doubles, other: Doubles, across: Doubles, k_end: int, ahead: int,
    sums: Doubles, adding: int, widen: float, tiny: float, limit: float,
) -> None:  # fmt: skip
    """Two sums of scalars times rows side by side, so that one need not wait for the other.

    ``sums[0]`` takes ``a[k] b[k]``, ``sums[1]`` takes ``other[k + ahead] across[k + ahead]``; with
    ``ahead`` of 1, ``k`` goes by twos: the lanes of a row. Each way to add has loops of its own.
    """
    sums[:, :] = 0.0
    if adding == _BINARY16:
        _loops(a, b, other, across, k_end, ahead, sums, _BINARY16, widen, tiny, limit)
    elif adding == _FUSED:
        _loops(a, b, other, across, k_end, ahead, sums, _FUSED, widen, tiny, limit)
    else:
        _loops(a, b, other, across, k_end, ahead, sums, _UNFUSED, widen, tiny, limit)
