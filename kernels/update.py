"""The optimiser's kernels."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Self

from kernels.operators import Operator, OperatorError, Role, Shape, Work
from kernels.windows import check_int

STATE_BITS = (8, 32)
"""Widths of a momentum that there are kernels for."""
STATE_BLOCK = 2048
"""Elements of an 8-bit state that share a float32 scale (arXiv 2110.02861)."""


@dataclass(frozen=True, slots=True)
class SgdUpdate(Operator):
    """``w <- w - rate * g`` over ``params`` parameters, without momentum.

    It has one role, ``UPDATE``, and no batch. All parameters of a layer (weight and bias) are
    one update.

    Examples
    --------
    >>> SgdUpdate(params=5120).work(Role.UPDATE).alu_ops
    10240
    """

    params: int = field()  # explicit, as the base class has a property of this name

    kind: ClassVar[str] = "sgd_update"

    def __post_init__(self) -> None:
        check_int(self.kind, "params", self.params, 1)

    @property
    def inputs(self) -> tuple[Shape, ...]:
        """Weights and their gradients, flat."""
        return ((self.params,), (self.params,))

    @property
    def output(self) -> Shape:
        """The new weights, flat."""
        return (self.params,)

    @property
    def weights(self) -> tuple[Shape, ...]:
        """What it updates, flat."""
        return ((self.params,),)

    @property
    def batch(self) -> int:
        """1: weights have no batch."""
        return 1

    def work(self, role: Role) -> Work:
        """A multiply and a subtract per parameter."""
        if role is not Role.UPDATE:
            raise self.no_role(role)
        return self.update_work()

    def with_batch(self, batch: int) -> Self:
        """Itself: weights have no batch."""
        return self


@dataclass(frozen=True, slots=True)
class MomentumUpdate(SgdUpdate):
    """``v <- m v + (g + decay w)``, ``w <- w - rate v`` with a state ``v`` of ``state_bits``.

    With 32 bits the state is read and written beside the weights. With 8 bits it is a byte per
    parameter and a float32 per block of 2048; each element is then looked up and scaled before it
    is updated, and scaled, compared eight times and stored after.

    Raises
    ------
    OperatorError
        ``state_bits`` is none of 8 and 32.

    Examples
    --------
    >>> [MomentumUpdate(4096, bits).state_bytes for bits in (32, 8)]
    [16384, 4104]
    """

    state_bits: int = 32

    kind: ClassVar[str] = "momentum_update"

    def __post_init__(self) -> None:
        check_int(self.kind, "params", self.params, 1)
        if self.state_bits not in STATE_BITS:
            raise OperatorError(f"{self.kind}: state_bits = {self.state_bits!r}; allowed: 8 or 32")

    @property
    def state_bytes(self) -> int:
        """Bytes of the state between steps."""
        if self.state_bits == 32:
            return 4 * self.params
        return self.params + 4 * -(-self.params // STATE_BLOCK)

    def work(self, role: Role) -> Work:
        """Six operations per parameter, eighteen with a state of 8 bits.

        Three products and three sums; with 8 bits also a look-up, a product, a comparison for the
        scale, a division and eight comparisons. Elements are of 32 bits: four parameters of an
        8-bit state count as one.
        """
        if role is not Role.UPDATE:
            raise self.no_role(role)
        state = -(-self.state_bytes // 4)
        each = 6 if self.state_bits == 32 else 18
        reads = (self.params + state, self.params)
        return Work(macs=0, alu_ops=each * self.params, reads=reads, writes=self.params + state)


@dataclass(frozen=True, slots=True)
class CompensatedUpdate(SgdUpdate):
    """``y = -rate g - c``, ``t = w + y``, ``c <- (t - w) - y``, ``w <- t``: Kahan's summation.

    The state ``c`` holds, in the 16 bits of the weights, what rounding took from them, and gives it
    back in later steps (for training in 16 bits: Zamirai et al., arXiv 2010.06192).

    Examples
    --------
    >>> CompensatedUpdate(4096).state_bytes
    8192
    """

    kind: ClassVar[str] = "compensated_update"
    state_bits: ClassVar[int] = 16

    @property
    def state_bytes(self) -> int:
        """Bytes of the state between steps: two per parameter."""
        return 2 * self.params

    def work(self, role: Role) -> Work:
        """Five operations per parameter: a product and four sums."""
        if role is not Role.UPDATE:
            raise self.no_role(role)
        reads = (2 * self.params, self.params)
        return Work(macs=0, alu_ops=5 * self.params, reads=reads, writes=2 * self.params)
