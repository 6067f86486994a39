"""What an engine sees: tasks with units, integer costs and dependencies, and nothing else.

A :class:`TaskGraph` is complete. An engine needs no device, no plan and no seed: capacities,
bandwidth and every drawn latency are already integers in it. The rules below are the contract
that every engine follows; two engines that follow them produce the same rows.

**A task's life**: waiting (some predecessor has not ended) -> ready -> running -> ended.

**Running.** A task that starts at ``s`` holds ``slots[i]`` slots of unit ``unit[i]`` and
``vtcm_bytes[i]`` of that unit's VTCM until it ends. First come ``lead_ns[i]`` of pure latency;
then ``compute_ns[i]`` of computing and the transfer of ``ddr_bytes[i]`` go on side by side.
It ends when both are finished: ``max(s + lead + compute, end of its transfer)``. With no
bytes it ends at ``s + lead + compute``.

**Shared DDR.** A transfer is a *stream* from ``s + lead`` until its bytes are gone. Rates are
integers in bytes per microsecond (= MB/s). With contention, the running streams share
``ddr_rate`` max-min fairly: go through them by (cap, task id); each gets
``min(cap, left // streams_left)``, at least 1, and leaves the rest to the next. Without
contention each gets its own cap. When the set of streams has changed at an instant, every stream
still running is re-timed once, after all else at that instant is settled: it has moved
``rate * (now - since) // 1000`` bytes since its last re-timing, and will end at
``now + ceil(remaining * 1000 / rate)``. A stream whose rate stays the same keeps its end
and its ``since``.

**One instant.** All events at ``now`` are drained, in the order (kind, task id) with kinds
stream end < stream start < task end, before anything is dispatched; then units dispatch in
index order; what that makes happen at ``now`` (tasks of no duration) is drained and
dispatched again, until nothing is left at ``now``; then streams are re-timed.

**Dispatch.** Each unit keeps its ready tasks in the order (priority, task id), smaller first.
While the first of them fits (free slots and free VTCM), it starts; a task that does not fit holds
back those behind it. It takes the free slots of lowest index. In *strict* order (an ``order``
was given) a unit starts its tasks exactly in that order, waiting for the next one even if
others are ready. ``release_ns`` is the earliest start of a task; it becomes ready no sooner.

**Energy.** A task uses ``power_mw * (end - start) + pj_per_byte * ddr_bytes`` picojoules
(mW x ns = pJ, exactly). Static power is a row of its own for each domain over the makespan.

**Range.** :meth:`TaskGraph.validate` bounds sizes, times and energies so that no engine can leave
int64, and asks for ``ddr_rate`` of at least the number of all slots, so that a share is never 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

I64 = NDArray[np.int64]
I32 = NDArray[np.int32]


class TaskGraphError(ValueError):
    """A task graph that no engine could run; the message names field, value and rule."""


@dataclass(frozen=True, slots=True)
class Unit:
    """A pool of identical slots: CPU cores, HVX contexts, a GPU queue, FastRPC channels."""

    name: str
    slots: int
    vtcm_bytes: int = 0


@dataclass(frozen=True, slots=True)
class StaticPower:
    """Power that flows for the whole makespan, whatever runs."""

    domain: str
    power_mw: int


@dataclass(frozen=True, slots=True, eq=False)
class TaskGraph:
    """Tasks of one training step, as parallel arrays in a topological order.

    Every predecessor of a task has a smaller index. All arrays have length ``n`` except the
    CSR pair ``pred_ptr`` (``n + 1``) and ``pred`` (dependencies), and the tensor table.
    """

    units: tuple[Unit, ...]
    static_power: tuple[StaticPower, ...]
    ddr_rate: int
    """DDR bandwidth shared by all streams, bytes per microsecond."""
    pj_per_byte: int

    names: tuple[str, ...]
    """Unique name of each task: subject, kernel and micro-batch."""
    unit: I32
    slots: I32
    vtcm_bytes: I64
    lead_ns: I64
    compute_ns: I64
    ddr_bytes: I64
    rate_cap: I64
    """Highest rate of the task's own stream, bytes per microsecond; 1 or more."""
    power_mw: I64
    priority: I64
    release_ns: I64
    pred_ptr: I64
    pred: I64

    category: I32
    """Index into :data:`CATEGORIES`, for the breakdown of the makespan."""
    groups: I32
    """``(n, 3)``: cost-parameter group of lead, compute and bytes; index into ``parameters``."""
    parameters: tuple[str, ...]
    """Names of the cost parameters that the times rest on (dotted paths)."""

    tensor_bytes: I64
    """Size of each tensor that lives within the step."""
    tensor_producer: I64
    """Task that allocates it at its start; -1: alive from the beginning."""
    tensor_user_ptr: I64
    """CSR into ``tensor_users``: it is freed when all of these have ended; none: never."""
    tensor_users: I64
    resident_bytes: int
    """Alive for the whole step: weights, optimiser state, prepared subgraphs, workspace."""

    def __post_init__(self) -> None:
        self.validate()

    def __len__(self) -> int:
        return len(self.names)

    def validate(self) -> None:
        """Check every field; runs at construction, so that an invalid graph cannot exist.

        Raises
        ------
        TaskGraphError
            Names the field, the first offending value, what is allowed and what to do.
        """
        _check_machine(self)
        _check_shapes(self)
        _check_tasks(self)
        _check_dependencies(self)
        _check_tensors(self)
        _check_range(self)


