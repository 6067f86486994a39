"""What a report holds: the engines' own figures, in a page of bounded size."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from report_cases import ground_of, searched

from experiments.report import ReportError, document, render_page, report_document
from experiments.report.timelines import TaskKinds, alone_ns
from experiments.search.result import SearchResult
from sim import build_plan, load_device, load_model, training_graph
from sim.critical import IDLE, critical_path
from sim.expected import expect
from sim.plan import Plan
from sim.taskgraph import CATEGORIES

Document = dict[str, Any]


@pytest.fixture(scope="module")
def found() -> SearchResult:
    return searched()


@pytest.fixture(scope="module")
def page_data(found: SearchResult) -> Document:
    data: Document = json.loads(json.dumps(report_document(found, *ground_of(found))))
    return data


def by_id(data: Document) -> dict[str, Document]:
    return {plan["id"]: plan for plan in data["plans"]}


def test_every_plan_is_there_with_the_figures_of_the_result(
    found: SearchResult, page_data: Document
) -> None:
    stated = {plan.id: plan for plan in found.front}
    stated |= {f"baseline:{plan.name}": plan for plan in found.baselines}  # type: ignore[misc]
    shown = by_id(page_data)
    assert shown.keys() == stated.keys()
    for name, plan in stated.items():
        for measure in ("time_ns", "energy_pj", "risk_ppm", "memory_bytes"):
            assert shown[name][measure] == getattr(plan, measure)
        assert sum(shown[name]["breakdown_ns"]) == plan.time_ns
        assert sum(shown[name]["evidence"]) == pytest.approx(1, abs=1e-5)


def test_the_waterfalls_go_from_the_offload_to_mandheling(page_data: Document) -> None:
    shown = by_id(page_data)
    for fall in page_data["waterfalls"]:
        assert fall["times_ns"][0] == shown["baseline:dsp-int8"]["time_ns"]
        assert len(fall["times_ns"]) == len(fall["names"]) + 1
    stated, _ = page_data["waterfalls"]
    assert stated["times_ns"][-1] == shown["baseline:mandheling"]["time_ns"]


def test_timelines_are_the_engines_rows(found: SearchResult, page_data: Document) -> None:
    graph, device = ground_of(found)
    kinds = page_data["tasks"]["kinds"]
    for plan in found.front:
        shown = by_id(page_data)[plan.id]["timeline"]
        expected = expect(graph, Plan.from_json(json.dumps(plan.plan)), device)
        timeline = expected.timelines[int(np.argmax(expected.weights))]
        start = np.cumsum(shown["start"])
        rows = {}
        for k, kind in enumerate(shown["kind"]):
            alone = kinds["alone_ns"][kind]
            name = page_data["tasks"]["names"][kinds["name"][kind]]
            unit = page_data["tasks"]["units"][kinds["unit"][kind]]
            end = int(start[k]) + alone + shown["stretch"][k]
            category = page_data["categories"][kinds["category"][kind]]
            rows[name] = (unit, int(start[k]), end, shown["slots"][k], category)
        tasks = timeline.graph
        assert rows == {
            name: (
                tasks.units[tasks.unit[k]].name,
                int(timeline.start_ns[k]),
                int(timeline.end_ns[k]),
                int(timeline.slot_mask[k]),
                CATEGORIES[tasks.category[k]],
            )
            for k, name in enumerate(tasks.names)
        }
        names = [page_data["tasks"]["names"][kinds["name"][kind]] for kind in shown["kind"]]
        path = {tasks.names[s.task] for s in critical_path(timeline) if s.task != IDLE}
        assert {names[k] for k in shown["critical"]} == path
        assert min(shown["stretch"]) >= 0


def test_a_task_takes_longer_than_alone_only_where_bandwidth_is_shared() -> None:
    graph = training_graph(load_model("vgg11", 16))
    device = load_device("snapdragon-865")
    (*_, timeline) = expect(graph, build_plan("mandheling", graph, device), device).timelines
    took = timeline.end_ns - timeline.start_ns
    longer = took > alone_ns(timeline)
    assert longer.any()
    assert (timeline.graph.ddr_bytes[longer] > 0).all()


def test_timelines_are_left_out_rather_than_making_the_page_too_large(
    found: SearchResult, monkeypatch: pytest.MonkeyPatch, page_data: Document
) -> None:
    shown = by_id(page_data)
    bare = [{k: v for k, v in plan.items() if k != "timeline"} for plan in page_data["plans"]]
    few = len(json.dumps(bare, separators=(",", ":"))) + 12_000
    monkeypatch.setattr(document, "PLANS_LIMIT_BYTES", few)
    short = by_id(report_document(found, *ground_of(found)))
    kept = {name for name, plan in short.items() if "timeline" in plan}
    assert "baseline:mandheling" in kept
    assert len(kept) < len([plan for plan in shown.values() if "timeline" in plan])


def test_equal_runs_give_equal_bytes_in_another_process(
    found: SearchResult, page_data: Document, tmp_path: Path
) -> None:
    (tmp_path / "run.json").write_text(json.dumps(found.to_json()))
    command = [sys.executable, "-m", "experiments.cli", "report", str(tmp_path / "run.json")]
    environment = {**os.environ, "PYTHONHASHSEED": "77"}
    subprocess.run(command, check=True, env=environment, capture_output=True)
    page = (tmp_path / "run.html").read_bytes()
    assert page == render_page(report_document(found, *ground_of(found))).encode()
    assert len(page) < 500_000


def test_equal_tasks_are_stored_once() -> None:
    graph = training_graph(load_model("lenet", 64))
    device = load_device("snapdragon-865")
    expectation = expect(graph, build_plan("mandheling", graph, device), device)
    kinds = TaskKinds()
    first = kinds.timeline(expectation)
    count = len(kinds.document()["kinds"]["name"])
    assert kinds.timeline(expectation) == first
    assert len(kinds.document()["kinds"]["name"]) == count


def test_a_page_over_the_limit_is_refused(page_data: Document) -> None:
    large = {**page_data, "notes": ["x" * 5_000_000]}
    with pytest.raises(ReportError, match="at most 5000000 are allowed"):
        render_page(large)


def test_no_name_can_leave_the_data(page_data: Document) -> None:
    hostile = "</script><img src=x onerror=alert(1)><!--"
    page = render_page(
        {**page_data, "notes": [hostile], "title": {**page_data["title"], "model": hostile}}
    )
    assert "<img" not in page
    assert len(re.findall(r"</script", page)) == 2
    assert "<!--" not in page


@pytest.mark.accept
def test_the_largest_network_fits_the_limit() -> None:
    found = searched("inception-v3", evaluations=1500)
    assert len(found.front) > 10
    assert len(render_page(report_document(found, *ground_of(found))).encode()) < 5_000_000
