"""Cost of an INT8 kernel on the Hexagon DSP, HVX only.

Compute is ``padded MACs / (128 x contexts x share)`` cycles: the measured peak of a context
times the share of it that the kernel sustains. Traffic counts padded elements, because D32
tensors are padded: channels to 32, columns to 4 plus 4 on the left, rows by 4 + 4
(``NITI_DSPConv_Int8::onResize``, Mandheling-DSP-Training).

A dynamically rescaled tensor moves 4 + 4 + 4 + 4 + 1 bytes per element (clear, write, scan, read,
write) instead of 1. Here the kernel itself writes the 4 of INT32; the clear and the scan belong to
``rescale_scan``, the last read and write to ``requantise``.
"""

from __future__ import annotations

from math import ceil, prod

from cost_models.cost import ITEM_BYTES, TIMES, Cost, KernelCall, UnsupportedKernelError
from cost_models.cpu import GATHER_KINDS, alu_kind, mac_share
from cost_models.device import Device
from cost_models.library import Library
from cost_models.parts import Dsp
from cost_models.vtcm import DEPTH_ALIGN, conv_slice_bytes, round_up
from kernels.conv import Conv2d
from kernels.linear import Linear
from kernels.operators import Operator, Role, Shape

DSP_KINDS = frozenset(
    {
        "conv2d",
        "linear",
        "max_pool",
        "avg_pool",
        "global_avg_pool",
        "relu",
        "relu6",
        "dropout",
        "add",
        "concat",
        "split",
        "rescale_scan",
        "requantise",
        "transpose",
        "rotate180",
        "sgd_update",
        "patch_sum",
        "patch_mean",
        "patch_expand",
        "tap_sum",
        "tap_broadcast",
        "channel_sum",
        "sign_mask",
        "masked_grad",
    }
)
"""Operators with an INT8 kernel on the DSP. Batch norm and the loss stay on the CPU.

Those of filtered gradients are assumed to be written like its pooling and its copies.
"""

UNPADDED_KINDS = GATHER_KINDS | {"sgd_update", "tap_sum", "tap_broadcast"}
"""Kernels on weights, or on bytes as they lie: nothing is padded to D32."""

SHALLOW_DEPTH = 4
"""Depth up to which hexagon_nn has short-depth kernels that pad channels to 4, not 32."""


def d32_elements(shape: Shape) -> int:
    """Elements that a tensor takes in the D32 layout, padding included.

    >>> d32_elements((1, 32, 8, 8))
    6144
    """
    if len(shape) != 4:
        return prod(shape[:-1]) * round_up(shape[-1], DEPTH_ALIGN)
    n, c, h, w = shape
    return n * (h + 8) * (round_up(w, 4) + 4) * round_up(c, DEPTH_ALIGN)


