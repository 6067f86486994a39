"""FP32 kernels of saved activations in factors: see :mod:`kernels.tucker`.

Products run on the kernels of :mod:`kernels.fp32.linear`. The eigenproblems are LAPACK's, in
float64: their last bits may depend on its version. A subspace iteration uses no LAPACK.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kernels.arrays import ArrayError, Floats, check_floats, check_written, float_target
from kernels.fp32.linear import linear_forward
from kernels.fp32.orthonormal import orthonormalise
from kernels.linear import Linear
from kernels.operators import channels_last
from kernels.tucker import (
    Ranks,
    SubspaceRestore,
    SubspaceSave,
    TuckerRestore,
    TuckerSave,
    _Tucker,
)

AXES = (0, 3, 1, 2)
"""Axes of samples, channels, rows and columns in an array."""


def _product(a: Floats, b: Floats, threads: int | None) -> Floats:
    """``a b`` of (m, k) and (k, n)."""
    op = Linear(n=a.shape[0], c_in=a.shape[1], c_out=b.shape[1])
    left, right = np.ascontiguousarray(a), np.ascontiguousarray(b.T)
    return linear_forward(left, right, op, threads=threads)


def _along(x: Floats, matrix: Floats, axis: int, threads: int | None) -> Floats:
    """``matrix`` times every line of ``x`` along an axis."""
    lines = np.moveaxis(x, axis, 0)
    made = _product(matrix, lines.reshape(len(lines), -1), threads)
    return np.ascontiguousarray(np.moveaxis(made.reshape(-1, *lines.shape[1:]), 0, axis))


def spectrum(
    x: Floats, axis: int, threads: int | None = None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Squared singular values of ``x`` unfolded along an axis, largest first, and their vectors.

    Parameters
    ----------
    x
        (n, h, w, c) float32, C-contiguous.
    axis
        0 to 3, of the array.
    threads
        Threads at most.

    Returns
    -------
    tuple of ndarray
        (size,) float64 and (size, size) float64, a vector to a column.
    """
    lines = np.ascontiguousarray(np.moveaxis(x, axis, 0).reshape(x.shape[axis], -1))
    gram = _product(lines, lines.T, threads).astype(np.float64)
    values, vectors = np.linalg.eigh((gram + gram.T) / 2)
    return np.maximum(values[::-1], 0.0), vectors[:, ::-1]


def rank_for(values: NDArray[np.float64], energy: float) -> int:
    """Least rank whose squared singular values hold a share of their sum; 1 of a zero tensor.

    Raises
    ------
    ArrayError
        An energy that is no share, or values of which one is not finite.

    Examples
    --------
    >>> rank_for(np.array([6.0, 3.0, 1.0]), 0.9)
    2
    """
    if not 0 < energy <= 1:
        raise ArrayError(f"energy is {energy}; allowed: above 0, at most 1")
    total = values.sum()
    if not np.isfinite(total):
        raise ArrayError(
            "values hold one that is not finite: their tensor has no rank; look at the step before"
        )
    if total <= 0:
        return 1
    reached = np.cumsum(values) >= energy * total * (1 - 1e-12)
    return int(np.argmax(reached)) + 1 if reached.any() else len(values)


def ranks_for(x: Floats, energy: float, threads: int | None = None) -> Ranks:
    """Least rank along each axis (samples, channels, rows, columns) that holds ``energy`` of it.

    Raises
    ------
    ArrayError
        An array of another dtype or order, or an energy that is no share.
    """
    check_floats("x", x)
    found = [rank_for(spectrum(x, axis, threads)[0], energy) for axis in AXES]
    return (found[0], found[1], found[2], found[3])


def _factors(op: _Tucker, flat: Floats) -> list[tuple[int, Floats]]:
    """Views of the factor of each compressed axis, with its axis."""
    factors, first = [], 0
    for axis, size, rank in zip(AXES, op.whole, op.ranks, strict=True):
        if rank < size:
            factors.append((axis, flat[first : first + size * rank].reshape(size, rank)))
            first += size * rank
    return factors


