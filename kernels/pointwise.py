"""Operators that treat every element alike: activations, dropout, and the sum of tensors."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import ClassVar

from kernels.operators import Operand, Operator, Role, Shape, Work
from kernels.windows import Shaped, check_int


@dataclass(frozen=True, slots=True)
class Elementwise(Shaped):
    """One input and one output of the same shape, batch first; base of this family.

    Subclasses state how many element operations a direction costs; ``None`` means that the
    direction does not exist.
    """

    forward_ops: ClassVar[int]
    """Element operations per element, forward."""
    backward_ops: ClassVar[int | None] = None
    """Element operations per element of dX, or None where there is no dX."""

    def operands(self, role: Role) -> tuple[Operand, ...]:
        """Forward: input; dX: error, and the saved output or mask where one is needed."""
        if role is Role.INPUT_GRAD and self.backward_needs_output:
            return (Operand.GRAD_OUTPUT, Operand.OUTPUT)
        if role is Role.INPUT_GRAD and self.saved:
            return (Operand.GRAD_OUTPUT, Operand.SAVED)
        return Operator.operands(self, role)

    def work(self, role: Role) -> Work:
        """Element operations per element as the class states; each operand read once."""
        size = prod(self.shape)
        if role is Role.FORWARD:
            return Work(0, self.forward_ops * size, (size,), size * (1 + len(self.saved)))
        if role is Role.INPUT_GRAD and self.backward_ops is not None:
            reads = (size,) * len(self.operands(role))
            return Work(0, self.backward_ops * size, reads, size)
        raise self.no_role(role)


@dataclass(frozen=True, slots=True)
class Relu(Elementwise):
    """``max(x, 0)``; dX masks the error by the saved output.

    Examples
    --------
    >>> Relu(shape=(2, 8)).work(Role.INPUT_GRAD).reads
    (16, 16)
    """

    kind: ClassVar[str] = "relu"
    backward_needs_output: ClassVar[bool] = True
    forward_ops: ClassVar[int] = 1
    backward_ops: ClassVar[int | None] = 1


@dataclass(frozen=True, slots=True)
class Relu6(Elementwise):
    """``min(max(x, 0), 6)``; dX masks the error where the saved output is 0 or 6."""

    kind: ClassVar[str] = "relu6"
    backward_needs_output: ClassVar[bool] = True
    forward_ops: ClassVar[int] = 2
    backward_ops: ClassVar[int | None] = 2


@dataclass(frozen=True, slots=True)
class Dropout(Elementwise):
    """Zeroes random elements; the mask it drew is saved, and dX multiplies by it.

    The probability changes no count and is not part of the description.
    """

    kind: ClassVar[str] = "dropout"
    forward_ops: ClassVar[int] = 2
    """One draw and one multiply per element."""
    backward_ops: ClassVar[int | None] = 1

    @property
    def saved(self) -> tuple[tuple[str, Shape], ...]:
        """The mask, one entry per element."""
        return (("mask", self.shape),)


@dataclass(frozen=True, slots=True)
class Add(Shaped):
    """Sum of ``terms`` tensors of one shape (a residual, or gradients at a fan-out).

    The gradient of each term is the error itself: no kernel runs in the backward pass. The role
    ``INPUT_GRAD`` names the sum of gradients at a fan-out, and costs what the sum costs.

    Examples
    --------
    >>> Add(shape=(1, 4, 2, 2)).work(Role.FORWARD).reads
    (16, 16)
    """

    terms: int = 2

    kind: ClassVar[str] = "add"
    grad_is_view: ClassVar[bool] = True

    def __post_init__(self) -> None:
        Shaped.__post_init__(self)
        check_int(self.kind, "terms", self.terms, 2)

    @property
    def inputs(self) -> tuple[Shape, ...]:
        """``shape``, once per term."""
        return (self.shape,) * self.terms

    def operands(self, role: Role) -> tuple[Operand, ...]:
        """The terms, whichever direction."""
        return Operator.operands(self, role) if role is Role.UPDATE else (Operand.INPUT,)

    def work(self, role: Role) -> Work:
        """``terms - 1`` adds per element."""
        if role not in (Role.FORWARD, Role.INPUT_GRAD):
            raise self.no_role(role)
        size = prod(self.shape)
        return Work(0, (self.terms - 1) * size, (size,) * self.terms, size)
