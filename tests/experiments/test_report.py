"""What a report holds: the engines' own figures, sensitivities, and refusals that leave nothing."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from math import exp
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from report_cases import ground_of, searched

from cost_models.cost import TIMES
from experiments import cli
from experiments.report import ReportError, document, render_page, report_document
from experiments.report.sensitivity import swings, variates
from experiments.report.timelines import TaskKinds, alone_ns
from experiments.search.result import SearchResult
from sim import build_plan, load_device, load_model, training_graph
from sim.critical import IDLE, critical_path
from sim.engines import run as run_engine
from sim.expected import expect
from sim.lowering import cost_model
from sim.plan import Plan
from sim.taskgraph import CATEGORIES
from sim.uncertainty import Shared, own_spread, with_draws

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


# -- figures ------------------------------------------------------------------------------------


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


# -- sensitivity --------------------------------------------------------------------------------


def test_a_swing_is_the_step_with_one_constant_scaled_by_its_spread() -> None:
    graph = training_graph(load_model("lenet", 64))
    device = load_device("snapdragon-865")
    plan = build_plan("mandheling", graph, device)
    expectation = expect(graph, plan, device)
    quantities = cost_model(device, "mnn").quantities()
    ddr = Shared.of(device).ddr_rate
    found = swings(expectation, quantities, ddr)
    checked = 0
    for name, ends in found.items():
        quantity = quantities.get(name)
        if quantity is None or quantity.limit is not None:
            continue
        for end, sign in zip(ends, (-1, 1), strict=True):
            factor = max(1, round(65536 * exp(sign * own_spread(quantity))))
            times = []
            for tasks in expectation.graphs:
                scaled = [name in path.split(TIMES) for path in tasks.parameters]
                by = np.where(scaled, factor, 65536)[tasks.groups]
                lead = tasks.lead_ns * by[:, 0] >> 16
                compute = tasks.compute_ns * by[:, 1] >> 16
                cap = np.maximum(1, (tasks.rate_cap << 16) // by[:, 2])
                rate = (tasks.ddr_rate << 16) // (factor if name == ddr else 65536)
                changed = replace(
                    tasks, lead_ns=lead, compute_ns=compute, rate_cap=cap, ddr_rate=rate
                )
                times.append(run_engine(changed).makespan_ns)
            total = sum(w * t for w, t in zip(expectation.weights, times, strict=True))
            assert end == total // expectation.whole, name
            checked += 1
    assert checked > 20
    assert any(low < expectation.time_ns < high for low, high in found.values())


def test_no_deviation_leaves_a_task_graph_as_it_is() -> None:
    graph = training_graph(load_model("lenet", 64))
    device = load_device("snapdragon-865")
    (tasks, *_) = expect(graph, build_plan("mandheling", graph, device), device).graphs
    quantities = cost_model(device, "mnn").quantities()
    same = with_draws(tasks, quantities, lambda _: 0.0, Shared.of(device).ddr_rate)
    for field in ("lead_ns", "compute_ns", "rate_cap"):
        assert (getattr(same, field) == getattr(tasks, field)).all()
    assert same.ddr_rate == tasks.ddr_rate


def test_shared_coefficients_are_variates_of_their_own() -> None:
    device = load_device("snapdragon-865")
    quantities = cost_model(device, "mnn").quantities()
    sharing = {name: q for name, q in quantities.items() if q.common}
    assert sharing
    found = variates(sharing, quantities)
    terms = {term for q in sharing.values() for term, _ in q.common}
    assert terms <= found.keys()
    assert all(found[term].value.startswith("in ") for term in terms)


def test_a_constant_in_no_description_is_shown_as_assumed() -> None:
    (one,) = variates(["nowhere.to.be.found"], {}).values()
    assert (one.kind, one.spread) == ("assumed", 2.0)


def test_equal_tasks_are_stored_once() -> None:
    graph = training_graph(load_model("lenet", 64))
    device = load_device("snapdragon-865")
    expectation = expect(graph, build_plan("mandheling", graph, device), device)
    kinds = TaskKinds()
    first = kinds.timeline(expectation)
    count = len(kinds.document()["kinds"]["name"])
    assert kinds.timeline(expectation) == first
    assert len(kinds.document()["kinds"]["name"]) == count


# -- refusals -----------------------------------------------------------------------------------


def broken(found: SearchResult, change: Callable[[Document], object]) -> str:
    content = deepcopy(found.to_json())
    change(content)
    return json.dumps(content)


def refusal(
    run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *more: str
) -> str:
    """The line that ``report`` refuses a file with, after which the folder is as before."""
    before = sorted(run.parent.iterdir())
    monkeypatch.setattr(sys, "argv", ["mandheling", "report", str(run), *more])
    with pytest.raises(SystemExit) as end:
        cli.main()
    line = capsys.readouterr().err
    assert end.value.code == 2
    assert sorted(run.parent.iterdir()) == before
    assert line.startswith("error: ")
    assert line.count("\n") == 1
    return line


REFUSED: dict[str, tuple[Callable[[SearchResult], str], str]] = {
    "another schema": (
        lambda r: broken(r, lambda c: c.update(schema="other")),
        "no result of a search",
    ),
    "another version": (lambda r: broken(r, lambda c: c.update(version=2)), "version 2"),
    "truncated": (lambda r: json.dumps(r.to_json())[:5000], "not JSON"),
    "no JSON": (lambda r: "hello", "not JSON"),
    "a list": (lambda r: "[]", "no result of a search"),
    "a field too many": (lambda r: broken(r, lambda c: c.update(extra=1)), "extra"),
    "no front": (lambda r: broken(r, lambda c: c.update(front=[])), "front"),
    "no baselines": (lambda r: broken(r, lambda c: c.update(baselines=[])), "none to compare with"),
    "another time": (
        lambda r: broken(r, lambda c: c["front"][0].update(time_ns=7)),
        "time_ns is 7 in the result",
    ),
    "another risk": (
        lambda r: broken(r, lambda c: c["front"][0].update(risk_ppm=1)),
        "risk_ppm is 1 in the result",
    ),
    "another device": (
        lambda r: broken(r, lambda c: c["manifest"].update(device_sha256="0" * 64)),
        "has changed since",
    ),
    "a device that is not there": (
        lambda r: broken(r, lambda c: c["manifest"]["problem"].update(device="nokia-3310")),
        "nokia-3310",
    ),
    "no batch": (
        lambda r: broken(r, lambda c: c["manifest"]["problem"].pop("batch")),
        "manifest.problem: batch: is missing",
    ),
    "no number": (
        lambda r: broken(r, lambda c: c["run"].update(seconds=float("inf"))),
        "run.seconds: inf is not allowed; give a finite number",
    ),
    "a number beyond 64 bits": (
        lambda r: broken(r, lambda c: c["limits"].update(energy=10**400)),
        "limits.energy: 1000",
    ),
    "an unknown objective": (
        lambda r: broken(r, lambda c: c.update(objectives=["speed"])),
        "objectives: objective 'speed' is unknown",
    ),
    "an objective twice": (
        lambda r: broken(r, lambda c: c.update(objectives=["time", "time"])),
        "objectives: objectives time,time name one twice",
    ),
    "objectives of another search": (
        lambda r: broken(r, lambda c: c.update(objectives=["time"])),
        "in manifest.problem; give the same",
    ),
    "an unknown limit": (
        lambda r: broken(r, lambda c: c["limits"].update(speed=3)),
        "limits: limit on 'speed': unknown",
    ),
    "two plans of one name": (
        lambda r: broken(r, lambda c: c["front"][1].update(id=c["front"][0]["id"])),
        "front: id 'P1' is there 2 times",
    ),
    "a plan named as a baseline": (
        lambda r: broken(r, lambda c: c["front"][1].update(id="baseline:mandheling")),
        "is that of a baseline",
    ),
    "a baseline on the front": (
        lambda r: broken(
            r,
            lambda c: c["front"].append(
                next(
                    {k: v for k, v in one.items() if k not in ("name", "left_out")}
                    | {"id": "Z", "genes": []}
                    for one in c["baselines"]
                    if one["name"] == "mnn-fp32"
                )
            ),
        ),
        "front: 'Z' is no better in any objective than another plan",
    ),
    "another plan chosen": (
        lambda r: broken(r, lambda c: c.update(chosen=c["front"][1]["id"])),
        "chosen: is 'P2', and 'P1' is best in time",
    ),
    "a front beyond its limit": (
        lambda r: broken(r, lambda c: c["limits"].update(memory=1)),
        "and limits allow 1; leave it out",
    ),
    "a negative bound": (
        lambda r: broken(
            r, lambda c: c.update(bound={"time_ns": -5, "method": "x", "parts": {}, "seconds": 1.0})
        ),
        "bound.time_ns: -5 is not allowed; give 0 to",
    ),
    "robustness of another shape": (
        lambda r: broken(r, lambda c: c.update(robustness={"x": 1})),
        "robustness.worlds",
    ),
    "trainings of another shape": (
        lambda r: broken(r, lambda c: c.update(verified={"rows": [{}]})),
        "verified.",
    ),
    "progress that ends early": (
        lambda r: broken(r, lambda c: c["progress"].pop()),
        "progress: ends with",
    ),
    "a plan of another graph": (
        lambda r: broken(r, lambda c: c["front"][0]["plan"].update(graph_hash="0" * 64)),
        "graph",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_usable_result_is_refused_and_nothing_is_written(
    case: str,
    found: SearchResult,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    make, says = REFUSED[case]
    run = tmp_path / "run.json"
    run.write_text(make(found))
    assert says in refusal(run, capsys, monkeypatch)


def test_places_that_cannot_be_written_are_refused_first(
    found: SearchResult,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = tmp_path / "run.json"
    run.write_text("not read before the output is known to be possible")
    for target, says in (
        (tmp_path, "is a folder"),
        (tmp_path / "none/page.html", "does not exist"),
        (run, "is RUN itself"),
    ):
        assert says in refusal(run, capsys, monkeypatch, "-o", str(target))
    missing = tmp_path / "missing.json"
    assert "cannot be read" in refusal(missing, capsys, monkeypatch)
    assert "journal of a search" in refusal(tmp_path / "a.json.journal", capsys, monkeypatch)


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
