"""The GEMM benchmark measures every back-end, and reports ratios and aims as they are."""

from __future__ import annotations

import json

import pytest

from experiments import bench_gemm
from kernels.gemm import available_backends


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_gemm, "SHAPE", (32, 64, 64))
    monkeypatch.setattr(bench_gemm, "PAUSE_SECONDS", 0.0)
    monkeypatch.setattr(bench_gemm, "_PEAK_STEPS", 2000)


def test_every_backend_is_measured(capsys: pytest.CaptureFixture[str]) -> None:
    bench_gemm.main(["--json", "--rounds", "1", "--threads", "1"])
    content = json.loads(capsys.readouterr().out)
    named = {name.removeprefix("ours: ") for name in content["gmacs"]}
    assert named >= set(available_backends()) - {"reference"} | {"NumPy float32"}
    assert all(rate["best"] >= rate["median"] > 0 for rate in content["gmacs"].values())
    fastest = content["gmacs"][f"ours: {available_backends()[0]}"]["best"]
    rival = content["gmacs"]["NumPy float32"]["best"]
    assert content["ratios"]["NumPy float32"] == fastest / rival


def test_aims_are_kept_or_missed_in_words() -> None:
    rates = {"ours: vnni": 420.0, "NumPy float32": 105.0, "torch._int_mm": 400.0}
    rates |= {"torch float32": 100.0, "peak": 460.0}
    both = {name: bench_gemm.Rate(rate, rate) for name, rate in rates.items()}
    lines = bench_gemm.table(both, "ours: vnni").splitlines()
    assert [line.split()[-1] for line in lines if ">=" in line] == ["MISSED", "kept"]
    assert lines[-1] == "peak / torch._int_mm: 1.15 x, the most that this machine allows"


def test_options_are_checked(capsys: pytest.CaptureFixture[str]) -> None:
    for option in ("--rounds", "--threads"):
        with pytest.raises(SystemExit):
            bench_gemm.main([option, "0"])
        assert f"{option} is 0; give 1 or more" in capsys.readouterr().err
