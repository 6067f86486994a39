"""What an operator *is*: its shapes, its work and its bytes, as data.

An :class:`Operator` is a frozen description of one layer at one batch size. It has no
numbers in it, only counts: everything above this floor (graphs, cost models, executors)
asks it what a role costs and never looks inside. Shapes are NCHW tuples; counts are exact
Python integers. A role is one of the four things training does with an operator.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from enum import StrEnum
from math import prod
from typing import ClassVar, Self

Shape = tuple[int, ...]


def channels_last(shape: Shape) -> Shape:
    """Array shape of a tensor or weight that a spec describes as ``(n, c, h, w)``.

    Examples
    --------
    >>> channels_last((8, 3, 32, 24)), channels_last((8, 10))
    ((8, 32, 24, 3), (8, 10))
    """
    return (shape[0], *shape[2:], shape[1]) if len(shape) == 4 else shape


class Role(StrEnum):
    """What training does with an operator.

    ``INPUT_GRAD`` is dX, ``WEIGHT_GRAD`` is dW, ``UPDATE`` applies dW to the weights.
    """

    FORWARD = "forward"
    INPUT_GRAD = "input_grad"
    WEIGHT_GRAD = "weight_grad"
    UPDATE = "update"


class Operand(StrEnum):
    """What a role reads, in the operator's own terms; a graph turns these into tensors.

    ``INPUT``: every input; ``OUTPUT``: the forward result; ``GRAD_OUTPUT``: the gradient of the
    output; ``WEIGHT``: the main weight; ``WEIGHTS``: all of them; ``WEIGHT_GRADS``: their
    gradients; ``SAVED``: what the forward pass left behind for the backward pass.
    """

    INPUT = "input"
    OUTPUT = "output"
    GRAD_OUTPUT = "grad_output"
    WEIGHT = "weight"
    WEIGHTS = "weights"
    WEIGHT_GRADS = "weight_grads"
    SAVED = "saved"


LoopNest = tuple[tuple[str, int], ...]
"""Axes of a MAC kernel with their extents, outermost first; their product is its MACs."""


@dataclass(frozen=True, slots=True)
class Work:
    """Counts of one role of one operator, independent of the data type.

    Attributes
    ----------
    macs
        Multiply-accumulates as every published table counts them: each output times its
        window, spatial zero padding included. Layout padding (channels rounded up to 32)
        and zero-insertion in strided backward passes are not counted.
    alu_ops
        Element operations other than MACs (compare, add, divide, exponential...).
    reads
        Elements of each distinct operand, each counted once, in the order of
        :meth:`Operator.operands`.
    writes
        Elements of all results, tensors saved for the backward pass included.
    """

    macs: int
    alu_ops: int
    reads: tuple[int, ...]
    writes: int

    @property
    def elements(self) -> int:
        """All elements moved once: the sum of ``reads`` and ``writes``."""
        return sum(self.reads) + self.writes


class OperatorError(ValueError):
    """An operator cannot exist with these sizes; the message names field, value and rule."""


class Operator(ABC):
    """One layer at one batch size. Subclasses are frozen, slotted dataclasses."""

    __slots__ = ()

    kind: ClassVar[str]
    """The field's name of the operator: ``conv2d``, ``linear``, ``relu``..."""
    backward_needs_input: ClassVar[bool] = False
    """Whether input_grad or weight_grad reads the saved input activation(s)."""
    backward_needs_output: ClassVar[bool] = False
    """Whether input_grad reads the saved output (a ReLU mask, a softmax...)."""
    batch_splittable: ClassVar[bool] = True
    """False where samples of a batch interact (batch norm statistics, the mean loss)."""
    is_view: ClassVar[bool] = False
    """True where the output is the input's memory under another shape; such an op never runs."""
    grad_is_view: ClassVar[bool] = False
    """True where the gradient of each input is the gradient of the output, unchanged."""

    @property
    @abstractmethod
    def inputs(self) -> tuple[Shape, ...]:
        """Shapes of the activations read, in argument order."""

    @property
    @abstractmethod
    def output(self) -> Shape:
        """Shape of the activation written."""

    @property
    def weights(self) -> tuple[Shape, ...]:
        """Shapes of the trained parameters, main weight first; empty if there are none."""
        return ()

    @property
    def saved(self) -> tuple[tuple[str, Shape], ...]:
        """Name and shape of what forward writes beside its output, for the backward pass."""
        return ()

    @property
    def params(self) -> int:
        """Number of trained parameters."""
        return sum(prod(shape) for shape in self.weights)

    @property
    def batch(self) -> int:
        """Samples per step: the first axis of the first input."""
        return self.inputs[0][0]

    @abstractmethod
    def work(self, role: Role) -> Work:
        """Counts for ``role``; raises :class:`OperatorError` for a role it does not have."""

    @abstractmethod
    def with_batch(self, batch: int) -> Self:
        """The same operator at another batch size."""

    def operands(self, role: Role) -> tuple[Operand, ...]:
        """What ``role`` reads, in the order of ``work(role).reads``.

        The default suits operators that read their inputs forward and only the gradient of
        their output backward; ``UPDATE`` reads weights and their gradients.
        """
        if role is Role.UPDATE:
            return (Operand.WEIGHTS, Operand.WEIGHT_GRADS)
        return (Operand.INPUT,) if role is Role.FORWARD else (Operand.GRAD_OUTPUT,)

    def loop_nest(self, role: Role) -> LoopNest:
        """Loops of the MAC kernel of ``role``; empty for operators without MACs."""
        self.work(role)  # refuses the roles that do not exist
        return ()

    def no_role(self, role: Role) -> OperatorError:
        """The error that :meth:`work` raises for a role the operator does not have."""
        return OperatorError(f"{self.kind}: role {str(role)!r} does not exist for this operator")

    def update_work(self) -> Work:
        """Counts of plain SGD on the weights: one multiply and one subtract per parameter."""
        if not self.weights:
            raise self.no_role(Role.UPDATE)
        sizes = tuple(prod(shape) for shape in self.weights)
        return Work(macs=0, alu_ops=2 * sum(sizes), reads=sizes + sizes, writes=sum(sizes))
