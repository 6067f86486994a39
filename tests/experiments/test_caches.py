"""The ``caches`` command, and the kept comparison of rule and simulator."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cost_models.caches import device_hierarchy
from cost_models.device import load_device
from experiments import caches, cli
from experiments.results import read_result
from sim.autodiff import training_graph
from sim.zoo import load_model

ROOT = Path(__file__).parent.parent.parent


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as end:
        cli.app(["caches", *arguments], prog_name="mandheling")
    out, err = capsys.readouterr()
    assert isinstance(end.value.code, int)
    return end.value.code, out, err


BASIC = ("--model", "lenet", "--device", "snapdragon-865", "--batch", "4")


def test_one_kernel_is_simulated_on_both_units(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, *BASIC, "--op", "conv2.weight_grad", "--json")
    document: dict[str, Any] = json.loads(out)
    assert code == 0
    assert [row["unit"] for row in document["kernels"]] == ["cpu", "dsp"]
    for row in document["kernels"]:
        for level in row["levels"]:
            moved = level["read_bytes"] + level["written_bytes"]
            assert level["read_bytes"] == level["misses"] * level["line_bytes"]
            assert level["analytic_bytes"] == pytest.approx(moved, rel=0.3)
    assert document["kernels"][1]["vtcm_bytes"] > 0
    assert "graph_sha256" in document["manifest"]


def test_tables(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, *BASIC, "--op", "conv2.weight_grad")
    assert code == 0
    assert "conv2.weight_grad on the cpu of snapdragon-865, batch 4, INT8" in out
    assert "off %" in out
    code, out, _ = run(capsys, *BASIC)
    assert code == 0
    assert "pool1.input_grad" in out


def test_a_device_without_dsp_and_a_kernel_it_does_not_have(
    capsys: pytest.CaptureFixture[str],
) -> None:
    code, out, _ = run(capsys, "-m", "lenet", "-d", "laptop", "-b", "2", "--op", "loss", "--json")
    assert code == 0
    assert [row["unit"] for row in json.loads(out)["kernels"]] == ["cpu"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((*BASIC, "--op", "conv9"), ("conv9",)),
        ((*BASIC[:4], "--batch", "0"), ("'0' is not allowed",)),
        (
            ("-m", "vgg16-imagenet", "-d", "laptop", "-b", "512", "--op", "conv1_2"),
            ("--op conv1_2", "accesses", "smaller --batch"),
        ),
    ],
)
def test_refusals_are_one_line(
    arguments: tuple[str, ...], words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = run(capsys, *arguments)
    assert (code, out) == (2, "")
    assert len(err.splitlines()) == 1
    assert all(word in err for word in words)


@pytest.fixture(scope="module")
def kept() -> dict[str, Any]:
    return read_result(ROOT / caches.RESULT)


def test_kept_rows_are_what_the_code_gives(kept: dict[str, Any]) -> None:
    device = load_device(kept["device"])
    graph = training_graph(load_model("lenet", *kept["networks"]["lenet"]))
    chosen = {"lenet pool1.input_grad", "lenet linear2.weight_grad", "lenet relu1"}
    rows = [
        row
        for name, call in caches.distinct([graph])
        if name in chosen
        for unit in ("cpu", "dsp")
        for row in caches.compare(name, call, unit, device_hierarchy(device, unit))
    ]
    assert rows
    assert rows == [row for row in kept["kernels"] if row["kernel"] in chosen]


def test_the_rule_is_within_ten_percent_in_the_median(kept: dict[str, Any]) -> None:
    for name, rows in caches.parts(kept).items():
        found = caches.summary(rows)
        assert found["median"] <= 0.1, name
    assert len(kept["kernels"]) > 300
    networks = {row["kernel"].split()[0] for row in kept["kernels"]}
    assert networks == set(kept["networks"])


def test_the_page_shows_what_is_kept(kept: dict[str, Any]) -> None:
    page = (ROOT / "docs/background/caches.md").read_text(encoding="utf-8")
    assert caches.shown(kept) in page
    assert caches.splits_shown(kept) in page


def test_the_command_prints_what_is_kept(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    caches.main(["--check"])
    assert "| all kernels |" in capsys.readouterr().out
