"""Operators that a change of number format brings: quantise, dequantise and rescale.

They are put in when a plan is lowered and have no gradient of their own: only the role
``FORWARD``. Element operations follow the integer forms of NITI (wangmaolin/niti,
``ti_torch.py``) and of hexagon_nn (``quantize.c``).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod
from typing import ClassVar, Self

from kernels.operators import Operator, Role, Shape, Work
from kernels.pointwise import Elementwise
from kernels.windows import check_shape


@dataclass(frozen=True, slots=True)
class Quantise(Elementwise):
    """Float to INT8: one pass finds ``max |x|``, one multiplies, rounds and clamps."""

    kind: ClassVar[str] = "quantise"
    forward_ops: ClassVar[int] = 6


@dataclass(frozen=True, slots=True)
class Dequantise(Elementwise):
    """INT8 to float: convert and multiply."""

    kind: ClassVar[str] = "dequantise"
    forward_ops: ClassVar[int] = 2


@dataclass(frozen=True, slots=True)
class Requantise(Elementwise):
    """INT32 to INT8 by a known shift: add the rounding term, shift, and two clamps."""

    kind: ClassVar[str] = "requantise"
    forward_ops: ClassVar[int] = 4


@dataclass(frozen=True, slots=True)
class RescaleScan(Operator):
    """``max |x|`` over an INT32 tensor, from which the shift of a rescale follows.

    Examples
    --------
    >>> RescaleScan(shape=(4, 16)).work(Role.FORWARD).writes
    1
    """

    shape: Shape

    kind: ClassVar[str] = "rescale_scan"

    def __post_init__(self) -> None:
        check_shape(self.kind, "shape", self.shape)

    @property
    def inputs(self) -> tuple[Shape, ...]:
        """``(shape,)``."""
        return (self.shape,)

    @property
    def output(self) -> Shape:
        """``(1,)``."""
        return (1,)

    def work(self, role: Role) -> Work:
        """An absolute value and a compare per element."""
        if role is not Role.FORWARD:
            raise self.no_role(role)
        size = prod(self.shape)
        return Work(0, 2 * size, (size,), 1)

    def with_batch(self, batch: int) -> Self:
        """The same scan with ``batch`` as leading axis."""
        return replace(self, shape=(batch, *self.shape[1:]))
