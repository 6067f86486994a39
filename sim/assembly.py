"""Assembly: from a rewritten draft to the arrays of a :class:`TaskGraph`.

Items become tasks with costs at the step's clocks. Each DSP subgraph brings its service tasks: it
is prepared if it is not (still) prepared, called over FastRPC, has its changed filters packed
again, and returns. Latencies that are drawn are filled in last, per step.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from math import ceil
from typing import Any

import numpy as np

from cost_models.cores import core_count
from cost_models.cost import Cost, UnsupportedKernelError
from cost_models.device import Device
from cost_models.draws import U64, draw_key, draw_u32_many
from cost_models.model import POOLS, CostModel, Timed
from cost_models.rpc import rpc_latency_ns, rpc_tail
from sim.dispatch import priorities
from sim.draft import NEXT, Draft, Item, Subgraph
from sim.reuse import CacheStep
from sim.taskgraph import CATEGORIES, I64, StaticPower, TaskGraph, Unit

UNIT_ORDER = ("cpu", "little", "dsp", "gpu", "rpc")
_Life = tuple[int, int, list[int]]
"""Size, producing row (-1: none) and using rows of a buffer."""
CATEGORY = {name: index for index, name in enumerate(CATEGORIES)}


@dataclass(frozen=True, slots=True)
class Clocks:
    """This step's operating points, and the big cores that others hold."""

    cpu: str = "max"
    dsp: str = "max"
    busy_cores: int = 0
    gpu: str = "max"


@dataclass(slots=True)
class _Row:
    """One task while it is being assembled."""

    name: str
    unit: str
    category: str
    cost: Timed
    preds: set[int]


