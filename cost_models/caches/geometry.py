"""Cache hierarchies of devices: capacities from their descriptions, shapes from the cores' manuals.

A device says how large its last level, the DSP's L2 and VTCM are. The private caches of a CPU core
follow from the core's name; what licensees chose between is ``assumed`` where no table says it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from cost_models.caches.kernels import Unit
from cost_models.caches.levels import CacheError, Hierarchy, Level
from cost_models.device import Device
from cost_models.parts import Pool

KIB = 1024
CPU_LINE = 64
"""Bytes of a line in every cache of these cores (Arm technical reference manuals)."""
LAST_WAYS = 16
"""Ways of the last level, assumed: DynamIQ L3 caches have 12 or 16, system caches are unknown."""
DSP_L1 = (32 * KIB, 4, 64)
"""Bytes, ways and line of Hexagon's scalar data cache: 32 KiB published (Hexagon V66 Programmer's
Reference Manual), its shape assumed."""
DSP_L2_WAYS, DSP_L2_LINE = 8, 64
"""Assumed: no shape of the DSP's L2 is published."""


@dataclass(frozen=True, slots=True)
class PrivateCaches:
    """L1 data cache and L2 of a core: KiB and ways; how they are known."""

    l1_kib: int
    l1_ways: int
    l2_kib: int
    l2_ways: int
    kind: Literal["published", "assumed"]
    source: str


ARM = "Arm technical reference manual of the core; KiB of L2 as common on Snapdragon, assumed"
OTHER = PrivateCaches(32, 8, 512, 8, "assumed", "a common shape; this core is not in the table")
CORES = {
    "Cortex-A55": PrivateCaches(32, 4, 128, 4, "assumed", ARM),
    "Cortex-A76": PrivateCaches(64, 4, 256, 8, "assumed", ARM),
    "Cortex-A77": PrivateCaches(64, 4, 256, 8, "assumed", ARM),
    "Cortex-A78": PrivateCaches(64, 4, 512, 8, "assumed", ARM),
    "Cortex-X1": PrivateCaches(64, 4, 1024, 8, "assumed", ARM),
    "Cortex-A520": PrivateCaches(32, 4, 256, 8, "assumed", ARM),
    "Cortex-A720": PrivateCaches(64, 4, 512, 8, "assumed", ARM),
    "Cortex-X4": PrivateCaches(64, 4, 2048, 8, "assumed", ARM),
}


def cpu_hierarchy(device: Device, pool: Pool = "big") -> Hierarchy:
    """L1, L2 and the last level as one core of a pool sees them, alone.

    Raises
    ------
    CacheError
        The device has no such pool, or a last level too small for a set.
    """
    clusters = device.pool(pool)
    if not clusters:
        raise CacheError(f"pool = {pool!r}: {device.name} has no cores in it; use 'big'")
    core = CORES.get(clusters[0].core, OTHER)
    last = int(device.cpu.llc_bytes.value) // (LAST_WAYS * CPU_LINE) * LAST_WAYS * CPU_LINE
    if not last:
        raise CacheError(
            f"cpu.llc_bytes = {device.cpu.llc_bytes.value:g}; allowed: {LAST_WAYS * CPU_LINE} or "
            "more bytes; correct the device"
        )
    levels = (
        Level("L1", core.l1_kib * KIB, core.l1_ways, CPU_LINE),
        Level("L2", core.l2_kib * KIB, core.l2_ways, CPU_LINE),
        Level("L3", last, LAST_WAYS, CPU_LINE),
    )
    return Hierarchy(levels)


def dsp_hierarchy(device: Device) -> Hierarchy:
    """L1 for scalars, L2 for all, VTCM beside them.

    Raises
    ------
    CacheError
        The device has no DSP, or an L2 too small for a set.
    """
    if device.dsp is None:
        raise CacheError(f"unit = 'dsp': {device.name} has none; use 'cpu'")
    span = DSP_L2_WAYS * DSP_L2_LINE
    second = int(device.dsp.l2_bytes.value) // span * span
    if not second:
        raise CacheError(
            f"dsp.l2_bytes = {device.dsp.l2_bytes.value:g}; allowed: {span} or more bytes; correct "
            "the device"
        )
    levels = (Level("L1", *DSP_L1), Level("L2", second, DSP_L2_WAYS, DSP_L2_LINE))
    return Hierarchy(levels, int(device.dsp.vtcm_bytes.value), vector_level=1)


def device_hierarchy(device: Device, unit: Unit) -> Hierarchy:
    """The hierarchy of a unit: the first big core, or the DSP."""
    return cpu_hierarchy(device) if unit == "cpu" else dsp_hierarchy(device)
