"""What ``report`` refuses, in one line, after which nothing is left."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from report_cases import searched

from experiments import cli
from experiments.search.front import Found, front_sha256
from experiments.search.objectives import COLUMNS
from experiments.search.result import SearchResult

Document = dict[str, Any]


@pytest.fixture(scope="module")
def found() -> SearchResult:
    return searched()


def broken(found: SearchResult, change: Callable[[Document], object]) -> str:
    content = deepcopy(found.to_json())
    change(content)
    return json.dumps(content)


def resigned(content: Document) -> None:
    """Give the digest that measures and genes of the front have now."""
    front = [Found(tuple(p[c] for c in COLUMNS), tuple(p["genes"])) for p in content["front"]]
    content["manifest"]["front_sha256"] = front_sha256(front)


def stated(found: SearchResult, **measures: int) -> str:
    """A result that states other measures of its first plan, digest and all."""

    def change(content: Document) -> None:
        content["front"][0].update(measures)
        resigned(content)

    return broken(found, change)


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


BOUND = {"time_ns": 5, "method": "x", "parts": {}, "seconds": 1.0, "gap": 0.5}
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
        lambda r: stated(r, time_ns=7),
        "time_ns is 7 in the result",
    ),
    "another risk": (
        lambda r: stated(r, risk_ppm=1),
        "risk_ppm is 1 in the result",
    ),
    "another front than the manifest's": (
        lambda r: broken(r, lambda c: c["front"][0].update(risk_ppm=1)),
        "manifest.front_sha256: is",
    ),
    "genes of another plan": (
        lambda r: broken(r, lambda c: c["front"][0].update(genes=c["front"][1]["genes"])),
        "manifest.front_sha256: is",
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
        lambda r: broken(r, lambda c: c.update(bound={**BOUND, "time_ns": -5})),
        "bound.time_ns: -5 is not allowed; give 0 to",
    ),
    "robustness of another shape": (
        lambda r: broken(r, lambda c: c.update(robustness={"x": 1})),
        "robustness: worlds: ",
    ),
    "a field of robustness too many": (
        lambda r: broken(r, lambda c: c["robustness"].update(luck=1)),
        "robustness: luck: 1 is not what the other fields come to",
    ),
    "trainings of another shape": (
        lambda r: broken(r, lambda c: c.update(verified={"rows": [{}]})),
        "verified: base: ",
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
