"""The cost table: what each kernel call costs on each unit, at each operating point."""

from __future__ import annotations

import numpy as np

from cost_models.cost import Cost, KernelCall, UnsupportedKernelError
from cost_models.model import CostModel
from sim.aspects.step import DSP_POINTS, cpu_points
from sim.assembly import input_cost
from sim.draft import Draft
from sim.encoding.machine import options_of, point_columns
from sim.lowering import Lowering
from sim.taskgraph import I64

SLOTS, LEAD, BYTES, CAP, VTCM, COMPUTE, POWER, LASTS = range(8)
"""Columns of a cost: slots, lead_ns, ddr_bytes, rate_cap, vtcm_bytes, compute_ns, power_mw, and the
duration in ns without contention. Eight integers are one cache line."""

Costs = I64
"""``(calls, options, points, 8)``; a call that an option has no kernel for has 0 slots."""


class CostTable:
    """Grows by a row whenever a frame brings a call that it does not know."""

    def __init__(self, costs: CostModel, gpu_clock: str) -> None:
        self.costs, self.gpu_clock = costs, gpu_clock
        self.columns = point_columns(costs.device)
        self.options = options_of(costs.device)
        self._rows: dict[object, int] = {}
        self._costs: list[I64] = []
        self._array: Costs | None = None

    def row(self, call: KernelCall) -> int:
        """Return the row of a call, asking the cost model for it on first sight."""
        known = self._rows.get(call)
        if known is None:
            known = self._add(call, [self._cost(call, option) for option in self.options])
        return known

    def _add(self, key: object, costs: list[Cost | None]) -> int:
        row = np.zeros((len(self.options), self.columns, LASTS + 1), np.int64)
        for k, (option, cost) in enumerate(zip(self.options, costs, strict=True)):
            if cost is not None:
                for p, point in enumerate(self._points(option)):
                    timed = self.costs.at_clock(cost, option, point)
                    transfer = -(-timed.ddr_bytes * 1000 // timed.rate_cap)
                    row[k, p, SLOTS], row[k, p, LEAD] = timed.slots, timed.lead_ns
                    row[k, p, BYTES], row[k, p, CAP] = timed.ddr_bytes, timed.rate_cap
                    row[k, p, VTCM], row[k, p, COMPUTE] = timed.vtcm_bytes, timed.compute_ns
                    row[k, p, POWER] = timed.power_mw
                    row[k, p, LASTS] = timed.lead_ns + max(timed.compute_ns, transfer)
        self._costs.append(row)
        self._rows[key] = len(self._costs) - 1
        self._array = None
        return self._rows[key]

    def _points(self, option: str) -> tuple[str, ...]:
        """Operating point of each column; the GPU's does not follow the CPU's."""
        if option == "gpu":
            return (self.gpu_clock,) * self.columns
        return DSP_POINTS if option.startswith("dsp") else cpu_points(self.costs.device)

    def _cost(self, call: KernelCall, option: str) -> Cost | None:
        try:
            return self.costs.cost(call, option)
        except UnsupportedKernelError:
            return None

    def input_row(self, ready: Lowering, draft: Draft) -> tuple[int, int]:
        """Return the row of the task that makes a batch ready, -1 for none; 1 if it is waited for.

        It is filled in for every option alike: the assembler chooses its unit.
        """
        mode = ready.settings["input"]
        found = input_cost(self.costs, mode, draft.buffers["input"].bytes)
        if found is None:
            return -1, 0
        unit, cost = found
        key = ("input", unit, cost)
        if key not in self._rows:
            options = [cost if o.partition(":")[0] == unit else None for o in self.options]
            self._add(key, options)
        return self._rows[key], int(mode == "serial")

    @property
    def array(self) -> Costs:
        """All rows so far."""
        if self._array is None:
            self._array = _aligned(np.stack(self._costs))
        return self._array


def _aligned(values: I64) -> I64:
    """Return a copy that begins with a cache line, so that no cost lies in two."""
    room = np.empty(values.size + 7, np.int64)
    begin = -room.ctypes.data // 8 % 8
    found = room[begin : begin + values.size].reshape(values.shape)
    found[...] = values
    return found
