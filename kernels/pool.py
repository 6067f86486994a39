"""Pooling: maximum, average, and the average of a whole map."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod
from typing import ClassVar, Self

from kernels.operators import Operand, Operator, OperatorError, Role, Shape, Work
from kernels.windows import Pair, Windowed, check_fits, check_flag, check_sizes, window_count

Window = tuple[int, int, int, int, int]


@dataclass(frozen=True, slots=True)
class _Pool2d(Windowed):
    """``(n, c, h, w) -> (n, c, h_out, w_out)``; fields as in :class:`kernels.conv.Conv2d`.

    ``ceil_mode`` keeps a last partial window, by PyTorch's rule. Padding is at most half the
    kernel, so that every window holds a real element.
    """

    n: int
    c: int
    h: int
    w: int
    k: int | Pair
    stride: int
    pad: int | Pair = 0
    ceil_mode: bool = False

    def __post_init__(self) -> None:
        check_sizes(self.kind, n=self.n, c=self.c, h=self.h, w=self.w, stride=self.stride)
        check_flag(self.kind, "ceil_mode", self.ceil_mode)
        self._store_pairs()
        for axis, pad, k in (("h", self.pad_h, self.k_h), ("w", self.pad_w, self.k_w)):
            if 2 * pad > k:
                raise OperatorError(
                    f"{self.kind}: pad_{axis} = {pad}; allowed: at most half of k_{axis} = {k}"
                )
        check_fits(self.kind, "h", self.h_out, self.h, self.k_h, self.pad_h)
        check_fits(self.kind, "w", self.w_out, self.w, self.k_w, self.pad_w)

    @property
    def h_out(self) -> int:
        """Output rows."""
        return window_count(self.h, self.k_h, self.stride, self.pad_h, 1, self.ceil_mode)

    @property
    def w_out(self) -> int:
        """Output columns."""
        return window_count(self.w, self.k_w, self.stride, self.pad_w, 1, self.ceil_mode)

    @property
    def inputs(self) -> tuple[Shape, ...]:
        """``((n, c, h, w),)``."""
        return ((self.n, self.c, self.h, self.w),)

    @property
    def output(self) -> Shape:
        """``(n, c, h_out, w_out)``."""
        return (self.n, self.c, self.h_out, self.w_out)

    @property
    def window(self) -> Window:
        """Rows and columns of the window, stride, padding above and to the left."""
        return self.k_h, self.k_w, self.stride, self.pad_h, self.pad_w

    @property
    def window_ops(self) -> int:
        """Element operations of all windows: one per element of each full window."""
        return prod(self.output) * self.k_h * self.k_w

    def with_batch(self, batch: int) -> Self:
        """The same pooling on ``batch`` samples."""
        return replace(self, n=batch)


@dataclass(frozen=True, slots=True)
class MaxPool2d(_Pool2d):
    """Maximum of each window.

    The backward pass keeps no index: it finds the maximum again in the saved input (which a
    ReLU before it saves anyway) and adds the error there, as MNN's ``PoolGrad`` does.

    Examples
    --------
    >>> MaxPool2d(n=1, c=64, h=112, w=112, k=3, stride=2, ceil_mode=True).output
    (1, 64, 56, 56)
    """

    kind: ClassVar[str] = "max_pool"
    backward_needs_input: ClassVar[bool] = True

    @property
    def is_two_by_two(self) -> bool:
        """Whether all windows are whole, 2 by 2 and apart: kernels have a shorter way then."""
        whole = 2 * self.h_out <= self.h and 2 * self.w_out <= self.w
        return whole and self.window == (2, 2, 2, 0, 0)

    def operands(self, role: Role) -> tuple[Operand, ...]:
        """Forward: input; dX: input, error."""
        if role is Role.INPUT_GRAD:
            return (Operand.INPUT, Operand.GRAD_OUTPUT)
        return Operator.operands(self, role)

    def work(self, role: Role) -> Work:
        """One compare per window element; dX repeats them and adds one per error."""
        source, result = prod(self.inputs[0]), prod(self.output)
        if role is Role.FORWARD:
            return Work(0, self.window_ops, (source,), result)
        if role is Role.INPUT_GRAD:
            return Work(0, self.window_ops + result, (source, result), source)
        raise self.no_role(role)


@dataclass(frozen=True, slots=True)
class AvgPool2d(_Pool2d):
    """Mean of each window; dX spreads each error evenly over its window.

    Examples
    --------
    >>> AvgPool2d(n=1, c=8, h=4, w=4, k=2, stride=2).output
    (1, 8, 2, 2)
    """

    kind: ClassVar[str] = "avg_pool"

    def work(self, role: Role) -> Work:
        """One add per window element and one scaling per output, in both directions."""
        source, result = prod(self.inputs[0]), prod(self.output)
        if role is Role.FORWARD:
            return Work(0, self.window_ops + result, (source,), result)
        if role is Role.INPUT_GRAD:
            return Work(0, self.window_ops + result, (result,), source)
        raise self.no_role(role)


@dataclass(frozen=True, slots=True)
class GlobalAvgPool(Operator):
    """``(n, c, h, w) -> (n, c, 1, 1)``: mean of each channel's map.

    Examples
    --------
    >>> GlobalAvgPool(n=1, c=512, h=7, w=7).output
    (1, 512, 1, 1)
    """

    n: int
    c: int
    h: int
    w: int

    kind: ClassVar[str] = "global_avg_pool"

    def __post_init__(self) -> None:
        check_sizes(self.kind, n=self.n, c=self.c, h=self.h, w=self.w)

    @property
    def inputs(self) -> tuple[Shape, ...]:
        """``((n, c, h, w),)``."""
        return ((self.n, self.c, self.h, self.w),)

    @property
    def output(self) -> Shape:
        """``(n, c, 1, 1)``."""
        return (self.n, self.c, 1, 1)

    def work(self, role: Role) -> Work:
        """Forward: an add per input, a scaling per output; dX: a scaling per error, a copy."""
        source, result = prod(self.inputs[0]), prod(self.output)
        if role is Role.FORWARD:
            return Work(0, source + result, (source,), result)
        if role is Role.INPUT_GRAD:
            return Work(0, source + result, (result,), source)
        raise self.no_role(role)

    def with_batch(self, batch: int) -> Self:
        """The same pooling on ``batch`` samples."""
        return replace(self, n=batch)


def as_average(op: AvgPool2d | GlobalAvgPool) -> AvgPool2d:
    """The pooling with windows that a mean of a whole map is: one window, met once.

    Examples
    --------
    >>> as_average(GlobalAvgPool(n=1, c=512, h=7, w=5)).output
    (1, 512, 1, 1)
    """
    if isinstance(op, AvgPool2d):
        return op
    return AvgPool2d(n=op.n, c=op.c, h=op.h, w=op.w, k=(op.h, op.w), stride=max(op.h, op.w))
