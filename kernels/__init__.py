"""Floor 1: what each operator is, in numbers (shapes, work, loop nests); no costs and no times."""

from kernels.conv import Conv2d
from kernels.linear import Linear
from kernels.operators import Operator, OperatorError, Role, Work

__all__ = ["Conv2d", "Linear", "Operator", "OperatorError", "Role", "Work"]
