"""From a kernel call to the loop nests that a unit runs for it, and from these to counts."""

from __future__ import annotations

from typing import Literal

from cost_models.caches.cpu_macs import cpu_nests
from cost_models.caches.dsp_macs import dsp_nests
from cost_models.caches.levels import CacheError, Hierarchy, Traffic
from cost_models.caches.nest import Nest
from cost_models.caches.streams import (
    CPU,
    DSP,
    elementwise_nests,
    scan_nests,
    transpose_nests,
    update_nests,
)
from cost_models.caches.windows import is_windowed, window_nests
from cost_models.cost import KernelCall
from cost_models.dsp import DSP_KINDS
from kernels.conv import Conv2d
from kernels.layout import Flatten
from kernels.linear import Linear
from kernels.operators import Role

Unit = Literal["cpu", "dsp"]
UNITS: tuple[Unit, ...] = ("cpu", "dsp")


def kernel_nests(call: KernelCall, unit: Unit, scratchpad_bytes: int = 0) -> list[Nest]:
    """The loop nests that a unit runs for a call, in order.

    Parameters
    ----------
    call
        Operator, role, data type and rescaling.
    unit
        ``cpu``: one core; ``dsp``: all its contexts as one.
    scratchpad_bytes
        VTCM of the DSP.

    Returns
    -------
    list of Nest
        Empty for a view, which nothing computes.

    Raises
    ------
    CacheError
        An unknown unit, or a kernel that the unit does not have.
    OperatorError
        A role that the operator does not have.

    Examples
    --------
    >>> from kernels.pointwise import Relu
    >>> call = KernelCall(Relu(shape=(1, 8, 4, 4)), Role.FORWARD, "int8")
    >>> [nest.name for nest in kernel_nests(call, "cpu")]
    ['work']
    """
    if unit not in UNITS:
        raise CacheError(f"unit = {unit!r}; allowed: {', '.join(UNITS)}; choose one of these")
    op = call.op
    op.work(call.role)  # refuses the roles that do not exist
    if unit == "dsp" and (call.dtype != "int8" or op.kind not in DSP_KINDS):
        raise CacheError(
            f"unit = 'dsp': has no {call.dtype} kernel for {op.kind}; allowed: int8 kernels of "
            f"{', '.join(sorted(DSP_KINDS))}; use 'cpu'"
        )
    lanes = CPU if unit == "cpu" else DSP
    if isinstance(op, Flatten):
        return []
    if call.role is Role.UPDATE:
        return update_nests(call, lanes)
    if is_windowed(op):
        return window_nests(call, lanes)
    if isinstance(op, Conv2d | Linear):
        return cpu_nests(call) if unit == "cpu" else dsp_nests(call, scratchpad_bytes)
    if op.kind in ("transpose", "rotate180"):
        return transpose_nests(call)
    if op.kind == "rescale_scan":
        return scan_nests(call, lanes)
    return elementwise_nests(call, lanes)


def simulate(nests: list[Nest], hierarchy: Hierarchy) -> Traffic:
    """Counts of a kernel on empty caches, its dirty lines written back in the end."""
    from cost_models.caches.simulator import Simulator
    from cost_models.caches.trace import trace

    return Simulator(hierarchy).run_all(trace(nests, hierarchy))