class Assembler:
    """Makes the task graph of one draft; :meth:`tasks` fills in the draws of a step."""

    def __init__(
        self,
        draft: Draft,
        costs: CostModel,
        settings: Mapping[str, str],
        cache: CacheStep,
        clocks: Clocks,
        *,
        tensors: bool = True,
    ) -> None:
        self.draft, self.costs, self.clocks = draft, costs, clocks
        self.device: Device = costs.device
        self.settings = settings
        self.units = units_of(self.device, clocks)
        self.index = {unit.name: k for k, unit in enumerate(self.units)}
        self.rows: list[_Row] = []
        self.row_of: dict[str, int] = {}
        self.call_row: dict[int, int] = {}
        self.way_back: dict[int, tuple[int, str]] = {}
        self.drawn: list[int] = []
        self._emit(cache)
        self.columns = self._columns()
        if tensors:
            self.columns |= _tensor_columns(self._lifetimes())
            self.columns["resident_bytes"] = self._resident()
        if settings["dispatch"] != "topological":
            self.columns["priority"] = priorities(TaskGraph(**self.columns), settings["dispatch"])

    @cached_property
    def base(self) -> TaskGraph:
        """The task graph with every FastRPC tail left out."""
        return TaskGraph(**self.columns)

    def tasks(self, seed: int, step: int) -> TaskGraph:
        """Return the task graph with the FastRPC tails of this step drawn."""
        if not self.drawn:
            return self.base
        draws = draw_u32_many(seed, step, self._draw_keys)
        return self._with_tails(rpc_tail(self.device, self.qos).at_many(draws))

    @cached_property
    def _draw_keys(self) -> U64:
        names = [self.rows[i].name for i in self.drawn]
        return np.array([draw_key(n, "rpc-tail") for n in names], dtype=np.uint64)

    def expected_tasks(self) -> TaskGraph:
        """Return the task graph with every FastRPC tail at its mean."""
        if not self.drawn:
            return self.base
        return self._with_tails(rpc_tail(self.device, self.qos).mean_ns)

    def _with_tails(self, tails: I64 | int) -> TaskGraph:
        lead = self.columns["lead_ns"].copy()
        lead[self.drawn] += tails
        return TaskGraph(**{**self.columns, "lead_ns": lead})

    @cached_property
    def qos(self) -> str:
        """FastRPC mode of this plan."""
        chosen = self.settings["rpc_qos"]
        assert self.device.fastrpc is not None
        return self.device.fastrpc.default_mode if chosen == "default" else chosen

    # -- rows ---------------------------------------------------------------------------------

    def _emit(self, cache: CacheStep) -> None:
        items, preds = self.draft.items, self.draft.dependencies()
        groups = [item.group for item in items]
        members: dict[int, list[int]] = {}
        for index, group in enumerate(groups):
            if group >= 0:
                members.setdefault(group, []).append(index)
        on_gpu = [item.unit == "gpu" for item in items]
        gpu_helps = any(on_gpu)
        units = {unit: self._unit(unit) for unit in {item.unit for item in items}}
        rows = [-1] * len(items)
        seen = [-1] * len(items)
        """Row after which an item's result is visible outside its subgraph."""
        batch_ready = self._input(self.settings["input"])
        for index, item in enumerate(items):
            group = item.group
            if group >= 0 and group not in self.call_row:
                inside = set(members[group])
                outside = {p for m in inside for p in preds[m]} - inside
                waits = any("input" in items[m].reads for m in inside)
                before = {seen[p] for p in outside}
                self._open(group, cache, before | batch_ready if waits else before)
            before = {rows[p] if groups[p] == group else seen[p] for p in preds[index]}
            if "input" in item.reads:
                before |= batch_ready
            if group >= 0:
                before.add(self.call_row[group])
            name, label, point = units[item.unit]
            try:
                cost = self.costs.timed(item.call, label, point)
            except UnsupportedKernelError as error:
                raise UnsupportedKernelError(f"{item.name}: {error}") from None
            if gpu_helps and any(on_gpu[p] != on_gpu[index] for p in preds[index]):
                cost = cost._replace(lead_ns=cost.lead_ns + self._mapping_ns())
            row = _Row(item.name, name, _category(item, name), cost, before)
            rows[index] = self.row_of[item.name] = self._add(row)
            if group == -1:
                seen[index] = rows[index]
            elif index == members[group][-1]:
                back = self._close(group, {rows[m] for m in members[group]})
                for m in members[group]:
                    seen[m] = back

    def _add(self, row: _Row) -> int:
        self.rows.append(row)
        return len(self.rows) - 1

    def _unit(self, placed: str) -> tuple[str, str, str]:
        """Return the unit of a placement, with the slots that are free, and its clock."""
        unit, _, wanted = placed.partition(":")
        if unit == "cpu":
            placed = f"cpu:{min(int(wanted), self.units[self.index['cpu']].slots)}"
        return unit, placed, self._point(unit)

    def _point(self, unit: str) -> str:
        return {"dsp": self.clocks.dsp, "gpu": self.clocks.gpu}.get(unit, self.clocks.cpu)

    def _mapping_ns(self) -> int:
        """Latency of mapping or unmapping a buffer where GPU and another unit meet."""
        assert self.device.gpu is not None
        return round(self.device.gpu.launch_us.value * 1000)

    # -- subgraph services --------------------------------------------------------------------

    def _service(
        self,
        name: str,
        category: str,
        path: str,
        preds: set[int],
        *,
        slots: int = 1,
        lead_ns: int = 0,
        ddr_bytes: int = 0,
        rate_cap: int = 1,
    ) -> int:
        """Add a task that no kernel stands behind; preparing is the DSP's work."""
        unit = "dsp" if category == "prepare" else "rpc"
        power = 0
        if unit == "dsp":
            _, power = self.costs.clock_and_power(f"dsp:{slots}", self.clocks.dsp)
        paths = (path, path, path)
        cost = Timed(slots, lead_ns, 0, ddr_bytes, rate_cap, power, 0, paths)
        return self._add(_Row(name, unit, category, cost, preds))

    def _open(self, group: int, cache: CacheStep, preds: set[int]) -> None:
        device, sub = self.device, self.draft.subgraphs[group]
        assert device.dsp is not None
        assert device.prepare is not None
        if cache.misses[group]:
            lead = device.prepare.latency_ns(sub.operators, sub.weight_bytes)
            largest = device.prepare.largest(sub.operators, sub.weight_bytes)
            path = f"{device.name}.prepare.{largest}"
            preds = {self._service(f"{sub.name}.prepare", "prepare", path, preds, lead_ns=lead)}
        there, back, path = self._rpc(sub)
        self.way_back[group] = back, path
        call = self._service(f"{sub.name}.call", "rpc", path, preds, lead_ns=there)
        self.drawn.append(call)
        self.call_row[group] = call
        if sub.filter_bytes:
            self.call_row[group] = self._service(
                f"{sub.name}.repack",
                "prepare",
                f"{device.name}.prepare.repack_rate",
                {call},
                slots=device.dsp.contexts,
                ddr_bytes=2 * sub.filter_bytes,
                rate_cap=2 * int(device.prepare.repack_rate.value),
            )

    def _close(self, group: int, members: set[int]) -> int:
        """Add the way back of a subgraph's call and return its row."""
        inner = {p for m in members for p in self.rows[m].preds}
        name = f"{self.draft.subgraphs[group].name}.return"
        lead, path = self.way_back[group]
        return self._service(name, "rpc", path, members - inner, lead_ns=lead)

    def _rpc(self, sub: Subgraph) -> tuple[int, int, str]:
        """Latency of a call there and back, and the constant that most of it rests on."""
        whole = rpc_latency_ns(self.device, self.qos, sub.bytes_in + sub.bytes_out)
        part = "null_us" if whole <= 2 * self._empty_call_ns else "per_mib"
        path = f"{self.device.name}.fastrpc.modes.{self.qos}.{part}"
        return whole // 2, whole - whole // 2, path

    @cached_property
    def _empty_call_ns(self) -> int:
        return rpc_latency_ns(self.device, self.qos, 0)

    # -- input pipeline -----------------------------------------------------------------------

    def _input(self, mode: str) -> set[int]:
        """Add the task that makes a batch ready; return it if this step has to wait for it.

        ``serial`` makes this step's batch on one big core before it is read; ``prefetch`` makes
        the next step's on a little core meanwhile.
        """
        found = input_cost(self.costs, mode, self.draft.buffers["input"].bytes)
        if found is None:
            return set()
        unit, cost = found
        timed = self.costs.at_clock(cost, unit, self.clocks.cpu)
        row = self._add(_Row("input.prepare", unit, "cpu", timed, set()))
        return {row} if mode == "serial" else set()

    # -- arrays -------------------------------------------------------------------------------

    def _columns(self) -> dict[str, Any]:
        """Every field of the :class:`TaskGraph`: all priorities equal, nothing in memory."""
        rows, device = self.rows, self.device
        costs = [row.cost for row in rows]
        paths = dict.fromkeys(cost.parameters for cost in costs)
        names = sorted({path for triple in paths for path in triple})
        number = {name: k for k, name in enumerate(names)}
        triples = np.array([[number[path] for path in triple] for triple in paths], dtype=np.int32)
        place = {triple: k for k, triple in enumerate(paths)}
        table = np.array([cost[:-1] for cost in costs], dtype=np.int64).reshape(-1, 7)
        slots, lead, compute, ddr_bytes, rate_cap, power, vtcm = np.ascontiguousarray(table.T)
        preds = [sorted(row.preds) for row in rows]
        return {
            "units": self.units,
            "static_power": tuple(StaticPower(s.domain, round(s.mw.value)) for s in device.static),
            "ddr_rate": int(device.memory.ddr_rate.value),
            "pj_per_byte": round(device.memory.pj_per_byte.value),
            "names": tuple(row.name for row in rows),
            "unit": np.array([self.index[row.unit] for row in rows], dtype=np.int32),
            "slots": slots.astype(np.int32),
            "vtcm_bytes": vtcm,
            "lead_ns": lead,
            "compute_ns": compute,
            "ddr_bytes": ddr_bytes,
            "rate_cap": rate_cap,
            "power_mw": power,
            "priority": np.zeros(len(rows), dtype=np.int64),
            "release_ns": np.zeros(len(rows), dtype=np.int64),
            "pred_ptr": _pointers(preds),
            "pred": _i64(chain.from_iterable(preds)),
            "category": np.array([CATEGORY[row.category] for row in rows], dtype=np.int32),
            "groups": triples.reshape(-1, 3)[[place[cost.parameters] for cost in costs]],
            "parameters": tuple(names),
            **_tensor_columns([]),
            "resident_bytes": 0,
        }

    def _lifetimes(self) -> list[_Life]:
        """Size, producing row and using rows of every buffer that lives within the step."""
        producer: dict[str, int] = {}
        users: dict[str, set[int]] = {}
        for item in self.draft.items:
            row = self.row_of[item.name]
            for name in item.writes:
                if name not in producer:  # later writers fill the same memory beside the first
                    producer[name] = row
                    users.setdefault(name, set()).add(row)
            for name in item.reads:
                users.setdefault(name, set()).add(row)
        lives = []
        for name, rows in users.items():
            buffer = self.draft.buffers[name]
            if not (buffer.resident or name.endswith(NEXT)):
                lives.append((buffer.bytes, producer.get(name, -1), sorted(rows)))
        return lives

    def _resident(self) -> int:
        named = self.draft.buffers.items()
        weights = sum(b.bytes for n, b in named if b.resident and not n.endswith(NEXT))
        prepared = 0
        if self.draft.subgraphs and self.device.dsp is not None:
            total = sum({s.key: s.memory_bytes for s in self.draft.subgraphs}.values())
            largest = max(s.memory_bytes for s in self.draft.subgraphs)
            keeps = self.settings["reuse"] != "none"
            prepared = (
                max(largest, min(total, int(self.device.dsp.memory_budget_bytes.value)))
                if keeps
                else largest
            )
        return weights + prepared


