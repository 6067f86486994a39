"""Accumulators to INT8: the largest magnitude, and a shift with a rounding rule and a clip.

One pass reads each accumulator once and writes one byte; it finds the largest magnitude, and
counts what the shift cost, on the way. The loops are in :mod:`kernels.int8.rescale_loops`, their
plain twin is :mod:`kernels.rounding`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kernels.arrays import Array, check_array, target
from kernels.int8.draws import check_key
from kernels.int8.rescale_loops import Counts, amax_of, plan_of, shift_block, stochastic_block
from kernels.int8.stored import Store, Stored
from kernels.profiles import DROPPED, RescaleRule, Small
from kernels.quantised import QTensor
from kernels.rounding import NITI_CLIP, Rounding
from kernels.threads import over_elements


def amax(acc: Array, threads: int | None = None) -> int:
    """Largest magnitude, exactly.

    Parameters
    ----------
    acc
        int8, int32 or int64, C-contiguous, of any shape.
    threads
        Threads at most; default: every core of this process.

    Returns
    -------
    int
        ``2^31`` for a least int32.

    Raises
    ------
    ArrayError
        Another dtype or memory order, or no element.

    Examples
    --------
    >>> amax(np.array([5, -(2**31)], np.int32))
    2147483648
    """
    check_array("acc", acc, np.int8, np.int32, np.int64)
    flat = acc.reshape(-1)
    zero = np.zeros(1, acc.dtype.name.replace("int", "uint"))
    return int(max(over_elements(lambda i, j: amax_of(flat[i:j], zero), flat.size, threads)))


def stored(values: NDArray[np.int8], parts: list[Counts]) -> Stored:
    """Join what the blocks counted."""
    largest, saturated, lost = zip(*parts, strict=True)
    return Stored(values, int(max(largest)), int(sum(saturated)), int(sum(lost)))


def requantise(
    acc: Array, store: Store, out: NDArray[np.int8] | None = None, threads: int | None = None
) -> Stored:
    """``clip(round(acc / 2^shift))`` as int8, with the largest magnitude and the losses.

    Parameters
    ----------
    acc
        int32 or int64, C-contiguous, of any shape.
    store
        Shift, rule and clip; a negative shift multiplies, and saturates at the clip.
    out
        int8 of the same shape to write to; a new array by default.
    threads
        Threads at most; default: every core of this process. The bits do not depend on it.

    Returns
    -------
    Stored
        The int8 values; ``amax`` is that of ``acc``.

    Raises
    ------
    ArrayError
        Another dtype, shape or memory order, or no element.

    Examples
    --------
    >>> requantise(np.array([-6, 6, 1, 900], np.int32), Store(2)).values
    array([ -2,   2,   0, 127], dtype=int8)
    """
    check_array("acc", acc, np.int32, np.int64)
    values = target(out, acc.shape, np.int8)
    x, y, (loop, plan) = acc.reshape(-1), values.reshape(-1), plan_of(store, acc.dtype)
    low, high = (np.int32(limit) for limit in store.clip)
    parts = over_elements(
        lambda i, j: shift_block(loop, x[i:j], y[i:j], plan, low, high), x.size, threads
    )
    return stored(values, parts)


def requantise_stochastic(
    acc: Array,
    shift: int,
    key: int,
    clip: tuple[int, int] = NITI_CLIP,
    out: NDArray[np.int8] | None = None,
    threads: int | None = None,
) -> Stored:
    """NITI's ``StoShift``: up in magnitude with probability (dropped bits) / ``2^shift``.

    The draw of element ``i`` (in C order) is the upper ``shift`` bits of
    :func:`kernels.int8.draws.draw` at ``(key, i)``, so the bits do not depend on threads.

    Parameters
    ----------
    acc, out, threads
        As for :func:`requantise`.
    shift
        -31 to 31; 0 and below drop no bits and use no draws.
    key
        ``0 .. 2^64 - 1``, from :func:`kernels.int8.draws.draw_key`.
    clip
        Least and largest int8 made.

    Raises
    ------
    ArrayError, StoreError, DrawError
        An array, shift or clip, or key that is not allowed.
    """
    check_key(key)
    store = Store(shift, Rounding.TRUNC, clip)  # checks shift and clip
    if shift <= 0:
        return requantise(acc, store, out, threads)
    check_array("acc", acc, np.int32, np.int64)
    values = target(out, acc.shape, np.int8)
    x, y = acc.reshape(-1), values.reshape(-1)
    start = np.uint64(key)

    def block(i: int, j: int) -> Counts:
        return stochastic_block(x[i:j], y[i:j], i, start, shift, clip[0], clip[1])

    return stored(values, over_elements(block, x.size, threads))


@dataclass(frozen=True, slots=True, eq=False)
class Rescaled:
    """An INT8 tensor made from accumulators, and how.

    Attributes
    ----------
    tensor
        int8 mantissa and exponent.
    shift
        The right shift taken (negative: left).
    amax
        Largest magnitude of the accumulators.
    saturated, lost
        Values that the clip (or a cast) changed; values other than 0 that became 0.
    """

    tensor: QTensor
    shift: int
    amax: int
    saturated: int
    lost: int


def rescale(
    acc: Array,
    exponent: int,
    rule: RescaleRule,
    out: NDArray[np.int8] | None = None,
    threads: int | None = None,
    *,
    shift: int | None = None,
) -> Rescaled:
    """Scan for the largest magnitude, take the rule's shift, requantise: dynamic rescaling.

    With a ``shift`` that is known beforehand there is no scan, and the rule gives rounding, clip
    and what small values become.

    Parameters
    ----------
    acc
        int32 or int64 accumulators, C-contiguous, of any shape.
    exponent
        Of the accumulators: value = accumulator * 2^exponent.
    rule
        From a profile, by :func:`kernels.profiles.rule_of`.
    out, threads
        As for :func:`requantise`.
    shift
        The shift to take; by default the rule's, after a scan.

    Returns
    -------
    Rescaled
        ``tensor.exponent`` is ``exponent + shift``; ``exponent`` where a shift by
        :data:`kernels.profiles.DROPPED` leaves nothing but zeros, as of a dropped gradient.

    Raises
    ------
    ArrayError, QuantError
        An array that is not allowed; an exponent that leaves -126 .. 127.

    Examples
    --------
    >>> rescale(np.array([1000, -3], np.int32), -9, RescaleRule(Rounding.HALF_AWAY)).tensor
    QTensor(mantissa=array([125,   0], dtype=int8), exponent=-6)
    """
    if shift is None:
        shift = rule.shift(amax(acc, threads))
    if rule.small is Small.CAST and shift == 0:
        values = target(out, acc.shape, np.int8)
        values[...] = acc.astype(np.int8)
        wrapped = int(np.count_nonzero(values != acc))
        return Rescaled(QTensor(values, exponent), shift, amax(acc, threads), wrapped, 0)
    done = requantise(acc, Store(shift, rule.rounding, rule.clip), out, threads)
    dropped = shift == DROPPED and not done.values.any()
    scale = exponent if dropped else exponent + shift
    tensor = QTensor(done.values, scale)
    return Rescaled(tensor, shift, done.amax, done.saturated, done.lost)
