"""``mandheling search``: what it writes, what it shows, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from search_cases import OPTIONS, SMALL, budget, sha256, whole

from experiments import cli
from experiments.search.backends import started
from experiments.search.drive import search
from experiments.search.journal import read_journal
from experiments.search.objectives import SearchError
from experiments.search.result import SearchResult, command_of
from sim.expected import expect
from sim.plan import Plan

QUICK = ("--backend", "serial", "--no-robust", "--no-why", "--no-bound")


def run(*arguments: object) -> int:
    """Run the command in this process; return its exit code."""
    with pytest.raises(SystemExit) as end:
        cli.app(["search", *map(str, arguments)])
    assert isinstance(end.value.code, int)
    return end.value.code


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the result file of a small search."""
    path = tmp_path_factory.mktemp("search") / "run.json"
    assert run(*OPTIONS, "--budget", "6-shards", *QUICK, "-o", path) == 0
    return path


def test_the_result_is_what_the_library_finds(out: Path) -> None:
    result = SearchResult.read(out)
    assert result.manifest.front_sha256 == sha256(whole(6))
    assert result.manifest.problem == SMALL.to_json()
    assert result.manifest.shards == len(result.progress) == 6
    assert result.best is result.front[0]
    graph, device = SMALL.ground().graph, SMALL.ground().device
    for one in (result.best, result.baselines[0]):
        plan = Plan.from_json(json.dumps(one.plan))
        expected = expect(graph, plan, device)
        assert (one.time_ns, one.energy_pj) == (expected.time_ns, expected.energy_pj)
    assert "mandheling" in {one.name for one in result.baselines}


