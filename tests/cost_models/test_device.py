"""Devices: all load, every number has its evidence, and questions are answered exactly."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from cost_models.device import FOLDER, Device, device_names, load_device
from cost_models.errors import DeviceError
from cost_models.quantity import DEFAULT_SPREAD

PHONES = tuple(name for name in device_names() if load_device(name).dsp is not None)


@pytest.fixture(params=device_names())
def device(request: pytest.FixtureRequest) -> Device:
    return load_device(request.param)


def test_the_devices_that_come_with_the_sandbox() -> None:
    assert device_names() == (
        "desktop-3090ti",
        "jetson-nano",
        "laptop",
        "odroid-xu3",
        "qcs6490",
        "raspberry-pi-3b",
        "snapdragon-750g",
        "snapdragon-855",
        "snapdragon-865",
        "snapdragon-888",
        "snapdragon-8gen3",
    )


def test_file_name_is_device_name(device: Device) -> None:
    assert load_device(device.name) is device


def test_every_number_has_unit_kind_and_a_source_of_some_length(device: Device) -> None:
    numbers = device.quantities()
    assert len(numbers) >= 15
    for path, quantity in numbers.items():
        assert quantity.unit, path
        assert quantity.kind in DEFAULT_SPREAD, path
        assert len(quantity.source) >= 10, path
        assert "/work" not in quantity.source, path
        assert math.isfinite(quantity.value), path


def test_paths_name_list_elements() -> None:
    numbers = load_device("snapdragon-865").quantities()
    assert numbers["cpu.clusters.prime.copy_rate"].unit == "MB/s"
    assert numbers["static.phone_idle.mw"].unit == "mW"
    assert numbers["fastrpc.modes.pm_qos.per_mib"].value == pytest.approx(245.6, abs=0.05)
    assert numbers["cpu.clusters.prime.operating_points"].unit == "mW"


def test_a_device_cannot_be_changed(device: Device) -> None:
    with pytest.raises(ValidationError, match="frozen"):
        device.cpu.llc_bytes.value = 1.0  # type: ignore[misc]


def test_digest_is_of_the_content_only() -> None:
    digests = {load_device(name).sha256 for name in device_names()}
    assert len(digests) == len(device_names())
    again = Device.model_validate(load_device("laptop").model_dump())
    assert again.sha256 == load_device("laptop").sha256


def test_a_copy_has_a_digest_of_its_own() -> None:
    phone = load_device("snapdragon-865")
    before = phone.sha256
    warmer = phone.thermal.ambient_c.model_copy(update={"value": 30.0})
    copied = phone.model_copy(
        update={"thermal": phone.thermal.model_copy(update={"ambient_c": warmer})}
    )
    assert copied.sha256 != before
    assert phone.sha256 == before == phone.model_copy().sha256 == phone.model_copy(deep=True).sha256


def test_a_device_is_shown_by_its_name() -> None:
    assert repr(load_device("laptop")) == str(load_device("laptop")) == "Device('laptop')"


def test_clocks_of_fractions_of_a_hertz_have_a_power(tmp_path: Path) -> None:
    text = (FOLDER / "laptop.yaml").read_text("utf-8")
    path = tmp_path / "mine.yaml"
    path.write_text(text.replace("3600.0, 11000.0", "2841.66666661, 11000.0"), "utf-8")
    mine = load_device(path)
    top = mine.clock_hz("big") / 1e6
    assert top > mine.cluster("big").max_mhz  # rounded up to whole Hz
    assert mine.core_power_mw("big", top) == 11000


def test_power_at_operating_points_and_between() -> None:
    phone = load_device("snapdragon-865")
    assert phone.core_power_mw("prime", 2841.6) == 984
    assert phone.core_power_mw("big", 710.4) == 126
    middle = (710.4 + 825.6) / 2
    assert phone.core_power_mw("big", middle) == 137  # (126.3 + 148.4) / 2 = 137.35


@pytest.mark.parametrize("mhz", [0.0, 844.7, 2841.7])
def test_power_is_not_extrapolated(mhz: float) -> None:
    with pytest.raises(DeviceError, match=r"allowed: 844\.8 to 2841\.6 MHz"):
        load_device("snapdragon-865").core_power_mw("prime", mhz)


@settings(derandomize=True, deadline=None)
@given(name=st.sampled_from(device_names()), part=st.floats(0.0, 1.0), data=st.data())
def test_power_stays_between_its_neighbours(name: str, part: float, data: st.DataObject) -> None:
    cluster = data.draw(st.sampled_from(load_device(name).cpu.clusters))
    rows = cluster.operating_points.rows
    index = data.draw(st.integers(0, len(rows) - 2))
    (x0, y0), (x1, y1) = rows[index], rows[index + 1]
    power = load_device(name).core_power_mw(cluster.name, min(x1, x0 + part * (x1 - x0)))
    assert round(min(y0, y1)) - 1 <= power <= round(max(y0, y1)) + 1


def test_clocks_are_integers_in_hz() -> None:
    phone = load_device("snapdragon-865")
    assert phone.clock_hz("dsp") == phone.clock_hz("dsp", "turbo") == 1_400_000_000
    assert phone.clock_hz("dsp", "nominal") == 1_200_000_000
    assert phone.clock_hz("dsp", "turbo_l1") == 1_500_000_000
    assert phone.clock_hz("gpu") == 587_000_000
    assert phone.clock_hz("big") == 2_419_200_000
    assert phone.clock_hz("little", "sustained") == phone.clock_hz("little", "max")


def test_sustained_clock_of_the_855_is_below_the_highest() -> None:
    phone = load_device("snapdragon-855")
    assert phone.clock_hz("prime", "sustained") == 2_006_900_000
    assert phone.clock_hz("prime") == 2_841_600_000


@pytest.mark.parametrize(
    ("name", "unit", "point", "message"),
    [
        ("laptop", "dsp", None, "has no dsp"),
        ("laptop", "gpu", None, "has no gpu"),
        ("laptop", "prime", None, "allowed: big"),
        ("snapdragon-865", "dsp", "turbo_11", "did you mean 'turbo_l1'"),
        ("snapdragon-865", "big", "turbo", "allowed: max, sustained"),
    ],
)
def test_clocks_that_do_not_exist(name: str, unit: str, point: str | None, message: str) -> None:
    with pytest.raises(DeviceError, match=message):
        load_device(name).clock_hz(unit, point)


@pytest.mark.parametrize("name", PHONES)
def test_phones_are_physically_plausible(name: str) -> None:
    phone = load_device(name)
    assert phone.dsp is not None
    assert phone.gpu is not None
    assert phone.prepare is not None
    assert phone.dsp.macs_per_cycle_per_context.value <= 128
    assert phone.dsp.rate.value <= phone.memory.ddr_rate.value
    assert phone.cpu.pool_rate.value <= phone.memory.ddr_rate.value
    assert phone.gpu.rate.value <= phone.memory.ddr_rate.value
    assert phone.dsp.has_hmx is (phone.dsp.arch != "v66")
    assert sum(cluster.cores for cluster in phone.cpu.clusters) == 8
    assert phone.pool("big")[0].max_mhz > phone.pool("little")[0].max_mhz


def test_pools_cover_all_clusters(device: Device) -> None:
    assert device.pool("big") + device.pool("little") == device.cpu.clusters


def test_unknown_device_lists_all_and_the_closest() -> None:
    with pytest.raises(DeviceError) as caught:
        load_device("snapdragon-885")
    message = str(caught.value)
    assert "\n" not in message
    assert all(name in message for name in device_names())
    assert "did you mean 'snapdragon-8" in message


def test_preparing_costs_a_fixed_part_nodes_and_weights() -> None:
    prepare = load_device("snapdragon-865").prepare
    assert prepare is not None
    assert prepare.latency_ns(0, 0) == 10_000_000
    assert prepare.latency_ns(66, 0) == 23_200_000
    assert prepare.latency_ns(0, 2**20) == 26_000_000


def test_temperature_closes_its_gap_as_newton_says() -> None:
    thermal = load_device("snapdragon-865").thermal
    settled = thermal.after(25_000, 2_000 * 10**12, 10**12)  # 2 W for 1000 s
    assert settled == pytest.approx(25_000 + 2_000 * 13.3, abs=1)
    one_tau = thermal.after(25_000, 2_000 * 60 * 10**9, 60 * 10**9)
    assert one_tau == pytest.approx(25_000 + 26_600 * (1 - math.exp(-1)), abs=1)
    assert thermal.after(50_000, 0, 10**12) == pytest.approx(25_000, abs=1)
