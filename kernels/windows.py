"""Shapes, sliding windows and field checks: what operators that have sizes share.

The output-size formula is that of convolution and pooling in
every framework (floor mode), with PyTorch's rule for ceil mode.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

from kernels.operators import Operator, OperatorError, Shape

Pair = tuple[int, int]


def check_int(kind: str, field: str, value: object, least: int) -> None:
    """Refuse a ``field`` that is not an ``int`` of at least ``least``."""
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise OperatorError(f"{kind}: {field} = {value!r}; allowed: an int of {least} or more")


def check_sizes(kind: str, **fields: int) -> None:
    """Refuse every named field that is not a positive ``int``."""
    for field, value in fields.items():
        check_int(kind, field, value, 1)


def check_shape(kind: str, field: str, shape: Shape) -> None:
    """Refuse a shape that is not a non-empty tuple of positive ints."""
    if not isinstance(shape, tuple) or not shape:
        raise OperatorError(f"{kind}: {field} = {shape!r}; allowed: a non-empty tuple of sizes")
    for axis, size in enumerate(shape):
        check_int(kind, f"{field}[{axis}]", size, 1)


def check_flag(kind: str, field: str, value: object) -> None:
    """Refuse a ``field`` that is not a ``bool``."""
    if not isinstance(value, bool):
        raise OperatorError(f"{kind}: {field} = {value!r}; allowed: True or False")


def as_pair(kind: str, field: str, value: int | Pair, least: int) -> Pair:
    """``(height, width)`` of a field given as one int or as a pair."""
    pair = value if isinstance(value, tuple) else (value, value)
    if len(pair) != 2:
        raise OperatorError(f"{kind}: {field} = {value!r}; allowed: an int or a pair (h, w)")
    check_int(kind, f"{field}_h", pair[0], least)
    check_int(kind, f"{field}_w", pair[1], least)
    return pair


def window_count(size: int, k: int, stride: int, pad: int, dilation: int, ceil: bool) -> int:
    """Number of window positions along one axis; 0 or less when the window does not fit.

    Ceil mode keeps a last partial window only if it starts inside the input or its left
    padding (``torch.nn.MaxPool2d``, note on ``ceil_mode``).
    """
    room = size + 2 * pad - dilation * (k - 1) - 1
    if room < 0:
        return 0
    if not ceil:
        return room // stride + 1
    count = -(-room // stride) + 1
    return count - 1 if (count - 1) * stride >= size + pad else count


def check_fits(kind: str, axis: str, count: int, size: int, k: int, pad: int) -> None:
    """Refuse a window that has no position on the padded input."""
    if count < 1:
        raise OperatorError(
            f"{kind}: {axis} = {size} with k_{axis} = {k}, pad_{axis} = {pad}; the window is "
            f"larger than the padded input; use a larger image or a smaller kernel"
        )


@dataclass(frozen=True, slots=True)
class Shaped(Operator):
    """An operator that the shape of its tensor describes; its axis 0 is the batch.

    A subclass states what differs: more inputs, another output, a tensor without a batch.
    """

    shape: Shape

    def __post_init__(self) -> None:
        check_shape(self.kind, "shape", self.shape)

    @property
    def inputs(self) -> tuple[Shape, ...]:
        """``(shape,)``."""
        return (self.shape,)

    @property
    def output(self) -> Shape:
        """``shape``."""
        return self.shape

    def with_batch(self, batch: int) -> Self:
        """The same operator with ``batch`` as leading axis."""
        return replace(self, shape=(batch, *self.shape[1:]))


class Windowed(Operator):
    """An operator with a window: ``k`` and ``pad``, given as an int or as ``(h, w)``.

    A subclass calls :meth:`_store_pairs` first, so that equal windows compare equal.
    """

    __slots__ = ()

    k: int | Pair
    pad: int | Pair

    def _store_pairs(self) -> None:
        object.__setattr__(self, "k", as_pair(self.kind, "k", self.k, 1))
        object.__setattr__(self, "pad", as_pair(self.kind, "pad", self.pad, 0))

    @property
    def k_h(self) -> int:
        """Window rows."""
        return self.k[0] if isinstance(self.k, tuple) else self.k

    @property
    def k_w(self) -> int:
        """Window columns."""
        return self.k[1] if isinstance(self.k, tuple) else self.k

    @property
    def pad_h(self) -> int:
        """Padding rows above and below."""
        return self.pad[0] if isinstance(self.pad, tuple) else self.pad

    @property
    def pad_w(self) -> int:
        """Padding columns left and right."""
        return self.pad[1] if isinstance(self.pad, tuple) else self.pad