def result_shape(op: Operator, role: Role) -> Shape:
    """Shape in which the DSP writes a role's result; a weight gradient is a convolution's output.

    The convolution of a weight gradient has ``c_in`` as its batch and ``k x k`` as its map.
    """
    if role is Role.FORWARD:
        return op.output
    if role is Role.INPUT_GRAD:
        return op.inputs[0]
    if isinstance(op, Conv2d):
        return (op.c_in // op.groups, op.c_out, op.k_h, op.k_w)
    return op.weights[0]


def _streamed_shape(op: Operator, role: Role) -> Shape:
    """Shape of the operand that streams past the filter; for dW the batch is its depth."""
    if role is Role.INPUT_GRAD:
        return op.output
    if role is Role.WEIGHT_GRAD and isinstance(op, Conv2d):
        return (op.c_in, op.n, op.h, op.w)
    return op.inputs[0]


def padded_macs(op: Operator, role: Role) -> int:
    """MACs that the depth-32 kernels execute, those on padding included."""
    if isinstance(op, Linear):
        return op.n * round_up(op.c_in, DEPTH_ALIGN) * round_up(op.c_out, DEPTH_ALIGN)
    if not isinstance(op, Conv2d):
        return op.work(role).macs
    taps, width = op.k_h * op.k_w, round_up(op.w_out, 4)
    if role is Role.WEIGHT_GRAD:
        depth, outer, out = op.n, op.c_in // op.groups, op.c_out
        return outer * taps * op.h_out * width * round_up(depth, DEPTH_ALIGN) * round_up(out, 32)
    if op.depthwise:
        return op.n * op.h_out * width * taps * round_up(op.c_out, DEPTH_ALIGN)
    depth, out = op.c_in // op.groups, op.c_out // op.groups
    if role is Role.INPUT_GRAD:
        depth, out = out, depth
    elif depth <= SHALLOW_DEPTH:
        return op.n * op.h_out * width * taps * SHALLOW_DEPTH * op.groups * round_up(out, 32)
    padded = round_up(depth, DEPTH_ALIGN) * round_up(out, DEPTH_ALIGN)
    return op.n * op.h_out * width * taps * op.groups * padded


def _filter_traffic(op: Operator, role: Role, vtcm_bytes: int) -> tuple[int, int]:
    """Bytes of the filter operand as streamed (INT8), and bytes of VTCM held."""
    if not isinstance(op, Conv2d) or op.depthwise:
        return (sum(op.work(role).reads[1:]), 0)
    wanted = conv_slice_bytes(op, role)
    if role is Role.WEIGHT_GRAD:
        slices, outer = round_up(op.c_out, DEPTH_ALIGN) // DEPTH_ALIGN, op.c_in // op.groups
    else:
        out = (op.c_out if role is Role.FORWARD else op.c_in) // op.groups
        slices, outer = op.groups * round_up(out, DEPTH_ALIGN) // DEPTH_ALIGN, op.n
    if wanted <= vtcm_bytes:
        return wanted * slices, wanted
    return wanted * slices * outer, 0


def repacked_bytes(op: Operator, role: Role) -> int:
    """Bytes of filter operand that one execution re-packs; weights change in every step."""
    if isinstance(op, Conv2d) and not op.depthwise:
        return _filter_traffic(op, role, 1 << 62)[0]
    return op.params if isinstance(op, Conv2d | Linear) else 0


def dsp_cost(call: KernelCall, slots: int, device: Device, library: Library) -> Cost:
    """Cost of ``call`` on ``slots`` HVX contexts at any clock.

    Raises
    ------
    UnsupportedKernelError
        The device has no DSP, or the DSP no kernel for this operator or data type.
    """
    dsp, op = device.dsp, call.op
    if dsp is None or call.dtype != "int8" or op.kind not in DSP_KINDS:
        raise UnsupportedKernelError(
            f"{device.name}'s DSP has no {call.dtype} kernel for {op.kind}"
        )
    if op.kind == "rescale_scan" and library.int32_passes is not None:
        slots = min(slots, library.int32_passes.scan_contexts)
    rate = dsp_rate(dsp, slots)
    vtcm = 0
    if op.work(call.role).macs and isinstance(op, Conv2d | Linear):
        cycles, total, vtcm, rests_on = _mac_kernel(call, slots, device, library)
    else:
        total, elements = _pointwise(op, call.role, library)
        rests_on = f"{library.name}.alu_elements_per_cycle.{alu_kind(call)}"
        cycles = elements / (library.alu_elements(alu_kind(call)) * slots)
        if op.kind in GATHER_KINDS:
            rests_on = f"{library.name}.gather_rate"
            cycles = total / library.gather_bytes_per_us(rate) * device.clock_hz("dsp") / 1e6
    in_l2 = total <= dsp.l2_bytes.value
    through_l2 = total / dsp.l2_bytes_per_cycle.value
    if through_l2 > cycles:
        cycles, rests_on = through_l2, f"{device.name}.dsp.l2_bytes_per_cycle"
    return Cost(
        slots=slots,
        cycles=ceil(cycles),
        ddr_bytes=0 if in_l2 else total,
        lead_ns=library.launch_ns,
        rate_cap=rate,
        vtcm_bytes=vtcm,
        parameters=(f"{library.name}.launch_us", rests_on, rate_path(device, slots)),
    )


def rate_path(device: Device, slots: int) -> str:
    """Name of the constant that bounds the DDR traffic of ``slots`` contexts."""
    dsp = device.dsp
    assert dsp is not None
    alone = slots * dsp.single_context_rate.value < dsp.rate.value
    return f"{device.name}.dsp.{'single_context_rate' if alone else 'rate'}"


def dsp_rate(dsp: Dsp, slots: int) -> int:
    """DDR traffic that ``slots`` contexts can draw, bytes per microsecond."""
    return int(min(dsp.rate.value, slots * dsp.single_context_rate.value))


def _mac_kernel(
    call: KernelCall, slots: int, device: Device, library: Library
) -> tuple[float, int, int, str]:
    """Cycles, bytes, VTCM and constants of a convolution or linear kernel."""
    op, role, dsp = call.op, call.role, device.dsp
    assert dsp is not None
    share, paths = mac_share(call, library)
    cycles = padded_macs(op, role) / (dsp.macs_per_cycle_per_context.value * slots * share)
    operand, vtcm = _filter_traffic(op, role, int(dsp.vtcm_bytes.value))
    written = d32_elements(result_shape(op, role))
    wide = call.rescaling in ("dynamic", "none")
    total = d32_elements(_streamed_shape(op, role)) + operand
    total += written * ITEM_BYTES["int32" if wide else "int8"]
    if call.accumulates:
        total += written * ITEM_BYTES["int32"]
    if call.rescaling == "inline":
        cycles += written / (library.alu_elements("int32") * slots)
    paths.append(f"{device.name}.dsp.macs_per_cycle_per_context")
    return cycles, total, vtcm, TIMES.join(paths)


def _pointwise(op: Operator, role: Role, library: Library) -> tuple[int, int]:
    """Bytes moved and padded elements worked on by an operator without MACs."""
    work = op.work(role)
    shapes = (*op.inputs, op.output)
    logical = sum(prod(shape) for shape in shapes)
    padding = sum(d32_elements(shape) for shape in shapes) / max(1, logical)
    if op.kind in UNPADDED_KINDS:
        return work.elements, work.elements
    elements = d32_elements(op.inputs[0])
    passes = library.int32_passes
    if passes is not None and op.kind == "rescale_scan":
        return ceil(elements * (passes.clear.value + passes.scan.value)), elements
    if passes is not None and op.kind == "requantise":
        return ceil(elements * (passes.read.value + passes.result.value)), elements
    return ceil(work.elements * padding), ceil(max(work.alu_ops, work.writes) * padding)
