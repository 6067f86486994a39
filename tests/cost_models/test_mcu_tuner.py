"""Tiles, DMA, the auto-tuner, and what a microcontroller refuses."""

from __future__ import annotations

import pytest

from cost_models.cost import TIMES, KernelCall, UnsupportedKernelError
from cost_models.device import Device, DeviceError, load_device, mcu_names
from cost_models.mcu.description import Mcu
from cost_models.mcu.products import McuError
from cost_models.mcu.steps import phases_of
from cost_models.mcu.tiling import least_l1, tiles_of
from cost_models.mcu.tuner import tune
from cost_models.model import CostModel
from kernels.conv import Conv2d
from kernels.linear import Linear
from kernels.loss import SoftmaxCrossEntropy
from kernels.operators import Operator, Role
from kernels.pointwise import Relu
from kernels.update import CompensatedUpdate, MomentumUpdate, SgdUpdate

CONV = Conv2d(1, 16, 32, 32, 16, 3, pad=1)
SMALL = Conv2d(1, 8, 8, 8, 8, 3, pad=1)
DEPTHWISE = Conv2d(1, 64, 25, 5, 64, 3, pad=1, groups=64)
ROLES = (Role.FORWARD, Role.WEIGHT_GRAD, Role.INPUT_GRAD)


def changed(name: str, **fields: object) -> Device:
    device = load_device(name)
    assert device.mcu is not None
    return device.model_copy(update={"mcu": device.mcu.model_copy(update=fields)})


def cycles(op: Operator, role: Role, item_bytes: int, device: Device, cores: int = 8) -> int:
    assert device.mcu is not None
    return tune(op, role, item_bytes, device.mcu, cores).best.cycles


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("op", [CONV, Conv2d(1, 16, 9, 9, 32, 3, stride=2), Linear(1, 60, 12)])
def test_products_of_all_tiles_are_those_of_the_step(op: Operator, role: Role) -> None:
    """However it is cut, a step multiplies as often."""
    whole = None
    for tile in tiles_of(op, role, one_core_backward=False):
        macs = tile.number * sum(p.product.macs for p in tile.phases if p.product)
        whole = macs if whole is None else whole
        assert macs == whole
    if role is not Role.INPUT_GRAD or getattr(op, "stride", 1) == 1:
        assert whole == op.work(role).macs


def test_footprint_of_a_whole_convolution_is_the_published_formula() -> None:
    tile = next(iter(tiles_of(CONV, Role.FORWARD, one_core_backward=False)))
    maps, weights, windows = 16 * 32 * 32, 16 * 16 * 9, 16 * 9 * 32 * 32
    assert tile.footprint_bytes(2, False) == 2 * (maps + weights + windows + maps)
    assert tile.footprint_bytes(2, True) == 2 * (2 * (maps + weights + maps) + windows)


@pytest.mark.parametrize(
    "op", [Conv2d(1, 8, 6, 6, 4, 1, pad=1), Conv2d(1, 8, 6, 6, 8, 1, groups=8), SMALL]
)
@pytest.mark.parametrize("role", ROLES)
def test_scratch_holds_the_windows_that_the_step_copies(op: Conv2d, role: Role) -> None:
    """Padded and depthwise 1x1 layers copy them too; only a plain 1x1 layer has its map instead."""
    tile = next(iter(tiles_of(op, role, one_core_backward=False)))
    copied = tile.phases[-2].work.windows  # the copy before the product
    assert tile.scratch == copied > 0


@pytest.mark.parametrize("role", ROLES)
def test_a_plain_1x1_layer_needs_no_windows(role: Role) -> None:
    plain = Conv2d(1, 8, 6, 6, 4, 1)
    assert next(iter(tiles_of(plain, role, one_core_backward=False))).scratch == 0


