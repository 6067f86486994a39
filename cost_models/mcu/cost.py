"""Cost of a kernel on a microcontroller cluster: the auto-tuner's best, as cycles."""

from __future__ import annotations

from cost_models.cores import core_count
from cost_models.cost import ITEM_BYTES, TIMES, Cost, KernelCall, UnsupportedKernelError
from cost_models.device import Device
from cost_models.mcu.products import McuError
from cost_models.mcu.tuner import tune

MCU_DTYPES = ("fp32", "fp16", "bf16")
"""Data types that the cluster's kernels take."""


def mcu_cost(call: KernelCall, slots: int, device: Device) -> Cost:
    """Cost of ``call`` on ``slots`` cores of the cluster, DMA from and to L2 included.

    All bytes are counted as cycles: a transfer keeps the cluster waiting unless it is double
    buffered, and no other unit shares L2.

    Raises
    ------
    UnsupportedKernelError
        The device is no microcontroller or has fewer cores, a data type without kernels, a batch
        above 1, a tile that fits nowhere.
    """
    mcu = device.mcu
    if mcu is None or not 1 <= slots <= core_count(device, "big"):
        raise UnsupportedKernelError(f"{device.name} has no cluster of {slots} RISC-V cores")
    if call.dtype not in MCU_DTYPES:
        raise UnsupportedKernelError(
            f"{device.name}: no {call.dtype} kernels; allowed: {', '.join(MCU_DTYPES)}"
        )
    try:
        found = tune(call.op, call.role, ITEM_BYTES[call.dtype], mcu, slots)
    except McuError as error:
        raise UnsupportedKernelError(f"{device.name}: {error}") from None
    rests_on = TIMES.join(f"{device.name}.mcu.{field}" for field in found.rests_on)
    return Cost(
        slots=slots,
        cycles=found.best.cycles,
        ddr_bytes=0,
        lead_ns=0,
        rate_cap=int(device.cpu.pool_rate.value),
        vtcm_bytes=0,
        parameters=(
            f"{device.name}.mcu.call_cycles", rests_on, f"{device.name}.mcu.dma_bytes_per_cycle",
        ),
    )  # fmt: skip
