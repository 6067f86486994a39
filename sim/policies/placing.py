"""Policies for placement and for cutting DSP subgraphs.

The baselines are here: all on the CPU, all on the DSP, the rules of the released engine, the
faster unit for each kernel, and HEFT. Mandheling's co-scheduling, which compares whole steps,
is in :mod:`sim.policies.coschedule`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from cost_models.rpc import rpc_latency_ns
from kernels.conv import Conv2d
from kernels.operators import Role
from sim.aspects.grouping import held_bytes, on_dsp
from sim.draft import Draft, Item
from sim.policies.base import GroupingPolicy, PlacementPolicy, Situation


def deciders(draft: Draft) -> list[Item]:
    """Return one item for each subject with a placement of its own."""
    seen: dict[str, Item] = {}
    for item in draft.items:
        if not item.follows:
            seen.setdefault(item.subject, item)
    return list(seen.values())


def dsp_unit(item: Item, situation: Situation) -> str | None:
    """Return the whole DSP if it has a kernel for the item."""
    return next((u for u in situation.units(item) if u.startswith("dsp")), None)


@dataclass(frozen=True, slots=True)
class AllCpu(PlacementPolicy):
    """Everything on all big cores."""

    name: str = "all-cpu"

    def decide(self, draft: Draft, situation: Situation) -> Mapping[str, str]:
        """Choose nothing: all big cores are the default."""
        return {}


@dataclass(frozen=True, slots=True)
class AllDsp(PlacementPolicy):
    """Everything that has a DSP kernel on the whole DSP, the rest on all big cores."""

    name: str = "all-dsp"

    def decide(self, draft: Draft, situation: Situation) -> Mapping[str, str]:
        """Choose the DSP wherever there is a kernel."""
        found = {item.subject: dsp_unit(item, situation) for item in deciders(draft)}
        return {subject: unit for subject, unit in found.items() if unit is not None}


@dataclass(frozen=True, slots=True)
class AllGpu(PlacementPolicy):
    """FP32 kernels on the GPU; loss and update on the CPU, as MNN's OpenCL backend leaves them."""

    name: str = "all-gpu"

    def decide(self, draft: Draft, situation: Situation) -> Mapping[str, str]:
        """Choose the GPU for layers' forward and backward kernels."""
        return {
            item.subject: "gpu"
            for item in deciders(draft)
            if "gpu" in situation.units(item)
            and item.op.kind not in ("softmax_cross_entropy", "sgd_update")
        }


@dataclass(frozen=True, slots=True)
class Released(PlacementPolicy):
    """The rules of the released engine, with its parallel mode on.

    A weight gradient of stride 1 goes to the CPU unless it has more than 256 output channels; of
    stride 2, to the DSP. Updates, weight rotation and the gradient of max pooling stay on the CPU
    (``NITI_DSPConv_Int8_Grad.cpp:179-199``, Mandheling-DSP-Training).
    """

    name: str = "released"

    def decide(self, draft: Draft, situation: Situation) -> Mapping[str, str]:
        """Apply the rules to every item that has a DSP kernel."""
        choices = dict(AllDsp().decide(draft, situation))
        for item in deciders(draft):
            stays = item.op.kind in ("sgd_update", "rotate180")
            stays |= item.op.kind == "max_pool" and item.role is Role.INPUT_GRAD
            if isinstance(item.op, Conv2d) and item.role is Role.WEIGHT_GRAD:
                stays |= item.op.stride == 1 and item.op.c_out <= 256
            if stays:
                choices.pop(item.subject, None)
        return choices


@dataclass(frozen=True, slots=True)
class Faster(PlacementPolicy):
    """For each kernel alone, the faster of CPU and DSP, border crossings not counted."""

    name: str = "latency"

    def decide(self, draft: Draft, situation: Situation) -> Mapping[str, str]:
        """Compare both units kernel by kernel."""
        choices = {}
        for item in deciders(draft):
            unit = dsp_unit(item, situation)
            if unit is not None:
                there, here = situation.time_ns(item, unit), cpu_time(item, situation)
                if there is not None and there < here:
                    choices[item.subject] = unit
        return choices


