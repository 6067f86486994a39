"""Costs on the DSP, worked out by hand for the Snapdragon 865's Hexagon (v66)."""

from __future__ import annotations

from math import ceil

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cost_models.cost import (
    MAX_CYCLES,
    CostError,
    KernelCall,
    Rescaling,
    UnsupportedKernelError,
)
from cost_models.device import Device, load_device
from cost_models.dsp import d32_elements, dsp_cost, padded_macs, repacked_bytes, result_shape
from cost_models.library import load_library
from kernels.conv import Conv2d
from kernels.layout import LayoutTranspose
from kernels.linear import Linear
from kernels.norm import BatchNorm2d
from kernels.operators import Operator, Role
from kernels.pointwise import Relu
from kernels.precision import Quantise, Requantise, RescaleScan
from kernels.update import SgdUpdate
from sim.autodiff import training_graph
from sim.zoo import load_model

PHONE = load_device("snapdragon-865")
LIBRARY = load_library("hexagon_nn")
FORWARD, INPUT_GRAD, WEIGHT_GRAD = Role.FORWARD, Role.INPUT_GRAD, Role.WEIGHT_GRAD


def bytes_of(
    op: Operator, role: Role = FORWARD, rescaling: Rescaling = "none", accumulates: bool = False
) -> int:
    """Bytes from DDR, of a device whose L2 keeps nothing."""
    call = KernelCall(op, role, "int8", rescaling, accumulates)
    return dsp_cost(call, 4, without_l2(PHONE), LIBRARY).ddr_bytes


def without_l2(device: Device) -> Device:
    assert device.dsp is not None
    tiny = device.dsp.l2_bytes.model_copy(update={"value": 1.0})
    dsp = device.dsp.model_copy(update={"l2_bytes": tiny})
    return Device.model_validate(device.model_copy(update={"dsp": dsp}).model_dump())


@pytest.mark.parametrize(
    ("shape", "elements"),
    [
        # n x (h + 4 + 4) x (roundup4(w) + 4) x roundup32(c)
        ((1, 32, 8, 8), 1 * 16 * 12 * 32),
        ((2, 33, 7, 7), 2 * 15 * 12 * 64),
        ((64, 3, 32, 32), 64 * 40 * 36 * 32),
        ((1, 512, 1, 1), 1 * 9 * 8 * 512),
        ((64, 500), 64 * 512),  # flat: the last axis to 32
        ((10,), 32),
    ],
)
def test_d32_elements(shape: tuple[int, ...], elements: int) -> None:
    assert d32_elements(shape) == elements


@pytest.mark.parametrize(
    ("op", "role", "macs"),
    [
        # n x h_out x roundup4(w_out) x taps x roundup32(c_in) x roundup32(c_out)
        (Conv2d(2, 32, 8, 8, 64, 3, pad=1), FORWARD, 2 * 8 * 8 * 9 * 32 * 64),
        (Conv2d(2, 20, 8, 6, 50, 5, pad=2), FORWARD, 2 * 8 * 8 * 25 * 32 * 64),
        (Conv2d(2, 20, 8, 6, 50, 5, pad=2), INPUT_GRAD, 2 * 8 * 8 * 25 * 64 * 32),
        # Up to 4 channels the short-depth kernels pad to 4 only; not in dX, where c_out is depth.
        (Conv2d(2, 3, 8, 8, 64, 3, pad=1), FORWARD, 2 * 8 * 8 * 9 * 4 * 64),
        (Conv2d(2, 3, 8, 8, 64, 3, pad=1), INPUT_GRAD, 2 * 8 * 8 * 9 * 64 * 32),
        # dW: c_in images, each tap an output, the error map the kernel, the batch its depth.
        (Conv2d(2, 3, 8, 6, 50, 3, pad=1), WEIGHT_GRAD, 3 * 9 * 8 * 8 * 32 * 64),
        (Conv2d(64, 64, 16, 16, 64, 3, 2, 1), WEIGHT_GRAD, 64 * 9 * 8 * 8 * 64 * 64),
        # Depthwise: no reduction over channels.
        (Conv2d(2, 40, 8, 8, 40, 3, pad=1, groups=40), FORWARD, 2 * 8 * 8 * 9 * 64),
        (Conv2d(2, 40, 8, 8, 40, 3, pad=1, groups=40), INPUT_GRAD, 2 * 8 * 8 * 9 * 64),
        (Conv2d(2, 40, 8, 8, 40, 3, pad=1, groups=40), WEIGHT_GRAD, 9 * 8 * 8 * 32 * 64),
        # Two groups of 16 to 24 channels: each pads to 32.
        (Conv2d(2, 32, 8, 8, 48, 1, groups=2), FORWARD, 2 * 8 * 8 * 2 * 32 * 32),
        (Linear(64, 500, 10), FORWARD, 64 * 512 * 32),
        (Linear(64, 500, 10), WEIGHT_GRAD, 64 * 512 * 32),
    ],
)
def test_padded_macs(op: Operator, role: Role, macs: int) -> None:
    assert padded_macs(op, role) == macs
    assert macs >= op.work(role).macs


