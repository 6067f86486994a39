"""SGD with momentum and weight decay, in place (``torch.optim.SGD`` without dampening)."""

from __future__ import annotations

from math import isfinite

import numpy as np

from kernels.arrays import ArrayError, Floats, check_floats
from kernels.jit import compiled
from kernels.threads import over_elements


@compiled
def _plain(
    w: Floats, g: Floats, rate: np.float32, decay: np.float32, first: int, last: int
) -> None:
    weights, gradients = w[first:last], g[first:last]
    for i in range(weights.size):
        weights[i] -= rate * (gradients[i] + decay * weights[i])


@compiled
def _with_momentum(
    w: Floats, g: Floats, v: Floats, rate: np.float32, momentum: np.float32, decay: np.float32,
    first: int, last: int,
) -> None:  # fmt: skip
    weights, gradients, velocity = w[first:last], g[first:last], v[first:last]
    for i in range(weights.size):
        velocity[i] = momentum * velocity[i] + (gradients[i] + decay * weights[i])
        weights[i] -= rate * velocity[i]


def check_factor(name: str, value: float, most: float = np.inf) -> np.float32:
    """A factor as float32; :class:`ArrayError` unless it is finite and from 0 to ``most``."""
    if not (isfinite(value) and 0 <= value <= most):
        bound = "0 or more" if most == np.inf else f"0 to {most:g}"
        raise ArrayError(f"{name} is {value!r}; allowed: {bound}")
    return np.float32(value)


def sgd_update(
    w: Floats,
    g: Floats,
    velocity: Floats | None = None,
    *,
    rate: float,
    momentum: float = 0.0,
    weight_decay: float = 0.0,
    threads: int | None = None,
) -> None:
    """``v = momentum v + (g + weight_decay w)``, then ``w = w - rate v``, in place.

    Parameters
    ----------
    w
        float32 of any shape, C-contiguous; changed in place.
    g
        Gradient of ``w``, of its shape.
    velocity
        Zeros before the first step, of the shape of ``w``; changed in place. Left out where
        ``momentum`` is 0.
    rate
        Learning rate, 0 or more.
    momentum
        0 to 1.
    weight_decay
        0 or more.
    threads
        Threads at most; default: every core of this process. The bits are the same for each.

    Raises
    ------
    ArrayError
        An array of another dtype, shape or order, a factor out of range, momentum without a
        velocity, or fewer than 1 thread.

    Examples
    --------
    >>> w, v = np.array([1.0], np.float32), np.zeros(1, np.float32)
    >>> sgd_update(w, np.array([2.0], np.float32), v, rate=0.25, momentum=0.9)
    >>> w, v
    (array([0.5], dtype=float32), array([2.], dtype=float32))
    """
    check_floats("w", w)
    check_floats("g", g, w.shape)
    step, decay = check_factor("rate", rate), check_factor("weight_decay", weight_decay)
    kept = check_factor("momentum", momentum, 1.0)
    flat, gradient = w.reshape(-1), g.reshape(-1)
    if velocity is None:
        if momentum != 0:
            raise ArrayError(
                f"momentum is {momentum!r} without a velocity; give zeros of the shape of w, and"
                " the same array at each step"
            )
        over_elements(
            lambda first, last: _plain(flat, gradient, step, decay, first, last),
            w.size,
            threads,
            least=1,
        )
        return
    check_floats("velocity", velocity, w.shape)
    moved = velocity.reshape(-1)
    over_elements(
        lambda first, last: _with_momentum(flat, gradient, moved, step, kept, decay, first, last),
        w.size,
        threads,
        least=1,
    )
