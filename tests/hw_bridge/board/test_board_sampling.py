"""Samples of an emulated board: what is kept, and what a break-off costs."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from board_cases import Device, board

from cost_models.device import load_device
from cost_models.packets.shapes import PacketShape
from experiments import cli
from experiments.packet_shapes import model_shapes
from experiments.sampled import fittable, run_sampled
from hw_bridge.board import BoardError, sampling
from hw_bridge.board.launcher import Launcher
from hw_bridge.board.protocol import Latency
from hw_bridge.board.sampling import Campaign, sample, wanted_of
from hw_bridge.samples import SampleError, StoreContent, read_samples

SHAPES = tuple(shape for shape in model_shapes("lenet", 1) if shape.family in ("gemm", "amax"))
SMALL = Campaign(null_calls=5, copies=2, repetitions=2, shapes=SHAPES)
MODES = [Latency.PM_QOS, Latency.ADAPTIVE, Latency.OFF]
"""Those that the test board takes: it refuses to poll."""


def wanted(campaign: Campaign) -> set[str]:
    return {key for key, _ in wanted_of(campaign, MODES)}


def test_a_campaign(device: Device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_TIMER", "1")
    store = tmp_path / "s.jsonl"
    found = sample(board("ssh", "me@b"), SMALL, store)
    content = read_samples(store)
    assert {one.key for one in content.samples} == wanted(SMALL)
    assert found.taken == len(content.samples)
    assert any("mode poll is refused here (0x14)" in note for note in found.notes)
    for one in content.samples:
        assert (one.unit, min(one.raw) > 0) == ("ns", True)
        assert one.conditions["temp_mc.nsp0-thermal.0"] == 41300
        assert "clock 1200000000 Hz" in str(one.conditions["vote"])
    kernels = [one for one in content.samples if one.kind == "kernel"]
    assert {PacketShape.of_document(one.config) for one in kernels} == set(SHAPES)
    for kernel in kernels:
        assert kernel.conditions["timer"] == "dsp"
        assert len(set(kernel.raw)) == 1  # the emulated timer counts work
    facts = content.fingerprints[0].facts
    assert (facts["soc"], facts["hexagon"], facts["dsp.arch"]) == ("QCS6490", "v68", "0x8a68")
    assert {"soc": facts["soc"], "hexagon": facts["hexagon"]} == load_device("qcs6490").facts
    assert facts["governor.0"] == "performance"
    assert facts["versions.library"].startswith("libmandheling-v68-")
    assert sample(board("ssh", "me@b"), SMALL, store).taken == 0


def test_a_changed_campaign_does_not_continue_a_store(device: Device, tmp_path: Path) -> None:
    store, campaign = tmp_path / "s.jsonl", replace(SMALL, shapes=SHAPES[:1])
    sample(board(), campaign, store)
    before = store.read_bytes()
    changes: list[tuple[dict[str, int], str]] = [
        ({"corner": 0}, "corner 6, and is wanted with 0"),
        ({"cpu": 0}, "cpu None, and is wanted with 0"),
        ({"null_calls": 6}, r"null_call/\w+/gap=\d+ was taken with calls 5, and is wanted with 6"),
        ({"copies": 3}, r"copy/\w+/\d+ was taken with calls 2, and is wanted with 3"),
        ({"repetitions": 3}, "kernel/.* was taken with repetitions 2, and is wanted with 3"),
    ]
    for change, said in changes:
        with pytest.raises(SampleError, match=said):
            sample(board(), replace(campaign, **change), store)  # type: ignore[arg-type]
        assert store.read_bytes() == before


def test_cpus_may_sleep_while_calls_are_timed(
    device: Device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[int | None, bool]] = []
    right = Launcher.steady

    def noted(self: Launcher, cpu: int | None, awake: bool) -> tuple[int, int]:
        asked.append((cpu, awake))
        return right(self, cpu, awake)

    monkeypatch.setattr(Launcher, "steady", noted)
    for cpu, calls in ((None, 1), (1023, 0)):
        store = tmp_path / f"{cpu}.jsonl"
        campaign = replace(SMALL, null_calls=calls, shapes=SHAPES[:2], cpu=cpu)
        found = sample(board(), campaign, store)
        samples = read_samples(store).samples
        held = {one.conditions["kept_awake"] for one in samples if one.kind != "kernel"}
        assert held == {False}
        for one in samples:
            if one.kind == "kernel":
                assert one.conditions["kept_awake"] is (one.conditions["awake_errno"] == 0)
            assert one.conditions["pinned_cpu"] is None
            assert one.conditions["pin_errno"] == (22 if cpu else 0)  # no such CPU
            assert one.config["cpu"] == cpu
        assert any("could not be pinned (errno 22)" in n for n in found.notes) is bool(cpu)
    assert {awake for _, awake in asked} == {True, False}


def test_a_timer_that_stands_still_is_told(device: Device, tmp_path: Path) -> None:
    only_kernels = replace(SMALL, null_calls=0, copies=0)
    found = sample(board(), only_kernels, tmp_path / "s.jsonl")
    assert any("timer stands still" in note for note in found.notes)
    for one in read_samples(tmp_path / "s.jsonl").samples:
        assert one.conditions["timer"] == "cpu: the whole call"
        assert len(one.raw) == 2


def same_but_times(one: StoreContent, other: StoreContent) -> bool:
    """Whether two stores hold the same samples, in whatever order and with whatever times."""
    pairs = [
        {s.key: (s.kind, s.unit, len(s.raw), json.dumps(s.config)) for s in content.samples}
        for content in (one, other)
    ]
    return pairs[0] == pairs[1] and one.fingerprints == other.fingerprints


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("TEST_CUT_AFTER", "1500", "the connection"),
        ("TEST_CRASH_AFTER", "150", "the DSP's process died"),
    ],
)
def test_a_break_off_costs_nothing_that_was_taken(
    device: Device,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    value: str,
    said: str,
) -> None:
    whole, broken = tmp_path / "whole.jsonl", tmp_path / "broken.jsonl"
    campaign = replace(SMALL, repetitions=1)
    sample(board("adb"), campaign, whole)
    monkeypatch.setenv(name, value)
    with pytest.raises(BoardError, match=said) as caught:
        sample(board("adb"), campaign, broken)
    kept = len(read_samples(broken).samples)
    assert 0 < kept < len(wanted(campaign))
    assert f"{kept} samples of this run are kept" in str(caught.value)
    assert "run the same command again" in str(caught.value)
    monkeypatch.delenv(name)
    assert sample(board("adb"), campaign, broken).taken == len(wanted(campaign)) - kept
    assert same_but_times(read_samples(whole), read_samples(broken))


def test_many_repetitions_are_split(
    device: Device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An order has two minutes; the board also keeps its modes to itself."""
    monkeypatch.setenv("TEST_TIMER", "1")
    monkeypatch.setenv("TEST_MODES", "0")
    for name, most in (("NULL_PART", 4), ("COPY_PART", 3), ("KERNEL_PART", 2)):
        monkeypatch.setattr(sampling, name, most)
    many = Campaign(null_calls=9, copies=5, repetitions=5, shapes=SHAPES[:1])
    found = sample(board(), many, tmp_path / "s.jsonl")
    assert any("only off is sampled" in note for note in found.notes)
    lengths = {"null_call": 9, "copy": 5, "kernel": 5}
    for one in read_samples(tmp_path / "s.jsonl").samples:
        assert len(one.raw) == lengths[one.kind]
        assert one.config.get("qos", "off") == "off"
        if one.kind == "kernel":
            assert one.conditions["clock_hz"] == [1_200_000_000] * 6
            assert "cycles" not in one.conditions  # hidden here, not 0


