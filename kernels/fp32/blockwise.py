"""Optimiser state in 8 bits: blocks with a scale each, and a codebook that is not linear.

Dettmers et al., *8-bit Optimizers via Block-wise Quantization* (arXiv 2110.02861). State is cut in
blocks of :data:`BLOCK` elements; each keeps its largest magnitude and one byte per element, an
index into 256 values from -1 to 1. The values are dynamic: seven decades below 1, of which each has
twice as many equal steps as the one below, so that large values are told apart finely and small
ones are not lost. In an update each block is widened, updated and narrowed again; no 32-bit copy is
kept.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
from numpy.typing import NDArray

from kernels.arrays import ArrayError, Floats, check_array, check_floats
from kernels.fp32.update import check_factor
from kernels.jit import compiled
from kernels.threads import over_rows, thread_count
from kernels.update import STATE_BLOCK

BLOCK = STATE_BLOCK
"""Elements that share a scale (the paper's)."""
DECADES = 7
"""Powers of ten that codes span: the least non-zero one is 0.55e-6."""
Codes = NDArray[np.uint8]
_WORTHWHILE = 32
"""Blocks below which handing them to another thread costs more than it saves."""


def blocks_of(elements: int) -> int:
    """Blocks that hold so many elements.

    >>> blocks_of(2048), blocks_of(2049)
    (1, 2)
    """
    return -(-elements // BLOCK)


@cache
def codebook() -> Floats:
    """The 256 values, float32, rising from nearly -1 to 1; read-only.

    Decade ``d`` (0 the smallest) covers ``10^(d-7) .. 10^(d-6)`` in ``2^d`` equal steps, each
    stood for by its middle, with both signs; 0 and 1 are values of their own.

    Examples
    --------
    >>> len(codebook()), float(codebook()[127]), float(codebook()[-1])
    (256, 0.0, 1.0)
    """
    middles = []
    for decade in range(DECADES):
        edges = np.linspace(0.1, 1.0, 2**decade + 1)
        middles.append((edges[:-1] + edges[1:]) / 2 * 10.0 ** (decade - DECADES + 1))
    positive = np.concatenate(middles)
    values = np.concatenate([-positive, [0.0], positive, [1.0]])
    book = np.sort(values).astype(np.float32)
    book.flags.writeable = False
    return book


@cache
def _borders() -> Floats:
    """Largest value of each code but the last, float32: halfway to the next, rounded down."""
    book = codebook().astype(np.float64)
    middle = (book[:-1] + book[1:]) / 2
    borders = middle.astype(np.float32)
    above = borders > middle
    borders[above] = np.nextafter(borders[above], np.float32(-np.inf))
    borders.flags.writeable = False
    return borders


@compiled
def _nearest(value: np.float32, borders: Floats) -> int:
    """Index of the code nearest to a value; the lower one halfway between two."""
    low, high = 0, borders.size
    while low < high:
        middle = (low + high) // 2
        if value > borders[middle]:
            low = middle + 1
        else:
            high = middle
    return low


@compiled
def _narrow(v: Floats, codes: Codes, scales: Floats, borders: Floats, block: int) -> None:
    """Store a block; one with a value that is not finite has the scale NaN, and reads back as it.

    An update that diverges so shows as it does with a velocity in FP32: the loss is no number.
    """
    first, last = block * BLOCK, min((block + 1) * BLOCK, codes.size)
    largest = np.float32(0)
    for i in range(last - first):
        if not np.isfinite(v[i]):
            largest = np.float32(np.nan)
            break
        largest = max(largest, abs(v[i]))
    scales[block] = largest
    for i in range(last - first):
        value = v[i] / largest if largest > 0 else np.float32(0)
        codes[first + i] = _nearest(value, borders)


@compiled
def _quantised(
    x: Floats, codes: Codes, scales: Floats, borders: Floats, first: int, last: int
) -> None:
    for block in range(first, last):
        _narrow(x[block * BLOCK : (block + 1) * BLOCK], codes, scales, borders, block)


@compiled
def _updated(
    w: Floats, g: Floats, codes: Codes, scales: Floats, book: Floats, borders: Floats,
    rate: np.float32, momentum: np.float32, decay: np.float32, first: int, last: int,
) -> None:  # fmt: skip
    velocity = np.empty(BLOCK, np.float32)
    for block in range(first, last):
        begin, end = block * BLOCK, min((block + 1) * BLOCK, codes.size)
        scale = scales[block]
        for i in range(begin, end):
            before = scale * book[codes[i]]
            after = momentum * before + (g[i] + decay * w[i])
            velocity[i - begin] = after
            w[i] -= rate * after
        _narrow(velocity, codes, scales, borders, block)


def quantise_blocks(x: Floats, *, threads: int | None = None) -> tuple[Codes, Floats]:
    """Codes and scales of a state.

    Parameters
    ----------
    x
        float32 of any shape, C-contiguous, finite.
    threads
        Threads at most; default: every core of this process.

    Returns
    -------
    codes, scales
        uint8 of ``x.size``, and float32 with one value per block.

    Raises
    ------
    ArrayError
        Another dtype or order, or a value that is not finite.
    """
    check_floats("x", x)
    if not np.isfinite(x).all():
        raise ArrayError("x holds a value that is not finite; a block with it has no scale")
    flat = x.reshape(-1)
    codes, scales = np.zeros(flat.size, np.uint8), np.zeros(blocks_of(flat.size), np.float32)
    borders = _borders()
    _over_blocks(
        lambda first, last: _quantised(flat, codes, scales, borders, first, last),
        len(scales),
        threads,
    )
    return codes, scales


def dequantise_blocks(codes: Codes, scales: Floats) -> Floats:
    """The float32 values that codes and scales stand for, flat."""
    _check_state(codes, scales, codes.size)
    values: Floats = codebook()[codes] * np.repeat(scales, BLOCK)[: codes.size]
    return values


def blockwise_update(
    w: Floats,
    g: Floats,
    codes: Codes,
    scales: Floats,
    *,
    rate: float,
    momentum: float,
    weight_decay: float = 0.0,
    threads: int | None = None,
) -> None:
    """``v = momentum v + (g + weight_decay w)``, ``w = w - rate v``, in place; ``v`` in 8 bits.

    The weights take their step by the velocity before it is narrowed. Of a block with a velocity
    that is not finite, the scale becomes NaN, and so do all weights of the block in the next step.

    Parameters
    ----------
    w, g
        Weights and their gradient, float32 of one shape, C-contiguous; ``w`` is changed.
    codes, scales
        The velocity, as :func:`quantise_blocks` gives it; changed.
    rate, momentum, weight_decay
        As for :func:`kernels.fp32.update.sgd_update`.
    threads
        Threads at most; the bits are the same for each.

    Raises
    ------
    ArrayError
        An array of another dtype, shape or order, or a factor out of range.

    Examples
    --------
    >>> w = np.array([1.0], np.float32)
    >>> codes, scales = quantise_blocks(np.zeros(1, np.float32))
    >>> blockwise_update(w, np.array([2.0], np.float32), codes, scales, rate=0.25, momentum=0.9)
    >>> w, dequantise_blocks(codes, scales)
    (array([0.5], dtype=float32), array([2.], dtype=float32))
    """
    check_floats("w", w)
    check_floats("g", g, w.shape)
    _check_state(codes, scales, w.size)
    step, decay = check_factor("rate", rate), check_factor("weight_decay", weight_decay)
    kept = check_factor("momentum", momentum, 1.0)
    flat, gradient, book, borders = w.reshape(-1), g.reshape(-1), codebook(), _borders()
    _over_blocks(
        lambda first, last: _updated(
            flat, gradient, codes, scales, book, borders, step, kept, decay, first, last
        ),
        len(scales),
        threads,
    )


def _over_blocks(kernel: Callable[[int, int], None], blocks: int, threads: int | None) -> None:
    over_rows(kernel, blocks, 1, thread_count(threads, shared=blocks > _WORTHWHILE), _WORTHWHILE)


def _check_state(codes: Codes, scales: Floats, elements: int) -> None:
    check_array("codes", codes, np.uint8, shape=(elements,))
    check_array("scales", scales, np.float32, shape=(blocks_of(elements),))