def test_an_update_takes_as_long_as_its_operations() -> None:
    """Plain SGD takes five cycles a parameter; its operations are 2, of others 5, 6 and 18."""
    for op, each in (
        (SgdUpdate(1000), 5), (CompensatedUpdate(1000), 12.5), (MomentumUpdate(1000), 15),
        (MomentumUpdate(1000, 8), 45),
    ):  # fmt: skip
        (phase,) = phases_of(op, Role.UPDATE, one_core_backward=False)
        assert phase.work.issued == each * 1000
    assert cycles(SgdUpdate(1000), Role.UPDATE, 4, load_device("gap9")) < cycles(
        MomentumUpdate(1000, 8), Role.UPDATE, 4, load_device("gap9")
    )


@pytest.mark.parametrize("role", ROLES)
def test_double_buffering_hides_the_shorter_of_work_and_transfers(role: Role) -> None:
    single, double = load_device("gap9"), changed("gap9", double_buffer=True)
    assert single.mcu is not None
    assert double.mcu is not None
    before = tune(CONV, role, 2, single.mcu, 8).best
    assert before.cycles == pytest.approx(before.compute_cycles + before.dma_cycles, abs=2)
    after = tune(CONV, role, 2, double.mcu, 8).best
    assert after.cycles >= max(after.compute_cycles, after.dma_cycles)
    assert after.cycles < after.compute_cycles + after.dma_cycles
    assert after.footprint_bytes <= single.mcu.l1_bytes.value


def test_a_layer_that_fits_is_not_cut() -> None:
    mcu = load_device("gap9").mcu
    assert mcu is not None
    found = tune(SMALL, Role.FORWARD, 4, mcu, 8)
    assert found.best.tiles == 1
    assert {trial.tiles for trial in found.trials} == {1}


def test_the_tuner_is_exhaustive_deterministic_and_says_why() -> None:
    mcu = load_device("gap9").mcu
    assert mcu is not None
    found = tune(CONV, Role.FORWARD, 4, mcu, 8)
    assert found.trials == tune.__wrapped__(CONV, Role.FORWARD, 4, mcu, 8).trials
    assert found.best.cycles == min(trial.cycles for trial in found.trials)
    assert len(found.trials) == 8 * 22
    assert found.best.kernel in found.why()
    assert "% slower" in found.why()
    assert all(trial.footprint_bytes <= mcu.l1_bytes.value for trial in found.trials)


def test_a_tile_that_fits_nowhere_names_the_least_l1() -> None:
    least = least_l1(CONV, Role.FORWARD, 4, False)
    enough = changed("gap9").mcu
    assert enough is not None
    exact = enough.l1_bytes.model_copy(update={"value": float(least)})
    assert cycles(CONV, Role.FORWARD, 4, changed("gap9", l1_bytes=exact)) > 0
    less = exact.model_copy(update={"value": float(least - 1)})
    with pytest.raises(McuError, match=f"the smallest takes {least} bytes"):
        cycles(CONV, Role.FORWARD, 4, changed("gap9", l1_bytes=less))


def test_fp16_is_faster_and_shared_fpus_are_slower() -> None:
    shared, private = (
        load_device("vega"),
        changed("vega", fpus=load_device("gvsoc-cluster").mcu.fpus),
    )
    for role in ROLES:
        assert cycles(CONV, role, 2, shared) < cycles(CONV, role, 4, shared)
        assert cycles(CONV, role, 4, private) < cycles(CONV, role, 4, shared)


def test_the_released_depthwise_backward_runs_as_on_one_core() -> None:
    fixed = changed("gap9", depthwise_backward_on_one_core=False)
    released = load_device("gap9")
    assert cycles(DEPTHWISE, Role.FORWARD, 2, released) == cycles(DEPTHWISE, Role.FORWARD, 2, fixed)
    for role in (Role.WEIGHT_GRAD, Role.INPUT_GRAD):
        slow, fast = (cycles(DEPTHWISE, role, 2, device) for device in (released, fixed))
        assert slow > 2 * fast


def test_more_cores_are_faster_but_not_by_more_than_their_number() -> None:
    one, eight = (cycles(CONV, Role.FORWARD, 4, load_device("gap9"), n) for n in (1, 8))
    assert 3 < one / eight < 8


