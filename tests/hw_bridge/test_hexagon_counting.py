"""Counts of packets: today's kernels repeat the committed ones, and sampling goes on."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
from hexagon_cases import need_tools

from cost_models.packets import PacketShape
from cost_models.packets.shapes import SIZES
from experiments.packets import read_counts
from hw_bridge.hexagon import counting
from hw_bridge.hexagon.backend import HexagonKernels
from hw_bridge.hexagon.counting import count, fingerprint, sample_packets
from hw_bridge.hexagon.errors import RunnerError
from hw_bridge.hexagon.runner import Runner
from hw_bridge.samples import SampleStore, read_samples
from kernels.conv import Conv2d

QUICK_PACKETS = 300_000


def cases() -> list[tuple[str, list[tuple[PacketShape, int]]]]:
    """Two quick committed counts of each family, the largest of them."""
    found = []
    for family in SIZES:
        own = [s for s in read_counts().samples if s.config["family"] == family]
        quick = sorted((s.raw[0], s.key) for s in own if s.raw[0] < QUICK_PACKETS)[-2:]
        by_key = {s.key: PacketShape.of_document(s.config) for s in own}
        found.append((family, [(by_key[key], packets) for packets, key in quick]))
    return found


@pytest.mark.parametrize(("family", "known"), cases())
def test_committed_counts_are_repeated(
    runner: Runner, family: str, known: list[tuple[PacketShape, int]]
) -> None:
    """If this fails: count again with ``mandheling hw packets --store FILE``, and fit."""
    dsp = HexagonKernels(runner)
    assert len(known) == 2
    assert [count(dsp, shape).packets for shape, _ in known] == [packets for _, packets in known]


@pytest.mark.parametrize("arch", ["v68", "v73"])
def test_later_builds_issue_the_same_packets(arch: str) -> None:
    need_tools()
    with Runner(arch) as runner:
        dsp = HexagonKernels(runner)
        for _, known in cases():
            shape, packets = known[0]
            assert count(dsp, shape).packets == packets


def test_a_stride_costs_less_than_the_zeros_it_inserts(runner: Runner) -> None:
    """The same map at stride 1 has four times the products; every output is stored all the same."""
    dsp, packets = HexagonKernels(runner), []
    for stride in (1, 2):
        op = Conv2d(n=4, c_in=64, h=16, w=16, c_out=128, k=3, pad=1, stride=stride)
        packets.append(count(dsp, PacketShape.of_conv("input_grad", op, "half_away")).packets)
    assert packets[1] < packets[0] / 2


def test_a_runner_that_ends_says_what_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    need_tools()
    shapes = [("drawn", PacketShape("amax", (elements,))) for elements in (64, 128)]
    with SampleStore.open(tmp_path / "counts.jsonl", fingerprint("v66")) as store:
        sample_packets(store, "v66", shapes[:1])
        monkeypatch.setattr(counting, "Runner", partial(Runner, timeout_s=0.0))
        said = r"no answer in 0 s .*; 1 counted so far are kept in .*counts\.jsonl: run the same"
        with pytest.raises(RunnerError, match=said):
            sample_packets(store, "v66", shapes)


def test_sampling_goes_on_where_it_was(tmp_path: Path) -> None:
    need_tools()
    path, on = tmp_path / "counts.jsonl", fingerprint("v66")
    shapes = [("one", PacketShape("amax", (size,))) for size in (64, 96)]
    with SampleStore.open(path, on) as store:
        assert sample_packets(store, "v66", shapes) == 2
    more = [*shapes, ("two", PacketShape("amax", (64,))), ("two", PacketShape("amax", (100,)))]
    with SampleStore.open(path, on) as store:
        assert sample_packets(store, "v66", more) == 1
    content = read_samples(path)
    groups = {s.key: s.config["group"] for s in content.samples}
    assert groups == {"amax/64": "one", "amax/96": "one", "amax/100": "two"}
    assert content.fingerprints[0].facts["hexagon"] == "v66"