def test_shapes_of_results() -> None:
    conv = Conv2d(64, 3, 32, 32, 50, (3, 5), groups=1)
    assert result_shape(conv, FORWARD) == (64, 50, 30, 28)
    assert result_shape(conv, INPUT_GRAD) == (64, 3, 32, 32)
    assert result_shape(conv, WEIGHT_GRAD) == (3, 50, 3, 5)  # c_in is the batch
    assert result_shape(Linear(64, 500, 10), WEIGHT_GRAD) == (10, 500)


def test_compute_bound_convolution_by_hand() -> None:
    # 8 x 8 x 9 x 32 x 32 = 589,824 MACs at 4 x 128 x share per cycle. Traffic: D32 input 6,144,
    # filter 9,216, D32 output 6,144 bytes: fits L2, and 21,504 / 64 = 336 cycles hide.
    call = KernelCall(Conv2d(1, 32, 8, 8, 32, 3, pad=1), FORWARD, "int8", "fused")
    cost = dsp_cost(call, 4, PHONE, LIBRARY)
    share = LIBRARY.share("int8", "conv", "forward")
    assert cost.cycles == ceil(589_824 / (4 * 128 * share))
    assert (cost.ddr_bytes, cost.slots, cost.vtcm_bytes) == (0, 4, 9216)
    assert cost.lead_ns == round(LIBRARY.launch_us.value * 1000)
    alone = dsp_cost(call, 1, PHONE, LIBRARY)
    assert alone.cycles == ceil(589_824 / (128 * share))
    # One context draws 3,850 MB/s, four 15,400.
    assert (alone.rate_cap, cost.rate_cap) == (3850, 15400)


