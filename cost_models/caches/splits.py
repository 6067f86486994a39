"""Traffic of a weight gradient against the micro-batch it is split into.

Where the error of the whole batch does not fit VTCM, its slices are streamed again for every input
channel; a micro-batch that fits reads each slice once, but every micro-batch adds into an INT32
accumulator in memory, and a depth below 32 is padded to 32.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from cost_models.caches.analytic import estimate
from cost_models.caches.dsp_macs import holds_slice
from cost_models.caches.kernels import kernel_nests, simulate
from cost_models.caches.levels import CacheError, Hierarchy
from cost_models.cost import KernelCall
from kernels.conv import Conv2d
from kernels.operators import Role


@dataclass(frozen=True, slots=True)
class SplitPoint:
    """Bytes of a whole batch, split into micro-batches of ``micro_batch`` samples.

    ``memory_bytes`` passes between the last cache and memory, ``vtcm_bytes`` to and from VTCM.
    """

    micro_batch: int
    fits: bool
    memory_bytes: int
    vtcm_bytes: int


def split_point(op: Conv2d, micro_batch: int, hierarchy: Hierarchy, simulated: bool) -> SplitPoint:
    """Traffic of the weight gradient of ``op`` in micro-batches, on the DSP.

    Each micro-batch starts on cold caches: between two of them the step runs other kernels.

    Parameters
    ----------
    op
        The convolution at its whole batch.
    micro_batch
        Samples at a time; divides the batch.
    hierarchy
        Of the DSP.
    simulated
        By the simulator, or in closed form.

    Raises
    ------
    CacheError
        A micro-batch that does not divide the batch.
    """
    if micro_batch < 1 or op.n % micro_batch:
        raise CacheError(
            f"micro_batch = {micro_batch}; allowed: a divisor of the batch {op.n}; choose one"
        )
    part, split = op.with_batch(micro_batch), micro_batch < op.n
    call = KernelCall(part, Role.WEIGHT_GRAD, "int8", "none" if split else "dynamic", split)
    nests = kernel_nests(call, "dsp", hierarchy.scratchpad_bytes)
    found = (simulate if simulated else estimate)(nests, hierarchy)
    times = op.n // micro_batch
    return SplitPoint(
        micro_batch,
        holds_slice(part, Role.WEIGHT_GRAD, hierarchy.scratchpad_bytes),
        times * found.memory_bytes,
        times * (found.scratchpad_read_bytes + found.scratchpad_written_bytes),
    )


def with_scratchpad(hierarchy: Hierarchy, scratchpad_bytes: int) -> Hierarchy:
    """The same caches beside another VTCM."""
    return replace(hierarchy, scratchpad_bytes=scratchpad_bytes)
