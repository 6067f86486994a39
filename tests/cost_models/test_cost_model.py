"""One question for every unit: the model asks the right unit, and names what costs rest on."""

from __future__ import annotations

import pytest

from cost_models.cores import core_count
from cost_models.cost import TIMES, KernelCall, UnsupportedKernelError
from cost_models.cpu import cpu_cost
from cost_models.device import device_names, load_device
from cost_models.dsp import dsp_cost
from cost_models.gpu import gpu_cost
from cost_models.library import load_library
from cost_models.model import CostModel
from kernels.conv import Conv2d
from kernels.operators import Role
from kernels.pointwise import Relu

PHONE = load_device("snapdragon-865")
MODEL = CostModel.of(PHONE)
CONV = Conv2d(2, 8, 8, 8, 8, 3, pad=1)
INT8 = KernelCall(CONV, Role.FORWARD, "int8", "fused")
FP32 = KernelCall(CONV, Role.FORWARD, "fp32")


def test_each_unit_answers_for_itself() -> None:
    mnn, hexagon = load_library("mnn"), load_library("hexagon_nn")
    assert MODEL.cost(FP32, "cpu:3") == cpu_cost(FP32, "big", 3, PHONE, mnn)
    assert MODEL.cost(INT8, "little:2") == cpu_cost(INT8, "little", 2, PHONE, mnn)
    assert MODEL.cost(INT8, "dsp:4") == dsp_cost(INT8, 4, PHONE, hexagon)
    assert MODEL.cost(FP32, "gpu") == gpu_cost(FP32, PHONE, load_library("mnn_opencl"))
    assert MODEL.cost(INT8, "dsp:4") is MODEL.cost(INT8, "dsp:4")


def test_cpu_library_is_chosen_by_name() -> None:
    tflite = CostModel.of(PHONE, "tflite").cost(FP32, "cpu:4")
    assert "tflite.efficiency.fp32.conv.forward" in tflite.parameters[1].split(TIMES)
    assert tflite != MODEL.cost(FP32, "cpu:4")


def test_clock_and_power_of_the_dsp_by_hand() -> None:
    # Idle 30 mW, 2,660 mW with four contexts at 1,400 MHz; in proportion in between, and with the
    # square of the clock.
    assert MODEL.clock_and_power("dsp:4") == (1_400_000_000, 2660)
    assert MODEL.clock_and_power("dsp:1") == (1_400_000_000, round(30 + 2630 / 4))
    nominal = round(30 + 2630 * (12 / 14) ** 2)
    assert MODEL.clock_and_power("dsp:4", "nominal") == (1_200_000_000, nominal)
    assert MODEL.clock_and_power("gpu") == (587_000_000, 2700)
    assert MODEL.clock_and_power("cpu:4") == (2_419_200_000, 984 + 3 * 710)


@pytest.mark.parametrize("unit", ["npu:1", "tpu", ""])
def test_unknown_units(unit: str) -> None:
    with pytest.raises(UnsupportedKernelError, match=r"units are cpu:N, little:N, dsp:N and gpu"):
        MODEL.cost(FP32, unit)
    with pytest.raises(UnsupportedKernelError, match="has no unit"):
        MODEL.clock_and_power(unit)


def test_units_that_the_device_lacks() -> None:
    laptop = CostModel.of(load_device("laptop"))
    for unit in ("dsp:1", "gpu", "little:1"):
        with pytest.raises(UnsupportedKernelError, match="laptop"):
            laptop.cost(INT8 if unit == "dsp:1" else FP32, unit)
    for unit in ("dsp:1", "gpu"):
        with pytest.raises(UnsupportedKernelError, match="laptop has no unit"):
            laptop.clock_and_power(unit)


@pytest.mark.parametrize("name", device_names())
def test_every_constant_that_a_cost_names_exists(name: str) -> None:
    device = load_device(name)
    model = CostModel.of(device)
    known = model.quantities()
    units = [f"cpu:{n}" for n in range(1, core_count(device, "big") + 1)]
    units += ["dsp:1"] if device.dsp is not None else []
    units += ["gpu"] if device.gpu is not None else []
    for unit in units:
        for op in (CONV, Relu((2, 8, 8, 8))):
            dtype = "int8" if unit == "dsp:1" else "fp32"
            cost = model.cost(KernelCall(op, Role.FORWARD, dtype, "fused"), unit)  # type: ignore[arg-type]
            named = {name for path in cost.parameters for name in path.split(TIMES)}
            assert named <= known.keys()
