"""Other backward rules of the numeric executor: the passes around a convolution's products.

The products themselves are convolutions like any other. In INT8, sums are rescaled on the spot by
their own largest magnitude, as those of a pooling are.
"""

from __future__ import annotations

import numpy as np

from kernels.filtered import PatchExpand, PatchMean, PatchSum, TapBroadcast, TapSum
from kernels.fp32 import conv, tucker
from kernels.fp32 import filtered as fp32
from kernels.int8 import filtered as int8
from kernels.operators import Role
from kernels.quantised import QTensor
from kernels.signs import masked, pack_signs
from kernels.tucker import SubspaceRestore, SubspaceSave, TuckerRestore, TuckerSave
from sim.draft import Item
from sim.numeric.frame import Frame, numeric
from sim.numeric.int8_kernels import relu_bound, settled
from sim.numeric.int8_macs import put_channel_sums


@numeric("patch_sum", "fp32")
@numeric("patch_mean", "fp32", Role.INPUT_GRAD)
def _gather(frame: Frame, item: Item) -> None:
    x, op = frame.floats(item.reads[0]), item.op
    assert isinstance(op, PatchSum | PatchMean)
    out = frame.take(frame.shape(item.writes[0]), np.float32)
    if isinstance(op, PatchSum):
        y = fp32.patch_sum(x, op, out=out, threads=frame.threads)
    else:
        y = fp32.patch_mean(x, op, out=out, threads=frame.threads)
    frame.put(item.writes[0], y)


@numeric("patch_expand", "fp32", Role.INPUT_GRAD)
def _expand(frame: Frame, item: Item) -> None:
    assert isinstance(item.op, PatchExpand)
    out = frame.take(frame.shape(item.writes[0]), np.float32)
    source = frame.floats(item.reads[0])
    fp32.patch_expand(source, item.op, out=out, threads=frame.threads)
    frame.put(item.writes[0], out)


@numeric("tap_sum", "fp32", Role.INPUT_GRAD)
def _tap_sum(frame: Frame, item: Item) -> None:
    assert isinstance(item.op, TapSum)
    frame.put(item.writes[0], fp32.tap_sum(frame.floats(item.reads[0]), item.op))


@numeric("tap_broadcast", "fp32", Role.WEIGHT_GRAD)
def _tap_broadcast(frame: Frame, item: Item) -> None:
    assert isinstance(item.op, TapBroadcast)
    frame.put(item.writes[0], fp32.tap_broadcast(frame.floats(item.reads[0]), item.op))


@numeric("channel_sum", "fp32", Role.WEIGHT_GRAD)
def _channel_sum(frame: Frame, item: Item) -> None:
    error = frame.floats(item.reads[0])
    frame.put(item.writes[0], conv.bias_grad(error, threads=frame.threads))


@numeric("patch_sum", "int8")
@numeric("patch_mean", "int8", Role.INPUT_GRAD)
def _gather_int8(frame: Frame, item: Item) -> None:
    x, op = frame.quantised(item.reads[0]), item.op
    assert isinstance(op, PatchSum | PatchMean)
    sums = (
        int8.patch_sum(x, op, threads=frame.threads)
        if isinstance(op, PatchSum)
        else int8.patch_mean(x, op, threads=frame.threads)
    )
    frame.put(item.writes[0], settled(frame, sums, frame.rule(item)))


@numeric("patch_expand", "int8", Role.INPUT_GRAD)
def _expand_int8(frame: Frame, item: Item) -> None:
    assert isinstance(item.op, PatchExpand)
    out = frame.take(frame.shape(item.writes[0]), np.int8)
    source = frame.quantised(item.reads[0])
    frame.put(item.writes[0], int8.patch_expand(source, item.op, out, frame.threads))


@numeric("tap_sum", "int8", Role.INPUT_GRAD)
def _tap_sum_int8(frame: Frame, item: Item) -> None:
    assert isinstance(item.op, TapSum)
    sums = int8.tap_sum(frame.quantised(item.reads[0]), item.op)
    frame.put(item.writes[0], settled(frame, sums, frame.rule(item)))


@numeric("tap_broadcast", "int8", Role.WEIGHT_GRAD)
def _tap_broadcast_int8(frame: Frame, item: Item) -> None:
    assert isinstance(item.op, TapBroadcast)
    frame.put(item.writes[0], int8.tap_broadcast(frame.quantised(item.reads[0]), item.op))


@numeric("channel_sum", "int8", Role.WEIGHT_GRAD)
def _channel_sum_int8(frame: Frame, item: Item) -> None:
    put_channel_sums(frame, item.writes[0], frame.quantised(item.reads[0]))


@numeric("tucker_save", "fp32")
def _tucker_save(frame: Frame, item: Item) -> None:
    assert isinstance(item.op, TuckerSave)
    out = frame.take(frame.shape(item.writes[0]), np.float32)
    x = frame.floats(item.reads[0])
    frame.put(item.writes[0], tucker.save(x, item.op, out=out, threads=frame.threads))


@numeric("tucker_restore", "fp32", Role.WEIGHT_GRAD)
def _tucker_restore(frame: Frame, item: Item) -> None:
    assert isinstance(item.op, TuckerRestore)
    out = frame.take(frame.shape(item.writes[0]), np.float32)
    kept = frame.floats(item.reads[0])
    frame.put(item.writes[0], tucker.restore(kept, item.op, out=out, threads=frame.threads))


@numeric("subspace_save", "fp32")
def _subspace_save(frame: Frame, item: Item) -> None:
    assert isinstance(item.op, SubspaceSave)
    out, bases = frame.take((item.op.core,), np.float32), frame.parameters.bases[item.layer]
    x = frame.floats(item.reads[0])
    core = tucker.iterate(x, bases.values, item.op, out=out, threads=frame.threads)
    frame.put(item.writes[0], core)


@numeric("subspace_restore", "fp32", Role.WEIGHT_GRAD)
def _subspace_restore(frame: Frame, item: Item) -> None:
    assert isinstance(item.op, SubspaceRestore)
    out, bases = frame.take(frame.shape(item.writes[0]), np.float32), frame.parameters.bases
    core, own = frame.floats(item.reads[0]), bases[item.layer].values
    x = tucker.restore_core(core, own, item.op, out=out, threads=frame.threads)
    frame.put(item.writes[0], x)


@numeric("sign_mask", "fp32")
def _signs(frame: Frame, item: Item) -> None:
    frame.put(item.writes[0], QTensor(pack_signs(frame.floats(item.reads[0])), 0))


@numeric("sign_mask", "int8")
def _signs_int8(frame: Frame, item: Item) -> None:
    y = frame.quantised(item.reads[0])
    frame.put(item.writes[0], QTensor(pack_signs(y.int8, relu_bound(frame)), 0))


@numeric("masked_grad", "fp32", Role.INPUT_GRAD)
def _masked(frame: Frame, item: Item) -> None:
    signs = frame.quantised(item.reads[1])
    frame.put(item.writes[0], masked(frame.floats(item.reads[0]), signs.int8))


@numeric("masked_grad", "int8", Role.INPUT_GRAD)
def _masked_int8(frame: Frame, item: Item) -> None:
    error, signs = (frame.quantised(name) for name in item.reads)
    frame.put(item.writes[0], QTensor(masked(error.int8, signs.int8), error.exponent))
