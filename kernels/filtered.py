"""Gradient filtering: the backward pass of a convolution on patch means instead of single errors.

The forward pass is exact and leaves sums of the input over patches instead of the input. Backward,
errors are averaged over patches of ``r x r``, both gradients are products of single elements of
these coarse maps, and what comes out is spread again: the input gradient over its patch, the weight
gradient over all taps (Yang, Li, Marculescu, *Efficient On-device Training via Gradient
Filtering*, CVPR 2023, equations 6 to 14). :class:`FilteredConv` says which operators that takes.

Borders: ``ceil(h_out / r)`` patches lie centred on the map, the odd row above. A patch at the
border averages the errors that it holds. Inputs that no patch of theirs reaches, at the rim of a
convolution without padding, get no gradient.

Three facts to know, each a test. Where the error of each channel is constant, dX of a stride-1
convolution is exact inside the map. With ``r = 1`` and a kernel of more than one tap the formulas
are *not* back-propagation, whatever the paper says: weights are still summed; patches start at 2
here. With a stride ``s`` both gradients come out ``s^2`` times as large as the exact ones are on
average, since each input of a patch is counted and only every ``s^2``-th is met by a tap; the
released code does the same, and nothing here corrects it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod
from typing import ClassVar, Self

from kernels.conv import Conv2d
from kernels.operators import Operator, OperatorError, Role, Shape, Work
from kernels.windows import Shaped, check_int, check_sizes


@dataclass(frozen=True, slots=True)
class _Patched(Operator):
    """``(n, c, h, w)`` cut into ``(rows, columns)`` squares of ``patch`` elements a side.

    The first square begins ``top`` rows above and ``left`` columns left of the map; where these
    are negative it begins inside.
    """

    n: int
    c: int
    h: int
    w: int
    patch: int
    rows: int
    columns: int
    top: int
    left: int

    role: ClassVar[Role]
    """The one role of the operator; it decides how its result is rescaled in INT8."""

    def __post_init__(self) -> None:
        sizes = {name: getattr(self, name) for name in ("n", "c", "h", "w", "rows", "columns")}
        check_sizes(self.kind, **sizes, patch=self.patch)

    @property
    def fine(self) -> Shape:
        """``(n, c, h, w)``."""
        return (self.n, self.c, self.h, self.w)

    @property
    def coarse(self) -> Shape:
        """``(n, c, rows, columns)``."""
        return (self.n, self.c, self.rows, self.columns)

    @property
    def grid(self) -> tuple[int, int, int]:
        """``(patch, top, left)``: what loops need beside the shapes of their arrays."""
        return (self.patch, self.top, self.left)

    def with_batch(self, batch: int) -> Self:
        """The same patches on ``batch`` samples."""
        return replace(self, n=batch)


@dataclass(frozen=True, slots=True)
class PatchSum(_Patched):
    """Sum over each patch: what the forward pass saves of its input.

    Examples
    --------
    >>> saved = FilteredConv(Conv2d(n=8, c_in=64, h=14, w=14, c_out=64, k=3, pad=1), 4).saved
    >>> saved.output, saved.work(Role.FORWARD).alu_ops
    ((8, 64, 4, 4), 100352)
    """

    kind: ClassVar[str] = "patch_sum"
    role: ClassVar[Role] = Role.FORWARD

    @property
    def inputs(self) -> tuple[Shape, ...]:
        """``((n, c, h, w),)``."""
        return (self.fine,)

    @property
    def output(self) -> Shape:
        """``(n, c, rows, columns)``."""
        return self.coarse

    def work(self, role: Role) -> Work:
        """One add per element read."""
        if role is not self.role:
            raise self.no_role(role)
        size = prod(self.fine)
        return Work(0, size, (size,), prod(self.coarse))


@dataclass(frozen=True, slots=True)
class PatchMean(_Patched):
    """Mean over the elements that each patch holds: the filter of the errors."""

    kind: ClassVar[str] = "patch_mean"
    role: ClassVar[Role] = Role.INPUT_GRAD

    @property
    def inputs(self) -> tuple[Shape, ...]:
        """``((n, c, h, w),)``."""
        return (self.fine,)

    @property
    def output(self) -> Shape:
        """``(n, c, rows, columns)``."""
        return self.coarse

    def work(self, role: Role) -> Work:
        """One add per element read, one multiply per element written."""
        if role is not self.role:
            raise self.no_role(role)
        size, written = prod(self.fine), prod(self.coarse)
        return Work(0, size + written, (size,), written)


@dataclass(frozen=True, slots=True)
class PatchExpand(_Patched):
    """Each element of the coarse map copied over its patch; 0 where no patch lies."""

    kind: ClassVar[str] = "patch_expand"
    role: ClassVar[Role] = Role.INPUT_GRAD

    @property
    def inputs(self) -> tuple[Shape, ...]:
        """``((n, c, rows, columns),)``."""
        return (self.coarse,)

    @property
    def output(self) -> Shape:
        """``(n, c, h, w)``."""
        return self.fine

    def work(self, role: Role) -> Work:
        """A copy to every element written."""
        if role is not self.role:
            raise self.no_role(role)
        return Work(0, 0, (prod(self.coarse),), prod(self.fine))


@dataclass(frozen=True, slots=True)
class _Taps(Shaped):
    """Operators between a weight ``shape = (c_out, c_in / groups, k_h, k_w)`` and its tap sums.

    A weight has no batch: ``batch`` is 1 and :meth:`with_batch` changes nothing.
    """

    role: ClassVar[Role]

    def __post_init__(self) -> None:
        Shaped.__post_init__(self)
        if len(self.shape) != 4:
            raise OperatorError(
                f"{self.kind}: shape = {self.shape!r}; allowed: (c_out, c_in / groups, k_h, k_w)"
            )

    @property
    def single(self) -> Shape:
        """``(c_out, c_in / groups, 1, 1)``."""
        return (*self.shape[:2], 1, 1)

    @property
    def batch(self) -> int:
        """1: weights have no batch."""
        return 1

    def with_batch(self, batch: int) -> Self:
        """Itself: weights have no batch."""
        return self


@dataclass(frozen=True, slots=True)
class TapSum(_Taps):
    """Sum of each kernel over its taps, for the input gradient."""

    kind: ClassVar[str] = "tap_sum"
    role: ClassVar[Role] = Role.INPUT_GRAD

    @property
    def output(self) -> Shape:
        """``(c_out, c_in / groups, 1, 1)``."""
        return self.single

    def work(self, role: Role) -> Work:
        """One add per tap but the first of each kernel."""
        if role is not self.role:
            raise self.no_role(role)
        size, written = prod(self.shape), prod(self.single)
        return Work(0, size - written, (size,), written)


@dataclass(frozen=True, slots=True)
class TapBroadcast(_Taps):
    """The same gradient for every tap of a kernel."""

    kind: ClassVar[str] = "tap_broadcast"
    role: ClassVar[Role] = Role.WEIGHT_GRAD

    @property
    def inputs(self) -> tuple[Shape, ...]:
        """``((c_out, c_in / groups, 1, 1),)``."""
        return (self.single,)

    def work(self, role: Role) -> Work:
        """A copy to every tap."""
        if role is not self.role:
            raise self.no_role(role)
        return Work(0, 0, (prod(self.single),), prod(self.shape))


@dataclass(frozen=True, slots=True)
class ChannelSum(Shaped):
    """Sum of the error ``shape = (n, c, h, w)`` over all but channels: the exact bias gradient."""

    kind: ClassVar[str] = "channel_sum"
    role: ClassVar[Role] = Role.WEIGHT_GRAD

    @property
    def output(self) -> Shape:
        """``(c,)``."""
        return (self.shape[1],)

    def work(self, role: Role) -> Work:
        """One add per element."""
        if role is not self.role:
            raise self.no_role(role)
        size = prod(self.shape)
        return Work(0, size, (size,), self.shape[1])


@dataclass(frozen=True, slots=True)
class FilteredConv:
    """The operators of a convolution's filtered backward pass.

    Parameters
    ----------
    conv
        The convolution; stride, dilation, groups and borders are its own.
    patch
        Side of a patch of errors; on the input a patch is ``patch * stride`` wide.

    Raises
    ------
    OperatorError
        A patch of less than 2, or larger than the output map.

    Examples
    --------
    >>> conv = Conv2d(n=32, c_in=128, h=120, w=160, c_out=128, k=3, pad=1)
    >>> FilteredConv(conv, 4).weight_product.work(Role.WEIGHT_GRAD).macs
    629145600
    >>> conv.work(Role.WEIGHT_GRAD).macs // 629145600
    144
    """

    conv: Conv2d
    patch: int

    def __post_init__(self) -> None:
        check_int("filter", "patch", self.patch, 2)
        if self.patch > largest_patch(self.conv):
            raise OperatorError(
                f"filter: patch = {self.patch} on an output map of {self.conv.h_out} x "
                f"{self.conv.w_out}; allowed: 2 .. {largest_patch(self.conv)}; take a smaller "
                f"patch, or leave the layer exact"
            )

    @property
    def rows(self) -> int:
        """Rows of patches."""
        return -(-self.conv.h_out // self.patch)

    @property
    def columns(self) -> int:
        """Columns of patches."""
        return -(-self.conv.w_out // self.patch)

    def _patches(self, c: int, h: int, w: int, patch: int) -> tuple[int, ...]:
        """Fields of a patched operator on maps of ``c`` channels, patches centred."""
        top, left = (
            -(-(count * patch - size) // 2) for count, size in ((self.rows, h), (self.columns, w))
        )
        return (self.conv.n, c, h, w, patch, self.rows, self.columns, top, left)

    @property
    def saved(self) -> PatchSum:
        """From the input to what is saved of it."""
        conv = self.conv
        return PatchSum(*self._patches(conv.c_in, conv.h, conv.w, self.patch * conv.stride))

    @property
    def error(self) -> PatchMean:
        """From the errors of the output to coarse ones."""
        conv = self.conv
        return PatchMean(*self._patches(conv.c_out, conv.h_out, conv.w_out, self.patch))

    @property
    def expand(self) -> PatchExpand:
        """From the coarse input gradient to that of every input."""
        conv = self.conv
        return PatchExpand(*self._patches(conv.c_in, conv.h, conv.w, self.patch * conv.stride))

    @property
    def keeps_taps(self) -> bool:
        """Whether dX takes the whole kernel: its taps lie in different patches.

        So it is where the dilation is a patch or more (the released code's second form); then the
        coarse convolution has dilation ``dilation // patch`` and keeps the size of the map, which
        a kernel can that reaches equally far to both sides.
        """
        conv = self.conv
        step = conv.dilation // self.patch
        even = all(step * (k - 1) % 2 == 0 for k in (conv.k_h, conv.k_w))
        return conv.k_h * conv.k_w > 1 and step > 0 and even

    @property
    def taps(self) -> TapSum | None:
        """From the weight to its tap sums; None where dX takes the weight itself."""
        single = self.conv.k_h * self.conv.k_w == 1
        return None if single or self.keeps_taps else TapSum(self.conv.weights[0])

    @property
    def spread(self) -> TapBroadcast | None:
        """From the coarse weight gradient to that of every tap; None where there is one tap."""
        single = self.conv.k_h * self.conv.k_w == 1
        return None if single else TapBroadcast(self.conv.weights[0])

    @property
    def bias(self) -> ChannelSum | None:
        """From the errors to the bias gradient, unfiltered; None without a bias."""
        return ChannelSum(self.conv.output) if self.conv.bias else None

    @property
    def weight_product(self) -> Conv2d:
        """The 1x1 convolution whose weight gradient is that of the tap sums."""
        conv = self.conv
        return Conv2d(conv.n, conv.c_in, self.rows, self.columns, conv.c_out, 1, groups=conv.groups)

    @property
    def input_product(self) -> Conv2d:
        """The convolution between coarse maps whose input gradient is spread over patches."""
        if not self.keeps_taps:
            return self.weight_product
        step = self.conv.dilation // self.patch
        pad = step * (self.conv.k_h - 1) // 2, step * (self.conv.k_w - 1) // 2
        return replace(
            self.weight_product, k=(self.conv.k_h, self.conv.k_w), pad=pad, dilation=step
        )


def largest_patch(conv: Conv2d) -> int:
    """Side of the largest patch that fits the output map.

    >>> largest_patch(Conv2d(n=1, c_in=8, h=30, w=40, c_out=8, k=3, pad=1))
    30
    """
    return min(conv.h_out, conv.w_out)
