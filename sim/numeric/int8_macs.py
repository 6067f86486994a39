"""INT8 kernels with MACs, and the rescale of their accumulators.

A kernel either leaves its exact sums for a scan and a requantise (``dynamic``, or micro-batches
that meet in INT32), or it requantises as it stores with a shift known before (``fused``,
``inline``). The largest magnitude is collected while storing in each case, so a record always
knows the true shift; whether a rescale rule may use it is the rule's affair.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kernels.gemm import MAX_K
from kernels.int8.rescale import Rescaled
from kernels.int8.stored import Store, Stored
from kernels.int8.sums import align_split_gradients
from kernels.operators import Role
from kernels.profiles import RescaleRule, Small, SplitRule
from kernels.quantised import QTensor
from kernels.rounding import NITI_CLIP, ceil_log2
from sim.draft import Item
from sim.numeric.frame import Frame, numeric, rows
from sim.numeric.records import ShiftRecord
from sim.numeric.values import Accumulator


@numeric("conv2d", "int8")
@numeric("linear", "int8")
def forward(frame: Frame, item: Item) -> None:
    """``y = x w (+ b)``: reads input, weight and perhaps bias."""
    x, weight = (frame.quantised(name) for name in item.reads[:2])
    exponent, bias = x.exponent + weight.exponent, None
    if len(item.reads) > 2:
        products = prod(item.op.weights[0][1:])
        bias = frame.parameters.bias_sums(item.reads[2], exponent, products)
    kernel = frame.arithmetic.product(item.op.kind, item.role)

    def run(**how: Any) -> Stored:
        source = rows(item, x.mantissa[frame.part])
        return kernel(source, weight.mantissa, item.op, bias=bias, **how)

    _store(frame, item, len(x.mantissa), exponent, run)


@numeric("conv2d", "int8", Role.INPUT_GRAD)
@numeric("linear", "int8", Role.INPUT_GRAD)
def input_grad(frame: Frame, item: Item) -> None:
    """``dX = e w^T``: reads the error and the weight."""
    error, weight = (frame.quantised(name) for name in item.reads[:2])
    kernel = frame.arithmetic.product(item.op.kind, item.role)

    def run(**how: Any) -> Stored:
        return kernel(error.mantissa[frame.part], weight.mantissa, item.op, **how)

    _store(frame, item, len(error.mantissa), error.exponent + weight.exponent, run)


@numeric("conv2d", "int8", Role.WEIGHT_GRAD)
@numeric("linear", "int8", Role.WEIGHT_GRAD)
def weight_grad(frame: Frame, item: Item) -> None:
    """``dW = x^T e``, and the bias gradient: micro-batches add to one accumulator."""
    x, error = (frame.quantised(name) for name in item.reads[:2])
    name, part = item.writes[0], frame.part
    apart = part != slice(None) and frame.profile.split is SplitRule.ALIGN_TRUNC
    before = frame.accumulator(name) if item.accumulates else None
    stored = frame.arithmetic.product(item.op.kind, item.role)(
        rows(item, x.mantissa[part]),
        error.mantissa[part],
        item.op,
        into=None if apart or before is None else before.sums,
        wide=_needs_int64(frame, item),
        backend=frame.backend,
        threads=frame.threads,
    )
    sums = Accumulator(stored.values, x.exponent + error.exponent, stored.amax)
    if apart:
        parts = (*(() if before is None else before.parts), (stored.values, stored.amax))
        widest, amax = max(parts, key=lambda each: each[1])
        sums = Accumulator(widest, sums.exponent, amax, parts)
    if len(item.writes) > 1:
        put_channel_sums(frame, item.writes[1], error, accumulated=item.accumulates)
    if name == f"{item.subject}.acc":
        frame.put(name, sums)
    else:
        _rescale(frame, item, sums, frame.inputs.used[item.subject], name, scanned=False)


def _needs_int64(frame: Frame, item: Item) -> bool:
    """Whether the whole batch, not just this part of it, sums more products than int32 holds."""
    places = prod(item.op.output) // (item.op.batch * item.op.output[1])
    return frame.draft.batch * places > MAX_K


def put_channel_sums(frame: Frame, name: str, error: QTensor, *, accumulated: bool = False) -> None:
    """Sum the error over everything but channels into a bias gradient; exact in INT64."""
    sums = frame.arithmetic.channel_sums(error.int8[frame.part])
    if accumulated:
        sums = sums + frame.accumulator(name).sums
    frame.put(name, Accumulator(sums, error.exponent, int(np.abs(sums).max())))


@numeric("rescale_scan", "int8")
def scan(frame: Frame, item: Item) -> None:
    """The shift that the largest accumulator asks for."""
    rule = frame.rule(frame.owner(item.follows))
    frame.put(item.writes[0], rule.shift(frame.arithmetic.scan(frame.accumulator(item.reads[0]))))


@numeric("requantise", "int8")
def requantise(frame: Frame, item: Item) -> None:
    """Accumulators to INT8 by the scanned shift, or by the one in force."""
    sums, scanned = frame.accumulator(item.reads[0]), len(item.reads) > 1
    shift = frame.get(item.reads[1]) if scanned else frame.inputs.used[item.follows]
    assert isinstance(shift, int)
    _rescale(frame, frame.owner(item.follows), sums, shift, item.writes[0], scanned=scanned)


def _rescale(
    frame: Frame, owner: Item, sums: Accumulator, shift: int, name: str, *, scanned: bool
) -> None:
    """Requantise ``sums`` of ``owner`` into the buffer ``name``, and record it."""
    rule, out = frame.rule(owner), frame.take(sums.sums.shape, np.int8)
    if sums.parts:
        done = _aligned(frame, sums, rule, None if scanned else shift)
    else:
        done = frame.arithmetic.rescale(
            sums.sums, sums.exponent, rule, out, frame.threads, shift=shift
        )
    record = ShiftRecord(
        rule.shift(sums.amax), shift, scanned, done.saturated, done.lost, sums.sums.size
    )
    frame.record(owner.subject, record)
    frame.put(name, done.tensor)


def _aligned(frame: Frame, sums: Accumulator, rule: RescaleRule, shift: int | None) -> Rescaled:
    """Rescale micro-batches one by one, meet the widest by division, and add, as Mandheling does.

    Each takes the shift of its own largest magnitude, or the one in force. The sum is clipped to
    INT8; the released code shows no clip.
    """
    done = [
        frame.arithmetic.rescale(part, sums.exponent, rule, None, frame.threads, shift=shift)
        for part, _ in sums.parts
    ]
    widths = [ceil_log2(amax) if shift is None else 0 for _, amax in sums.parts]
    parts = align_split_gradients([each.tensor.int8 for each in done], widths)
    total = np.sum(parts, axis=0, dtype=np.int32)
    mantissa = np.clip(total, *NITI_CLIP).astype(np.int8)
    widest = max(done, key=lambda each: each.amax)
    return Rescaled(
        QTensor(mantissa, widest.tensor.exponent),
        widest.shift,
        sums.amax,
        sum(each.saturated for each in done) + int((total != mantissa).sum()),
        sum(each.lost for each in done),
    )


def _store(frame: Frame, item: Item, batch: int, exponent: int, run: Callable[..., Stored]) -> None:
    """Run a forward or dX kernel in the way that its rescaling asks for."""
    name, rule = item.writes[0], frame.rule(item)
    shape = frame.shape(name, batch)
    how = {"backend": frame.backend, "threads": frame.threads}
    if item.rescaling in ("fused", "inline") and rule.small is not Small.CAST:
        shift = frame.inputs.used[item.subject]
        out = _whole(frame, name, shape, np.int8)
        stored = run(
            store=Store(shift, rule.rounding, rule.clip), out=rows(item, out[frame.part]), **how
        )
        record = ShiftRecord(
            rule.shift(stored.amax), shift, False, stored.saturated, stored.lost, stored.values.size
        )
        frame.record(item.subject, record)
        frame.put(name, QTensor(out, exponent + shift))
        return
    out = _whole(frame, name, shape, np.int32)
    stored = run(out=rows(item, out[frame.part]), **how)
    before = frame.values.get(name)
    amax = max(stored.amax, before.amax if isinstance(before, Accumulator) else 0)
    frame.put(name, Accumulator(out, exponent, amax))
    if name != f"{item.subject}.acc" and frame.part.stop in (None, batch):
        scanned = item.rescaling == "none"  # evaluation: nothing is split, every tensor is scanned
        shift = rule.shift(amax) if scanned else frame.inputs.used[item.subject]
        sums = Accumulator(out, exponent, amax)
        _rescale(frame, item, sums, shift, name, scanned=scanned)


def _whole(
    frame: Frame, name: str, shape: tuple[int, ...], dtype: type[np.generic]
) -> NDArray[Any]:
    """Memory of the whole result; later micro-batches fill what the first one took."""
    before = frame.values.get(name)
    if isinstance(before, QTensor):
        return before.mantissa
    return before.sums if isinstance(before, Accumulator) else frame.take(shape, dtype)
