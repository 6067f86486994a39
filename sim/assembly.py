"""Assembly: from a rewritten draft to the arrays of a :class:`TaskGraph`.

Items become tasks with costs at the step's clocks. Each DSP subgraph brings its service tasks: it
is prepared if it is not (still) prepared, called over FastRPC, has its changed filters packed
again, and returns. Latencies that are drawn are filled in last, per step.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from math import ceil

import numpy as np

from cost_models.cores import core_count
from cost_models.cost import Cost
from cost_models.device import Device
from cost_models.draws import draw_key, draw_u32_many
from cost_models.model import POOLS, CostModel
from cost_models.rpc import rpc_latency_ns, rpc_tail
from sim.aspects.grouping import on_dsp
from sim.dispatch import priorities
from sim.draft import NEXT, Draft, Item, Subgraph
from sim.reuse import CacheStep
from sim.taskgraph import CATEGORIES, I64, StaticPower, TaskGraph, Unit

NS = 1_000_000_000
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


@dataclass(slots=True)
class _Row:
    """One task while it is being assembled."""

    name: str
    unit: str
    slots: int
    lead_ns: int
    compute_ns: int
    ddr_bytes: int
    rate_cap: int
    power_mw: int
    category: str
    parameters: tuple[str, str, str]
    vtcm_bytes: int = 0
    preds: set[int] = field(default_factory=set)


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
        self.units = _units(self.device, clocks)
        self.index = {unit.name: k for k, unit in enumerate(self.units)}
        self.rows: list[_Row] = []
        self.row_of: dict[str, int] = {}
        self.call_row: dict[int, int] = {}
        self.return_row: dict[int, int] = {}
        self.drawn: list[int] = []
        self._emit(cache)
        self.base = self._finish(self._lifetimes() if tensors else [])
        if self.drawn:
            names = [self.rows[i].name for i in self.drawn]
            self.draw_keys = np.array([draw_key(n, "rpc-tail") for n in names], dtype=np.uint64)
            self.draw_rows = np.array(self.drawn, dtype=np.int64)

    def tasks(self, seed: int, step: int) -> TaskGraph:
        """Return the task graph with the FastRPC tails of this step drawn."""
        if not self.drawn:
            return self.base
        draws = draw_u32_many(seed, step, self.draw_keys)
        return self._with_tails(rpc_tail(self.device, self.qos).at_many(draws))

    def expected_tasks(self) -> TaskGraph:
        """Return the task graph with every FastRPC tail at its mean."""
        if not self.drawn:
            return self.base
        return self._with_tails(rpc_tail(self.device, self.qos).mean_ns)

    def _with_tails(self, tails: I64 | int) -> TaskGraph:
        lead = self.base.lead_ns.copy()
        lead[self.draw_rows] += tails
        return replace(self.base, lead_ns=lead)

    @property
    def qos(self) -> str:
        """FastRPC mode of this plan."""
        chosen = self.settings["rpc_qos"]
        assert self.device.fastrpc is not None
        return self.device.fastrpc.default_mode if chosen == "default" else chosen

    # -- rows ---------------------------------------------------------------------------------

    def _emit(self, cache: CacheStep) -> None:
        items, preds = self.draft.items, self.draft.dependencies()
        members: dict[int, list[int]] = {}
        for index, item in enumerate(items):
            if item.group >= 0:
                members.setdefault(item.group, []).append(index)
        rows: dict[int, int] = {}
        batch_ready = self._input(self.settings["input"])
        for index, item in enumerate(items):
            group = item.group
            if group >= 0 and group not in self.call_row:
                inside = set(members[group])
                outside = {p for m in inside for p in preds[m]} - inside
                waits = any("input" in items[m].reads for m in inside)
                before = {self._end(p, rows, -1) for p in outside}
                self._open(group, cache, before | batch_ready if waits else before)
            row = self._item_row(item, [items[p] for p in preds[index]])
            row.preds = {self._end(p, rows, group) for p in preds[index]}
            if "input" in item.reads:
                row.preds |= batch_ready
            if group >= 0:
                row.preds.add(self.call_row[group])
            rows[index] = self.row_of[item.name] = self._add(row)
            if group >= 0 and index == members[group][-1]:
                self._close(group, {rows[m] for m in members[group]})

    def _end(self, p: int, rows: dict[int, int], group: int) -> int:
        """Row after which the result of item ``p`` is visible to a reader in ``group``."""
        home = self.draft.items[p].group
        return rows[p] if home == -1 or home == group else self.return_row[home]

    def _add(self, row: _Row) -> int:
        self.rows.append(row)
        return len(self.rows) - 1

    def _item_row(self, item: Item, producers: list[Item]) -> _Row:
        unit, _, wanted = item.unit.partition(":")
        label = item.unit
        if unit == "cpu":
            free = self.units[self.index["cpu"]].slots
            label = f"cpu:{min(int(wanted), free)}"
        cost = self.costs.cost(item.call, label)
        hz, power = self._clock(unit, cost.slots)
        lead = cost.lead_ns
        if any((p.unit == "gpu") != (unit == "gpu") for p in producers):
            assert self.device.gpu is not None
            lead += round(self.device.gpu.launch_us.value * 1000)  # map or unmap for the other side
        return self._row(item.name, unit, cost, lead, hz, power, _category(item))

    def _row(
        self, name: str, unit: str, cost: Cost, lead: int, hz: int, power: int, category: str
    ) -> _Row:
        compute = -(-cost.cycles * NS // hz)
        return _Row(
            name,
            unit,
            cost.slots,
            lead,
            compute,
            cost.ddr_bytes,
            cost.rate_cap,
            power,
            category,
            cost.parameters,
            cost.vtcm_bytes,
        )

    def _clock(self, unit: str, slots: int) -> tuple[int, int]:
        """Clock in Hz and power in mW of ``slots`` slots of a unit."""
        label = unit if unit == "gpu" else f"{unit}:{slots}"
        return self.costs.clock_and_power(
            label, self.clocks.dsp if unit == "dsp" else self.clocks.cpu
        )

    # -- subgraph services --------------------------------------------------------------------

    def _open(self, group: int, cache: CacheStep, preds: set[int]) -> None:
        device, sub = self.device, self.draft.subgraphs[group]
        assert device.dsp is not None
        assert device.prepare is not None
        name = sub.name
        if cache.misses[group]:
            _, power = self._clock("dsp", 1)
            lead = device.prepare.latency_ns(sub.operators, sub.weight_bytes)
            path = (
                f"{device.name}.prepare.{device.prepare.largest(sub.operators, sub.weight_bytes)}"
            )
            service = _Row(
                f"{name}.prepare", "dsp", 1, lead, 0, 0, 1, power, "prepare", (path, path, path)
            )
            service.preds = set(preds)
            preds = {self._add(service)}
        path = self._rpc_path(sub)
        there, _ = self._rpc_split(sub)
        call = _Row(f"{name}.call", "rpc", 1, there, 0, 0, 1, 0, "rpc", (path, path, path))
        call.preds = set(preds)
        self.call_row[group] = self._add(call)
        self.drawn.append(self.call_row[group])
        if sub.filter_bytes:
            contexts = device.dsp.contexts
            _, power = self._clock("dsp", contexts)
            rate = int(device.prepare.repack_rate.value)
            path = f"{device.name}.prepare.repack_rate"
            pack = _Row(
                f"{name}.repack",
                "dsp",
                contexts,
                0,
                0,
                2 * sub.filter_bytes,
                2 * rate,
                power,
                "prepare",
                (path, path, path),
            )
            pack.preds = {self.call_row[group]}
            self.call_row[group] = self._add(pack)

    def _close(self, group: int, members: set[int]) -> None:
        sub = self.draft.subgraphs[group]
        path = self._rpc_path(sub)
        _, back = self._rpc_split(sub)
        row = _Row(f"{sub.name}.return", "rpc", 1, back, 0, 0, 1, 0, "rpc", (path, path, path))
        inner = {p for m in members for p in self.rows[m].preds}
        row.preds = members - inner
        self.return_row[group] = self._add(row)

    def _rpc_path(self, sub: Subgraph) -> str:
        """Name of the constant that most of a call's latency rests on."""
        empty = rpc_latency_ns(self.device, self.qos, 0)
        whole = rpc_latency_ns(self.device, self.qos, sub.bytes_in + sub.bytes_out)
        part = "null_us" if whole <= 2 * empty else "per_mib"
        return f"{self.device.name}.fastrpc.modes.{self.qos}.{part}"

    def _rpc_split(self, sub: Subgraph) -> tuple[int, int]:
        """Latency of a call, divided between way there and way back by halves of the whole."""
        whole = rpc_latency_ns(self.device, self.qos, sub.bytes_in + sub.bytes_out)
        there = whole // 2
        return there, whole - there

    # -- input pipeline -----------------------------------------------------------------------

    def _input(self, mode: str) -> set[int]:
        """Add the task that makes a batch ready; return it if this step has to wait for it.

        ``serial`` makes this step's batch on one big core before it is read; ``prefetch`` makes
        the next step's on a little core meanwhile.
        """
        rate = self.costs.cpu.input_rate
        if mode == "none" or rate is None:
            return set()
        unit = "little" if mode == "prefetch" and "little" in self.index else "cpu"
        reference, _ = self.costs.clock_and_power("cpu:1", "max")
        size = self.draft.buffers["input"].bytes
        path = f"{self.costs.cpu.name}.input_rate"
        cycles = ceil(size / rate.value * reference / 1e6)
        cost = Cost(1, cycles, 0, 0, 1, 0, (path, path, path))
        hz, power = self._clock(unit, 1)
        row = self._add(self._row("input.prepare", unit, cost, 0, hz, power, "cpu"))
        return {row} if mode == "serial" else set()

    # -- arrays -------------------------------------------------------------------------------

    def _finish(self, lives: list[_Life]) -> TaskGraph:
        rows, device = self.rows, self.device
        names = sorted({p for r in rows for p in r.parameters})
        number = {name: k for k, name in enumerate(names)}
        preds = [sorted(r.preds) for r in rows]
        pointers = np.cumsum([0, *map(len, preds)], dtype=np.int64)
        graph = TaskGraph(
            units=self.units,
            static_power=tuple(StaticPower(s.domain, round(s.mw.value)) for s in device.static),
            ddr_rate=int(device.memory.ddr_rate.value),
            pj_per_byte=round(device.memory.pj_per_byte.value),
            names=tuple(r.name for r in rows),
            unit=np.array([self.index[r.unit] for r in rows], dtype=np.int32),
            slots=np.array([r.slots for r in rows], dtype=np.int32),
            vtcm_bytes=_i64(r.vtcm_bytes for r in rows),
            lead_ns=_i64(r.lead_ns for r in rows),
            compute_ns=_i64(r.compute_ns for r in rows),
            ddr_bytes=_i64(r.ddr_bytes for r in rows),
            rate_cap=_i64(r.rate_cap for r in rows),
            power_mw=_i64(r.power_mw for r in rows),
            priority=np.zeros(len(rows), dtype=np.int64),
            release_ns=np.zeros(len(rows), dtype=np.int64),
            pred_ptr=pointers,
            pred=_i64(p for ps in preds for p in ps),
            category=np.array([CATEGORY[r.category] for r in rows], dtype=np.int32),
            groups=np.array(
                [[number[p] for p in r.parameters] for r in rows], dtype=np.int32
            ).reshape(-1, 3),
            parameters=tuple(names),
            tensor_bytes=_i64(size for size, _, _ in lives),
            tensor_producer=_i64(first for _, first, _ in lives),
            tensor_user_ptr=np.cumsum([0, *(len(u) for _, _, u in lives)], dtype=np.int64),
            tensor_users=_i64(u for _, _, us in lives for u in us),
            resident_bytes=self._resident(),
        )
        return replace(graph, priority=priorities(graph, self.settings["dispatch"]))

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


def _i64(values: Iterable[int]) -> I64:
    return np.fromiter(values, dtype=np.int64)


def _category(item: Item) -> str:
    if item.op.kind in ("rescale_scan", "requantise"):
        return "rescale"
    return "compute" if item.has_macs or on_dsp(item) or item.unit == "gpu" else "cpu"


def _units(device: Device, clocks: Clocks) -> tuple[Unit, ...]:
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
