"""Batch norm between INT8 borders: INT8 in and out, FP32 inside, no FP32 tensor in memory.

The bits are those of :func:`kernels.int8.border.dequantise`, :mod:`kernels.fp32.norm` and
:func:`kernels.int8.border.quantise`, one after the other. What makes it cheap: sums of INT8 values
and of their squares are integers, and the output of a channel is monotone in its input, also
rounded to FP32, so its largest magnitude stands at the channel's least or largest input.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kernels.arrays import int8_mantissa, target
from kernels.fp32.norm import (
    EPS,
    MOMENTUM,
    RunningStatistics,
    add_gradients,
    check_channels,
    check_settings,
    input_grad_factors,
    normalised,
    spread,
    statistics,
)
from kernels.fp32.sums import CHUNK, SERIAL_FLOATS, in_chunks
from kernels.int8.border import exponent_of, float_amax, magnitude_of_bits, rounded, unit_of
from kernels.jit import compiled
from kernels.norm import BatchNorm2d
from kernels.quantised import QTensor
from kernels.rounding import NITI_CLIP
from kernels.threads import over_rows, thread_count

Floats = NDArray[np.float32]
Int8s = NDArray[np.int8]
Int32s = NDArray[np.int32]


@compiled
def _moments(x: Int8s, first: int, last: int, part: Int32s) -> None:
    """Sum, sum of squares, least and largest value by channel of some rows: ``part`` is (4, c)."""
    total, squares, least, most = part[0], part[1], part[2], part[3]
    for i in range(first, last):
        row = x[i]
        for j in range(row.size):
            value = np.int32(row[j])
            total[j] = np.int32(total[j] + value)
            squares[j] = np.int32(squares[j] + np.int32(value * value))
            least[j] = min(least[j], value)
            most[j] = max(most[j], value)


@compiled
def _normalise(
    x: Int8s, unit: np.float32, mean: Floats, scale: Floats, shift: Floats, up: np.float32,
    low: np.float32, high: np.float32, out: Int8s, first: int, last: int,
) -> None:  # fmt: skip
    for i in range(first, last):
        row, written = x[i], out[i]
        for j in range(row.size):
            value = np.float32(row[j]) * unit
            written[j] = rounded(normalised(value, mean[j], scale[j], shift[j]), up, low, high)


@compiled
def _spread_amax(
    x: Int8s, e: Int8s, x_unit: np.float32, e_unit: np.float32, mean: Floats, scale: Floats,
    slope: Floats, offset: Floats, first: int, last: int,
) -> np.int32:  # fmt: skip
    """Largest magnitude of dX over some rows, as bits: NaN counts as the largest of all."""
    line = np.empty(mean.size, np.float32)
    bits, largest = line.view(np.int32), np.int32(0)
    for i in range(first, last):
        row, errors = x[i], e[i]
        for j in range(row.size):
            value, error = np.float32(row[j]) * x_unit, np.float32(errors[j]) * e_unit
            line[j] = spread(value, error, mean[j], scale[j], slope[j], offset[j])
        for j in range(row.size):
            largest = max(largest, np.int32(bits[j] & np.int32(0x7FFFFFFF)))
    return largest


@compiled
def _spread(
    x: Int8s, e: Int8s, x_unit: np.float32, e_unit: np.float32, mean: Floats, scale: Floats,
    slope: Floats, offset: Floats, up: np.float32, low: np.float32, high: np.float32, out: Int8s,
    first: int, last: int,
) -> None:  # fmt: skip
    for i in range(first, last):
        row, errors, written = x[i], e[i], out[i]
        for j in range(row.size):
            value, error = np.float32(row[j]) * x_unit, np.float32(errors[j]) * e_unit
            dx = spread(value, error, mean[j], scale[j], slope[j], offset[j])
            written[j] = rounded(dx, up, low, high)


def norm_forward(
    x: QTensor,
    gamma: Floats,
    beta: Floats,
    op: BatchNorm2d,
    *,
    clip: tuple[int, int] = NITI_CLIP,
    eps: float = EPS,
    running: RunningStatistics | None = None,
    momentum: float = MOMENTUM,
    out: Int8s | None = None,
    threads: int | None = None,
) -> tuple[QTensor, Floats, Floats]:
    """Dequantise, normalise by the statistics of this batch, quantise.

    Parameters
    ----------
    x
        int8 (n, h, w, c), C-contiguous.
    gamma, beta, op, eps, running, momentum
        As in :func:`kernels.fp32.norm.norm_forward`.
    clip
        Least and largest mantissa of the output.
    out
        int8 (n, h, w, c) to write to, not that of ``x``; a new array by default.
    threads
        Threads at most; default: every core of this process. The bits are the same for each.

    Returns
    -------
    y : QTensor
        int8, at the exponent of :func:`kernels.int8.border.quantise`.
    mean, inv_std : numpy.ndarray
        (c,) float32, for the backward pass.

    Raises
    ------
    ArrayError
        Arrays of another dtype, shape or order; numbers outside what is allowed.
    QuantError
        Values above float32, or an output with NaN or infinity.
    """
    rows, unit, count = _entry("x", x, op, threads)
    check_channels(op, gamma=gamma, beta=beta)
    check_settings(op, eps, running, momentum)
    written = target(out, x.shape, np.int8)
    chunks = -(-len(rows) // CHUNK)
    parts = np.zeros((chunks, 4, op.c), np.int32)
    parts[:, 2], parts[:, 3] = 127, -128

    def add_chunks(first: int, last: int) -> None:
        for chunk in range(first, last):
            _moments(rows, chunk * CHUNK, min((chunk + 1) * CHUNK, len(rows)), parts[chunk])

    over_rows(add_chunks, chunks, 1, count)
    total, squares = parts[:, :2].sum(0, dtype=np.int64) * np.float64(unit)
    mean, inv_std = statistics(total, squares * np.float64(unit), len(rows), eps, running, momentum)
    scale = gamma * inv_std
    ends = np.array([parts[:, 2].min(0), parts[:, 3].max(0)], np.float32) * unit
    exponent = exponent_of(float_amax((ends - mean) * scale + beta))
    up, low, high = _scaling(exponent, clip)
    flat = written.reshape(rows.shape)
    over_rows(
        lambda first, last: _normalise(
            rows, unit, mean, scale, beta, up, low, high, flat, first, last
        ),
        len(rows), CHUNK, count,
    )  # fmt: skip
    return QTensor(written, exponent), mean, inv_std


def norm_weight_grad(
    x: QTensor,
    e: QTensor,
    mean: Floats,
    inv_std: Floats,
    op: BatchNorm2d,
    *,
    threads: int | None = None,
) -> tuple[Floats, Floats]:
    """Gradients of gamma and beta from INT8 input and error.

    Parameters
    ----------
    x, e
        int8 (n, h, w, c): the input, and the gradient of the output.
    mean, inv_std
        (c,) float32, from :func:`norm_forward`.
    op, threads
        As there.

    Returns
    -------
    dgamma, dbeta : numpy.ndarray
        (c,) float32 each: those of :func:`kernels.fp32.norm.norm_weight_grad`.

    Raises
    ------
    ArrayError, QuantError
        As :func:`norm_forward`.
    """
    rows, x_unit, count = _entry("x", x, op, threads)
    errors, e_unit, _ = _entry("e", e, op, threads)
    check_channels(op, mean=mean, inv_std=inv_std)
    units = (x_unit, e_unit)
    dgamma, dbeta = in_chunks(
        lambda first, last, part: add_gradients(
            rows, errors, units, mean, inv_std, first, last, part
        ),
        rows=len(rows), kinds=2, channels=op.c, threads=count,
    ).astype(np.float32)  # fmt: skip
    return dgamma, dbeta


def norm_input_grad(
    x: QTensor,
    e: QTensor,
    gamma: Floats,
    mean: Floats,
    inv_std: Floats,
    dgamma: Floats,
    dbeta: Floats,
    op: BatchNorm2d,
    *,
    clip: tuple[int, int] = NITI_CLIP,
    out: Int8s | None = None,
    threads: int | None = None,
) -> QTensor:
    """Gradient of the input from INT8 input and error, quantised: two passes, one finds the scale.

    Parameters
    ----------
    x, e
        int8 (n, h, w, c): the input, and the gradient of the output.
    gamma, mean, inv_std, dgamma, dbeta
        (c,) float32, as in :func:`kernels.fp32.norm.norm_input_grad`.
    clip, op, out, threads
        As in :func:`norm_forward`.

    Raises
    ------
    ArrayError, QuantError
        As :func:`norm_forward`.
    """
    rows, x_unit, count = _entry("x", x, op, threads)
    errors, e_unit, _ = _entry("e", e, op, threads)
    check_channels(op, gamma=gamma, mean=mean, inv_std=inv_std, dgamma=dgamma, dbeta=dbeta)
    written = target(out, x.shape, np.int8)
    scale, slope, offset = input_grad_factors(gamma, inv_std, dgamma, dbeta, op)
    factors = (x_unit, e_unit, mean, scale, slope, offset)
    found: list[int] = []
    over_rows(
        lambda first, last: found.append(int(_spread_amax(rows, errors, *factors, first, last))),
        len(rows), CHUNK, count,
    )  # fmt: skip
    exponent = exponent_of(magnitude_of_bits(max(found)))
    ends, flat = _scaling(exponent, clip), written.reshape(rows.shape)
    over_rows(
        lambda first, last: _spread(rows, errors, *factors, *ends, flat, first, last),
        len(rows), CHUNK, count,
    )  # fmt: skip
    return QTensor(written, exponent)


def _entry(
    name: str, x: QTensor, op: BatchNorm2d, threads: int | None
) -> tuple[Int8s, np.float32, int]:
    """Rows of channels, what 1 is worth, and the threads that are worth their call."""
    mantissa = int8_mantissa(name, x, (op.n, op.h, op.w, op.c))
    count = thread_count(threads) if mantissa.size > SERIAL_FLOATS else 1
    return mantissa.reshape(-1, op.c), unit_of(x), count


def _scaling(exponent: int, clip: tuple[int, int]) -> tuple[np.float32, np.float32, np.float32]:
    return np.float32(2.0**-exponent), np.float32(clip[0]), np.float32(clip[1])
