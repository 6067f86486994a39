"""The benchmarks of training: their ratios, aims and tables on known times, and small real runs."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from experiments import bench_conv, bench_training
from experiments.bench_conv import Row
from experiments.torch_twin import HINT

OURS = {
    "int8": {"best": 40.0, "median": 44.0},
    "int8, portable": {"best": 110.0, "median": 120.0},
    "fp32": {"best": 125.0, "median": 130.0},
}
TORCH = {
    "torch fp32, nchw": {"best": 120.0, "median": 121.0},
    "torch fp32, channels_last": {"best": 100.0, "median": 150.0},
    "torch bf16, channels_last": {"best": 50.0, "median": 55.0},
}


def test_ratios_are_to_the_faster_layout_of_pytorch() -> None:
    assert bench_training.ratios(OURS | TORCH) == {
        "int8": {"torch fp32": 2.5, "torch bf16": 1.25},
        "int8, portable": {"torch fp32": 100 / 110, "torch bf16": 50 / 110},
        "fp32": {"torch fp32": 0.8, "torch bf16": 0.4},
    }


def test_without_pytorch_there_are_no_ratios_but_a_hint() -> None:
    assert bench_training.ratios(OURS) == {}
    lines = bench_training.table("vgg11", OURS).splitlines()
    assert lines[0].split() == ["vgg11", "best", "median", "ms", "per", "step"]
    assert [line.split()[-2:] for line in lines[1:4]] == [
        ["40.0", "44.0"],
        ["110.0", "120.0"],
        ["125.0", "130.0"],
    ]
    assert lines[4:] == [HINT]


def test_aims_are_kept_or_missed_in_words() -> None:
    lines = bench_training.table("vgg11", OURS | TORCH).splitlines()
    aims = {line.split("  ")[0]: line for line in lines if ">=" in line}
    assert len(aims) == 3
    assert aims["torch fp32 / int8"].endswith("2.50 x  >= 2.5 x  kept")
    assert aims["torch bf16 / int8"].endswith("1.25 x  >= 1.5 x  MISSED")
    assert aims["torch fp32 / int8, portable"].endswith("0.91 x  >= 1 x  MISSED")
    assert HINT not in lines


def test_a_network_without_aims_has_ratios_only() -> None:
    lines = bench_training.table("lenet", OURS | TORCH).splitlines()
    assert sum(line.endswith(" x") for line in lines) == 6
    assert not [line for line in lines if ">=" in line]


def test_whole_steps_are_measured(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bench_training, "PAUSE_SECONDS", 0.0)
    monkeypatch.setattr(bench_training, "has_torch", lambda: False)
    bench_training.main(["lenet", "--batch", "4", "--rounds", "2", "--threads", "1", "--json"])
    content = json.loads(capsys.readouterr().out)
    times = content["ms"]["lenet"]
    assert times.keys() == {"int8", "int8, every step rescaled", "int8, portable", "fp32"}
    assert all(0 < row["best"] <= row["median"] for row in times.values())
    assert content["ratios"] == {"lenet": {}}


def test_convolutions_are_summed_and_compared() -> None:
    forward = Row("3x8x8 -> 4, 3x3", "forward", 2.0, 30.0, 60.0, 5.0)
    rows = [forward, replace(forward, role="weight_grad", ms=3.0, gmacs=15.0, torch_ms=10.0)]
    assert bench_conv.totals(rows) == (5.0, 15.0)
    lines = bench_conv.table(rows).splitlines()
    assert lines[1].split()[-5:] == ["forward", "2.00", "30.0", "50%", "5.00"]
    assert lines[2].split()[-5:] == ["weight_grad", "3.00", "15.0", "25%", "10.00"]
    assert lines[3:] == [f"{'all':26s} {'':12s} {5:8.2f}", "PyTorch FP32 15.00 ms: 3.00 x"]


def test_convolutions_without_pytorch_have_no_ratio() -> None:
    rows = [Row("3x8x8 -> 4, 3x3", "forward", 2.0, 30.0, 60.0, None)]
    assert bench_conv.totals(rows) == (2.0, None)
    assert "PyTorch" not in bench_conv.table(rows)


def test_every_convolution_is_measured_in_every_role_but_the_first_dx(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bench_conv, "has_torch", lambda: False)
    bench_conv.main(
        ["--model", "lenet", "--batch", "2", "--rounds", "1", "--threads", "1", "--json"]
    )
    rows = [Row(**row) for row in json.loads(capsys.readouterr().out)]
    first, second = dict.fromkeys(row.layer for row in rows)
    assert [(row.layer, row.role) for row in rows] == [
        (first, "forward"),
        (first, "weight_grad"),
        (second, "forward"),
        (second, "input_grad"),
        (second, "weight_grad"),
    ]
    assert all(row.ms > 0 and row.bound_gmacs > 0 and row.torch_ms is None for row in rows)


@pytest.mark.parametrize("bench", [bench_conv, bench_training])
@pytest.mark.parametrize("option", ["--batch", "--rounds", "--threads"])
def test_options_are_checked(
    capsys: pytest.CaptureFixture[str], bench: object, option: str
) -> None:
    with pytest.raises(SystemExit):
        bench.main([option, "0"])  # type: ignore[attr-defined]
    assert f"{option} is 0; give 1 or more" in capsys.readouterr().err


def test_unknown_networks_and_back_ends_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    for main, words in (
        (bench_conv.main, ["--model", "lexnet"]),
        (bench_conv.main, ["--backend", "cuda"]),
        (bench_training.main, ["lexnet"]),
    ):
        with pytest.raises(SystemExit):
            main(words)
        assert words[-1] in capsys.readouterr().err
