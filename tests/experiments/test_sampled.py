"""Samples of a board become a bundle, and a bundle becomes a device's numbers."""

from __future__ import annotations

import json
from dataclasses import replace
from math import log1p
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from cost_models.device import FOLDER, load_device
from cost_models.fitting import Bundle, CalibrationError
from cost_models.packets.shapes import PacketShape
from cost_models.samples import Json
from experiments.cli import app
from experiments.sampled import fittable, kernel_columns, run_sampled, work_of
from hw_bridge.samples import Fingerprint, Sample, SampleStore
from kernels.conv import Conv2d

BOARD = Fingerprint("board", {"soc": "SM8250", "hexagon": "v66"})
GAPS = (0, 1_000, 10_000)
SIZES = tuple(64 << 2 * step for step in range(8))


def scattered(us: float) -> tuple[int, ...]:
    """Five repetitions with one outlier, in ns."""
    return tuple(int(1000 * us * factor) for factor in (1.0, 0.99, 1.01, 1.0, 9.0))


def drawn() -> list[Sample]:
    """What a board would store: 90 us + 40 log(1 + gap / 100 us), and by size 120 + 200 per MiB."""
    made = []
    for qos, call in (("pm_qos", 90), ("off", 300)):
        for gap in GAPS:
            config: dict[str, Json] = {"qos": qos, "gap_us": gap, "calls": 5}
            raw = scattered(call + 40 * log1p(gap / 100))
            made.append(Sample(f"null_call/{qos}/gap={gap}", "null_call", "ns", raw, config))
    for memory, rate in (("copied", 500), ("shared", 200)):
        for size in SIZES:
            config = {"bytes": size, "memory": memory, "calls": 5}
            raw = scattered(120 + rate * size / 2**20)
            made.append(Sample(f"copy/{memory}/{size}", "copy", "ns", raw, config))
    for elements in (1 << 10, 1 << 14, 1 << 18, 1 << 20):
        shape = PacketShape("amax", (elements,))
        config = {**shape.document(), "threads": 2}
        raw = scattered(5 + elements / 8 / 1000)
        made.append(Sample(f"kernel/{shape.key}", "kernel", "ns", raw, config))
    return made


@pytest.fixture
def store(tmp_path: Path) -> Path:
    path = tmp_path / "board.jsonl"
    with SampleStore.open(path, BOARD) as opened:
        for sample in drawn():
            opened.add(sample)
    return path


def invoke(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, list(arguments), env={"COLUMNS": "100"})
    return result.exit_code, result.stdout, result.stderr


def test_all_kinds_of_a_store_are_fitted(store: Path) -> None:
    code, out, told = invoke("calibrate", "--store", str(store), "--json")
    assert code == 0, told
    found = {
        each["name"]: Bundle.from_json(json.dumps(each)) for each in json.loads(out)["bundles"]
    }
    values = {
        f"{name}/{each.name}": each.value
        for name, bundle in found.items()
        for each in bundle.coefficients
    }
    assert values == pytest.approx(
        {
            "null-calls/pm_qos.call_us": 90,
            "null-calls/pm_qos.asleep_us": 40,
            "null-calls/off.call_us": 300,
            "null-calls/off.asleep_us": 40,
            "buffer-copies/copied.call_us": 120,
            "buffer-copies/copied.us_per_mib": 500,
            "buffer-copies/shared.call_us": 120,
            "buffer-copies/shared.us_per_mib": 200,
            "kernels/amax.x2.launch_us": 5,
            "kernels/amax.x2.rate_per_ns": 8,
        },
        rel=2e-3,
    )
    calls = found["null-calls"]
    assert calls.measured_on("off.call_us").facts == {"backend": "board", **BOARD.facts}
    assert calls.table == "board.jsonl"
    assert (calls.validations[0].groups, calls.validations[0].interval.kind) == (3, "range")
    assert calls.met is True