@dataclass(frozen=True, slots=True)
class Heft(PlacementPolicy):
    """Heterogeneous earliest finish time (Topcuoglu, Hariri and Wu, 2002) on two units.

    Items go by decreasing upward rank (mean time plus mean crossing) to the unit on which they
    finish first, with a FastRPC call as the cost of crossing. Without insertion into gaps.
    """

    name: str = "heft"

    def decide(self, draft: Draft, situation: Situation) -> Mapping[str, str]:
        """Rank the items, then place them one by one."""
        device = situation.device
        crossing = rpc_latency_ns(device, None, 0) if device.fastrpc is not None else 0
        items, preds = draft.items, draft.dependencies()
        times = [_options(item, situation) for item in items]
        rank = [0.0] * len(items)
        for k in range(len(items) - 1, -1, -1):
            rank[k] += sum(times[k].values()) / len(times[k])
            for p in preds[k]:
                rank[p] = max(rank[p], rank[k] + crossing / 2)
        free: dict[str, float] = {}
        end: dict[int, float] = {}
        place: dict[int, str] = {}
        chosen: dict[str, str] = {}
        for k in sorted(range(len(items)), key=lambda k: (-rank[k], k)):
            owner = items[k].follows or items[k].subject
            fixed = chosen.get(owner)
            options = {fixed: times[k][fixed]} if fixed is not None else times[k]
            finish = {}
            for unit, time in options.items():
                ready = max(
                    (end[p] + (crossing if place[p] != unit else 0) for p in preds[k]), default=0.0
                )
                finish[unit] = max(ready, free.get(unit, 0.0)) + time
            unit = min(finish, key=lambda u: (finish[u], u))
            free[unit] = end[k] = finish[unit]
            place[k] = chosen[owner] = unit
        return {s: u for s, u in chosen.items() if u.startswith("dsp")}


def _options(item: Item, situation: Situation) -> dict[str, int]:
    units = [u for u in (situation.cpu, dsp_unit(item, situation)) if u is not None]
    times = {unit: situation.time_ns(item, unit) for unit in units}
    return {unit: time for unit, time in times.items() if time is not None}


def cpu_time(item: Item, situation: Situation) -> int:
    """Return the time of an item on all big cores, nanoseconds."""
    time = situation.time_ns(item, situation.cpu)
    assert time is not None
    return time


@dataclass(frozen=True, slots=True)
class CutForCpu(GroupingPolicy):
    """Cut a subgraph behind each kernel whose result the CPU waits for.

    The call returns there, so that the CPU can go on while the DSP executes the next subgraph.
    """

    name: str = "cut-for-cpu"

    def decide(self, draft: Draft, situation: Situation) -> Mapping[str, str]:
        """Cut at the DSP readers of every result that the CPU reads too."""
        here = [item for item in draft.items if on_dsp(item)]
        cpu_reads = {n for item in draft.items if not on_dsp(item) for n in item.reads}
        shared = cpu_reads & {n for item in here for n in item.writes}
        return {i.subject: "cut" for i in here if not i.follows and shared & set(i.reads)}


@dataclass(frozen=True, slots=True)
class CutToFit(GroupingPolicy):
    """Cut subgraphs so that each holds at most ``limit_bytes`` while it is prepared.

    A subgraph above the whole budget can never be kept; pieces of it can.
    """

    limit_bytes: int
    name: str = "cut-to-fit"

    def decide(self, draft: Draft, situation: Situation) -> Mapping[str, str]:
        """Walk the DSP kernels in order and cut whenever the next would exceed the limit."""
        choices: dict[str, str] = {}
        filters = scratch = 0
        for item in draft.items:
            if not on_dsp(item) or not item.has_macs:
                continue
            own_filters, own_scratch = held_bytes(item.op, item.role)
            if filters + own_filters + max(scratch, own_scratch) > self.limit_bytes and filters:
                choices.setdefault(item.subject, "cut")
                filters = scratch = 0
            filters += own_filters
            scratch = max(scratch, own_scratch)
        return choices