def test_what_has_no_kernel_is_refused() -> None:
    with pytest.raises(McuError, match="batch is 4"):
        phases_of(Relu((4, 2, 3, 3)), Role.FORWARD, one_core_backward=True)
    grouped = Conv2d(1, 8, 8, 8, 8, 3, groups=2)
    with pytest.raises(McuError, match="groups is 2"):
        phases_of(grouped, Role.FORWARD, one_core_backward=True)


def test_elements_of_another_size_have_no_kernels() -> None:
    mcu = load_device("gap9").mcu
    assert mcu is not None
    with pytest.raises(McuError, match=r"item_bytes is 1; allowed: 4 \(FP32\) or 2"):
        tune(SMALL, Role.FORWARD, 1, mcu, 8)


@pytest.mark.parametrize("name", mcu_names())
def test_costs_of_a_cluster(name: str) -> None:
    device = load_device(name)
    model = CostModel.of(device)
    cost = model.cost(KernelCall(CONV, Role.FORWARD, "fp16"), "cpu:8")
    assert cost.cycles == cycles(CONV, Role.FORWARD, 2, device)
    named = {name for path in cost.parameters for name in path.split(TIMES)}
    assert named <= model.quantities().keys()
    for call, unit in (
        (KernelCall(CONV, Role.FORWARD, "int8"), "cpu:8"),
        (KernelCall(CONV.with_batch(2), Role.FORWARD, "fp16"), "cpu:8"),
        (KernelCall(CONV, Role.FORWARD, "fp16"), "cpu:9"),
        (KernelCall(CONV, Role.FORWARD, "fp16"), "dsp:1"),
    ):
        with pytest.raises(UnsupportedKernelError):
            model.cost(call, unit)


@pytest.mark.parametrize(
    ("name", "op", "role", "behind"),
    [
        ("gap9", CONV, Role.FORWARD, {"instructions_per_cycle", "fpus"}),
        ("gvsoc-cluster", CONV, Role.FORWARD, {"instructions_per_cycle"}),
        ("gap9", SoftmaxCrossEntropy(1, 100), Role.INPUT_GRAD, {"exponential_cycles"}),
        ("gap9", Relu((1, 2, 3, 3)), Role.FORWARD, {"dma_setup_cycles"}),
        ("gap9", Conv2d(1, 1, 16, 16, 1, 5, pad=2), Role.FORWARD, {"window_cycles"}),
        ("gap9", SgdUpdate(10_000), Role.UPDATE, {"dma_bytes_per_cycle"}),
    ],
)
def test_a_time_names_what_it_rests_on(
    name: str, op: Operator, role: Role, behind: set[str]
) -> None:
    """A constant that is named moves the time about in proportion."""
    device = load_device(name)
    assert device.mcu is not None
    cost = CostModel.of(device).cost(KernelCall(op, role, "fp32"), "cpu:8")
    named = {path.rpartition(".")[2] for path in cost.parameters[1].split(TIMES)}
    assert behind <= named <= behind | {"instructions_per_cycle"}
    for field in behind - {"fpus"}:
        known = getattr(device.mcu, field)
        more = known.model_copy(update={"value": known.value * 1.2})
        ratio = cycles(op, role, 4, changed(name, **{field: more})) / cost.cycles
        ratio = 1 / ratio if known.is_rate else ratio
        assert 1.05 < ratio < 1.21


@pytest.mark.parametrize("name", ["gap9", "vega"])
def test_half_an_fpu_is_refused(name: str) -> None:
    mcu = load_device(name).mcu
    assert mcu is not None
    assert mcu.fpus.kind == "assumed"
    with pytest.raises(ValueError, match="whole number of FPUs"):
        Mcu.model_validate(mcu.model_dump() | {"fpus": mcu.fpus.model_dump() | {"value": 4.5}})


def test_clusters_are_devices_by_name() -> None:
    assert mcu_names() == ("gap9", "gvsoc-cluster", "vega")
    with pytest.raises(DeviceError, match="did you mean 'gap9'"):
        load_device("gap8")