def test_l2_bounds_a_kernel_whose_data_it_holds() -> None:
    # ReLU on 8 x 32 x 8 x 8: reads and writes 49,152 padded bytes each, 64 bytes per cycle.
    # 49,152 elements at 64 per cycle and context would need 192 cycles only.
    rates = LIBRARY.alu_elements_per_cycle
    quick = {**rates, "int8": rates["int8"].model_copy(update={"value": 64.0})}
    library = LIBRARY.model_copy(update={"alu_elements_per_cycle": quick})
    call = KernelCall(Relu((8, 32, 8, 8)), FORWARD, "int8")
    cost = dsp_cost(call, 4, PHONE, library)
    assert (cost.cycles, cost.ddr_bytes) == (2 * 49_152 // 64, 0)
    halved = {**rates, "int8": rates["int8"].model_copy(update={"value": 4.0})}
    slow = dsp_cost(call, 4, PHONE, LIBRARY.model_copy(update={"alu_elements_per_cycle": halved}))
    assert slow.cycles == 49_152 // (4 * 4)


@pytest.mark.parametrize("role", [FORWARD, INPUT_GRAD, WEIGHT_GRAD])
def test_seventeen_bytes_of_dynamic_rescaling_against_one(role: Role) -> None:
    conv = Conv2d(4, 24, 9, 9, 40, 3, pad=1)
    result = result_shape(conv, role)
    elements = d32_elements(result)
    dynamic = bytes_of(conv, role, "dynamic")
    fused = bytes_of(conv, role, "fused")
    assert dynamic - fused == 3 * elements  # INT32 instead of INT8
    passes = bytes_of(RescaleScan(result)) + bytes_of(Requantise(result))
    kernel_writes = 4 * elements
    # Clear 4, write 4, scan 4, read 4, write 1 (niti_op_supernode_new.c).
    assert kernel_writes + passes == 17 * elements
    assert bytes_of(RescaleScan(result)) == 8 * elements
    assert bytes_of(conv, role, "inline") == fused


def test_inline_range_costs_cycles_but_no_bytes() -> None:
    call = KernelCall(Conv2d(1, 32, 8, 8, 32, 3, pad=1), FORWARD, "int8", "fused")
    share = LIBRARY.share("int8", "conv", "forward")
    inline = KernelCall(call.op, FORWARD, "int8", "inline")
    extra = 6144 / (LIBRARY.alu_elements("int32") * 4)  # a compare per padded INT32
    wanted = ceil(589_824 / (4 * 128 * share) + extra)
    assert dsp_cost(inline, 4, PHONE, LIBRARY).cycles == wanted


def test_filter_is_streamed_again_when_its_slice_does_not_fit() -> None:
    # dW of 64 -> 64 channels on 16 x 16. Batch 64: slice 16 x 16 x 64 x 32 = 512 KiB, two slices,
    # streamed for each of 64 input channels. Batch 32: 256 KiB each, read once.
    def operand(batch: int) -> int:
        conv = Conv2d(batch, 64, 16, 16, 64, 3, pad=1)
        streamed = d32_elements((64, batch, 16, 16))
        written = d32_elements((64, 64, 3, 3))
        return bytes_of(conv, WEIGHT_GRAD, "fused") - streamed - written

    assert operand(64) == 524_288 * 2 * 64
    assert operand(32) == 262_144 * 2
    call = KernelCall(Conv2d(64, 64, 16, 16, 64, 3, pad=1), WEIGHT_GRAD, "int8", "fused")
    assert dsp_cost(call, 4, PHONE, LIBRARY).vtcm_bytes == 0
    assert dsp_cost(call, 4, load_device("snapdragon-888"), LIBRARY).vtcm_bytes == 524_288


def test_forward_filter_is_streamed_per_sample_when_it_does_not_fit() -> None:
    # 5 x 5 x 512 x 32 = 400 KiB; 64 output channels: two slices; 8 samples.
    conv = Conv2d(8, 512, 8, 8, 64, 5, pad=2)
    rest = d32_elements((8, 512, 8, 8)) + d32_elements((8, 64, 8, 8))
    assert bytes_of(conv, FORWARD, "fused") - rest == 409_600 * 2 * 8


def test_accumulating_reads_the_sum_before_it_writes() -> None:
    conv = Conv2d(32, 16, 8, 8, 16, 3, pad=1)
    first = bytes_of(conv, WEIGHT_GRAD, "none")
    later = bytes_of(conv, WEIGHT_GRAD, "none", accumulates=True)
    assert later - first == 4 * d32_elements((16, 16, 3, 3))


def test_repacked_filters() -> None:
    assert repacked_bytes(Conv2d(8, 64, 8, 8, 64, 3, pad=1), FORWARD) == 3 * 3 * 64 * 32 * 2
    assert repacked_bytes(Conv2d(64, 64, 16, 16, 64, 3, pad=1), WEIGHT_GRAD) == 524_288 * 2
    assert repacked_bytes(Linear(8, 500, 10), FORWARD) == 5000
    assert repacked_bytes(Relu((8, 4)), FORWARD) == 0


def test_strided_kernels_run_at_the_gather_rate() -> None:
    # 2 bytes per element (read and write) at 569 MB/s: cycles at 1,400 MHz.
    op = LayoutTranspose((64, 64, 32, 32), (1, 0, 2, 3))
    cost = dsp_cost(KernelCall(op, FORWARD, "int8"), 4, PHONE, LIBRARY)
    moved = 2 * 64 * 64 * 32 * 32
    gather = LIBRARY.gather_bytes_per_us(15_400)
    assert cost.ddr_bytes == moved
    assert cost.cycles == pytest.approx(moved / gather * 1400, rel=1e-6)


def test_scan_runs_on_one_context() -> None:
    cost = dsp_cost(KernelCall(RescaleScan((64, 64, 32, 32)), FORWARD, "int8"), 4, PHONE, LIBRARY)
    assert (cost.slots, cost.rate_cap) == (1, 3850)


def test_update_moves_logical_bytes() -> None:
    assert bytes_of(SgdUpdate(1000), Role.UPDATE) == 3 * 1000


@pytest.mark.parametrize(
    ("op", "dtype", "device"),
    [
        (Relu((4, 4)), "fp32", "snapdragon-865"),
        (BatchNorm2d(2, 4, 8, 8), "int8", "snapdragon-865"),
        (Quantise((4, 4)), "int8", "snapdragon-865"),
        (Relu((4, 4)), "int8", "laptop"),
    ],
)
def test_kernels_that_do_not_exist(op: Operator, dtype: str, device: str) -> None:
    call = KernelCall(op, FORWARD, dtype)  # type: ignore[arg-type]
    with pytest.raises(UnsupportedKernelError, match=rf"{device}'s DSP has no {dtype} .*{op.kind}"):
        dsp_cost(call, 1, load_device(device), LIBRARY)


@pytest.mark.parametrize("model", ["lenet", "resnet18", "mobilenet-v2", "googlenet", "vgg11"])
@pytest.mark.parametrize("device", ["snapdragon-865", "qcs6490", "snapdragon-8gen3"])
def test_no_kernel_exceeds_the_measured_peak(model: str, device: str) -> None:
    phone = load_device(device)
    assert phone.dsp is not None
    peak = phone.dsp.macs_per_cycle_per_context.value
    assert peak <= 128  # half of the 256 operations per cycle and context that were measured
    for node in training_graph(load_model(model, batch=16)).nodes:
        macs = node.op.work(node.role).macs
        if macs:
            for contexts in (1, phone.dsp.contexts):
                for mode in ("fused", "dynamic"):
                    call = KernelCall(node.op, node.role, "int8", mode)  # type: ignore[arg-type]
                    cost = dsp_cost(call, contexts, phone, LIBRARY)
                    assert macs <= cost.cycles * peak * contexts, (node.name, contexts)


def test_a_kernel_without_end_names_the_constant_to_correct() -> None:
    assert PHONE.dsp is not None
    slow = PHONE.dsp.macs_per_cycle_per_context.model_copy(update={"value": 0.01})
    dsp = PHONE.dsp.model_copy(update={"macs_per_cycle_per_context": slow})
    device = Device.model_validate(PHONE.model_copy(update={"dsp": dsp}).model_dump())
    huge = Conv2d(n=4096, c_in=512, h=224, w=224, c_out=512, k=3, stride=1, pad=1)
    call = KernelCall(huge, FORWARD, "int8", "fused")
    assert dsp_cost(call, 4, PHONE, LIBRARY).cycles < MAX_CYCLES
    with pytest.raises(CostError, match=r"at most 1\.13e\+15.*correct .*hexagon_nn.*smaller batch"):
        dsp_cost(call, 1, device, LIBRARY)


@settings(max_examples=150, derandomize=True, deadline=None, database=None)
@given(
    st.builds(
        Conv2d,
        n=st.integers(1, 70),
        c_in=st.integers(1, 70),
        h=st.integers(3, 40),
        w=st.integers(3, 40),
        c_out=st.integers(1, 70),
        k=st.sampled_from((1, 3)),
        stride=st.integers(1, 2),
        pad=st.integers(0, 1),
    ),
    st.sampled_from((FORWARD, INPUT_GRAD, WEIGHT_GRAD)),
)
def test_padding_never_saves_work_and_contexts_never_hurt(op: Conv2d, role: Role) -> None:
    assert padded_macs(op, role) >= op.work(role).macs
    cycles = [
        dsp_cost(KernelCall(op, role, "int8", "fused"), n, PHONE, LIBRARY).cycles
        for n in (1, 2, 3, 4)
    ]
    assert cycles == sorted(cycles, reverse=True)
