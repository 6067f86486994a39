"""The fully connected layer."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Self

from kernels.conv import Conv2d
from kernels.mac import MacOperator
from kernels.operators import LoopNest, Role, Shape
from kernels.windows import check_flag, check_sizes


@dataclass(frozen=True, slots=True)
class Linear(MacOperator):
    """``(n, c_in) -> (n, c_out)``: ``y = x W^T (+ b)``.

    Every role costs ``n * c_in * c_out`` MACs.

    Raises
    ------
    OperatorError
        For a size that is not a positive int.

    Examples
    --------
    >>> Linear(n=64, c_in=512, c_out=10).work(Role.INPUT_GRAD).macs
    327680
    """

    n: int
    c_in: int
    c_out: int
    bias: bool = False

    kind: ClassVar[str] = "linear"

    def __post_init__(self) -> None:
        check_sizes(self.kind, n=self.n, c_in=self.c_in, c_out=self.c_out)
        check_flag(self.kind, "bias", self.bias)

    @property
    def inputs(self) -> tuple[Shape, ...]:
        """``((n, c_in),)``."""
        return ((self.n, self.c_in),)

    @property
    def output(self) -> Shape:
        """``(n, c_out)``."""
        return (self.n, self.c_out)

    @property
    def weights(self) -> tuple[Shape, ...]:
        """``(c_out, c_in)`` and, with a bias, ``(c_out,)``."""
        main = (self.c_out, self.c_in)
        return (main, (self.c_out,)) if self.bias else (main,)

    def loop_nest(self, role: Role) -> LoopNest:
        """Loops outermost first: what is written, then what is reduced."""
        batch, c_in, c_out = ("n", self.n), ("c_in", self.c_in), ("c_out", self.c_out)
        if role is Role.FORWARD:
            return (batch, c_out, c_in)
        if role is Role.INPUT_GRAD:
            return (batch, c_in, c_out)
        if role is Role.WEIGHT_GRAD:
            return (c_out, c_in, batch)
        return MacOperator.loop_nest(self, role)

    def as_conv(self) -> Conv2d:
        """The same products, without a bias, as a convolution of maps of one place.

        Examples
        --------
        >>> Linear(n=8, c_in=32, c_out=10, bias=True).as_conv().output
        (8, 10, 1, 1)
        """
        return Conv2d(n=self.n, c_in=self.c_in, h=1, w=1, c_out=self.c_out, k=1)

    def with_batch(self, batch: int) -> Self:
        """The same layer on ``batch`` samples."""
        return replace(self, n=batch)
