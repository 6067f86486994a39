"""The trace is valid, its rows do not overlap, and it adds up to the timelines."""

from __future__ import annotations

import json
import os
from collections import defaultdict
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from sim import engines
from sim.critical import critical_path
from sim.files import FileError
from sim.memory import peak_bytes
from sim.taskgraph import CATEGORIES, StaticPower, TaskGraph, Unit, make_task_graph
from sim.timeline import Timeline
from sim.trace import chrome_trace, write_trace


def step(scale: int = 1) -> TaskGraph:
    """quantise (CPU) -> call (RPC) -> conv on two contexts and scan (DSP) -> update (CPU)."""
    return make_task_graph(
        [Unit("big core", 4), Unit("dsp", 4, 256), Unit("rpc", 1)],
        [0, 2, 1, 1, 0],
        names=["quantise", "call", "conv", "scan", "update"],
        preds=[[], [0], [1], [1], [2, 3]],
        slots=[1, 1, 2, 1, 4],
        lead_ns=[0, 84_001, 0, 0, 0],
        compute_ns=[1_501 * scale, 0, 70_007 * scale, 0, 3_003],
        ddr_bytes=[4_000, 0, 600_000, 100_000, 0],
        power_mw=[900, 10, 2_600, 2_600, 900],
        category=[CATEGORIES.index(name) for name in ("cpu", "rpc", "compute", "rescale", "cpu")],
        ddr_rate=14_000,
        pj_per_byte=30,
        static_power=[StaticPower("soc", 300)],
        tensors=[(4_000, 0, [2]), (9_000, 2, [4])],
        resident_bytes=100,
    )


@pytest.fixture(scope="module")
def timelines() -> list[Timeline]:
    return [engines.run(step()), engines.run(step(3))]


@pytest.fixture(scope="module")
def loaded(timelines: list[Timeline], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    path = tmp_path_factory.mktemp("trace") / "step.json"
    write_trace(path, timelines, "two steps")
    assert [each.name for each in path.parent.iterdir()] == ["step.json"]
    document = json.loads(path.read_text(encoding="utf-8"))
    assert document == chrome_trace(timelines, "two steps")
    return dict(document)


def events(document: dict[str, Any], phase: str) -> list[dict[str, Any]]:
    return [event for event in document["traceEvents"] if event["ph"] == phase]


def row_names(document: dict[str, Any]) -> dict[int, str]:
    named = (e for e in events(document, "M") if e["name"] == "thread_name")
    return {event["tid"]: event["args"]["name"] for event in named}


def test_a_row_for_each_slot_and_the_critical_path(loaded: dict[str, Any]) -> None:
    cores = [f"big core {i}" for i in range(4)]
    contexts = [f"dsp {i}" for i in range(4)]
    assert list(row_names(loaded).values()) == ["critical path", *cores, *contexts, "rpc 0"]


def test_rows_do_not_overlap(loaded: dict[str, Any]) -> None:
    rows = defaultdict(list)
    for event in events(loaded, "X"):
        start = event["args"]["start_ns"]
        rows[event["tid"]].append((start, start + event["args"]["duration_ns"]))
        assert event["ts"] == start / 1000
        assert event["dur"] == event["args"]["duration_ns"] / 1000
    assert len(rows) == 1 + 4 + 3 + 1  # one DSP context is never used
    for spans in rows.values():
        spans.sort()
        assert all(before[1] <= after[0] for before, after in pairwise(spans))


def test_totals_are_the_timelines(loaded: dict[str, Any], timelines: list[Timeline]) -> None:
    makespan = sum(line.makespan_ns for line in timelines)
    assert loaded["otherData"]["makespan_ns"] == makespan
    assert loaded["otherData"]["energy_pj"] == sum(line.energy_pj for line in timelines)
    slices = [
        event for event in events(loaded, "X") if row_names(loaded)[event["tid"]] != "critical path"
    ]
    own = [event["args"] for event in slices if "energy_pj" in event["args"]]
    assert len(own) == sum(len(line.graph) for line in timelines)
    assert sum(args["energy_pj"] for args in own) == sum(
        int(line.task_energy_pj.sum()) for line in timelines
    )
    assert sum(args["ddr_bytes"] for args in own) == 2 * 704_000
    held = sum(event["args"]["duration_ns"] for event in slices)
    assert held == sum(
        int((line.graph.slots * (line.end_ns - line.start_ns)).sum()) for line in timelines
    )


def test_steps_follow_each_other(loaded: dict[str, Any], timelines: list[Timeline]) -> None:
    starts = {
        event["args"]["step"]: event["args"]["start_ns"]
        for event in events(loaded, "X")
        if event["name"] == "quantise"
    }
    assert starts == {0: 0, 1: timelines[0].makespan_ns}


def test_critical_row_covers_the_makespan(
    loaded: dict[str, Any], timelines: list[Timeline]
) -> None:
    row = [event for event in events(loaded, "X") if event["tid"] == 0]
    assert sum(event["args"]["duration_ns"] for event in row) == loaded["otherData"]["makespan_ns"]
    assert [event["args"]["task"] for event in row] == [
        part.task for line in timelines for part in critical_path(line)
    ]
    marked = {
        (event["args"]["step"], event["args"]["task"])
        for event in events(loaded, "X")
        if event["tid"] and event["args"]["critical"]
    }
    assert marked == {(event["args"]["step"], event["args"]["task"]) for event in row}


def test_flows_pair_up_along_dependencies_across_units(loaded: dict[str, Any]) -> None:
    begins, ends = events(loaded, "s"), events(loaded, "f")
    # quantise -> call, call -> conv, call -> scan, conv -> update, scan -> update; two steps
    crossing = [(0, 1), (1, 2), (1, 3), (2, 4), (3, 4)]
    assert [event["id"] for event in begins] == [event["id"] for event in ends] == list(range(10))
    pairs = [(s["args"]["task"], f["args"]["task"]) for s, f in zip(begins, ends, strict=True)]
    assert pairs == crossing * 2
    slices = events(loaded, "X")
    for event in begins + ends:
        assert any(
            part["tid"] == event["tid"]
            and part["args"]["task"] == event["args"]["task"]
            and part["ts"] <= event["ts"] < part["ts"] + part["dur"]
            for part in slices
        )
    assert all(f["bp"] == "e" for f in ends)


def test_counters(loaded: dict[str, Any], timelines: list[Timeline]) -> None:
    counters = events(loaded, "C")
    memory = [event["args"]["bytes"] for event in counters if event["name"] == "memory"]
    assert max(memory) == max(peak_bytes(line) for line in timelines)
    ddr = [event["args"]["MB/s"] for event in counters if event["name"] == "DDR bandwidth"]
    assert min(ddr) == 0
    assert ddr[-1] == 0
    times = [event["ts"] for event in counters if event["name"] == "DDR bandwidth"]
    moved = sum(
        rate * (after - at) for rate, (at, after) in zip(ddr, pairwise(times), strict=False)
    )
    assert moved == pytest.approx(2 * 704_000, rel=1e-3)  # whole MB/s


def test_a_failed_write_leaves_the_old_file(
    tmp_path: Path, timelines: list[Timeline], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "step.json"
    path.write_text("old")

    def refuse(source: Path, target: Path) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(FileError, match=r"step\.json: .*no space left"):
        write_trace(path, timelines)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_empty_trace_is_valid() -> None:
    empty = engines.run(make_task_graph([Unit("cpu", 1)], []))
    document = chrome_trace([empty], "nothing")
    assert events(document, "X") == []
    assert json.loads(json.dumps(document))["otherData"]["makespan_ns"] == 0
