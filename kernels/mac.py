"""What convolution and the fully connected layer share: three MAC kernels of equal work."""

from __future__ import annotations

from math import prod
from typing import ClassVar

from kernels.operators import LoopNest, Operand, Operator, Role, Work

_OPERANDS = {
    Role.FORWARD: (Operand.INPUT, Operand.WEIGHTS),
    Role.INPUT_GRAD: (Operand.GRAD_OUTPUT, Operand.WEIGHT),
    Role.WEIGHT_GRAD: (Operand.INPUT, Operand.GRAD_OUTPUT),
    Role.UPDATE: (Operand.WEIGHTS, Operand.WEIGHT_GRADS),
}


class MacOperator(Operator):
    """An operator that multiplies one input by its main weight, with an optional bias.

    dX and dW reuse each forward product once, so all three roles have the same MACs: the
    product of the extents of their :meth:`loop_nest`, which a subclass states.
    """

    __slots__ = ()

    bias: bool
    backward_needs_input: ClassVar[bool] = True

    def operands(self, role: Role) -> tuple[Operand, ...]:
        """Forward: input, weights; dX: error, main weight; dW: input, error."""
        return _OPERANDS[role]

    def work(self, role: Role) -> Work:
        """MACs of the loop nest; a bias adds one add per output, forward and in dW."""
        if role is Role.UPDATE:
            return self.update_work()
        source, result = prod(self.inputs[0]), prod(self.output)
        sizes = tuple(prod(shape) for shape in self.weights)
        macs = prod(extent for _, extent in self.loop_nest(role))
        bias_ops = result if self.bias else 0
        if role is Role.FORWARD:
            return Work(macs, bias_ops, (source, *sizes), result)
        if role is Role.INPUT_GRAD:
            return Work(macs, 0, (result, sizes[0]), source)
        return Work(macs, bias_ops, (source, result), sum(sizes))

    def loop_nest(self, role: Role) -> LoopNest:
        """Loops of a role, outermost first; ``UPDATE`` has no MACs and therefore no nest."""
        return Operator.loop_nest(self, role)
