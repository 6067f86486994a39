"""Costs on the GPU: the FP32 baseline, by hand."""

from __future__ import annotations

from math import ceil

import pytest

from cost_models.cost import KernelCall, UnsupportedKernelError
from cost_models.device import load_device
from cost_models.gpu import gpu_cost
from cost_models.library import load_library
from kernels.conv import Conv2d
from kernels.operators import Operator, Role
from kernels.pointwise import Relu
from kernels.precision import Quantise

PHONE = load_device("snapdragon-865")
OPENCL = load_library("mnn_opencl")


def test_convolution_by_hand() -> None:
    # 2 x 4 x 8 x 8 x 27 = 13,824 MACs at 866.7 per cycle times the kernel's share.
    conv = Conv2d(2, 3, 8, 8, 4, 3, pad=1)
    cost = gpu_cost(KernelCall(conv, Role.FORWARD, "fp32"), PHONE, OPENCL)
    share = OPENCL.share("fp32", "conv", "forward")
    assert cost.cycles == ceil(13_824 / (866.7 * share))
    assert cost.ddr_bytes == 4 * (2 * 3 * 64 + 4 * 27 + 2 * 4 * 64)
    assert (cost.slots, cost.rate_cap, cost.vtcm_bytes) == (1, 30_080, 0)


def test_launch_is_the_devices_enqueue_and_what_the_library_adds() -> None:
    cost = gpu_cost(KernelCall(Relu((4, 4)), Role.FORWARD, "fp32"), PHONE, OPENCL)
    assert PHONE.gpu is not None
    wanted = PHONE.gpu.launch_us.value + OPENCL.launch_us.value
    assert cost.lead_ns == round(1000 * wanted)


def test_pointwise_kernel_by_hand() -> None:
    cost = gpu_cost(KernelCall(Relu((1000,)), Role.FORWARD, "fp32"), PHONE, OPENCL)
    assert cost.cycles == ceil(1000 / OPENCL.alu_elements("fp32"))


@pytest.mark.parametrize(
    ("op", "dtype", "device"),
    [
        (Relu((4,)), "int8", "snapdragon-865"),
        (Quantise((4,)), "fp32", "snapdragon-865"),
        (Relu((4,)), "fp32", "laptop"),
    ],
)
def test_kernels_that_do_not_exist(op: Operator, dtype: str, device: str) -> None:
    call = KernelCall(op, Role.FORWARD, dtype)  # type: ignore[arg-type]
    with pytest.raises(UnsupportedKernelError, match=rf"{device}'s GPU has no {dtype} kernel"):
        gpu_cost(call, load_device(device), OPENCL)
