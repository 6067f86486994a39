"""FP32 batch norm of :class:`kernels.norm.BatchNorm2d`, channels-last.

Ioffe and Szegedy, arXiv 1502.03167, section 3 and algorithm 2; running statistics and defaults as
``torch.nn.BatchNorm2d`` has them. Sums are :mod:`kernels.fp32.sums`: their bits do not depend on
threads.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from kernels.arrays import ArrayError, Floats, check_floats, float_target
from kernels.fp32.sums import CHUNK, SERIAL_FLOATS, Doubles, in_chunks
from kernels.jit import compiled
from kernels.norm import BatchNorm2d
from kernels.threads import over_rows, thread_count

Values = NDArray[np.float32] | NDArray[np.int8]
Units = tuple[np.float32, np.float32]
AS_IS: Units = (np.float32(1), np.float32(1))
"""Units of values that are float32 already; INT8 counts in ``2^exponent``."""
EPS = 1e-5
MOMENTUM = 0.1
"""Share of a batch in the running statistics."""


@dataclass(frozen=True, slots=True, eq=False)
class RunningStatistics:
    """What evaluation normalises by: averages over the batches of training, changed in place.

    Attributes
    ----------
    mean, var
        (c,) float32; ``var`` is the unbiased estimate.
    """

    mean: Floats
    var: Floats

    @classmethod
    def fresh(cls, op: BatchNorm2d) -> Self:
        """Mean 0 and variance 1, as training starts from."""
        return cls(np.zeros(op.c, np.float32), np.ones(op.c, np.float32))

    def follow(self, mean: Doubles, var: Doubles, count: int, momentum: float) -> None:
        """Move towards the mean and (biased) variance of a batch of ``count`` rows."""
        unbiased = var * (count / (count - 1)) if count > 1 else var
        self.mean[:] = (1 - momentum) * self.mean + momentum * mean
        self.var[:] = (1 - momentum) * self.var + momentum * unbiased


@compiled
def _add_moments(x: Floats, first: int, last: int, part: Doubles) -> None:
    total, squares = part[0], part[1]
    for i in range(first, last):
        row = x[i]
        for j in range(row.size):
            value = np.float64(row[j])
            total[j] += value
            squares[j] += value * value


@compiled
def add_gradients(
    x: Values, e: Values, units: Units, mean: Floats, inv_std: Floats, first: int, last: int,
    part: Doubles,
) -> None:  # fmt: skip
    """Add dgamma and dbeta of some rows to ``part``; ``x`` and ``e`` count in ``units``."""
    gamma, beta = part[0], part[1]
    x_unit, e_unit = units
    for i in range(first, last):
        row, errors = x[i], e[i]
        for j in range(row.size):
            value, error = np.float32(row[j]) * x_unit, np.float32(errors[j]) * e_unit
            gamma[j] += np.float64(error * ((value - mean[j]) * inv_std[j]))
            beta[j] += np.float64(error)


@compiled
def normalised(value: np.float32, mean: np.float32, scale: np.float32, shift: np.float32) -> Any:
    """One value of the output; monotone in ``value``, since each rounding is."""
    return (value - mean) * scale + shift


@compiled
def spread(
    value: np.float32, error: np.float32, mean: np.float32, scale: np.float32, slope: np.float32,
    offset: np.float32,
) -> Any:  # fmt: skip
    """One value of dX."""
    return (error - offset - (value - mean) * slope) * scale


@compiled
def _normalise(
    x: Floats, mean: Floats, scale: Floats, shift: Floats, out: Floats, first: int, last: int
) -> None:
    for i in range(first, last):
        row, written = x[i], out[i]
        for j in range(row.size):
            written[j] = normalised(row[j], mean[j], scale[j], shift[j])


@compiled
def _spread(
    x: Floats, e: Floats, mean: Floats, scale: Floats, slope: Floats, offset: Floats, out: Floats,
    first: int, last: int,
) -> None:  # fmt: skip
    for i in range(first, last):
        row, error, written = x[i], e[i], out[i]
        for j in range(row.size):
            written[j] = spread(row[j], error[j], mean[j], scale[j], slope[j], offset[j])


def statistics(
    total: Doubles,
    squares: Doubles,
    size: int,
    eps: float,
    running: RunningStatistics | None,
    momentum: float,
) -> tuple[Floats, Floats]:
    """Mean and ``1 / sqrt(var + eps)`` of each channel, from its sums; moves ``running``."""
    mean = total / size
    var = np.maximum(squares / size - mean * mean, 0.0)
    if running is not None:
        running.follow(mean, var, size, momentum)
    return mean.astype(np.float32), (1 / np.sqrt(var + eps)).astype(np.float32)


def input_grad_factors(
    gamma: Floats, inv_std: Floats, dgamma: Floats, dbeta: Floats, op: BatchNorm2d
) -> tuple[Floats, Floats, Floats]:
    """Scale, slope and offset of dX by channel, as :func:`spread` takes them."""
    size = np.float32(op.n * op.h * op.w)
    return gamma * inv_std, dgamma / size * inv_std, dbeta / size


def _shape(op: BatchNorm2d) -> tuple[int, ...]:
    return (op.n, op.h, op.w, op.c)


def check_channels(op: BatchNorm2d, **arrays: Floats) -> None:
    """Refuse arrays that are not (c,) float32."""
    for name, array in arrays.items():
        check_floats(name, array, (op.c,))


def check_settings(
    op: BatchNorm2d,
    eps: float,
    running: RunningStatistics | None = None,
    momentum: float = MOMENTUM,
) -> None:
    """Refuse numbers out of range, and running statistics of other channels."""
    if not (isfinite(eps) and eps > 0):
        raise ArrayError(f"eps is {eps!r}; allowed: a number above 0, as {EPS}")
    if not 0 <= momentum <= 1:
        raise ArrayError(f"momentum is {momentum!r}; allowed: 0 to 1")
    if running is not None:
        check_floats("running.mean", running.mean, (op.c,))
        check_floats("running.var", running.var, (op.c,))


def _threads(op: BatchNorm2d, threads: int | None) -> int:
    count = thread_count(threads)
    return count if op.n * op.h * op.w * op.c > SERIAL_FLOATS else 1


def norm_forward(
    x: Floats,
    gamma: Floats,
    beta: Floats,
    op: BatchNorm2d,
    *,
    eps: float = EPS,
    running: RunningStatistics | None = None,
    momentum: float = MOMENTUM,
    out: Floats | None = None,
    threads: int | None = None,
) -> tuple[Floats, Floats, Floats]:
    """``y = gamma (x - mean) / sqrt(var + eps) + beta`` by the statistics of this batch.

    Parameters
    ----------
    x
        (n, h, w, c) float32, C-contiguous.
    gamma, beta
        (c,) float32.
    op
        The normalisation.
    eps
        Added to the variance; above 0.
    running
        Averages to move by ``momentum`` towards this batch, in place; left out: none are kept.
    momentum
        Share of this batch in them, 0 to 1.
    out
        (n, h, w, c) float32 to write to; a new array by default.
    threads
        Threads at most; default: every core of this process. The bits are the same for each.

    Returns
    -------
    y, mean, inv_std : numpy.ndarray
        ``out``, and (c,) float32 each: the mean and ``1 / sqrt(var + eps)`` (variance over
        ``n h w``) that the backward pass reads.

    Raises
    ------
    ArrayError
        An array of another dtype, shape or order; ``eps``, ``momentum`` or ``threads`` outside
        what is allowed.
    """
    check_floats("x", x, _shape(op))
    check_channels(op, gamma=gamma, beta=beta)
    check_settings(op, eps, running, momentum)
    y, count = float_target(out, _shape(op), x, gamma, beta), _threads(op, threads)
    rows, size = x.reshape(-1, op.c), op.n * op.h * op.w
    total, squares = in_chunks(
        lambda first, last, part: _add_moments(rows, first, last, part),
        rows=size,
        kinds=2,
        channels=op.c,
        threads=count,
    )
    mean, inv_std = statistics(total, squares, size, eps, running, momentum)
    scale, written = gamma * inv_std, y.reshape(-1, op.c)
    over_rows(
        lambda first, last: _normalise(rows, mean, scale, beta, written, first, last),
        size,
        CHUNK,
        count,
    )
    return y, mean, inv_std


def norm_evaluate(
    x: Floats,
    gamma: Floats,
    beta: Floats,
    running: RunningStatistics,
    op: BatchNorm2d,
    *,
    eps: float = EPS,
    out: Floats | None = None,
    threads: int | None = None,
) -> Floats:
    """``y = gamma (x - mean) / sqrt(var + eps) + beta`` by running statistics.

    Parameters
    ----------
    running
        What training kept.
    x, gamma, beta, op, eps, out, threads
        As in :func:`norm_forward`.

    Returns
    -------
    numpy.ndarray
        ``out``: (n, h, w, c) float32.

    Raises
    ------
    ArrayError
        As :func:`norm_forward`.
    """
    check_floats("x", x, _shape(op))
    check_channels(op, gamma=gamma, beta=beta)
    check_settings(op, eps, running)
    y, count = float_target(out, _shape(op), x, gamma, beta), _threads(op, threads)
    scale = (gamma / np.sqrt(running.var.astype(np.float64) + eps)).astype(np.float32)
    rows, written = x.reshape(-1, op.c), y.reshape(-1, op.c)
    over_rows(
        lambda first, last: _normalise(rows, running.mean, scale, beta, written, first, last),
        len(rows),
        CHUNK,
        count,
    )
    return y


def norm_weight_grad(
    x: Floats,
    e: Floats,
    mean: Floats,
    inv_std: Floats,
    op: BatchNorm2d,
    *,
    threads: int | None = None,
) -> tuple[Floats, Floats]:
    """Gradients of gamma and beta: sums of error times normalised input, and of error.

    Parameters
    ----------
    x, e
        (n, h, w, c) float32: the input, and the gradient of the output.
    mean, inv_std
        (c,) float32, from :func:`norm_forward`.
    op, threads
        As in :func:`norm_forward`.

    Returns
    -------
    dgamma, dbeta : numpy.ndarray
        (c,) float32 each.

    Raises
    ------
    ArrayError
        As :func:`norm_forward`.
    """
    check_floats("x", x, _shape(op))
    check_floats("e", e, _shape(op))
    check_channels(op, mean=mean, inv_std=inv_std)
    rows, errors = x.reshape(-1, op.c), e.reshape(-1, op.c)
    dgamma, dbeta = in_chunks(
        lambda first, last, part: add_gradients(
            rows, errors, AS_IS, mean, inv_std, first, last, part
        ),
        rows=len(rows),
        kinds=2,
        channels=op.c,
        threads=_threads(op, threads),
    ).astype(np.float32)
    return dgamma, dbeta


def norm_input_grad(
    x: Floats,
    e: Floats,
    gamma: Floats,
    mean: Floats,
    inv_std: Floats,
    dgamma: Floats,
    dbeta: Floats,
    op: BatchNorm2d,
    *,
    out: Floats | None = None,
    threads: int | None = None,
) -> Floats:
    """``dX = gamma inv_std (e - dbeta / m - x_hat dgamma / m)``, where ``m = n h w``.

    Parameters
    ----------
    x, e
        (n, h, w, c) float32: the input, and the gradient of the output.
    gamma
        (c,) float32.
    mean, inv_std
        (c,) float32, from :func:`norm_forward`.
    dgamma, dbeta
        (c,) float32, from :func:`norm_weight_grad`.
    op, out, threads
        As in :func:`norm_forward`.

    Returns
    -------
    numpy.ndarray
        ``out``: (n, h, w, c) float32.

    Raises
    ------
    ArrayError
        As :func:`norm_forward`.
    """
    check_floats("x", x, _shape(op))
    check_floats("e", e, _shape(op))
    check_channels(op, gamma=gamma, mean=mean, inv_std=inv_std, dgamma=dgamma, dbeta=dbeta)
    dx = float_target(out, _shape(op), x, e)
    rows, errors, written = (array.reshape(-1, op.c) for array in (x, e, dx))
    scale, slope, offset = input_grad_factors(gamma, inv_std, dgamma, dbeta, op)
    over_rows(
        lambda first, last: _spread(rows, errors, mean, scale, slope, offset, written, first, last),
        len(rows),
        CHUNK,
        _threads(op, threads),
    )
    return dx