def test_a_refused_kernel_names_its_sample(device: Device, tmp_path: Path) -> None:
    many = replace(SMALL, null_calls=0, copies=0, threads=(8,))
    with pytest.raises(BoardError, match=r"^kernel/.*threads=8.*threads is 8; allowed: 1 \.\. 4"):
        sample(board(), many, tmp_path / "s.jsonl")


def test_another_board_does_not_continue_a_store(device: Device, tmp_path: Path) -> None:
    store = tmp_path / "s.jsonl"
    only_copies = replace(SMALL, null_calls=0, repetitions=0)
    sample(board(), only_copies, store)
    device.write("sys/devices/system/cpu/cpufreq/policy0/scaling_governor", "powersave")
    with pytest.raises(SampleError, match=r"governor\.0: powersave, not performance"):
        sample(board(), only_copies, store)


def test_samples_become_calibrations(
    device: Device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Calibrations read what is stored; of an emulator's times no fit has to be good."""
    monkeypatch.setenv("TEST_TIMER", "1")
    store = tmp_path / "s.jsonl"
    gemms = tuple(shape for shape in model_shapes("lenet", 2) if shape.family == "gemm")
    sample(board("local"), Campaign(null_calls=5, copies=3, repetitions=3, shapes=gemms), store)
    assert set(fittable(store)) == {"null-calls", "buffer-copies", "kernels"}
    for name in ("null-calls", "buffer-copies"):
        bundle = run_sampled(name, store)
        assert bundle.fitted_on[0].facts["soc"] == "QCS6490"
        assert all(one.value > 0 for one in bundle.coefficients)


def run(*arguments: str) -> int:
    """Exit code of a command line."""
    with pytest.raises(SystemExit) as end:
        cli.app(list(arguments), prog_name="mandheling")
    return int(str(end.value.code))


def test_commands(device: Device, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    there = ["--backend", "board", "--transport", "ssh", "--target", "me@b"]
    store = str(tmp_path / "s.jsonl")
    few = ["--null-calls", "3", "--copies", "0", "--repetitions", "0", "--corner", "0"]
    assert run("hw", "sample", *there, "--store", store, *few, "--json") == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["taken"], said["samples"]) == (9, 9)
    assert run("hw", "sample", *there, "--store", store, *few) == 0
    assert "0 samples taken, 9 in" in capsys.readouterr().out.replace("\n", " ")
    assert run("hw", "verify", *there, "--cases", "2", "--kernel", "amax", "--json") == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["rows"][0]["arch"], said["mismatches"]) == ("v68", 0)
    assert run("hw", "doctor", *there, "--json") == 1  # the emulated timer stands still
    said = json.loads(capsys.readouterr().out)
    assert [step["ok"] for step in said["steps"]] == [True] * 17 + [False]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["doctor", "--target", "x"], "--target 'x': only for --backend board"),
        (["verify", "--transport", "adb"], "only for --backend board"),
        (["run", "-m", "lenet", "--target", "x"], "only for --backend board"),
        (["verify", "--backend", "board", "--arch", "v66"], "a board gets the build of its DSP"),
        (["doctor", "--backend", "board", "--transport", "usb"], "allowed: adb, ssh, local"),
        (["doctor", "--backend", "phone"], "allowed: hexagon, board"),
        (["sample", "--store", "s", "--backend", "hexagon"], "allowed: board"),
        (["sample", "--store", "s", "--threads", "1,9"], "--threads '1,9'"),
        (["sample", "--store", "/nonexistent/s"], "does not exist"),
        (
            ["sample", "--store", "s", "--null-calls", "0", "--copies", "0", "--repetitions", "0"],
            "--null-calls 0 --copies 0 --repetitions 0: nothing to sample",
        ),
    ],
)
def test_bad_words_are_told(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("hw", *words) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