def test_a_fitted_store_can_be_a_devices_numbers(store: Path) -> None:
    folder = store.parent
    code, _, told = invoke("calibrate", "--store", str(store), "-o", str(folder))
    assert code == 0
    assert "wrote" in told
    tree: dict[str, Any] = yaml.safe_load((FOLDER / "snapdragon-865.yaml").read_text("utf-8"))
    tree["bundles"].append({"name": "null-calls.json"})
    terms = {"null-calls/pm_qos.call_us": 1}
    tree["fastrpc"]["modes"]["pm_qos"]["null_us"] = {"unit": "us", "calibrated": {"terms": terms}}
    mine = folder / "mine.yaml"
    mine.write_text(yaml.safe_dump(tree), "utf-8")
    phone = load_device(mine)
    assert not any("null-calls" in note for note in phone.calibration_notes())
    found = phone.quantities()["fastrpc.modes.pm_qos.null_us"]
    assert found.value == pytest.approx(90, rel=2e-3)
    assert "soc SM8250" in found.source
    # On another chip the same bundle is refused.
    mine.write_text(yaml.safe_dump(tree | {"soc": "SM8150"}), "utf-8")
    with pytest.raises(ValueError, match="was fitted on soc SM8250, not SM8150"):
        load_device(mine)


def at_corners(path: Path, kinds: tuple[str, ...], corners: tuple[int, ...]) -> Path:
    """A store of the drawn samples, slower at every further corner."""
    with SampleStore.open(path, BOARD) as opened:
        for index, corner in enumerate(corners):
            for sample in (each for each in drawn() if each.kind in kinds):
                raw = tuple(int(ns * (1 + index)) for ns in sample.raw)
                config = {**sample.config, "corner": corner}
                opened.add(replace(sample, key=f"{sample.key}/c{corner}", raw=raw, config=config))
    return path


def test_kernels_at_several_clocks_have_coefficients_of_their_own(tmp_path: Path) -> None:
    found = run_sampled("kernels", at_corners(tmp_path / "both.jsonl", ("kernel",), (0, 7)))
    rates = {each.name: each.value for each in found.coefficients if "rate" in each.name}
    assert rates == pytest.approx(
        {"amax.x2.rate_per_ns": 8, "amax.x2.corner7.rate_per_ns": 4}, rel=2e-3
    )


def test_calls_at_several_clocks_are_no_one_law(tmp_path: Path) -> None:
    one = at_corners(tmp_path / "one.jsonl", ("null_call",), (7,))
    assert run_sampled("null-calls", one).name == "null-calls"
    both = at_corners(tmp_path / "both.jsonl", ("null_call",), (0, 7))
    with pytest.raises(CalibrationError, match=r"config.corner: 0 and 7: one law is fitted to one"):
        run_sampled("null-calls", both)
    pinned = tmp_path / "pinned.jsonl"
    with SampleStore.open(pinned, BOARD) as opened:
        for cpu in (4, 7):
            for sample in (each for each in drawn() if each.kind == "kernel"):
                config = {**sample.config, "cpu": cpu}
                opened.add(replace(sample, key=f"{sample.key}/cpu{cpu}", config=config))
    with pytest.raises(CalibrationError, match=r"config.cpu: 4 and 7: one law is fitted to one"):
        run_sampled("kernels", pinned)


def test_work_of_kernels() -> None:
    conv = Conv2d(2, 8, 6, 6, 16, 3, pad=1)
    assert work_of(PacketShape.of_conv("weight_grad", conv, "fresh")) == 2 * 16 * 36 * 8 * 9
    assert work_of(PacketShape("transpose", (2, 3, 5))) == 30
    assert work_of(PacketShape("max_pool_forward", (2, 8, 8, 3, 2, 2, 2, 0, 0, 0))) == 2 * 64 * 3


def test_a_kernel_without_a_shape_is_named() -> None:
    with pytest.raises(CalibrationError, match="needed: family, form and sizes"):
        kernel_columns(Sample("kernel/x", "kernel", "ns", (1, 2, 3), {"threads": 1}))


HUGE = 10**400


