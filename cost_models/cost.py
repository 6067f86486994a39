"""The cost of one kernel call on one unit: cycles, bytes and latency, as integers.

Costs are kept in cycles and bytes. Clocks come last, when an operating point is known, so a
table of costs stays valid whatever the clocks are. Each cost also names the constants it rests on,
one for its latency, one for its cycles and one for its bytes: intervals and provenance are computed
from these names.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

from kernels.operators import Operator, Role

DType = Literal["fp32", "int8", "fp16", "bf16"]
Rescaling = Literal["none", "fused", "inline", "dynamic"]
"""How an INT8 kernel turns its INT32 accumulator into INT8.

``fused``: shift known, requantised in the store (1 byte per element). ``inline``: the same, while
max|acc| is collected in registers for a later step. ``dynamic``: INT32 is written out; a scan and a
requantise follow as calls of their own. ``none``: the kernel does not rescale.
"""

ITEM_BYTES: dict[str, int] = {"fp32": 4, "int8": 1, "int32": 4, "fp16": 2, "bf16": 2}


TIMES = " * "
"""Joins the names of constants whose product a time rests on."""


MAX_CYCLES = 1 << 50
"""Most cycles of one kernel: at 1 MHz, the slowest clock, their nanoseconds still fit int64."""


class UnsupportedKernelError(ValueError):
    """The unit has no kernel for this call; the message names both."""


class CostError(ValueError):
    """A kernel takes longer than any run can; the message names the constant to correct."""


class KernelCall(NamedTuple):
    """One execution of a kernel: what a cost model is asked about.

    A named tuple, since a search makes many. ``accumulates`` marks a micro-batch that adds into an
    INT32 (or FP32) accumulator in memory.
    """

    op: Operator
    role: Role
    dtype: DType
    rescaling: Rescaling = "none"
    accumulates: bool = False


@dataclass(frozen=True, slots=True)
class Cost:
    """What a call costs on ``slots`` slots of a unit.

    Attributes
    ----------
    cycles
        Cycles of the unit's clock while it computes, all slots working together.
    ddr_bytes
        Bytes moved between the unit and DDR.
    lead_ns
        Latency before it starts computing (a launch, a call), nanoseconds.
    rate_cap
        Highest rate at which this unit moves those bytes, bytes per microsecond.
    vtcm_bytes
        Tightly coupled memory held while it runs.
    parameters
        Dotted names of the constants behind lead, cycles and bytes, in this order. Where several
        multiply, they are joined by :data:`TIMES`.

    Raises
    ------
    CostError
        More than :data:`MAX_CYCLES`: a constant is absurdly small, or the model huge.
    """

    slots: int
    cycles: int
    ddr_bytes: int
    lead_ns: int
    rate_cap: int
    vtcm_bytes: int
    parameters: tuple[str, str, str]

    def __post_init__(self) -> None:
        if self.cycles > MAX_CYCLES:
            raise CostError(
                f"cycles of a kernel: {self.cycles:.3g}; at most {MAX_CYCLES:.3g} are allowed; "
                f"correct the device's rates or {self.parameters[1]}, or use a smaller batch"
            )
