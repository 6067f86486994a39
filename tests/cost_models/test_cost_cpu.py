"""Costs on CPU cores, worked out by hand from the device's and the library's constants."""

from __future__ import annotations

from math import ceil

import pytest

from cost_models.cost import KernelCall, Rescaling, UnsupportedKernelError
from cost_models.cpu import alu_kind, cpu_cost, family, moved_bytes
from cost_models.device import load_device
from cost_models.library import load_library
from kernels.conv import Conv2d
from kernels.layout import LayoutTranspose
from kernels.linear import Linear
from kernels.operators import Operator, Role
from kernels.pointwise import Relu
from kernels.precision import Dequantise, Quantise, Requantise, RescaleScan
from kernels.update import SgdUpdate

PHONE = load_device("snapdragon-865")
MNN = load_library("mnn")
CONV = Conv2d(2, 3, 8, 8, 4, 3, pad=1)
IN, OUT, WEIGHT = 2 * 3 * 8 * 8, 2 * 4 * 8 * 8, 4 * 3 * 3 * 3


def test_convolution_by_hand() -> None:
    # 2 x 4 x 8 x 8 outputs x 27 = 13,824 MACs on four A77 cores of 7.946 FP32 MAC per cycle.
    cost = cpu_cost(KernelCall(CONV, Role.FORWARD, "fp32"), "big", 4, PHONE, MNN)
    share = MNN.share("fp32", "conv", "forward") * MNN.parallel_share(4)
    assert cost.cycles == ceil(13_824 / (7.946 * 4 * share))
    assert cost.lead_ns == round(MNN.launch_us.value * 1000)
    assert cost.slots == 4
    assert cost.vtcm_bytes == 0
    assert cost.parameters == (
        "mnn.launch_us",
        "mnn.parallel_efficiency.4"
        " * mnn.efficiency.fp32.conv.forward"
        " * snapdragon-865.cpu.clusters.big.fp32_macs_per_cycle",
        "snapdragon-865.cpu.pool_rate",
    )


def test_int8_convolution_on_little_cores_by_hand() -> None:
    cost = cpu_cost(KernelCall(CONV, Role.WEIGHT_GRAD, "int8", "fused"), "little", 2, PHONE, MNN)
    share = MNN.share("int8", "conv", "weight_grad") * MNN.parallel_share(2)
    assert cost.cycles == ceil(13_824 / (15.074 * 2 * share))
    assert cost.rate_cap == 2 * 2 * 3769  # two A55 copies, read and written


def test_more_threads_are_faster_but_not_in_proportion() -> None:
    call = KernelCall(Conv2d(16, 64, 16, 16, 64, 3, pad=1), Role.FORWARD, "fp32")
    one, two, four = (cpu_cost(call, "big", n, PHONE, MNN).cycles for n in (1, 2, 4))
    assert one > two > four > one / 4
    wanted = 4 * MNN.parallel_share(4) / MNN.parallel_share(1)
    assert one / four == pytest.approx(wanted, rel=1e-4)


def test_last_level_cache_rule() -> None:
    # LLC of the 865: 5,767,168 bytes. ReLU reads and writes 4 bytes per element.
    half = 5_767_168 // 8
    inside = cpu_cost(KernelCall(Relu((half,)), Role.FORWARD, "fp32"), "big", 4, PHONE, MNN)
    beyond = cpu_cost(KernelCall(Relu((half + 1,)), Role.FORWARD, "fp32"), "big", 4, PHONE, MNN)
    assert inside.ddr_bytes == 0
    assert beyond.ddr_bytes == 8 * (half + 1)


def test_stride_counts_in_gradients_alone() -> None:
    wide = MNN.model_copy(
        update={
            "strided": MNN.strided.model_copy(
                update={
                    "input_grad": MNN.strided.input_grad.model_copy(update={"value": 0.5}),
                }
            )
        }
    )
    conv = Conv2d(2, 16, 16, 16, 16, 3, 2, 1)
    for role, ratio in ((Role.FORWARD, 1.0), (Role.INPUT_GRAD, 2.0)):
        call = KernelCall(conv, role, "fp32")
        plain = cpu_cost(call, "big", 4, PHONE, MNN).cycles
        slow = cpu_cost(call, "big", 4, PHONE, wide).cycles
        assert slow / plain == pytest.approx(ratio, rel=1e-3)


