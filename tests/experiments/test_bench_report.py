"""The benchmark's table and result file; its measurements are its own business."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from experiments import bench
from experiments.bench_figure import Figure, table
from experiments.results import read_result, write_result


def test_bounds_have_two_senses() -> None:
    assert Figure("ratio", 100.0, "x", 100.0, at_least=True).met
    assert not Figure("ratio", 99.9, "x", 100.0, at_least=True).met
    assert Figure("time", 2.0, "s", 2.0).met
    assert not Figure("time", 2.1, "s", 2.0).met
    assert Figure("time", 1e9, "s").met


def test_the_table_says_what_was_missed() -> None:
    lines = table([Figure("a", 1.0, "s", 2.0), Figure("b", 3.0, "s", 2.0), Figure("c", 4.0, "us")])
    kept, missed, plain = lines.splitlines()
    assert kept.endswith("<= 2 s  kept")
    assert missed.endswith("<= 2 s  MISSED")
    assert plain.endswith("4.00 us")


def test_main_writes_and_prints_the_same_figures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        bench,
        "engine_figures",
        lambda graph, device, rounds: [Figure("tasks", float(rounds), "")],
    )
    monkeypatch.setattr(bench, "search_figures", lambda graph, device, rounds: [])
    monkeypatch.setattr(bench, "help_figure", lambda rounds: Figure("help", 0.2, "s", 0.3))
    for name in ("compare_figures", "product_figures", "training_figures"):
        monkeypatch.setattr(bench, name, lambda rounds: [])
    monkeypatch.setattr(bench, "first_step_figures", list)
    bench.main(["--json", "--rounds", "4"])
    printed = json.loads(capsys.readouterr().out)
    assert printed == read_result(tmp_path / "results" / "bench.json")
    assert [figure["value"] for figure in printed["figures"]] == [4.0, 0.2]


@pytest.mark.parametrize("text", ["[1]", "{", "\ud800"])
def test_broken_result_files_are_refused_by_name(tmp_path: Path, text: str) -> None:
    path = tmp_path / "r.json"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(ValueError, match=r"r\.json: .*remove it to start again"):
        read_result(path)


def test_results_are_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "r.json"
    write_result(path, {"b": 1, "a": 2})
    assert path.read_text() == '{\n "a": 2,\n "b": 1\n}\n'
    with pytest.raises(TypeError):
        write_result(path, {"a": object()})
    assert read_result(path) == {"a": 2, "b": 1}
    assert list(path.parent.iterdir()) == [path]


def test_figures_come_from_real_runs() -> None:
    figures = bench.compare_figures(1)
    assert len({figure.name for figure in figures}) == 3
    assert all(figure.value > 0 for figure in figures)  # their order is the machine's, under load
    assert bench.help_figure(1).value > 0
