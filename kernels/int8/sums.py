"""INT8 tensors that meet at different exponents: sums of n terms, concatenation, split.

A sum (a residual, the gradients at a fan-out, the gradients of micro-batches) is made in two
passes over INT8 and none over INT32: the first finds the largest magnitude of the sum, the
second adds again and requantises. With a shift known beforehand only the second runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kernels.arrays import Array, ArrayError, check_array, int8_mantissa, target
from kernels.int8.rescale import Rescaled, amax, requantise, rescale, stored
from kernels.int8.rescale_loops import Counts, amax_of, plan_of, shift_block
from kernels.int8.stored import Store, Stored
from kernels.jit import compiled
from kernels.profiles import RescaleRule, Small
from kernels.quantised import QTensor
from kernels.rounding import Rounding, shift_right
from kernels.threads import over_elements

Int8s = NDArray[np.int8]
Int32s = NDArray[np.int32]
_Terms = tuple[Int8s, ...]
_CHUNK = 4096
"""Elements summed before they are requantised: their INT32 sums, 16 KiB, stay in L1."""
_MOST_TERMS = 64
"""Each number of terms is compiled on its own."""


@compiled
def _accumulate(terms: _Terms, lefts: Int32s, start: int, total: Int32s) -> None:
    """The sum of the elements from ``start`` on, each term shifted left by its own amount."""
    first, shift = terms[0][start : start + total.size], lefts[0]
    for i in range(total.size):
        total[i] = np.int32(np.int32(first[i]) << shift)
    for k in range(1, len(terms)):
        term, shift = terms[k][start : start + total.size], lefts[k]
        for i in range(total.size):
            total[i] = np.int32(total[i] + np.int32(np.int32(term[i]) << shift))


@compiled
def _amax_block(terms: _Terms, lefts: Int32s, zero: Array, first: int, last: int) -> Any:
    scratch = np.empty(_CHUNK, np.int32)
    largest = zero[0]
    for start in range(first, last, _CHUNK):
        total = scratch[: min(_CHUNK, last - start)]
        _accumulate(terms, lefts, start, total)
        largest = max(largest, amax_of(total, zero))
    return largest


@compiled
def _store_block(
    loop: int,
    terms: _Terms,
    lefts: Int32s,
    y: Int8s,
    plan: Array,
    low: np.int32,
    high: np.int32,
    first: int,
    last: int,
) -> Counts:
    scratch = np.empty(_CHUNK, np.int32)
    largest = saturated = lost = np.int64(0)
    for start in range(first, last, _CHUNK):
        total = scratch[: min(_CHUNK, last - start)]
        _accumulate(terms, lefts, start, total)
        part = shift_block(loop, total, y[start : start + total.size], plan, low, high)
        largest = max(largest, np.int64(part[0]))
        saturated += np.int64(part[1])
        lost += np.int64(part[2])
    return largest, saturated, lost


def _check_terms(terms: Sequence[QTensor], shapes_differ: bool = False) -> list[Int8s]:
    if not 1 <= len(terms) <= _MOST_TERMS:
        raise ArrayError(f"terms are {len(terms)}; allowed: 1 .. {_MOST_TERMS}")
    shape = None if shapes_differ else terms[0].shape
    return [int8_mantissa(f"terms[{i}]", term, shape) for i, term in enumerate(terms)]


class AlignedSum:
    """Terms of one shape, brought to one exponent by shifts, not yet added.

    The exponent is the smallest of the terms if INT32 holds the sum there. Terms finer than
    INT32 can hold (by more than ``23 - ceil_log2(n)`` bits below the coarsest) are rounded by
    the rule; tensors of zeros do not count.

    Attributes
    ----------
    exponent
        Of the INT32 sum.
    shape
        Of each term.

    Raises
    ------
    ArrayError
        No term or too many, another dtype than int8, or shapes that differ.
    """

    __slots__ = ("_lefts", "_terms", "exponent", "shape")

    def __init__(self, terms: Sequence[QTensor], rounding: Rounding = Rounding.HALF_AWAY) -> None:
        arrays = _check_terms(terms)
        self.shape = terms[0].shape
        exponents = [term.exponent for term in terms if np.any(term.mantissa)]
        exponents = exponents or [terms[0].exponent]
        room = 23 - (len(terms) - 1).bit_length()
        self.exponent = max(min(exponents), max(exponents) - room)
        ready, lefts = [], []
        for array, term in zip(arrays, terms, strict=True):
            left = term.exponent - self.exponent
            if left < 0:
                array = shift_right(array, min(-left, 31), rounding).astype(np.int8)
            ready.append(array.reshape(-1))
            lefts.append(min(max(left, 0), room))
        self._terms = tuple(ready)
        self._lefts = np.array(lefts, np.int32)

    def total(self) -> Int32s:
        """The INT32 sum."""
        total = np.empty(self.shape, np.int32)
        _accumulate(self._terms, self._lefts, 0, total.reshape(-1))
        return total

    def amax(self, threads: int | None = None) -> int:
        """Largest magnitude of the sum."""
        terms, lefts, zero = self._terms, self._lefts, np.zeros(1, np.uint32)
        size = terms[0].size
        return int(
            max(over_elements(lambda i, j: _amax_block(terms, lefts, zero, i, j), size, threads))
        )

    def requantise(
        self, store: Store, out: Int8s | None = None, threads: int | None = None
    ) -> Stored:
        """Add, and store as :func:`kernels.int8.rescale.requantise` does."""
        values = target(out, self.shape, np.int8)
        y, terms, lefts = values.reshape(-1), self._terms, self._lefts
        loop, plan = plan_of(store, np.dtype(np.int32))
        low, high = np.int32(store.clip[0]), np.int32(store.clip[1])
        parts = over_elements(
            lambda i, j: _store_block(loop, terms, lefts, y, plan, low, high, i, j),
            y.size,
            threads,
        )
        return stored(values, [*parts])


def add(
    terms: Sequence[QTensor],
    rule: RescaleRule,
    out: Int8s | None = None,
    threads: int | None = None,
    *,
    shift: int | None = None,
) -> Rescaled:
    """Sum of n tensors, rescaled by its own largest magnitude, or by a known shift.

    Parameters
    ----------
    terms
        int8 tensors of one shape, with exponents of their own.
    rule
        How the sum becomes INT8; its rounding also holds for terms too fine for INT32.
    out
        int8 of that shape to write to, not one of the terms; a new array by default.
    threads
        Threads at most; default: every core of this process.
    shift
        The shift to take; by default the rule's, after a pass that scans.

    Returns
    -------
    Rescaled
        ``shift`` is relative to :attr:`AlignedSum.exponent`.

    Raises
    ------
    ArrayError, QuantError
        As :class:`AlignedSum`; an exponent that leaves its range.

    Examples
    --------
    >>> x, y = QTensor(np.array([100], np.int8), -3), QTensor(np.array([100], np.int8), -4)
    >>> add([x, y], RescaleRule(Rounding.HALF_AWAY)).tensor
    QTensor(mantissa=array([75], dtype=int8), exponent=-2)
    """
    aligned = AlignedSum(terms, rule.rounding)
    if shift is None:
        shift = rule.shift(aligned.amax(threads))
    if rule.small is Small.CAST and shift == 0:
        return rescale(aligned.total(), aligned.exponent, rule, out, threads, shift=shift)
    done = aligned.requantise(Store(shift, rule.rounding, rule.clip), out, threads)
    tensor = QTensor(done.values, aligned.exponent + shift)
    return Rescaled(tensor, shift, done.amax, done.saturated, done.lost)


def add_niti_v1(a: QTensor, b: QTensor, rule: RescaleRule) -> Rescaled:
    """NITI version 1's sum of two tensors, ``forward_block_float_add`` of ``ti_torch.py``.

    Exponents that differ by 1 are met by a left shift; by more, by rounding the finer term. If
    the sum exceeds 127 it is shifted by 2, else cast.

    Parameters
    ----------
    a, b
        int8 tensors of one shape.
    rule
        Its rounding and clip.

    Returns
    -------
    Rescaled
        ``shift`` is 0 or 2.

    Raises
    ------
    ArrayError
        Another dtype, or shapes that differ.
    """
    first, second = _check_terms([a, b])
    fine, coarse = (first, second) if a.exponent <= b.exponent else (second, first)
    gap = abs(a.exponent - b.exponent)
    exponent = max(a.exponent, b.exponent)
    left = fine.astype(np.int32)
    right = coarse.astype(np.int32)
    if gap == 1:
        right, exponent = right * 2, exponent - 1
    elif gap:
        finer = requantise(left, Store(min(gap, 31), rule.rounding, rule.clip))
        left = finer.values.astype(np.int32)
    total = left + right
    largest = amax(total)
    shift = 2 if largest > 127 else 0
    done = requantise(total, Store(shift, rule.rounding, rule.clip))
    tensor = QTensor(done.values, exponent + shift)
    return Rescaled(tensor, shift, largest, done.saturated, done.lost)


def align_split_gradients(parts: Sequence[Int8s], widths: Sequence[int]) -> list[Int8s]:
    """Mandheling's alignment of micro-batch gradients: C division toward the widest.

    ``NITI_GradientSplitConv_Int8.cpp``: each part was rescaled by its own width; those of a
    smaller one are divided by ``2^(largest width - width)`` toward zero. So a split batch
    differs from an unsplit one. Add the parts afterwards.

    Parameters
    ----------
    parts
        int8 gradients, one per micro-batch.
    widths
        ``ceil_log2`` of the largest magnitude of each part's accumulators.

    Raises
    ------
    ArrayError
        Not one width per part.
    """
    if len(parts) != len(widths):
        raise ArrayError(f"widths are {len(widths)}; allowed: {len(parts)}, one per part")
    most = max(widths)
    return [
        shift_right(part, most - width, Rounding.TRUNC).astype(np.int8)
        for part, width in zip(parts, widths, strict=True)
    ]


def concat(terms: Sequence[QTensor], rounding: Rounding = Rounding.HALF_AWAY) -> QTensor:
    """Join along the last axis (channels) at the largest exponent; finer terms are rounded.

    Parameters
    ----------
    terms
        int8 tensors whose shapes differ in the last axis only.
    rounding
        For terms at a smaller exponent.

    Raises
    ------
    ArrayError
        No term, another dtype, or shapes that do not fit.

    Examples
    --------
    >>> x, y = QTensor(np.array([[7]], np.int8), -1), QTensor(np.array([[7]], np.int8), -3)
    >>> concat([x, y])
    QTensor(mantissa=array([[7, 2]], dtype=int8), exponent=-1)
    """
    arrays = _check_terms(terms, shapes_differ=True)
    lead = terms[0].shape[:-1]
    if any(term.shape[:-1] != lead for term in terms):
        shapes = [term.shape for term in terms]
        raise ArrayError(f"terms have shapes {shapes}; allowed: equal but for the last axis")
    exponent = max(term.exponent for term in terms)
    joined = np.empty((*lead, sum(term.shape[-1] for term in terms)), np.int8)
    every_value = np.arange(-128, 128)
    start = 0
    for array, term in zip(arrays, terms, strict=True):
        part = joined[..., start : start + array.shape[-1]]
        start += array.shape[-1]
        gap = min(exponent - term.exponent, 31)
        table = np.roll(shift_right(every_value, gap, rounding), 128).astype(np.int8)
        part[...] = table[array.view(np.uint8)] if gap else array
    return QTensor(joined, exponent)


def split(e: Array, widths: Sequence[int]) -> list[Array]:
    """Cut along the last axis: the backward pass of :func:`concat`; exponents stay.

    Parameters
    ----------
    e
        Errors, (..., c).
    widths
        Channels of each part; their sum is c.

    Returns
    -------
    list of numpy.ndarray
        Copies, C-contiguous.

    Raises
    ------
    ArrayError
        Widths that do not add up to c, or below 1.
    """
    check_array("e", e, np.int8, np.int32)
    if sum(widths) != e.shape[-1] or min(widths) < 1:
        raise ArrayError(f"widths are {list(widths)}; allowed: 1 or more, {e.shape[-1]} in all")
    ends = np.cumsum(np.asarray(widths, dtype=np.int64)).tolist()
    starts: list[Any] = [0, *ends[:-1]]
    return [e[..., i:j].copy() for i, j in zip(starts, ends, strict=True)]
