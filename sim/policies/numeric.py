"""Policies for precision, rescaling and batch splitting."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from cost_models.cost import Rescaling
from cost_models.vtcm import fits, micro_batch
from kernels.conv import Conv2d
from kernels.operators import Role
from sim.aspects.base import STEP
from sim.aspects.batch_split import divisors
from sim.aspects.optimiser import COMPENSATED
from sim.aspects.precision import FLOAT_ONLY, HALF
from sim.draft import Draft, Item
from sim.policies.base import (
    BatchSplitPolicy,
    OptimiserPolicy,
    PrecisionPolicy,
    RescalePolicy,
    Situation,
)


@dataclass(frozen=True, slots=True)
class AllInt8(PrecisionPolicy):
    """INT8 wherever there is an integer kernel; batch norm stays FP32."""

    name: str = "int8"

    def decide(self, draft: Draft, situation: Situation) -> Mapping[str, str]:
        """Choose ``int8`` for every layer without a float-only kernel."""
        floats = {item.layer for item in draft.items if item.op.kind in FLOAT_ONLY}
        return {i.layer: "int8" for i in draft.items if i.layer not in floats}


@dataclass(frozen=True, slots=True)
class AllHalf(PrecisionPolicy):
    """One 16-bit float format for every layer that has it; batch norm stays FP32."""

    name: str

    def decide(self, draft: Draft, situation: Situation) -> Mapping[str, str]:
        """Choose the format for every layer without a float-only kernel."""
        floats = {item.layer for item in draft.items if item.op.kind in FLOAT_ONLY}
        return {i.layer: self.name for i in draft.items if i.layer not in floats}


@dataclass(frozen=True, slots=True)
class Compensated(OptimiserPolicy):
    """Updates in 16 bits that keep what rounding takes."""

    name: str = "compensated"

    def decide(self, draft: Draft, situation: Situation) -> Mapping[str, str]:
        """Choose the state for the step, where a layer is updated in 16 bits."""
        halves = any(i.role is Role.UPDATE and i.dtype in HALF for i in draft.items)
        return {STEP: COMPENSATED} if halves else {}


@dataclass(frozen=True, slots=True)
class OneRule(RescalePolicy):
    """The same rescale rule for every tensor."""

    name: str

    def decide(self, draft: Draft, situation: Situation) -> Mapping[str, str]:
        """Choose the rule for every rescaled tensor."""
        integer = [i.subject for i in draft.items if i.has_macs and i.dtype == "int8"]
        return dict.fromkeys(integer, self.name)


@dataclass(frozen=True, slots=True)
class VtcmSplit(BatchSplitPolicy):
    """Split a weight gradient until its slice fits VTCM; leave what no split can save."""

    name: str = "vtcm-rule"

    def decide(self, draft: Draft, situation: Situation) -> Mapping[str, str]:
        """Choose the largest fitting micro-batch of each abnormal convolution."""
        dsp = situation.device.dsp
        if dsp is None:
            return {}
        vtcm = int(dsp.vtcm_bytes.value)
        choices = {}
        for item in weight_grads(draft):
            assert isinstance(item.op, Conv2d)
            size = micro_batch(item.op, vtcm)
            if size is not None and size < item.op.n:
                choices[item.subject] = str(size)
        return choices


@dataclass(frozen=True, slots=True)
class CostSplit(BatchSplitPolicy):
    """The micro-batch with the least DSP time, by the cost model; ties go to the larger."""

    name: str = "cost-driven"

    def decide(self, draft: Draft, situation: Situation) -> Mapping[str, str]:
        """Try every divisor of the batch for each weight gradient."""
        dsp = situation.device.dsp
        if dsp is None:
            return {}
        unit = f"dsp:{dsp.contexts}"
        choices = {}
        for item in weight_grads(draft):
            times = {d: _split_time(item, d, unit, situation) for d in divisors(draft.batch)}
            best = min(times, key=lambda d: (times[d], -d))
            if best < draft.batch:
                choices[item.subject] = str(best)
        return choices


def weight_grads(draft: Draft) -> list[Item]:
    """Return the INT8 weight gradients of convolutions."""
    return [
        item
        for item in draft.items
        if item.role is Role.WEIGHT_GRAD and isinstance(item.op, Conv2d) and item.dtype == "int8"
    ]


def abnormal(draft: Draft, vtcm_bytes: int) -> tuple[list[str], list[str]]:
    """Return the weight gradients that overflow VTCM: those that a split saves, and the others."""
    saved: list[str] = []
    lost: list[str] = []
    for item in weight_grads(draft):
        assert isinstance(item.op, Conv2d)
        if not fits(item.op, Role.WEIGHT_GRAD, vtcm_bytes):
            rescued = micro_batch(item.op, vtcm_bytes) is not None
            (saved if rescued else lost).append(item.subject)
    return saved, lost


def _split_time(item: Item, size: int, unit: str, situation: Situation) -> int:
    """Time of all micro-batches on the DSP, known shift; accumulating ones included."""
    count = item.op.batch // size
    op = item.op.with_batch(size)
    wide: Rescaling = "none" if count > 1 else "fused"
    first = situation.time_ns(item._replace(op=op, rescaling=wide), unit)
    assert first is not None
    if count == 1:
        return first
    later = situation.time_ns(item._replace(op=op, rescaling=wide, accumulates=True), unit)
    assert later is not None
    return first + (count - 1) * later
