"""One cost model for a device and the libraries whose kernels run on it.

It answers one question, :meth:`CostModel.cost`, for every unit, and remembers its answers: a plan
asks for the same kernel at every step.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from cost_models.cores import clock_and_power, cores_of
from cost_models.cost import Cost, KernelCall, UnsupportedKernelError
from cost_models.cpu import cpu_cost
from cost_models.device import Device
from cost_models.dsp import dsp_cost
from cost_models.gpu import gpu_cost
from cost_models.library import Library, load_library
from cost_models.mcu.cost import mcu_cost
from cost_models.parts import Pool
from cost_models.quantity import Quantity

POOLS: dict[str, Pool] = {"cpu": "big", "little": "little"}
"""Unit names of plans and the core pools behind them."""


NS = 1_000_000_000


class Timed(NamedTuple):
    """A :class:`Cost` at a clock: what of it a task needs, in nanoseconds and milliwatts."""

    slots: int
    lead_ns: int
    compute_ns: int
    ddr_bytes: int
    rate_cap: int
    power_mw: int
    vtcm_bytes: int
    parameters: tuple[str, str, str]


@dataclass(slots=True, eq=False)
class CostModel:
    """Costs on ``device`` with the kernels of a CPU, a GPU and a DSP library."""

    device: Device
    cpu: Library
    gpu: Library
    dsp: Library
    _known: dict[tuple[KernelCall, str], Cost] = field(default_factory=dict)
    _timed: dict[tuple[KernelCall, str, str], Timed] = field(default_factory=dict)
    _speeds: dict[tuple[str, str], tuple[int, int]] = field(default_factory=dict)

    @classmethod
    def of(cls, device: Device, cpu_library: str = "mnn") -> CostModel:
        """Build the model with the named CPU library, MNN's OpenCL and hexagon_nn kernels."""
        return cls(
            device,
            load_library(cpu_library),
            load_library("mnn_opencl"),
            load_library("hexagon_nn"),
        )

    def cost(self, call: KernelCall, unit: str) -> Cost:
        """Cost of ``call`` on ``unit`` (``cpu:4``, ``little:2``, ``dsp:4``, ``gpu``).

        Raises
        ------
        UnsupportedKernelError
            The unit does not exist here, or has no kernel for the call.
        """
        key = (call, unit)
        known = self._known.get(key)
        if known is None:
            known = self._known[key] = self._ask(call, unit)
        return known

    def timed(self, call: KernelCall, unit: str, point: str) -> Timed:
        """Cost of ``call`` on ``unit`` at an operating point; raises as :meth:`cost` does."""
        key = (call, unit, point)
        known = self._timed.get(key)
        if known is None:
            known = self._timed[key] = self.at_clock(self.cost(call, unit), unit, point)
        return known

    def at_clock(self, cost: Cost, unit: str, point: str) -> Timed:
        """Put a cost on ``unit`` at an operating point; only the slots in use draw power."""
        name, _, _ = unit.partition(":")
        label = name if name == "gpu" else f"{name}:{cost.slots}"
        hz, power = self.clock_and_power(label, point)
        return Timed(
            cost.slots,
            cost.lead_ns,
            -(-cost.cycles * NS // hz),
            cost.ddr_bytes,
            cost.rate_cap,
            power,
            cost.vtcm_bytes,
            cost.parameters,
        )

    def clock_and_power(self, unit: str, point: str = "max") -> tuple[int, int]:
        """Clock in Hz and power in mW of a unit with its slots (``cpu:4``, ``dsp:1``...) busy.

        Parameters
        ----------
        point
            Operating point: ``max``, ``sustained``, a share such as ``75%`` or, where software
            may set them, a clock such as ``1400MHz`` for the CPU; ``max`` or a clock for the GPU;
            ``nominal``, ``turbo`` or ``turbo_l1`` for the DSP, ``max`` being its usual clock.

        Notes
        -----
        The DSP's power above idle grows linearly with the contexts in use and with the square of
        its clock against turbo; both are assumed (only turbo, all contexts busy, is known).
        """
        key = (unit, point)
        known = self._speeds.get(key)
        if known is None:
            known = self._speeds[key] = self._speed(unit, point)
        return known

    def _speed(self, unit: str, point: str) -> tuple[int, int]:
        name, _, count = unit.partition(":")
        device = self.device
        if name in POOLS:
            return clock_and_power(device, cores_of(device, POOLS[name], int(count)), point)
        if name == "gpu" and device.gpu is not None:
            hz = device.clock_hz("gpu", point if point.endswith("MHz") else None)
            return hz, device.gpu_power_mw(hz / 1e6)
        if name == "dsp" and device.dsp is not None:
            hz = device.clock_hz("dsp", None if point == "max" else point)
            idle, busy = device.dsp.idle_power_mw.value, device.dsp.power_mw.value
            faster = hz / device.clock_hz("dsp", "turbo")
            share = int(count) / device.dsp.contexts * faster**2
            return hz, round(idle + (busy - idle) * share)
        raise UnsupportedKernelError(f"{device.name} has no unit {unit!r}")

    def _ask(self, call: KernelCall, unit: str) -> Cost:
        name, _, count = unit.partition(":")
        if self.device.mcu is not None and POOLS.get(name) == "big":
            return mcu_cost(call, int(count), self.device)
        if name in POOLS:
            return cpu_cost(call, POOLS[name], int(count), self.device, self.cpu)
        if name == "dsp":
            return dsp_cost(call, int(count), self.device, self.dsp)
        if name == "gpu":
            return gpu_cost(call, self.device, self.gpu)
        raise UnsupportedKernelError(f"no unit {unit!r}; units are cpu:N, little:N, dsp:N and gpu")

    def calibration_notes(self) -> list[str]:
        """Return a sentence for each calibration that was fitted on something else.

        A microcontroller's costs rest on no library.
        """
        notes = self.device.calibration_notes()
        for part in (self.cpu, self.gpu, self.dsp) if self.device.mcu is None else ():
            notes += part.calibration_notes({**self.device.facts, **part.facts})
        return notes

    def quantities(self) -> dict[str, Quantity]:
        """Every constant that a cost can rest on, by the dotted name that costs use."""
        found: dict[str, Quantity] = {}
        for part in (self.device, self.cpu, self.gpu, self.dsp):
            for path, quantity in part.quantities().items():
                found[f"{part.name}.{path}"] = quantity
        return found
