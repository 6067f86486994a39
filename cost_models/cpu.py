"""Cost of a kernel on CPU cores: a roofline per core type with a parallel efficiency.

Kernels with MACs take ``macs / (MAC per cycle x cores x parallel efficiency x share)`` cycles,
where the share is what the library sustains of the core's measured peak for this kernel family and
role. Everything moves its operands once; what fits the last-level cache moves none from DDR.
Strided kernels (transpose, rotate) run at the library's gather rate instead.
"""

from __future__ import annotations

from math import ceil

from cost_models.cores import core_count, cores_of
from cost_models.cost import ITEM_BYTES, TIMES, Cost, KernelCall, UnsupportedKernelError
from cost_models.device import Device
from cost_models.library import Library
from cost_models.parts import Pool
from kernels.conv import Conv2d
from kernels.operators import Operator, Role

GATHER_KINDS = frozenset({"transpose", "rotate180"})
"""Kernels whose reads or writes stride through memory."""
BETWEEN_KINDS = frozenset({"tucker_save", "subspace_save"})
"""Kernels with element operations between their products: eigenproblems, orthonormal bases."""


def moved_bytes(call: KernelCall) -> int:
    """Bytes that a call reads and writes, each operand once.

    The int32 side of quantising operators and of dynamically rescaled results counts 4 bytes.
    """
    work = call.op.work(call.role)
    size = ITEM_BYTES[call.dtype]
    kind = call.op.kind
    if kind == "rescale_scan":
        return sum(work.reads) * ITEM_BYTES["int32"]
    if kind == "requantise":
        return sum(work.reads) * ITEM_BYTES["int32"] + work.writes
    if kind == "sign_mask":  # bits lie in bytes, whatever the data type
        return sum(work.reads) * size + work.writes
    if kind == "masked_grad":
        return (work.reads[0] + work.writes) * size + work.reads[1]
    if kind == "quantise":  # one pass finds the range, one converts
        return 2 * sum(work.reads) * ITEM_BYTES["fp32"] + work.writes
    if kind == "dequantise":
        return sum(work.reads) + work.writes * ITEM_BYTES["fp32"]
    wide = call.dtype == "int8" and work.macs > 0 and call.rescaling in ("dynamic", "none")
    written = work.writes * (ITEM_BYTES["int32"] if wide else size)
    if call.accumulates:
        written += work.writes * max(size, ITEM_BYTES["int32"])
    return sum(work.reads) * size + written


def cpu_cost(call: KernelCall, pool: Pool, slots: int, device: Device, library: Library) -> Cost:
    """Cost of ``call`` on ``slots`` cores of the pool ``big`` or ``little``.

    Raises
    ------
    UnsupportedKernelError
        The device has no such pool or fewer cores in it.
    """
    if not 1 <= slots <= core_count(device, pool):
        raise UnsupportedKernelError(f"{device.name} has no {slots} cores in its {pool!r} pool")
    cores = cores_of(device, pool, slots)
    op, role, dtype = call.op, call.role, call.dtype
    total = moved_bytes(call)
    work = op.work(role)
    speed = slots * library.parallel_share(slots)
    alu = library.alu_elements(alu_kind(call)) * speed
    rests_on = (
        [f"{library.name}.parallel_efficiency.{library.listed_threads(slots)}"] if slots > 1 else []
    )
    if work.macs:
        share, paths = mac_share(call, library)
        cycles = work.macs / (cores.macs_per_cycle(dtype) * speed * share)
        if call.rescaling == "inline":
            cycles += work.writes / (library.alu_elements("int32") * speed)
        if op.kind in BETWEEN_KINDS:
            cycles += work.alu_ops / alu
        slowest = cores.clusters[-1][0]
        rests_on += [*paths, f"{device.name}.cpu.clusters.{slowest}.{dtype}_macs_per_cycle"]
    elif op.kind in GATHER_KINDS:
        cycles = total / library.gather_bytes_per_us(cores.rate) * cores.max_hz / 1e6
        rests_on = [f"{library.name}.gather_rate"]
    else:
        cycles = max(work.alu_ops, work.writes) / alu
        rests_on.append(f"{library.name}.alu_elements_per_cycle.{alu_kind(call)}")
    return Cost(
        slots=slots,
        cycles=ceil(cycles),
        ddr_bytes=0 if total <= device.cpu.llc_bytes.value else total,
        lead_ns=library.launch_ns,
        rate_cap=cores.rate,
        vtcm_bytes=0,
        parameters=(
            f"{library.name}.launch_us",
            TIMES.join(rests_on),
            f"{device.name}.cpu.{cores.rate_path}",
        ),
    )


def alu_kind(call: KernelCall) -> str:
    """Element type that a pointwise kernel computes in."""
    kind = call.op.kind
    if kind in ("rescale_scan", "requantise"):
        return "int32"
    return "fp32" if kind in ("quantise", "dequantise") else call.dtype


def mac_share(call: KernelCall, library: Library) -> tuple[float, list[str]]:
    """Sustained share of peak of a MAC kernel, and the names of the constants behind it."""
    op, role = call.op, call.role
    name = family(op)
    share = library.share(call.dtype, name, role)
    paths = [f"{library.name}.efficiency.{call.dtype}.{name}.{role}"]
    if isinstance(op, Conv2d) and op.stride > 1 and role is not Role.FORWARD:
        share *= library.strided_share(role)
        paths.append(f"{library.name}.strided.{role}")
    return share, paths


def family(op: Operator) -> str:
    """Kernel family whose share of peak applies: conv, depthwise or linear (any matrix product)."""
    if isinstance(op, Conv2d):
        return "depthwise" if op.depthwise else "conv"
    return "linear"
