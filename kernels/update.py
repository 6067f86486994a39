"""The optimiser's kernel."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Self

from kernels.operators import Operator, Role, Shape, Work
from kernels.windows import check_int


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