def _tensor_columns(lives: list[_Life]) -> dict[str, I64]:
    return {
        "tensor_bytes": _i64(size for size, _, _ in lives),
        "tensor_producer": _i64(first for _, first, _ in lives),
        "tensor_user_ptr": _pointers([users for _, _, users in lives]),
        "tensor_users": _i64(u for _, _, users in lives for u in users),
    }


def _pointers(rows: Sequence[Sequence[int]]) -> I64:
    return np.cumsum([0, *map(len, rows)], dtype=np.int64)


def _i64(values: Iterable[int]) -> I64:
    return np.fromiter(values, dtype=np.int64)


def _category(item: Item, unit: str) -> str:
    if item.op.kind in ("rescale_scan", "requantise"):
        return "rescale"
    return "compute" if unit in ("dsp", "gpu") or item.has_macs else "cpu"


def input_cost(costs: CostModel, mode: str, batch_bytes: int) -> tuple[str, Cost] | None:
    """Return the unit that makes a batch ready, and its cost; None where nothing is counted."""
    rate = costs.cpu.input_rate
    if mode == "none" or rate is None:
        return None
    little = bool(costs.device.pool(POOLS["little"]))
    unit = "little" if mode == "prefetch" and little else "cpu"
    reference, _ = costs.clock_and_power("cpu:1", "max")
    path = f"{costs.cpu.name}.input_rate"
    cycles = ceil(batch_bytes / rate.value * reference / 1e6)
    return unit, Cost(1, cycles, 0, 0, 1, 0, (path, path, path))


def units_of(device: Device, clocks: Clocks) -> tuple[Unit, ...]:
    """Return the units of a device, without the big cores that others hold."""
    units = []
    for name, pool in POOLS.items():
        cores = core_count(device, pool)
        taken = clocks.busy_cores if name == "cpu" else 0
        if cores:
            units.append(Unit(name, max(1, cores - taken)))
    if device.dsp is not None and device.fastrpc is not None:
        units.append(Unit("dsp", device.dsp.contexts, int(device.dsp.vtcm_bytes.value)))
    if device.gpu is not None:
        units.append(Unit("gpu", 1))
    if device.fastrpc is not None:
        units.append(Unit("rpc", device.fastrpc.channels))
    return tuple(units)