def _project(
    x: Floats, factors: list[tuple[int, Floats]], core: Floats, threads: int | None
) -> None:
    """Write the core of ``x`` in these factors, flat."""
    for axis, factor in factors:
        x = _along(x, np.ascontiguousarray(factor.T), axis, threads)
    core[...] = x.reshape(-1)


def _expand(
    core: Floats, op: _Tucker, factors: list[tuple[int, Floats]], out: Floats, threads: int | None
) -> None:
    """Write to ``out`` what a flat core stands for in these factors."""
    left = core.reshape(channels_last(op.ranks))
    for axis, factor in reversed(factors):
        left = _along(left, factor, axis, threads)
    out[...] = left


def save(
    x: Floats, op: TuckerSave, *, out: Floats | None = None, threads: int | None = None
) -> Floats:
    """Core and factors of ``x``, one after the other.

    Parameters
    ----------
    x
        (n, h, w, c) float32, C-contiguous.
    op
        Its shape, and the ranks.
    out
        (kept,) float32 to write to; a new array by default.
    threads
        Threads at most; default: every core of this process.

    Returns
    -------
    numpy.ndarray
        ``out``.

    Raises
    ------
    ArrayError
        An array of another dtype, shape or order, or fewer than 1 thread.
    """
    check_floats("x", x, channels_last(op.whole))
    flat = float_target(out, (op.kept,), x)
    factors = _factors(op, flat[op.core :])
    for axis, factor in factors:
        factor[...] = spectrum(x, axis, threads)[1][:, : factor.shape[1]]
    _project(x, factors, flat[: op.core], threads)
    return flat


def restore(
    flat: Floats, op: TuckerRestore, *, out: Floats | None = None, threads: int | None = None
) -> Floats:
    """What :func:`save` kept, as (n, h, w, c) float32 again; arguments and errors as there."""
    check_floats("flat", flat, (op.kept,))
    x = float_target(out, channels_last(op.whole), flat)
    _expand(flat[: op.core], op, _factors(op, flat[op.core :]), x, threads)
    return x


def iterate(
    x: Floats,
    bases: Floats,
    op: SubspaceSave,
    *,
    out: Floats | None = None,
    threads: int | None = None,
) -> Floats:
    """Core of ``x`` in bases that one subspace iteration made of those of the step before.

    Parameters
    ----------
    x
        (n, h, w, c) float32, C-contiguous.
    bases
        (bases,) float32: a (size, rank) factor of each compressed axis, one after the other, which
        are overwritten. To begin with, any numbers that are not all orthogonal to ``x``.
    op
        Its shape, and the ranks.
    out
        (core,) float32 to write to; a new array by default.
    threads
        Threads at most; default: every core of this process. They change no bit.

    Returns
    -------
    numpy.ndarray
        ``out``.

    Raises
    ------
    ArrayError
        An array of another dtype, shape or order, or fewer than 1 thread.
    """
    check_floats("x", x, channels_last(op.whole))
    core = float_target(out, (op.core,), x, bases)
    if op.factors:  # else there are no bases
        check_floats("bases", bases, (op.bases,))
        check_written("bases", bases, x)
    factors = _factors(op, bases)
    for axis, basis in factors:
        lines = np.ascontiguousarray(np.moveaxis(x, axis, 0).reshape(len(basis), -1))
        seen = _product(np.ascontiguousarray(basis.T), lines, threads)
        turned = np.ascontiguousarray(_product(lines, seen.T, threads).T, np.float64)
        orthonormalise(turned)
        basis[...] = turned.T
    _project(x, factors, core, threads)
    return core


def restore_core(
    core: Floats,
    bases: Floats,
    op: SubspaceRestore,
    *,
    out: Floats | None = None,
    threads: int | None = None,
) -> Floats:
    """What :func:`iterate` kept, as (n, h, w, c) float32 again; arguments and errors as there."""
    check_floats("core", core, (op.core,))
    if op.factors:
        check_floats("bases", bases, (op.bases,))
    x = float_target(out, channels_last(op.whole), core, bases)
    _expand(core, op, _factors(op, bases), x, threads)
    return x
