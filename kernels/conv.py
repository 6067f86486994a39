"""Convolution in two dimensions, grouped and depthwise included."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Self

from kernels.mac import MacOperator
from kernels.operators import LoopNest, OperatorError, Role, Shape
from kernels.windows import (
    Pair,
    Windowed,
    check_fits,
    check_flag,
    check_sizes,
    window_count,
)


@dataclass(frozen=True, slots=True)
class Conv2d(Windowed, MacOperator):
    """``(n, c_in, h, w) -> (n, c_out, h_out, w_out)`` with symmetric zero padding.

    Parameters
    ----------
    n, c_in, h, w
        Input shape: samples, channels, rows, columns.
    c_out
        Output channels.
    k
        Kernel size: an int, or ``(k_h, k_w)``. Stored as a pair.
    stride, dilation
        One value for both axes.
    pad
        Zeros on each side: an int, or ``(pad_h, pad_w)``. Stored as a pair.
    groups
        Channel groups; ``c_in`` and ``c_out`` are multiples of it.
    bias
        Whether one bias per output channel is trained.

    Raises
    ------
    OperatorError
        For a size that is not a positive int, channels that ``groups`` does not divide, or a
        kernel larger than the padded input.

    Notes
    -----
    Each role costs ``n * c_out * h_out * w_out * (c_in / groups) * k_h * k_w`` MACs: dX and dW
    reuse every forward product once (Goodfellow et al., *Deep Learning*, section 9.5).

    Examples
    --------
    >>> conv = Conv2d(n=1, c_in=64, h=56, w=56, c_out=64, k=3, pad=1)
    >>> conv.output, conv.work(Role.WEIGHT_GRAD).macs
    ((1, 64, 56, 56), 115605504)
    """

    n: int
    c_in: int
    h: int
    w: int
    c_out: int
    k: int | Pair
    stride: int = 1
    pad: int | Pair = 0
    dilation: int = 1
    groups: int = 1
    bias: bool = False

    kind: ClassVar[str] = "conv2d"

    def __post_init__(self) -> None:
        check_sizes(
            self.kind,
            n=self.n,
            c_in=self.c_in,
            h=self.h,
            w=self.w,
            c_out=self.c_out,
            stride=self.stride,
            dilation=self.dilation,
            groups=self.groups,
        )
        check_flag(self.kind, "bias", self.bias)
        self._store_pairs()
        for field, channels in (("c_in", self.c_in), ("c_out", self.c_out)):
            if channels % self.groups:
                raise OperatorError(
                    f"{self.kind}: groups = {self.groups} does not divide {field} = {channels}; "
                    f"use a divisor of both c_in and c_out"
                )
        check_fits(self.kind, "h", self.h_out, self.h, self.k_h, self.pad_h)
        check_fits(self.kind, "w", self.w_out, self.w, self.k_w, self.pad_w)

    @property
    def h_out(self) -> int:
        """Output rows."""
        return window_count(self.h, self.k_h, self.stride, self.pad_h, self.dilation, False)

    @property
    def w_out(self) -> int:
        """Output columns."""
        return window_count(self.w, self.k_w, self.stride, self.pad_w, self.dilation, False)

    @property
    def depthwise(self) -> bool:
        """Whether each input channel has filters of its own (``groups == c_in > 1``)."""
        return self.groups == self.c_in and self.c_in > 1

    @property
    def pointwise(self) -> bool:
        """Whether windows are single positions of the map itself: 1x1, no stride, no padding."""
        return (self.k_h, self.k_w, self.stride, self.pad_h, self.pad_w) == (1, 1, 1, 0, 0)

    @property
    def inputs(self) -> tuple[Shape, ...]:
        """``((n, c_in, h, w),)``."""
        return ((self.n, self.c_in, self.h, self.w),)

    @property
    def output(self) -> Shape:
        """``(n, c_out, h_out, w_out)``."""
        return (self.n, self.c_out, self.h_out, self.w_out)

    @property
    def weights(self) -> tuple[Shape, ...]:
        """``(c_out, c_in / groups, k_h, k_w)`` and, with a bias, ``(c_out,)``."""
        main = (self.c_out, self.c_in // self.groups, self.k_h, self.k_w)
        return (main, (self.c_out,)) if self.bias else (main,)

    def loop_nest(self, role: Role) -> LoopNest:
        """Loops outermost first: what is written, then what is reduced.

        ``c_in`` and ``c_out`` count channels of one group. dX is given in scatter form: the
        input position is ``stride * h_out + dilation * k_h - pad``, so that no zero is inserted.
        In dW the error map is the kernel: it slides over the input at the ``k_h * k_w``
        offsets, and samples and error positions are reduced.
        """
        c_in = ("c_in", self.c_in // self.groups)
        c_out = ("c_out", self.c_out // self.groups)
        batch, groups = ("n", self.n), ("groups", self.groups)
        window = (("k_h", self.k_h), ("k_w", self.k_w))
        places = (("h_out", self.h_out), ("w_out", self.w_out))
        if role is Role.FORWARD:
            return (batch, groups, c_out, *places, c_in, *window)
        if role is Role.INPUT_GRAD:
            return (batch, groups, c_in, *places, c_out, *window)
        if role is Role.WEIGHT_GRAD:
            return (groups, c_in, c_out, *window, *places, batch)
        return MacOperator.loop_nest(self, role)

    def with_batch(self, batch: int) -> Self:
        """The same convolution on ``batch`` samples."""
        return replace(self, n=batch)