def test_the_command_of_the_manifest_finds_the_same_again(
    out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = SearchResult.read(out).manifest
    assert manifest.command.startswith("mandheling search --model lenet --device snapdragon-865 ")
    capsys.readouterr()
    assert run(*manifest.command.split()[2:], *QUICK, "--json") == 0
    again = SearchResult.from_json(json.loads(capsys.readouterr().out))
    assert again.manifest == manifest
    assert again.front == SearchResult.read(out).front


def test_more_shards_go_on_from_the_journal(
    out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    journal, target = tmp_path / "a.json.journal", tmp_path / "a.json"
    journal.write_bytes(Path(f"{out}.journal").read_bytes()[:-5])  # torn
    assert run("--resume", journal, "--budget", "10-shards", *QUICK) == 0
    said = capsys.readouterr().err
    assert "the last line was torn by a crash; its shard is run again" in said
    assert f"wrote {target}; its shards are in {journal}" in said
    result = SearchResult.read(target)
    assert result.run.shards_run == 5
    assert result.manifest.front_sha256 == sha256(whole())
    assert len(read_journal(journal).finished) == 10


def test_tables_name_what_was_found(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*OPTIONS, "--budget", "3-shards", "--backend", "serial") == 0
    printed, said = capsys.readouterr()
    assert "mandheling" in printed
    assert "*: best in time. faster %: than" in printed
    assert f"front {sha256(whole(3))[:16]}" in printed
    assert "10^9 plans would take" in printed
    assert "of the step of mandheling (predicted)" in printed
    assert "no plan of the space takes less than" in printed
    assert "the proof leaves out the limits on risk, which may" in " ".join(printed.split())
    assert "P(faster than mandheling)" in printed
    assert "shard of 3-shards" in said
    assert "ms, gap " in said


def test_a_search_for_energy_is_judged_by_energy(capsys: pytest.CaptureFixture[str]) -> None:
    given = [one.replace("time,energy", "energy,time") for one in OPTIONS]
    ways = ("--backend", "serial", "--no-why", "--no-bound")
    assert run(*given, "--budget", "2-shards", *ways) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "P(uses less energy than mandheling)" in printed
    assert "P(faster than" not in printed
    assert "(-): not a baseline of the space within the limits: tflite-fp32 outside" in printed
    assert "Accuracy risk is estimated from recorded trainings" in printed


@pytest.mark.accept
def test_finalists_are_trained_for_real(tmp_path: Path) -> None:
    target = tmp_path / "run.json"
    ways = ("--verify-top", "1", "--dataset", "digits", "--epochs", "1")
    assert run(*OPTIONS, "--budget", "2-shards", *QUICK, *ways, "-o", target) == 0
    verified = SearchResult.read(target).verified
    assert verified is not None
    assert {"mandheling", "searched P1"} == {n for row in verified.rows for n in row.plans}


def test_the_command_line_of_a_problem_is_whole() -> None:
    from dataclasses import replace

    problem = replace(SMALL, limits={"memory": 5 * 10**8}, seed=3)
    words = command_of(problem, "2-shards").split()
    assert words[words.index("--limit") + 1] == "memory=500000000"
    assert words.count("--hold") == 4
    assert words[words.index("--evaluations-per-shard") + 1] == "12"
    assert words[-2:] == ["--budget", "2-shards"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--model is missing; give it, or --resume with a journal"),
        (["-m", "lenet", "--budget", "0s"], "budget '0s' is not allowed; give a time such as"),
        (["-m", "lenet", "--objectives", "tme"], "objective 'tme' is unknown; did you mean 'time'"),
        (["-m", "lenet", "--searcher", "anealing"], "did you mean 'annealing'?"),
        (["-m", "lenet", "--hold", "colour"], "aspect 'colour' is unknown; aspects are"),
        (["-m", "lenet", "--limit", "speed=3"], "limit 'speed=3' is not allowed"),
        (["-m", "lenet", "--backend", "threads"], "backend 'threads' is unknown; choose one of"),
        (["-m", "lenet", "--verify-top", "2"], "--verify-top 2: needs -o FILE"),
        (["-m", "lenet", "-o", "/nowhere/run.json"], "folder /nowhere does not exist"),
        (["--resume", "/nowhere/j"], "/nowhere/j: cannot be read"),
    ],
)
def test_what_cannot_be_searched_is_told_in_one_line(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*arguments) == 2
    printed, said = capsys.readouterr()
    assert printed == ""
    assert said.startswith("error: ")
    assert said.count("\n") == 1
    assert message in said


def test_a_limit_that_no_plan_keeps_to_is_named_and_nothing_is_left(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "run.json"
    assert run(*OPTIONS, "--limit", "time=1us", *QUICK, "-o", target) == 2
    assert "limit on time" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_search_that_was_begun_is_not_overwritten(
    out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = Path(f"{out}.journal").read_bytes()
    assert run(*OPTIONS, "-o", out, *QUICK) == 2
    assert "holds a search that was begun; go on with it by --resume" in capsys.readouterr().err
    assert Path(f"{out}.journal").read_bytes() == before


def test_a_journal_says_itself_what_is_searched(
    out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("--resume", f"{out}.journal", "--seed", "3") == 2
    assert "--seed: cannot be given with --resume" in capsys.readouterr().err
    assert run("--resume", out) == 2
    assert "is no file of finished shards" in capsys.readouterr().err


def test_results_are_read_strictly(out: Path, tmp_path: Path) -> None:
    document = json.loads(out.read_text())
    assert SearchResult.from_json(document).to_json() == document
    first = document["front"][0]
    for change, message in (
        ({"schema": "x"}, "run: is no result of a search; give what 'search -o' wrote"),
        ({"version": 2}, "run: version 2 of the schema; this version reads 1: search again"),
        ({"chosen": "P99"}, "run: chosen: 'P99' is no plan of the front"),
        ({"spam": 1}, r"run: spam: unknown key \(value 1\); allowed: "),
        ({"front": []}, r"run: front: \[\] is not allowed"),
        ({"front": [{**first, "time_ns": 1.5}]}, "run: front.0.time_ns: 1.5 is not allowed"),
        ({"front": [{**first, "time_ns": 0}]}, "run: front.0.time_ns: 0 is not allowed"),
    ):
        with pytest.raises(SearchError, match=message):
            SearchResult.from_json({**document, **change}, "run")
    cut = tmp_path / "cut.json"
    cut.write_text(out.read_text()[:-20])
    with pytest.raises(SearchError, match=r"cut.json: not JSON \(.*\); search again"):
        SearchResult.read(cut)


def test_a_serial_backend_needs_no_more(tmp_path: Path) -> None:
    with started("serial", 1) as backend:
        assert sha256(search(SMALL, budget(2), backend)) == sha256(whole(2))
