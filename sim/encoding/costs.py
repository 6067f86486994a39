"""The cost table: what each kernel call costs on each unit, at each operating point."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from cost_models.cost import Cost, KernelCall, UnsupportedKernelError
from cost_models.model import CostModel
from sim.aspects.step import CPU_POINTS, DSP_POINTS
from sim.assembly import input_cost
from sim.draft import Draft
from sim.encoding.machine import POINTS, options_of
from sim.lowering import Lowering
from sim.taskgraph import I64

FIELDS = ("slots", "lead_ns", "ddr_bytes", "rate_cap", "vtcm_bytes")


class Costs(NamedTuple):
    """Costs of calls on options, int64.

    ``fixed`` is ``(calls, options, 5)``: slots, lead_ns, ddr_bytes, rate_cap, vtcm_bytes.
    ``clocked`` is ``(calls, options, POINTS, 3)``: compute_ns, power_mw, and the duration in ns
    without contention. A call that an option has no kernel for has 0 slots.
    """

    fixed: I64
    clocked: I64


class CostTable:
    """Grows by a row whenever a frame brings a call that it does not know."""

    def __init__(self, costs: CostModel) -> None:
        self.costs = costs
        self.options = options_of(costs.device)
        self._rows: dict[object, int] = {}
        self._fixed: list[I64] = []
        self._clocked: list[I64] = []
        self._arrays: Costs | None = None

    def row(self, call: KernelCall, kind: str) -> int:
        """Return the row of a call, asking the cost model for it on first sight."""
        known = self._rows.get(call)
        if known is None:
            known = self._add(call, [self._cost(call, option) for option in self.options])
        return known

    def _add(self, key: object, costs: list[Cost | None]) -> int:
        fixed = np.zeros((len(self.options), len(FIELDS)), np.int64)
        clocked = np.zeros((len(self.options), POINTS, 3), np.int64)
        for k, (option, cost) in enumerate(zip(self.options, costs, strict=True)):
            if cost is not None:
                points = DSP_POINTS if option.startswith("dsp") else CPU_POINTS
                for p, point in enumerate(points):
                    timed = self.costs.at_clock(cost, option, point)
                    transfer = -(-timed.ddr_bytes * 1000 // timed.rate_cap)
                    whole = timed.lead_ns + max(timed.compute_ns, transfer)
                    clocked[k, p] = timed.compute_ns, timed.power_mw, whole
                fixed[k] = [getattr(timed, name) for name in FIELDS]
        self._fixed.append(fixed)
        self._clocked.append(clocked)
        self._rows[key] = len(self._fixed) - 1
        self._arrays = None
        return self._rows[key]

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
    def arrays(self) -> Costs:
        """All rows so far."""
        if self._arrays is None:
            self._arrays = Costs(np.stack(self._fixed), np.stack(self._clocked))
        return self._arrays
