"""Softmax cross-entropy of :class:`kernels.loss.SoftmaxCrossEntropy`: its value, and its error.

Both are worked out in float64 from the float32 logits (a few thousand numbers per step).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from kernels.arrays import Floats, check_floats, check_labels, float_target
from kernels.loss import SoftmaxCrossEntropy

Labels = NDArray[np.integer[Any]]


def _check(logits: Floats, labels: Labels, op: SoftmaxCrossEntropy) -> None:
    check_floats("logits", logits, (op.n, op.classes))
    check_labels(labels, op.n, op.classes)


def _log_softmax(logits: Floats) -> NDArray[np.float64]:
    with np.errstate(invalid="ignore"):  # infinite logits give NaN, which whoever trains refuses
        below = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    log_softmax: NDArray[np.float64] = below - np.log(np.exp(below).sum(axis=1, keepdims=True))
    return log_softmax


def cross_entropy(logits: Floats, labels: Labels, op: SoftmaxCrossEntropy) -> float:
    """Mean of ``-log softmax(logits)[label]`` over the samples.

    Parameters
    ----------
    logits
        (n, classes) float32, C-contiguous.
    labels
        (n,) integers, 0 to ``classes - 1``.
    op
        The loss.

    Raises
    ------
    ArrayError
        An array of another dtype, shape or order, or a label out of range.

    Examples
    --------
    >>> op = SoftmaxCrossEntropy(n=1, classes=2)
    >>> round(cross_entropy(np.zeros((1, 2), np.float32), np.array([1]), op), 4)
    0.6931
    """
    _check(logits, labels, op)
    return float(-_log_softmax(logits)[np.arange(op.n), labels].mean())


def cross_entropy_grad(
    logits: Floats, labels: Labels, op: SoftmaxCrossEntropy, *, out: Floats | None = None
) -> Floats:
    """``(softmax(logits) - one_hot(labels)) / n``: the error that starts the backward pass.

    Parameters
    ----------
    logits, labels, op
        As in :func:`cross_entropy`.
    out
        (n, classes) float32 to write to; a new array by default.

    Returns
    -------
    numpy.ndarray
        ``out``.

    Raises
    ------
    ArrayError
        As :func:`cross_entropy`.

    Examples
    --------
    >>> op = SoftmaxCrossEntropy(n=1, classes=2)
    >>> cross_entropy_grad(np.zeros((1, 2), np.float32), np.array([1]), op)
    array([[ 0.5, -0.5]], dtype=float32)
    """
    _check(logits, labels, op)
    e = float_target(out, (op.n, op.classes), logits)
    error = np.exp(_log_softmax(logits))
    error[np.arange(op.n), labels] -= 1
    e[:] = error / op.n
    return e
