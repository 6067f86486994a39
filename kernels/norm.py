"""Batch normalisation over the statistics of the current batch."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod
from typing import ClassVar, Self

from kernels.operators import Operand, Operator, Role, Shape, Work
from kernels.windows import check_sizes

_OPERANDS = {
    Role.FORWARD: (Operand.INPUT, Operand.WEIGHTS),
    Role.WEIGHT_GRAD: (Operand.INPUT, Operand.GRAD_OUTPUT, Operand.SAVED),
    Role.INPUT_GRAD: (
        Operand.INPUT,
        Operand.GRAD_OUTPUT,
        Operand.WEIGHT,
        Operand.SAVED,
        Operand.WEIGHT_GRADS,
    ),
    Role.UPDATE: (Operand.WEIGHTS, Operand.WEIGHT_GRADS),
}


@dataclass(frozen=True, slots=True)
class BatchNorm2d(Operator):
    """``(n, c, h, w)`` normalised per channel, then scaled by gamma and shifted by beta.

    The backward pass is that of Ioffe and Szegedy (arXiv 1502.03167, section 3): dW sums the
    error and error times normalised input per channel; these two sums are dbeta and dgamma, and
    dX needs them, so it reads the weight gradients and runs after dW.

    Examples
    --------
    >>> BatchNorm2d(n=64, c=16, h=32, w=32).params
    32
    """

    n: int
    c: int
    h: int
    w: int

    kind: ClassVar[str] = "batch_norm"
    backward_needs_input: ClassVar[bool] = True
    batch_splittable: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_sizes(self.kind, n=self.n, c=self.c, h=self.h, w=self.w)

    @property
    def inputs(self) -> tuple[Shape, ...]:
        """``((n, c, h, w),)``."""
        return ((self.n, self.c, self.h, self.w),)

    @property
    def output(self) -> Shape:
        """``(n, c, h, w)``."""
        return (self.n, self.c, self.h, self.w)

    @property
    def weights(self) -> tuple[Shape, ...]:
        """Gamma ``(c,)`` and beta ``(c,)``; running statistics are not trained."""
        return ((self.c,), (self.c,))

    @property
    def saved(self) -> tuple[tuple[str, Shape], ...]:
        """Mean and inverse standard deviation of each channel."""
        return (("mean", (self.c,)), ("inv_std", (self.c,)))

    def operands(self, role: Role) -> tuple[Operand, ...]:
        """What each role reads; dX reads the weight gradients too (see the class)."""
        return _OPERANDS[role]

    def work(self, role: Role) -> Work:
        """Element operations per element, in the plain two-pass form.

        Forward 7: add for the mean; subtract, square, add for the variance; and, with mean and
        inverse deviation folded into scale and shift, subtract, multiply, add. dW 4: add for
        dbeta; subtract, multiply, add for dgamma. dX 5: subtract the mean, multiply by the
        folded dgamma term, subtract it, subtract the folded dbeta term, scale.
        """
        size, c = prod(self.output), self.c
        if role is Role.UPDATE:
            return self.update_work()
        if role is Role.FORWARD:
            return Work(0, 7 * size, (size, c, c), size + 2 * c)
        if role is Role.WEIGHT_GRAD:
            return Work(0, 4 * size, (size, size, c, c), 2 * c)
        return Work(0, 5 * size, (size, size, c, c, c, c, c), size)

    def with_batch(self, batch: int) -> Self:
        """The same normalisation over ``batch`` samples."""
        return replace(self, n=batch)
