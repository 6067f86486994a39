"""What a device file says about a microcontroller cluster: scratchpad, DMA, FPUs, cycle counts."""

from __future__ import annotations

from pydantic import StrictBool, field_validator

from cost_models.mcu.counts import Constants
from cost_models.quantity import Bytes, BytesPerCycle, Count, Cycles, Part, Quantity, Share


class Mcu(Part):
    """A cluster of RISC-V cores that works on a scratchpad (L1), filled from L2 by DMA.

    The cores are the device's pool ``big``; its memory is L2. ``*_cycles`` are those of
    :class:`cost_models.mcu.counts.Constants`. Two fields say which software runs:
    ``double_buffer`` (transfers overlap with work, at twice the scratchpad for operands) and
    ``depthwise_backward_on_one_core`` (as released, where every core computes all of it).
    """

    l1_bytes: Bytes
    fpus: Count
    instructions_per_cycle: Share
    dma_bytes_per_cycle: BytesPerCycle
    dma_setup_cycles: Cycles
    block_cycles: Cycles
    output_cycles: Cycles
    window_cycles: Cycles
    compare_cycles: Cycles
    call_cycles: Cycles
    exponential_cycles: Cycles
    contention: Share
    double_buffer: StrictBool = False
    depthwise_backward_on_one_core: StrictBool = True

    @field_validator("fpus")
    @classmethod
    def _whole(cls, fpus: Quantity) -> Quantity:
        if fpus.value != int(fpus.value):
            raise ValueError(f"value {fpus.value:.10g} is not allowed; give a whole number of FPUs")
        return fpus

    @property
    def constants(self) -> Constants:
        """The cycle counts of work."""
        return Constants(
            block=self.block_cycles.value,
            output=self.output_cycles.value,
            window=self.window_cycles.value,
            compare=self.compare_cycles.value,
            call=self.call_cycles.value,
            contention=self.contention.value,
            exponential=self.exponential_cycles.value,
        )