CATEGORIES = ("compute", "memory", "rescale", "rpc", "prepare", "cpu", "idle")
"""Categories of ``breakdown_ns``.

compute: operators with MACs, arithmetic-bound part; memory: their bandwidth-bound part;
rescale: scan, requantise, clear; rpc: FastRPC call and return; prepare: building, preparing and
re-packing of DSP subgraphs; cpu: operators without MACs that a CPU runs; idle: nothing on the
critical path runs.
"""

MAX_SLOTS = 62
"""Most slots of one unit: a slot mask is one non-negative int64."""
MAX_BYTES = 1 << 50
"""Bound of every size. It keeps ``remaining * 1000`` and ``rate * (now - since)`` below 2^60:
a running stream has ``rate * (now - since) < remaining * 1000``."""
MAX_TOTAL = 1 << 61
"""Bound of the longest possible makespan (ns) and of the largest possible energy (pJ)."""

_PER_TASK_I64 = (
    "vtcm_bytes",
    "lead_ns",
    "compute_ns",
    "ddr_bytes",
    "rate_cap",
    "power_mw",
    "priority",
    "release_ns",
)
_PER_TASK_I32 = ("unit", "slots", "category")


def _refuse(field_name: str, value: object, allowed: str, what_to_do: str) -> NoReturn:
    raise TaskGraphError(f"{field_name} is {value}; allowed: {allowed}. {what_to_do}")


def _check_machine(graph: TaskGraph) -> None:
    if not graph.units:
        _refuse("units", "empty", "one unit or more", "Give the graph its units.")
    for unit in graph.units:
        if not 1 <= unit.slots <= MAX_SLOTS:
            _refuse(f"units[{unit.name}].slots", unit.slots, f"1..{MAX_SLOTS}", "Split the unit.")
        if not 0 <= unit.vtcm_bytes < MAX_BYTES:
            _refuse(f"units[{unit.name}].vtcm_bytes", unit.vtcm_bytes, "0..2^50", "Use bytes.")
    if len({unit.name for unit in graph.units}) != len(graph.units):
        names = [unit.name for unit in graph.units]
        _refuse("units", names, "unique names", "Rename one of them.")
    slots = sum(unit.slots for unit in graph.units)
    if not slots <= graph.ddr_rate < MAX_BYTES:
        # One stream per slot at most: every stream then has a share of 1 byte/us or more.
        _refuse("ddr_rate", graph.ddr_rate, f"{slots} (all slots)..2^50", "Use bytes per us.")
    if graph.pj_per_byte < 0:
        _refuse("pj_per_byte", graph.pj_per_byte, "0 or more", "Use integer pJ per byte.")
    for row in graph.static_power:
        if row.power_mw < 0:
            _refuse(f"static_power[{row.domain}]", row.power_mw, "0 or more", "Use integer mW.")


def _check_shapes(graph: TaskGraph) -> None:
    n = len(graph.names)
    wanted: dict[str, tuple[type, tuple[int, ...]]] = {
        **dict.fromkeys(_PER_TASK_I64, (np.int64, (n,))),
        **dict.fromkeys(_PER_TASK_I32, (np.int32, (n,))),
        "groups": (np.int32, (n, 3)),
        "pred_ptr": (np.int64, (n + 1,)),
        "pred": (np.int64, (len(graph.pred),)),
        "tensor_bytes": (np.int64, (len(graph.tensor_bytes),)),
        "tensor_producer": (np.int64, (len(graph.tensor_bytes),)),
        "tensor_user_ptr": (np.int64, (len(graph.tensor_bytes) + 1,)),
        "tensor_users": (np.int64, (len(graph.tensor_users),)),
    }
    for name, (dtype, shape) in wanted.items():
        array = getattr(graph, name)
        if array.dtype != dtype or array.shape != shape:
            have = f"{array.dtype}{list(array.shape)}"
            _refuse(name, have, f"{np.dtype(dtype)}{list(shape)}", "Build it with that type.")
    if len(set(graph.names)) != n:
        twice = next(name for i, name in enumerate(graph.names) if name in graph.names[:i])
        _refuse("names", f"{twice!r} twice", "unique names", "Add the micro-batch or role to it.")


