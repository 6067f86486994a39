"""The loss of a classifier."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Self

from kernels.operators import Operand, Operator, Role, Shape, Work
from kernels.windows import check_sizes


@dataclass(frozen=True, slots=True)
class SoftmaxCrossEntropy(Operator):
    """Mean cross-entropy of ``(n, classes)`` logits against ``(n,)`` labels.

    dX is the error that starts the backward pass, ``(softmax(logits) - one_hot(labels)) / n``.
    It is computed from the logits, as integer training does it (NITI, arXiv 2009.13108), so
    that a training step need not wait for the value of the loss.

    Examples
    --------
    >>> SoftmaxCrossEntropy(n=64, classes=10).inputs
    ((64, 10), (64,))
    """

    n: int
    classes: int

    kind: ClassVar[str] = "softmax_cross_entropy"
    backward_needs_input: ClassVar[bool] = True
    batch_splittable: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_sizes(self.kind, n=self.n, classes=self.classes)

    @property
    def inputs(self) -> tuple[Shape, ...]:
        """Logits ``(n, classes)`` and labels ``(n,)``."""
        return ((self.n, self.classes), (self.n,))

    @property
    def output(self) -> Shape:
        """``(1,)``: the mean loss."""
        return (1,)

    def operands(self, role: Role) -> tuple[Operand, ...]:
        """Logits and labels, in both directions."""
        return Operator.operands(self, role) if role is Role.UPDATE else (Operand.INPUT,)

    def work(self, role: Role) -> Work:
        """Per logit: compare for the maximum, subtract, exponential, add; dX: divide as well.

        Forward adds, per sample, a logarithm, a subtract and an add; dX, per sample, the
        subtraction of the one-hot label.
        """
        logits = self.n * self.classes
        if role is Role.FORWARD:
            return Work(0, 4 * logits + 3 * self.n, (logits, self.n), 1)
        if role is Role.INPUT_GRAD:
            return Work(0, 5 * logits + self.n, (logits, self.n), logits)
        raise self.no_role(role)

    def with_batch(self, batch: int) -> Self:
        """The same loss over ``batch`` samples."""
        return replace(self, n=batch)
