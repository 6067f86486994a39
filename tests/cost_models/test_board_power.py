"""Board power by clock: the published sweep, its fit, and boards whose clocks can be set."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from cost_models.board_power import (
    BoardPower,
    BoardPowerError,
    PowerPoint,
    fit_board_power,
    left_out,
    published_sweep,
)
from cost_models.device import FOLDER, load_device, named
from cost_models.errors import DeviceError
from cost_models.model import CostModel

XU3, NANO = load_device("odroid-xu3"), load_device("jetson-nano")


def test_the_fit_is_within_four_tenths_of_a_watt() -> None:
    sweep = published_sweep()
    fitted = fit_board_power(sweep)
    assert len(sweep) == 16
    assert (fitted.a, fitted.b, fitted.c) == pytest.approx((4.905, 0.599, 0.774), abs=1e-3)
    assert max(abs(fitted.watts(p.mhz) - p.board_mw / 1000) for p in sweep) <= 0.4


def test_points_left_out_are_predicted_worse_than_fitted() -> None:
    sweep = published_sweep()
    fitted = fit_board_power(sweep)
    for point, predicted in zip(sweep, left_out(sweep), strict=True):
        watts = point.board_mw / 1000
        assert abs(predicted - watts) >= abs(fitted.watts(point.mhz) - watts) - 1e-9


@given(a=st.floats(0, 9), b=st.floats(0, 3), c=st.floats(0, 3))
def test_exact_powers_are_found_again(a: float, b: float, c: float) -> None:
    law = BoardPower(a, b, c)
    sweep = [PowerPoint(mhz, round(1000 * law.watts(mhz))) for mhz in (400, 900, 1300, 2000)]
    fitted = fit_board_power(sweep)
    assert [fitted.watts(p.mhz) for p in sweep] == pytest.approx(
        [law.watts(p.mhz) for p in sweep], abs=2e-3
    )


def test_three_clocks_are_too_few() -> None:
    with pytest.raises(
        BoardPowerError, match=r"sweep has 3 clocks; .* needs 4 or more: add points"
    ):
        fit_board_power(published_sweep()[:3])


def test_cores_of_the_xu3_add_up_to_the_sweep() -> None:
    costs = CostModel.of(XU3, "tflite")
    idle = round(XU3.static[0].mw.value)
    for point in published_sweep():
        hz, power = costs.clock_and_power("cpu:4", named(point.mhz))
        assert hz == point.mhz * 1_000_000
        assert abs(idle + power - point.board_mw) <= 4  # four cores, each rounded to a milliwatt


def test_operating_points_and_voltages_are_those_of_the_device_tree() -> None:
    big, little = XU3.cpu.clusters
    assert big.voltages is not None
    assert little.voltages is not None
    assert len(big.operating_points.rows) == len(big.voltages.rows) == 19
    assert len(little.operating_points.rows) == len(little.voltages.rows) == 13
    volts = dict(big.voltages.rows)
    assert (volts[2000.0], volts[1700.0], volts[200.0]) == (1.3125, 1.25, 0.9)
    assert dict(little.voltages.rows)[1400.0] == 1.275


def test_a_cluster_without_a_clock_runs_at_its_next_lower_one() -> None:
    costs = CostModel.of(XU3, "tflite")
    assert costs.clock_and_power("little:4", "2000MHz") == costs.clock_and_power(
        "little:4", "1400MHz"
    )
    assert costs.clock_and_power("cpu:1", "1550MHz")[0] == 1_500_000_000


def test_clocks_and_powers_of_the_gpu() -> None:
    costs = CostModel.of(NANO, "tflite")
    assert NANO.gpu is not None
    assert NANO.gpu.operating_points is not None
    for mhz, power in NANO.gpu.operating_points.rows:
        assert costs.clock_and_power("gpu", named(mhz)) == (round(mhz * 1e6), int(power + 0.5))
    assert costs.clock_and_power("gpu", "max") == costs.clock_and_power("gpu", "921.6MHz")
    with pytest.raises(DeviceError, match=r"clock of gpu on jetson-nano.*'600MHz'"):
        costs.clock_and_power("gpu", "600MHz")
    with pytest.raises(
        DeviceError, match=r"gpu: 600 MHz is no operating point; choose one of 76.8"
    ):
        NANO.gpu_power_mw(600)
    with pytest.raises(DeviceError, match="odroid-xu3: has no gpu"):
        XU3.gpu_power_mw(600)


def test_power_modes_are_the_published_ones() -> None:
    modes = {m.name: (m.big_cores, m.cpu_mhz.value) for m in NANO.power_modes}
    assert modes == {"maxn": (4, 1479), "5w": (2, 918)}


@pytest.mark.parametrize(
    ("device", "change", "message"),
    [
        (
            "odroid-xu3",
            lambda d: d["cpu"]["clusters"][0]["voltages"]["rows"].pop(),
            "2000 MHz is in only one of operating_points and voltages; give both",
        ),
        (
            "odroid-xu3",
            lambda d: d["cpu"]["clusters"][0]["voltages"]["rows"][0].__setitem__(1, 90.0),
            "value 90 is not allowed; give 0.1 to 5 V",
        ),
        (
            "jetson-nano",
            lambda d: d["gpu"]["operating_points"]["rows"].pop(),
            r"operating_points end at \[844.8, .*must be clock and power_mw",
        ),
        ("odroid-xu3", lambda d: d["cpu"].__setitem__("settable", "yes"), "settable"),
    ],
)
def test_bad_files(tmp_path: Path, device: str, change: object, message: str) -> None:
    content = yaml.safe_load((FOLDER / f"{device}.yaml").read_text(encoding="utf-8"))
    change(content)  # type: ignore[operator]
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    with pytest.raises(DeviceError, match=message):
        load_device(path)