@pytest.mark.parametrize(
    ("kind", "change", "said"),
    [
        ("null_call", {"gap_us": HUGE}, "config.gap_us: .* is not allowed; give a number from 0"),
        ("copy", {"bytes": HUGE}, "config.bytes: .* is not allowed; give a number from 1"),
        ("kernel", {"family": ["amax"]}, r"config: family: \['amax'\] is not allowed; give a word"),
        ("kernel", {"form": {}}, r"config: form: {} is not allowed; give a word"),
        ("kernel", {"threads": "x y"}, "config: threads: 'x y' is not allowed; .* 1 to 64"),
        ("kernel", {"threads": None}, "config: threads: None is not allowed"),
        ("kernel", {"threads": {"a": 1}}, "config: threads: {'a': 1} is not allowed"),
        ("kernel", {"threads": -3}, "config: threads: -3 is not allowed"),
        ("kernel", {"corner": True}, "config: corner: True is not allowed; .* 0 to 255"),
    ],
)
def test_a_config_that_says_nothing_is_named(
    tmp_path: Path, kind: str, change: dict[str, Json], said: str
) -> None:
    path = tmp_path / "odd.jsonl"
    with SampleStore.open(path, BOARD) as opened:
        for sample in (each for each in drawn() if each.kind == kind):
            opened.add(replace(sample, config={**sample.config, **change}))
    name = {"null_call": "null-calls", "copy": "buffer-copies", "kernel": "kernels"}[kind]
    with pytest.raises(CalibrationError, match=rf"odd.jsonl: {kind}/\S+: {said}"):
        run_sampled(name, path)


def test_packets_are_no_times(tmp_path: Path) -> None:
    path = tmp_path / "packets.jsonl"
    with SampleStore.open(path, BOARD) as opened:
        opened.add(replace(drawn()[-1], unit="packets", raw=(7,)))
    assert fittable(path) == []
    with pytest.raises(
        CalibrationError, match=r"unit: 'packets' is not allowed; allowed: \['ns'\]"
    ):
        run_sampled("kernels", path)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["kernels"], "kernels is fitted to samples: give their file by --store"),
        (["core-power", "--store", "few.jsonl"], "few.jsonl: core-power is fitted to a table, not"),
        (["power", "--store", "few.jsonl"], "'power' is unknown; allowed: all, fastrpc-size,"),
        (["power", "--store", "few.jsonl"], "packets, packet-rates; did you mean 'core-power'?"),
        (["--store", ""], "--store"),
        (["-o", ""], "--output"),
        (
            ["kernels", "--store", "few.jsonl", "-o", "text.jsonl"],
            "--output text.jsonl: is no fold",
        ),
        (["--list", "--store", "few.jsonl"], "--store few.jsonl: --list only lists all calibrati"),
        (["--list", "-o", "made"], "--output made: --list only lists all calibrations"),
        (["kernels", "--list"], "kernels: --list only lists all calibrations"),
        (["kernels", "--store", "few.jsonl"], "no samples of kind 'kernel'; kinds in it: null_ca"),
        (["--store", "empty.jsonl"], "has no samples to fit; allowed: null_call in ns, copy in ns"),
        (["--store", "none.jsonl"], "--store none.jsonl: is no file; give one that `hw sample`"),
        (["--store", "text.jsonl"], "text.jsonl: is no file of samples"),
        (["--store", "few.jsonl"], "qos 'off': null-calls: 1 rows do not identify asleep_us; m"),
    ],
)
def test_what_cannot_be_fitted_is_told_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.jsonl").write_text("nothing\n", "utf-8")
    with SampleStore.open(tmp_path / "empty.jsonl", BOARD):
        pass
    with SampleStore.open(tmp_path / "few.jsonl", BOARD) as store:
        config: dict[str, Json] = {"qos": "off", "gap_us": 0}
        store.add(Sample("a", "null_call", "ns", (9, 9, 9), config))
    code, out, told = invoke("calibrate", *arguments)
    assert (code, out) == (2, "")
    assert len(told.splitlines()) == 1
    assert said in told
