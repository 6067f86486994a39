"""What a device is to the compiled evaluator: units, clocks, calls and preparation as numbers."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from cost_models.device import Device
from cost_models.model import CostModel
from cost_models.rpc import rpc_table, rpc_tail
from sim.aspects.placement import default_unit
from sim.aspects.step import DSP_POINTS, cpu_points
from sim.assembly import Clocks, units_of
from sim.taskgraph import I64


def point_columns(device: Device) -> int:
    """Columns of a cost for operating points: of the CPU's, or for DSP kernels the DSP's."""
    return max(len(cpu_points(device)), len(DSP_POINTS))


class Machine(NamedTuple):
    """A device with a FastRPC mode, as arrays and integers; times in ns, powers in mW.

    ``option`` tables have a row per placement (``cpu:4``...): its unit's index, and whether it is
    on the DSP or the GPU. ``unit`` tables have a row per unit: slots and VTCM bytes.
    """

    option_unit: I64
    option_dsp: I64
    option_gpu: I64
    unit_slots: I64
    unit_vtcm: I64
    dsp: int
    """Index of the DSP among the units, -1 if there is none; and so on."""
    rpc: int
    dsp_slots: int
    one_context_mw: I64
    """Power of one DSP context at each DSP operating point; of preparing a subgraph."""
    all_contexts_mw: I64
    static_mw: int
    ddr_rate: int
    pj_per_byte: int
    call_null_ns: int
    call_knots: I64
    """``(knots, 2)``: bytes passed, extra latency."""
    call_tail_ns: int
    prepare_us: tuple[float, float, float]
    """Fixed, per kernel, per MiB of packed weights."""
    repack_rate: int
    """Bytes per microsecond that re-packing reads and writes."""
    dsp_memory: int
    gpu_launch_ns: int


def options_of(device: Device) -> tuple[str, ...]:
    """Return every placement that a device has, the default one first."""
    first = default_unit(device)
    found = [first]
    for unit in units_of(device, Clocks()):
        if unit.name == "gpu":
            found.append("gpu")
        elif unit.name != "rpc":
            found += [f"{unit.name}:{n}" for n in range(unit.slots, 0, -1)]
    return tuple(dict.fromkeys(found))


def machine_of(device: Device, costs: CostModel, qos: str) -> Machine:
    """Return the numbers of a device with a FastRPC mode (``default``: the device's own)."""
    units = units_of(device, Clocks())
    index = {unit.name: k for k, unit in enumerate(units)}
    options = options_of(device)
    names = [option.partition(":")[0] for option in options]
    dsp, rpc, prepare = device.dsp, device.fastrpc, device.prepare
    offloads = dsp is not None and rpc is not None and prepare is not None
    mode = None if qos == "default" else qos
    contexts = dsp.contexts if dsp is not None else 0
    columns = point_columns(device)

    def power(slots: int) -> I64:
        if not offloads:
            return np.zeros(columns, np.int64)
        padded = DSP_POINTS + DSP_POINTS[:1] * (columns - len(DSP_POINTS))
        return np.array([_dsp_mw(costs, slots, point) for point in padded], np.int64)

    null, knots = rpc_table(device, mode) if offloads else (0, ((0, 0), (1, 0)))
    return Machine(
        option_unit=np.array([index[n] for n in names], np.int64),
        option_dsp=np.array([n == "dsp" for n in names], np.int64),
        option_gpu=np.array([n == "gpu" for n in names], np.int64),
        unit_slots=np.array([u.slots for u in units], np.int64),
        unit_vtcm=np.array([u.vtcm_bytes for u in units], np.int64),
        dsp=index.get("dsp", -1),
        rpc=index.get("rpc", -1),
        dsp_slots=contexts,
        one_context_mw=power(1),
        all_contexts_mw=power(contexts),
        static_mw=sum(round(s.mw.value) for s in device.static),
        ddr_rate=int(device.memory.ddr_rate.value),
        pj_per_byte=round(device.memory.pj_per_byte.value),
        call_null_ns=null,
        call_knots=np.array(knots, np.int64),
        call_tail_ns=int(rpc_tail(device, mode).mean_ns) if offloads else 0,
        prepare_us=(0.0, 0.0, 0.0)
        if prepare is None
        else (
            float(prepare.prepare_us_fixed.value),
            float(prepare.build_us_per_node.value),
            float(prepare.prepare_us_per_mib_weights.value),
        ),
        repack_rate=0 if prepare is None else 2 * int(prepare.repack_rate.value),
        dsp_memory=0 if dsp is None else int(dsp.memory_budget_bytes.value),
        gpu_launch_ns=0 if device.gpu is None else round(device.gpu.launch_us.value * 1000),
    )


def _dsp_mw(costs: CostModel, slots: int, point: str) -> int:
    return costs.clock_and_power(f"dsp:{slots}", point)[1]
