"""Operators that move elements and compute nothing."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import ClassVar, Self

from kernels.operators import Operand, Operator, OperatorError, Role, Shape, Work
from kernels.windows import Shaped, check_shape


def _check_channels(kind: str, shape: Shape, parts: tuple[int, ...]) -> None:
    check_shape(kind, "parts", parts)
    if len(shape) < 2 or sum(parts) != shape[1]:
        raise OperatorError(
            f"{kind}: parts = {parts!r}; allowed: sizes that add up to axis 1 of shape = {shape!r}"
        )


def _slices(shape: Shape, parts: tuple[int, ...]) -> tuple[Shape, ...]:
    return tuple((shape[0], part, *shape[2:]) for part in parts)


@dataclass(frozen=True, slots=True)
class Concat(Shaped):
    """Joins tensors along the channel axis (axis 1).

    ``shape`` is the shape of the result, ``parts`` the channels of each input in order.

    Examples
    --------
    >>> Concat(shape=(1, 96, 28, 28), parts=(64, 32)).inputs
    ((1, 64, 28, 28), (1, 32, 28, 28))
    """

    parts: tuple[int, ...]

    kind: ClassVar[str] = "concat"

    def __post_init__(self) -> None:
        Shaped.__post_init__(self)
        _check_channels(self.kind, self.shape, self.parts)

    @property
    def inputs(self) -> tuple[Shape, ...]:
        """The slices, in order."""
        return _slices(self.shape, self.parts)

    def work(self, role: Role) -> Work:
        """A copy of every element; dX is the copy back."""
        sizes = tuple(prod(part) for part in self.inputs)
        if role is Role.FORWARD:
            return Work(0, 0, sizes, sum(sizes))
        if role is Role.INPUT_GRAD:
            return self.split().work(role)
        raise self.no_role(role)

    def split(self) -> Split:
        """The operator of its backward pass."""
        return Split(shape=self.shape, parts=self.parts)


@dataclass(frozen=True, slots=True)
class Split(Shaped):
    """Cuts a tensor into channel slices: the backward pass of :class:`Concat`.

    ``output`` is the whole tensor again, the memory that all slices fill together;
    ``slices`` are the shapes one by one.

    Examples
    --------
    >>> Split(shape=(1, 96, 28, 28), parts=(64, 32)).slices
    ((1, 64, 28, 28), (1, 32, 28, 28))
    """

    parts: tuple[int, ...]

    kind: ClassVar[str] = "split"

    def __post_init__(self) -> None:
        Shaped.__post_init__(self)
        _check_channels(self.kind, self.shape, self.parts)

    @property
    def slices(self) -> tuple[Shape, ...]:
        """Shape of each slice."""
        return _slices(self.shape, self.parts)

    def work(self, role: Role) -> Work:
        """A copy of every element, whichever direction the step is in."""
        if role not in (Role.FORWARD, Role.INPUT_GRAD):
            raise self.no_role(role)
        size = prod(self.shape)
        return Work(0, 0, (size,), size)


@dataclass(frozen=True, slots=True)
class Flatten(Shaped):
    """``(n, ...) -> (n, features)``: a view that no kernel computes."""

    kind: ClassVar[str] = "flatten"
    is_view: ClassVar[bool] = True
    grad_is_view: ClassVar[bool] = True

    @property
    def output(self) -> Shape:
        """``(n, features)``."""
        return (self.shape[0], prod(self.shape[1:]))

    def work(self, role: Role) -> Work:
        """Nothing is read or written."""
        if role not in (Role.FORWARD, Role.INPUT_GRAD):
            raise self.no_role(role)
        return Work(0, 0, (), 0)

    def operands(self, role: Role) -> tuple[Operand, ...]:
        """A view reads nothing."""
        return Operator.operands(self, role) if role is Role.UPDATE else ()


@dataclass(frozen=True, slots=True)
class LayoutTranspose(Shaped):
    """Permutes the axes of a tensor: output axis ``i`` is input axis ``perm[i]``.

    Examples
    --------
    >>> LayoutTranspose(shape=(8, 3, 32, 32), perm=(0, 2, 3, 1)).output
    (8, 32, 32, 3)
    """

    perm: tuple[int, ...]

    kind: ClassVar[str] = "transpose"

    def __post_init__(self) -> None:
        Shaped.__post_init__(self)
        if not isinstance(self.perm, tuple) or sorted(self.perm) != list(range(len(self.shape))):
            raise OperatorError(
                f"{self.kind}: perm = {self.perm!r}; allowed: a permutation of the axes "
                f"0..{len(self.shape) - 1} of shape = {self.shape!r}"
            )

    @property
    def output(self) -> Shape:
        """The permuted shape."""
        return tuple(self.shape[axis] for axis in self.perm)

    def work(self, role: Role) -> Work:
        """A copy of every element; only forward, as it is put in where a layout must change."""
        if role is not Role.FORWARD:
            raise self.no_role(role)
        size = prod(self.shape)
        return Work(0, 0, (size,), size)


@dataclass(frozen=True, slots=True)
class WeightRotate180(Shaped):
    """Turns convolution kernels by 180 degrees in their window, for dX; channels stay.

    ``shape`` is ``(channels, channels, k_h, k_w)`` of the weight as it is given. A weight has no
    batch: ``batch`` is 1 and :meth:`with_batch` changes nothing.
    """

    kind: ClassVar[str] = "rotate180"

    def __post_init__(self) -> None:
        Shaped.__post_init__(self)
        if len(self.shape) != 4:
            raise OperatorError(
                f"{self.kind}: shape = {self.shape!r}; allowed: (channels, channels, k_h, k_w)"
            )

    @property
    def batch(self) -> int:
        """1: weights have no batch."""
        return 1

    def work(self, role: Role) -> Work:
        """A copy of every element; only forward."""
        if role is not Role.FORWARD:
            raise self.no_role(role)
        size = prod(self.shape)
        return Work(0, 0, (size,), size)

    def with_batch(self, batch: int) -> Self:
        """Itself: weights have no batch."""
        return self
