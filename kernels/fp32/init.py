"""What weights start from: Glorot's and He's rules, as ``torch.nn.init`` has them.

Glorot and Bengio, AISTATS 2010, equation 16; He et al., arXiv 1502.01852, equation 10, with the
gain of ReLU and the fan of the forward pass.
"""

from __future__ import annotations

from math import prod, sqrt

import numpy as np

from kernels.arrays import ArrayError, Floats
from kernels.conv import Conv2d
from kernels.linear import Linear
from kernels.operators import channels_last


def _glorot_std(fan_in: int, fan_out: int) -> float:
    return sqrt(2 / (fan_in + fan_out))


def _he_std(fan_in: int, fan_out: int) -> float:
    return sqrt(2 / fan_in)


def _normal(shape: tuple[int, ...], std: float, generator: np.random.Generator) -> Floats:
    return generator.standard_normal(shape, np.float32) * np.float32(std)


def _uniform(shape: tuple[int, ...], std: float, generator: np.random.Generator) -> Floats:
    unit = generator.random(shape, np.float32) * np.float32(2) - np.float32(1)
    return unit * np.float32(sqrt(3) * std)


RULES = {
    "xavier_normal": (_glorot_std, _normal),
    "xavier_uniform": (_glorot_std, _uniform),
    "he_normal": (_he_std, _normal),
    "he_uniform": (_he_std, _uniform),
}
"""Spread and distribution of a layer's main weight, by name; see :func:`initial_weight`."""


def fans(op: Conv2d | Linear) -> tuple[int, int]:
    """Products per output and per input of a layer: ``(fan_in, fan_out)``.

    From its weight's shape ``(c_out, c_in / groups, ...)``, as PyTorch counts them: with groups,
    ``fan_out`` counts the output channels of all groups.

    Examples
    --------
    >>> fans(Conv2d(n=1, c_in=16, h=8, w=8, c_out=32, k=3))
    (144, 288)
    """
    c_out, c_in, *window = op.weights[0]
    return c_in * prod(window), c_out * prod(window)


def weight_shape(op: Conv2d | Linear) -> tuple[int, ...]:
    """Shape of the main weight in memory: ``(c_out, k_h, k_w, c_in / groups)`` or (c_out, c_in)."""
    return channels_last(op.weights[0])


def initial_weight(op: Conv2d | Linear, rule: str, generator: np.random.Generator) -> Floats:
    """Draw the main weight of a layer.

    ==================  ===================================================
    ``xavier_normal``   normal, std ``sqrt(2 / (fan_in + fan_out))``
    ``xavier_uniform``  uniform, the same std: bound ``sqrt(3)`` times it
    ``he_normal``       normal, std ``sqrt(2 / fan_in)``
    ``he_uniform``      uniform, the same std
    ==================  ===================================================

    Parameters
    ----------
    op
        The layer.
    rule
        One of :data:`RULES`.
    generator
        Where draws come from; one per element, in the order of memory.

    Returns
    -------
    numpy.ndarray
        float32 of shape :func:`weight_shape`.

    Raises
    ------
    ArrayError
        No rule of that name.

    Examples
    --------
    >>> op = Linear(n=1, c_in=100, c_out=50)
    >>> initial_weight(op, "he_normal", np.random.default_rng(0)).std().round(2)
    np.float32(0.14)
    """
    if rule not in RULES:
        raise ArrayError(f"rule is {rule!r}; allowed: {', '.join(RULES)}")
    std, draw = RULES[rule]
    return draw(weight_shape(op), std(*fans(op)), generator)
