"""The integer kernels that INT8 items are computed by, as a table that a backend may replace.

A numeric kernel says what an item reads, when it rescales and what it records; the arithmetic
under it is one of these functions. The default is :mod:`kernels.int8`. A backend that runs real
binaries gives its own functions of the same signatures, whose bits must be the same.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from kernels.int8.conv import conv_forward, conv_input_grad, conv_weight_grad
from kernels.int8.linear import linear_forward, linear_input_grad, linear_weight_grad
from kernels.int8.pointwise import relu_forward, relu_input_grad
from kernels.int8.pool import max_pool_forward, max_pool_input_grad
from kernels.int8.rescale import Rescaled, rescale
from kernels.int8.stored import Stored
from kernels.int8.sums import add
from kernels.int8.update import niti_update, wide_update
from kernels.operators import Operator
from sim.numeric.values import Accumulator

Int8s = NDArray[np.int8]


def channel_sums(error: Int8s) -> NDArray[np.int64]:
    """Sum a tensor over everything but its last axis; exact."""
    sums: NDArray[np.int64] = error.reshape(-1, error.shape[-1]).sum(axis=0, dtype=np.int64)
    return sums


def known_amax(sums: Accumulator) -> int:
    """Largest magnitude of accumulators: it was found while they were stored."""
    return sums.amax


def not_moved(op: Operator, array: NDArray[Any]) -> None:
    """Leave a tensor where it lies: kernels of :mod:`kernels.int8` read any operand so."""


@dataclass(frozen=True, slots=True)
class Arithmetic:
    """One function for each kernel, with the signatures of those in :mod:`kernels.int8`.

    Attributes
    ----------
    scan
        Largest magnitude of accumulators.
    move
        Told of the operator and the tensor of a transposition or a turned weight, whose value is
        handed on as it lies.
    """

    conv_forward: Callable[..., Stored] = conv_forward
    conv_input_grad: Callable[..., Stored] = conv_input_grad
    conv_weight_grad: Callable[..., Stored] = conv_weight_grad
    linear_forward: Callable[..., Stored] = linear_forward
    linear_input_grad: Callable[..., Stored] = linear_input_grad
    linear_weight_grad: Callable[..., Stored] = linear_weight_grad
    channel_sums: Callable[[Int8s], NDArray[np.int64]] = channel_sums
    rescale: Callable[..., Rescaled] = rescale
    scan: Callable[[Accumulator], int] = known_amax
    relu_forward: Callable[..., Int8s] = relu_forward
    relu_input_grad: Callable[..., Int8s] = relu_input_grad
    max_pool_forward: Callable[..., Int8s] = max_pool_forward
    max_pool_input_grad: Callable[..., NDArray[Any]] = max_pool_input_grad
    add: Callable[..., Rescaled] = add
    move: Callable[[Operator, NDArray[Any]], None] = not_moved
    niti_update: Callable[..., Int8s] = niti_update
    wide_update: Callable[..., int] = wide_update

    def product(self, kind: str, role: str) -> Callable[..., Stored]:
        """The kernel with MACs of an operator kind, ``conv2d`` or ``linear``, and a role."""
        found: Callable[..., Stored] = getattr(self, f"{_NAMES[kind]}_{role}")
        return found


_NAMES: Final = {"conv2d": "conv", "linear": "linear"}
PLAIN: Final = Arithmetic()
"""The kernels of :mod:`kernels.int8`."""
