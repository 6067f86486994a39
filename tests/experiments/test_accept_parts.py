"""The large counts on a small scale: each part finds what it must, and says so when it does not."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from experiments import accept, accept_engines
from experiments.accept import PARTS, run_parts, summary
from experiments.accept_common import PHONE, Size, full_size, in_parallel
from experiments.accept_engines import what_is_wrong, zoo_jobs
from sim import (
    build_plan,
    device_names,
    expect,
    load_device,
    load_model,
    model_names,
    plan_names,
    training_graph,
)
from sim.engines import run as run_engine
from sim.taskgraph import TaskGraph
from sim.timeline import Timeline

SMALL = Size(("lenet",), ("laptop", PHONE), 20, 3, ("lenet", PHONE), workers=1)


def double(value: int) -> int:
    return 2 * value


@pytest.mark.parametrize("name", sorted(set(PARTS) - {"determinism", "techniques"}))
def test_each_part_passes(name: str) -> None:
    outcome = PARTS[name](SMALL)
    assert outcome["passed"], outcome
    json.dumps(outcome, allow_nan=False)


def test_the_full_size_holds_every_pair() -> None:
    size = full_size()
    assert size.models == model_names()
    assert size.devices == device_names()
    assert size.drawn >= 2_000
    assert size.seeds >= 3
    jobs = zoo_jobs(size)
    phone_plans = {(m, p) for m, device, plans in jobs if device == PHONE for p in plans}
    assert phone_plans == {(m, p) for m in model_names() for p in plan_names(load_device(PHONE))}
    assert {(m, d) for m, d, _ in jobs} == {(m, d) for m in model_names() for d in device_names()}
    for device in device_names():
        tried = {plan for _, name, plans in jobs if name == device for plan in plans}
        assert tried == set(plan_names(load_device(device)))


def test_an_engine_that_differs_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    graph, device = training_graph(load_model("lenet", 4)), load_device(PHONE)
    tasks = expect(graph, build_plan("mandheling", graph, device), device).graphs[0]
    assert what_is_wrong(tasks) == ""

    def late(task_graph: TaskGraph, engine: str) -> Timeline:
        """An engine that makes all rows of one twin later by a nanosecond."""
        timeline = run_engine(task_graph, engine)
        if engine == "simpy":
            return timeline
        return replace(timeline, start_ns=timeline.start_ns + 1, end_ns=timeline.end_ns + 1)

    monkeypatch.setattr(accept_engines, "run_engine", late)
    assert what_is_wrong(tasks) == "digests differ"


def test_parts_are_kept_until_the_code_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "accept.json"
    assert run_parts(["counts"], SMALL, path)
    assert run_parts(["counts"], SMALL, path)
    first, second = capsys.readouterr().out.splitlines()
    assert first == "counts: passed"
    assert second == "counts: passed (kept)"
    monkeypatch.setattr(accept, "source_digest", lambda: "other code")
    assert run_parts(["counts"], SMALL, path)
    assert capsys.readouterr().out == "counts: passed\n"


def test_a_failed_part_shows_and_fails_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(PARTS, "counts", lambda size: {"wrong": 3, "passed": False})
    assert not run_parts(["counts"], SMALL, tmp_path / "accept.json")
    assert capsys.readouterr().out == "counts: FAILED; wrong 3\n"


def test_summary_leaves_tables_to_the_json() -> None:
    outcome = {"n": 1, "rows": [1, 2], "deep": {"a": {"b": 1}}, "flat": {"a": 1}, "passed": True}
    assert summary("part", outcome) == "part: passed; n 1, flat {'a': 1}"


@pytest.mark.parametrize("workers", [1, 2])
def test_results_come_in_the_order_of_the_jobs(workers: int) -> None:
    size = replace(SMALL, workers=workers)
    assert list(in_parallel(double, range(5), size, "numbers")) == [0, 2, 4, 6, 8]
