"""Clocks as choices: what a board lets software set, and what it does to times."""

from __future__ import annotations

import pytest

from sim import Plan, PlanError, expect, load_device, load_model
from sim.aspects.step import CPU_POINTS, SUSTAINED, cpu_points, gpu_points
from sim.autodiff import inference_graph
from sim.runtime.table import row_plan

NANO, XU3 = load_device("jetson-nano"), load_device("odroid-xu3")
GRAPH = inference_graph(load_model("dynamic-alexnet-25", 1))


def test_only_boards_whose_clocks_can_be_set_offer_them() -> None:
    assert cpu_points(load_device("snapdragon-865")) == CPU_POINTS
    assert gpu_points(load_device("snapdragon-865")) == ("max",)
    shares = tuple(point for point in CPU_POINTS if point != SUSTAINED)  # not known of this board
    assert cpu_points(XU3)[: len(shares) + 2] == (*shares, "2000MHz", "1900MHz")
    assert len(cpu_points(XU3)) == len(shares) + 19
    assert gpu_points(NANO)[:2] == ("max", "844.8MHz")


@pytest.mark.parametrize(
    ("device", "key", "choice", "message"),
    [
        ("odroid-xu3", ("operating_point", "cpu"), "1450MHz", "not offered by odroid-xu3.*1500MHz"),
        ("snapdragon-865", ("operating_point", "cpu"), "1400MHz", "not offered by snapdragon-865"),
        ("odroid-xu3", ("gpu_clock", "step"), "600MHz", "not offered by odroid-xu3; .* max$"),
    ],
)
def test_a_point_that_a_device_lacks(
    device: str, key: tuple[str, str], choice: str, message: str
) -> None:
    plan = Plan.make("mine", GRAPH.hash(), {key: choice})
    with pytest.raises(PlanError, match=message):
        expect(GRAPH, plan, load_device(device))


@pytest.mark.parametrize(
    ("unit", "points"), [("cpu:4", ("204MHz", "1428MHz")), ("gpu", ("76.8MHz", "max"))]
)
def test_slower_clocks_take_longer_and_less_power(unit: str, points: tuple[str, str]) -> None:
    slow, fast = (expect(GRAPH, row_plan(GRAPH, unit, p, "tflite"), NANO) for p in points)
    assert slow.time_ns > 4 * fast.time_ns
    assert slow.energy_pj / slow.time_ns < fast.energy_pj / fast.time_ns


def test_the_clock_of_the_cpu_is_not_that_of_the_gpu() -> None:
    plan = row_plan(GRAPH, "gpu", "307.2MHz", "tflite")
    times = {
        expect(GRAPH, plan.replace("operating_point", "cpu", p), NANO).time_ns
        for p in ("max", "102MHz")
    }
    assert len(times) == 1
