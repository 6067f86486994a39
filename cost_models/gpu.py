"""Cost of an FP32 kernel on the GPU: a roofline with a launch latency per kernel.

The latency is the device's enqueue plus what the library adds to it (the larger part).

It exists for the MNN-OpenCL baseline; there is no INT8 path on the GPU here.
"""

from __future__ import annotations

from math import ceil

from cost_models.cost import TIMES, Cost, KernelCall, UnsupportedKernelError
from cost_models.cpu import mac_share, moved_bytes
from cost_models.device import Device
from cost_models.library import Library
from kernels.conv import Conv2d
from kernels.linear import Linear

CPU_ONLY_KINDS = frozenset(
    {
        *("quantise", "dequantise", "rescale_scan", "requantise"),
        *("tucker_save", "tucker_restore", "subspace_save", "subspace_restore"),
    }
)


def gpu_cost(call: KernelCall, device: Device, library: Library) -> Cost:
    """Cost of ``call`` on the whole GPU.

    Raises
    ------
    UnsupportedKernelError
        The device has no GPU, or the call is not FP32.
    """
    gpu, op = device.gpu, call.op
    if gpu is None or call.dtype != "fp32" or op.kind in CPU_ONLY_KINDS:
        raise UnsupportedKernelError(
            f"{device.name}'s GPU has no {call.dtype} kernel for {op.kind}"
        )
    work = op.work(call.role)
    if work.macs and isinstance(op, Conv2d | Linear):
        share, paths = mac_share(call, library)
        rests_on = TIMES.join([*paths, f"{device.name}.gpu.fp32_macs_per_cycle"])
        cycles = work.macs / (gpu.fp32_macs_per_cycle.value * share)
    else:
        rests_on = f"{library.name}.alu_elements_per_cycle.fp32"
        cycles = max(work.alu_ops, work.writes) / library.alu_elements("fp32")
    return Cost(
        slots=1,
        cycles=ceil(cycles),
        ddr_bytes=moved_bytes(call),
        lead_ns=round(gpu.launch_us.value * 1000) + library.launch_ns,
        rate_cap=int(gpu.rate.value),
        vtcm_bytes=0,
        parameters=(
            f"{library.name}.launch_us",
            rests_on,
            f"{device.name}.gpu.rate",
        ),
    )
