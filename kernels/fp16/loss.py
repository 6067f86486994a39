"""Softmax cross-entropy on 16-bit logits: computed wide, the gradient rounded once.

A microcontroller computes ten exponentials per step in scalar code; its library's 16-bit softmax is
an approximation of its own, which is not imitated here.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kernels.arrays import Floats, check_floats, check_labels
from kernels.fp16.formats import HalfFormat, round_to


def cross_entropy_grad(logits: Floats, labels: NDArray[np.int64], form: HalfFormat) -> Floats:
    """``(softmax(logits) - onehot) / n`` in float64, rounded once to the format.

    Parameters
    ----------
    logits
        (n, classes) float32 that carries the format.
    labels
        (n,) class indices.

    Raises
    ------
    ArrayError
        Logits or labels of another dtype, shape or range.

    Examples
    --------
    >>> import numpy as np
    >>> from kernels.fp16.formats import FP16
    >>> cross_entropy_grad(np.zeros((1, 2), np.float32), np.array([0]), FP16)
    array([[-0.5,  0.5]], dtype=float32)
    """
    check_floats("logits", logits, (len(logits), logits.shape[-1]))
    check_labels(labels, *logits.shape)
    wide = logits.astype(np.float64)
    exponentials = np.exp(wide - wide.max(axis=1, keepdims=True))
    shares = exponentials / exponentials.sum(axis=1, keepdims=True)
    shares[np.arange(len(labels)), labels] -= 1.0
    return round_to(shares / len(labels), form)
