"""Operators that a change of number format brings: quantise, dequantise, convert and rescale.

They are put in when a plan is lowered and have no gradient of their own: only the role
``FORWARD``. Element operations follow the integer forms of NITI (wangmaolin/niti,
``ti_torch.py``) and of hexagon_nn (``quantize.c``).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import ClassVar

from kernels.operators import Role, Shape, Work
from kernels.pointwise import Elementwise
from kernels.windows import Shaped


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
class Convert(Elementwise):
    """One floating-point format to another: one conversion."""

    kind: ClassVar[str] = "convert"
    forward_ops: ClassVar[int] = 1


@dataclass(frozen=True, slots=True)
class Requantise(Elementwise):
    """INT32 to INT8 by a known shift: add the rounding term, shift, and two clamps."""

    kind: ClassVar[str] = "requantise"
    forward_ops: ClassVar[int] = 4


@dataclass(frozen=True, slots=True)
class RescaleScan(Shaped):
    """``max |x|`` over an INT32 tensor, from which the shift of a rescale follows.

    Examples
    --------
    >>> RescaleScan(shape=(4, 16)).work(Role.FORWARD).writes
    1
    """

    kind: ClassVar[str] = "rescale_scan"

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