@pytest.mark.parametrize(
    ("op", "role", "dtype", "rescaling", "accumulates", "wanted"),
    [
        (CONV, Role.FORWARD, "fp32", "none", False, 4 * (IN + WEIGHT + OUT)),
        (CONV, Role.INPUT_GRAD, "fp32", "none", False, 4 * (OUT + WEIGHT + IN)),
        (CONV, Role.WEIGHT_GRAD, "fp32", "none", False, 4 * (IN + OUT + WEIGHT)),
        (CONV, Role.FORWARD, "int8", "fused", False, IN + WEIGHT + OUT),
        (CONV, Role.FORWARD, "int8", "inline", False, IN + WEIGHT + OUT),
        (CONV, Role.FORWARD, "int8", "dynamic", False, IN + WEIGHT + 4 * OUT),
        (CONV, Role.WEIGHT_GRAD, "int8", "none", False, IN + OUT + 4 * WEIGHT),
        # A later micro-batch reads the running sum, INT32 or FP32, before it writes.
        (CONV, Role.WEIGHT_GRAD, "int8", "none", True, IN + OUT + 8 * WEIGHT),
        (CONV, Role.WEIGHT_GRAD, "fp32", "none", True, 4 * (IN + OUT + 2 * WEIGHT)),
        (Relu((10,)), Role.INPUT_GRAD, "int8", "none", False, 30),
        (Quantise((10,)), Role.FORWARD, "int8", "none", False, 2 * 40 + 10),
        (Dequantise((10,)), Role.FORWARD, "int8", "none", False, 10 + 40),
        (RescaleScan((10,)), Role.FORWARD, "int8", "none", False, 40),
        (Requantise((10,)), Role.FORWARD, "int8", "none", False, 50),
        (SgdUpdate(10), Role.UPDATE, "fp32", "none", False, 120),
    ],
)
def test_moved_bytes(
    op: Operator,
    role: Role,
    dtype: str,
    rescaling: Rescaling,
    accumulates: bool,
    wanted: int,
) -> None:
    call = KernelCall(op, role, dtype, rescaling, accumulates)  # type: ignore[arg-type]
    assert moved_bytes(call) == wanted


def test_dynamic_rescaling_moves_thirteen_bytes_per_element_here() -> None:
    def moved(op: Operator, rescaling: Rescaling = "none") -> int:
        return moved_bytes(KernelCall(op, Role.FORWARD, "int8", rescaling))

    shape = CONV.output
    written = moved(CONV, "dynamic") - IN - WEIGHT
    # Write 4, scan 4, read 4, write 1; the memset before is the DSP library's.
    assert written + moved(RescaleScan(shape)) + moved(Requantise(shape)) == 13 * OUT
    assert moved(CONV, "fused") - IN - WEIGHT == OUT


def test_pointwise_kernels_by_hand() -> None:
    # 1,000 compares at 4 FP32 (16 INT8) elements per cycle and core, times threads in effect.
    speed = 4 * MNN.parallel_share(4)
    for dtype in ("fp32", "int8"):
        call = KernelCall(Relu((1000,)), Role.FORWARD, dtype)  # type: ignore[arg-type]
        wanted = ceil(1000 / (MNN.alu_elements(dtype) * speed))
        assert cpu_cost(call, "big", 4, PHONE, MNN).cycles == wanted


def test_strided_kernels_run_at_the_gather_rate() -> None:
    op = LayoutTranspose((100, 100), (1, 0))
    cost = cpu_cost(KernelCall(op, Role.FORWARD, "int8"), "big", 4, PHONE, MNN)
    # 20,000 bytes at a share of what four cores draw (28,940 MB/s), at 2,419.2 MHz.
    microseconds = 20_000 / MNN.gather_bytes_per_us(28_940)
    assert cost.cycles == ceil(microseconds * 2419.2)


def test_kinds_and_families() -> None:
    depthwise = Conv2d(1, 8, 4, 4, 8, 3, pad=1, groups=8)
    assert [family(op) for op in (CONV, depthwise, Linear(1, 2, 3))] == [
        "conv",
        "depthwise",
        "linear",
    ]
    kinds = {
        Quantise((4,)): "fp32",
        Dequantise((4,)): "fp32",
        RescaleScan((4,)): "int32",
        Requantise((4,)): "int32",
        Relu((4,)): "int8",
    }
    for op, kind in kinds.items():
        assert alu_kind(KernelCall(op, Role.FORWARD, "int8")) == kind


@pytest.mark.parametrize("slots", [0, 5])
def test_cores_that_do_not_exist(slots: int) -> None:
    call = KernelCall(Relu((4,)), Role.FORWARD, "fp32")
    with pytest.raises(UnsupportedKernelError, match=rf"no {slots} cores in its 'big' pool"):
        cpu_cost(call, "big", slots, PHONE, MNN)
    with pytest.raises(UnsupportedKernelError, match="'little'"):
        cpu_cost(call, "little", 1, load_device("laptop"), MNN)