def _in_range(graph: TaskGraph, name: str, low: Any, high: Any, what_to_do: str) -> None:
    """Refuse ``low <= field < high`` broken for some task; bounds are scalars or ``(n,)``."""
    values = getattr(graph, name)
    (bad,) = ((values < low) | (values >= high)).nonzero()
    if len(bad):
        task = int(bad[0])
        least, most = (int(np.broadcast_to(b, values.shape)[task]) for b in (low, high))
        where = f"{name} of task {graph.names[task]!r}"
        _refuse(where, int(values[task]), f"{least}..{most - 1}", what_to_do)


def _check_tasks(graph: TaskGraph) -> None:
    _in_range(graph, "unit", 0, len(graph.units), "Index into units.")
    unit_slots = np.array([unit.slots for unit in graph.units], np.int64)[graph.unit]
    unit_vtcm = np.array([unit.vtcm_bytes for unit in graph.units], np.int64)[graph.unit]
    _in_range(graph, "slots", 1, unit_slots + 1, "It would never fit its unit; use fewer slots.")
    _in_range(graph, "vtcm_bytes", 0, unit_vtcm + 1, "It would never fit its unit; split it.")
    for name in ("lead_ns", "compute_ns", "release_ns", "power_mw"):
        _in_range(graph, name, 0, MAX_TOTAL, "Use non-negative integers.")
    _in_range(graph, "ddr_bytes", 0, MAX_BYTES, "Use bytes below 2^50.")
    _in_range(graph, "rate_cap", 1, MAX_BYTES, "Use bytes per microsecond, 1 or more.")
    _in_range(graph, "category", 0, len(CATEGORIES), "Index into CATEGORIES.")
    bad = np.argwhere((graph.groups < 0) | (graph.groups >= len(graph.parameters)))
    if len(bad):
        task, part = (int(i) for i in bad[0])
        where = f"groups[{part}] of task {graph.names[task]!r}"
        allowed = f"0..{len(graph.parameters) - 1}"
        _refuse(where, int(graph.groups[task, part]), allowed, "Index into parameters.")


def _check_pointers(name: str, pointers: I64, total: int) -> None:
    if pointers[0] != 0 or pointers[-1] != total or bool((np.diff(pointers) < 0).any()):
        _refuse(name, pointers.tolist(), f"0, rising, up to {total}", "Build it with cumsum.")


def _check_dependencies(graph: TaskGraph) -> None:
    _check_pointers("pred_ptr", graph.pred_ptr, len(graph.pred))
    task = np.repeat(np.arange(len(graph)), np.diff(graph.pred_ptr))
    (bad,) = ((graph.pred < 0) | (graph.pred >= task)).nonzero()
    if len(bad):
        who = int(task[bad[0]])
        where = f"pred of task {who} ({graph.names[who]!r})"
        allowed = f"0..{who - 1}, an earlier task"
        _refuse(where, int(graph.pred[bad[0]]), allowed, "Break the cycle or sort the tasks.")


def _check_tensors(graph: TaskGraph) -> None:
    n = len(graph)
    _check_pointers("tensor_user_ptr", graph.tensor_user_ptr, len(graph.tensor_users))
    for name, low, high in (
        ("tensor_bytes", 0, MAX_BYTES),
        ("tensor_producer", -1, n),
        ("tensor_users", 0, n),
    ):
        values = getattr(graph, name)
        (bad,) = ((values < low) | (values >= high)).nonzero()
        if len(bad):
            value = int(values[bad[0]])
            _refuse(f"{name}[{bad[0]}]", value, f"{low}..{high - 1}", "Correct the tensor table.")
    if not 0 <= graph.resident_bytes < MAX_BYTES:
        _refuse("resident_bytes", graph.resident_bytes, "0..2^50", "Use bytes.")
    if float(graph.tensor_bytes.sum(dtype=np.float64)) >= MAX_TOTAL:
        _refuse("sum of tensor_bytes", "2^61 or more", "less", "Use bytes.")


