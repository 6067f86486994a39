"""Numbers in the files equal the published ones they cite; derivations are done again here."""

from __future__ import annotations

import pytest

from cost_models.device import device_names, load_device
from cost_models.library import load_library

PUBLISHED = [
    ("snapdragon-865", "cpu.clusters.prime.copy_rate", 14470.0, "measured"),
    ("snapdragon-865", "cpu.clusters.little.copy_rate", 3769.0, "measured"),
    ("snapdragon-865", "cpu.clusters.prime.operating_points", 984.2, "measured"),
    ("snapdragon-865", "cpu.clusters.big.fp32_macs_per_cycle", 15.892 / 2, "measured"),
    ("snapdragon-865", "static.phone_idle.mw", 1346.3, "measured"),
    ("snapdragon-865", "fastrpc.modes.pm_qos.null_us", 92.0, "measured"),
    ("snapdragon-865", "dsp.vtcm_bytes", 262144.0, "published"),
    ("snapdragon-855", "dsp.clock.turbo", 1300.0, "published"),
    ("snapdragon-855", "cpu.clusters.prime.operating_points", 1077.2, "measured"),
    ("snapdragon-855", "cpu.clusters.big.operating_points", 841.7, "measured"),
    ("snapdragon-855", "gpu.rate", 29000.0, "measured"),
    ("snapdragon-888", "cpu.clusters.prime.operating_points", 1635.9, "measured"),
    ("snapdragon-888", "dsp.vtcm_bytes", 4 * 2.0**20, "published"),
    ("snapdragon-750g", "cpu.clusters.big.operating_points", 923.7, "measured"),
    ("qcs6490", "dsp.rate", 7720.0, "measured"),
    ("qcs6490", "cpu.clusters.big.copy_rate", 7018.5, "measured"),
    ("snapdragon-8gen3", "dsp.rate", 18330.0, "measured"),
    ("snapdragon-8gen3", "dsp.single_context_rate", 5000.0, "published"),
]


@pytest.mark.parametrize(("device", "path", "value", "kind"), PUBLISHED)
def test_cited_number(device: str, path: str, value: float, kind: str) -> None:
    quantity = load_device(device).quantities()[path]
    assert quantity.value == pytest.approx(value, rel=1e-4)
    assert quantity.kind == kind


DERIVED = [
    ("snapdragon-855", "cpu.clusters.big.sustained_mhz", 1764 / 1502 * 1708.8),
    ("snapdragon-855", "gpu.fp32_macs_per_cycle", 407e9 / 585e6),
    ("snapdragon-865", "cpu.pool_rate", 2 * 14470),
    ("snapdragon-888", "gpu.fp32_macs_per_cycle", 728e9 / 840e6 / 2),
    ("snapdragon-888", "cpu.clusters.prime.fp32_macs_per_cycle", 55.142 / 2.8416 / 2),
    ("qcs6490", "dsp.macs_per_cycle_per_context", 511.788 / 2 / 2),
    ("qcs6490", "dsp.clock.turbo", 734.56e3 / 511.788),
    ("qcs6490", "fastrpc.modes.pm_qos.null_us", 41.85 * 2),
    ("snapdragon-8gen3", "dsp.macs_per_cycle_per_context", 1023.995 / 4 / 2),
    ("snapdragon-8gen3", "dsp.clock.turbo", 1973.18e3 / 1023.995),
    ("snapdragon-8gen3", "fastrpc.modes.pm_qos.null_us", 28.88 * 4),
]


@pytest.mark.parametrize(("device", "path", "value"), DERIVED)
def test_derived_number(device: str, path: str, value: float) -> None:
    assert load_device(device).quantities()[path].value == pytest.approx(value, rel=1e-3)


def test_sdot_is_four_times_fp32() -> None:
    for name in device_names():
        for cluster in load_device(name).cpu.clusters:
            if "no SDOT" in cluster.int8_macs_per_cycle.source:
                continue
            ratio = cluster.int8_macs_per_cycle.value / cluster.fp32_macs_per_cycle.value
            assert ratio == pytest.approx(4.0)


CALIBRATED = [
    ("snapdragon-855", "fastrpc.modes.pm_qos.null_us", (435 + 449) / 2 - 2 * 134),
    ("snapdragon-855", "fastrpc.modes.adaptive.null_us", (688 + 591) / 2 - 2 * 134),
    ("snapdragon-865", "fastrpc.modes.none.null_us", 92 + (792 + 1700) / 2 - (435 + 449) / 2),
    ("snapdragon-865", "fastrpc.modes.adaptive.null_us", 92 + (688 + 591) / 2 - (435 + 449) / 2),
]
"""Device, number, and the plain mean of the rows that a law was fitted to."""


@pytest.mark.parametrize(("device", "path", "mean"), CALIBRATED)
def test_calibrated_numbers_are_near_plain_means(device: str, path: str, mean: float) -> None:
    quantity = load_device(device).quantities()[path]
    assert quantity.kind == "derived"
    assert quantity.value == pytest.approx(mean, rel=0.08)


def test_dsp_forward_share_is_the_asymptote_of_whole_networks() -> None:
    slope_ms_per_gmac, peak_gmac_s = 1.782, 1.4 * 4 * 128  # least squares, MAC counts recalled
    share = load_library("hexagon_nn").share("int8", "conv", "forward")
    assert share == pytest.approx(1000 / slope_ms_per_gmac / peak_gmac_s, rel=0.02)


def test_cpu_forward_share_agrees_with_an_independent_inference() -> None:
    resnet50 = 4.09e9 / 161.13e-3 / (2.84e9 * 7.994)
    share = load_library("mnn").share("fp32", "conv", "forward")
    assert share == pytest.approx(resnet50, rel=0.05)


def test_cpu_int8_is_about_two_and_a_half_times_fp32() -> None:
    mnn = load_library("mnn")
    ratio = 4 * mnn.share("int8", "conv", "forward") / mnn.share("fp32", "conv", "forward")
    assert ratio == pytest.approx(161.13 / 66.81, rel=0.05)


def test_depthwise_shares_solve_the_two_mobilenets() -> None:
    peak = 2.84e9 * 7.994
    for dtype, v1_ms, v2_ms, lanes in (("fp32", 29.04, 19.37, 1), ("int8", 11.86, 11.38, 4)):
        # ms = conv / r + depthwise / d with (550, 17.4) and (280, 20.7) million MACs
        per_mmac = (v2_ms - v1_ms * 280 / 550) / (20.7 - 17.4 * 280 / 550)
        share = 1e9 / per_mmac / (peak * lanes)
        assert load_library("mnn").share(dtype, "depthwise", "forward") == pytest.approx(
            share, rel=0.02
        )


def test_preparation_adds_up_to_the_only_log_there_is() -> None:
    prepare = load_device("snapdragon-865").prepare
    assert prepare is not None
    session_start_ms, initialisation_ms = 64, 115
    modelled_ms = prepare.latency_ns(66, 1_800_000) / 1e6
    assert modelled_ms == pytest.approx(initialisation_ms - session_start_ms, rel=0.05)