def _check_range(graph: TaskGraph) -> None:
    """Refuse graphs whose times or energies might leave int64, by a bound in float64.

    At any instant before the makespan a task runs or the last release is still to come, so the
    makespan is at most that release plus the sum of the longest durations. A stream gets
    ``min(cap, ddr_rate // slots)`` or more, and loses less than a byte at each of at most ``2 n``
    re-timings.
    """
    if not len(graph):
        return
    share = graph.ddr_rate // sum(unit.slots for unit in graph.units)
    rate = np.minimum(graph.rate_cap, share).astype(np.float64)
    transfer = np.where(graph.ddr_bytes > 0, (graph.ddr_bytes + 2.0 * len(graph)) * 1e3 / rate, 0.0)
    longest = graph.lead_ns.astype(np.float64) + graph.compute_ns + transfer + 1.0
    horizon = float(graph.release_ns.max()) + float(longest.sum())
    if horizon >= MAX_TOTAL:
        _refuse("bound of the makespan", f"{horizon:.3g} ns", "less than 2^61 ns", "Use ns.")
    static = sum(row.power_mw for row in graph.static_power) * horizon
    moved = graph.pj_per_byte * float(graph.ddr_bytes.sum(dtype=np.float64))
    energy = float((graph.power_mw * longest).sum()) + static + moved
    if energy >= MAX_TOTAL:
        _refuse("bound of the energy", f"{energy:.3g} pJ", "less than 2^61 pJ", "Use mW and ns.")


def _csr(rows: Sequence[Sequence[int]]) -> tuple[I64, I64]:
    pointers = np.cumsum([0, *(len(row) for row in rows)], dtype=np.int64)
    return pointers, np.array([item for row in rows for item in row], dtype=np.int64)


def make_task_graph(
    units: Sequence[Unit],
    unit: Sequence[int],
    *,
    preds: Sequence[Sequence[int]] = (),
    tensors: Sequence[tuple[int, int, Sequence[int]]] = (),
    names: Sequence[str] = (),
    ddr_rate: int = 10_000,
    pj_per_byte: int = 0,
    static_power: Sequence[StaticPower] = (),
    resident_bytes: int = 0,
    parameters: Sequence[str] = ("unattributed",),
    groups: Sequence[Sequence[int]] = (),
    **columns: int | Sequence[int],
) -> TaskGraph:
    """Build a graph from plain sequences, with a default for all but the units.

    Parameters
    ----------
    units, unit
        The units, and the unit index of each of the ``n`` tasks.
    preds
        Predecessors of each task; empty: no task has any.
    tensors
        ``(bytes, producer, users)`` of each tensor.
    groups
        ``(n, 3)`` indices into ``parameters``; empty: all zero.
    columns
        Any per-task field of :class:`TaskGraph` (``slots``, ``vtcm_bytes``, ``lead_ns``,
        ``compute_ns``, ``ddr_bytes``, ``rate_cap``, ``power_mw``, ``priority``, ``release_ns``,
        ``category``): one value for all or one each. Defaults: 0, but 1 slot and a ``rate_cap``
        of ``ddr_rate``.

    Raises
    ------
    TaskGraphError
        As :meth:`TaskGraph.validate`; also for a column that does not exist or has no ``n`` values.

    Examples
    --------
    >>> graph = make_task_graph([Unit("cpu", 2)], [0, 0], compute_ns=[5, 7], preds=[[], [0]])
    >>> len(graph), graph.pred.tolist()
    (2, [0])
    """
    n = len(unit)
    values: dict[str, int | Sequence[int]] = dict.fromkeys((*_PER_TASK_I64, *_PER_TASK_I32), 0)
    unknown = sorted(set(columns) - (set(values) - {"unit"}))
    if unknown:
        _refuse("column", unknown[0], ", ".join(sorted(values)), "Correct its name.")
    values |= {"slots": 1, "rate_cap": ddr_rate, **columns, "unit": unit}
    arrays: dict[str, Any] = {}
    for name, value in values.items():
        if not isinstance(value, int) and len(value) != n:
            _refuse(name, f"{len(value)} values", f"1 or {n}", "Give one value per task.")
        dtype = np.int32 if name in _PER_TASK_I32 else np.int64
        arrays[name] = np.broadcast_to(np.array(value, dtype=dtype), (n,)).copy()
    pred_ptr, pred = _csr(preds if len(preds) else [[]] * n)
    user_ptr, users = _csr([row[2] for row in tensors])
    return TaskGraph(
        units=tuple(units),
        static_power=tuple(static_power),
        ddr_rate=ddr_rate,
        pj_per_byte=pj_per_byte,
        names=tuple(names) if len(names) else tuple(f"t{i}" for i in range(n)),
        pred_ptr=pred_ptr,
        pred=pred,
        groups=np.array(groups if len(groups) else [[0, 0, 0]] * n, np.int32).reshape(-1, 3),
        parameters=tuple(parameters),
        tensor_bytes=np.array([row[0] for row in tensors], dtype=np.int64),
        tensor_producer=np.array([row[1] for row in tensors], dtype=np.int64),
        tensor_user_ptr=user_ptr,
        tensor_users=users,
        resident_bytes=resident_bytes,
        **arrays,
    )
