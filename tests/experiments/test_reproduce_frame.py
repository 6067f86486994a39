"""The frame of studies: rows, errors, the list, and what the command writes and refuses."""

from __future__ import annotations

import hashlib
import importlib
import json
import math
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

import experiments.reproduce
from experiments import cli_reproduce
from experiments.cli import app
from experiments.reproduce import registry
from experiments.reproduce.drawn import draw, panels
from experiments.reproduce.kept import EVERY, ROOT, read_kept
from experiments.reproduce.page import page
from experiments.reproduce.registry import FOLDER, FRAME, run, studies
from experiments.reproduce.shown import cells, error_shown, errors_shown
from experiments.reproduce.study import Check, Row, Study, StudyError, summary, worst
from experiments.results import ResultError

ROWS = (
    Row("a", 100.0, 110.0, False, "paper, Table 1", "cycles", "Table 1"),
    Row("b", 100.0, 50.0, True, "paper, Table 1", "cycles", "Table 1"),
    Row("c", 100.0, 80.0, False, "paper, Table 1", "cycles", "Table 1"),
    Row("d", 71.0, 70.5, False, "paper, Table 2", "%", "Table 2", absolute=True),
    Row("e", None, 1.0, False, "ours", "x", "Table 2"),
)
STUDY = Study("toy", "A toy", ROWS, ("Run `a <b>`.",), (Check("median", 15.0, 10.0),))


def test_errors_are_signed_shares_or_differences() -> None:
    errors = [row.error for row in ROWS]
    assert errors[:4] == pytest.approx([0.1, -0.5, -0.2, -0.5])
    assert errors[4] is None


def test_fitted_rows_count_in_no_error_of_predictions() -> None:
    assert [row.label for row in STUDY.predicted()] == ["a", "c", "d"]
    document = STUDY.document()
    assert (document["predicted"], document["worst"]["label"]) == (3, "c")
    first, second = document["errors"]
    assert (first["group"], first["kind"], first["rows"]) == ("Table 1", "predicted", 2)
    assert (first["median"], first["worst"]) == pytest.approx((0.15, 0.2))
    assert (first["worst_row"], first["unit"]) == ("c", None)
    assert (second["rows"], second["median"], second["unit"]) == (1, 0.5, "%")


def test_groups_are_not_pooled_and_values_left_out_of_a_fit_are_apart() -> None:
    """A hundred counts that are right say nothing of two times that are off."""
    counts = tuple(Row(f"n{k}", 10.0, 10.0, False, "s", "MAC", "counts") for k in range(100))
    times = (Row("fast", 10.0, 15.0, False, "s", "ms", "times"),)
    again = tuple(
        Row(f"slow{k}", 10.0, 11.0, k == 0, "s", "ms", "times", left_out=k > 0) for k in range(3)
    )
    study = Study("toy", "A toy", (*counts, *times, *again))
    found = [(e["group"], e["kind"], e["rows"], e["median"]) for e in study.errors()]
    assert found == [
        ("counts", "predicted", 100, 0.0),
        ("times", "predicted", 1, 0.5),
        ("times", "left out", 2, pytest.approx(0.1)),
    ]
    assert len(study.predicted()) == 101
    assert errors_shown(study) == (
        "counts: 100 rows predicted, median error 0.0 %, worst 0.0 % (n0).",
        "times: 1 row predicted, error 50.0 % (fast).",
        "times: 2 rows left out, median error 10.0 %, worst 10.0 % (slow1).",
        "Fitted rows, which are not in these errors: 1.",
    )
    assert cells(again[1])[-1] == "left out"
    with pytest.raises(StudyError, match="is fitted and left_out"):
        Row("r", 1.0, 1.0, True, "s", left_out=True)


def test_differences_are_the_worst_only_among_themselves() -> None:
    assert worst(ROWS[3:]) == ROWS[3]
    assert worst(ROWS) == ROWS[1]
    assert summary(ROWS[3:])["median"] == 0.5
    assert worst(()) is None


@pytest.mark.parametrize(
    ("row", "what"),
    [
        ({"published": math.nan, "ours": 1.0}, "published"),
        ({"published": 1.0, "ours": math.inf}, "ours"),
        ({"published": 0.0, "ours": 1.0}, "absolute"),
        ({"published": 1.0, "ours": 1.0, "source": ""}, "source"),
    ],
)
def test_rows_that_state_nothing_are_refused(row: dict[str, float | str], what: str) -> None:
    with pytest.raises(StudyError, match=what):
        Row(label="r", fitted=False, **({"source": "s"} | row))  # type: ignore[arg-type]


def test_a_row_twice_is_refused() -> None:
    with pytest.raises(StudyError, match="twice"):
        Study("toy", "A toy", (ROWS[0], ROWS[0]))


def test_checks_bound_from_above_or_below() -> None:
    assert not STUDY.checks[0].met
    assert Check("x", 10.0, 10.0).met
    assert Check("x", 11.0, 10.0, at_least=True).met


def test_the_page_names_fitted_rows_misses_and_failures_and_runs_nothing() -> None:
    failed = {"other": "ValueError: <b>no</b>"}
    text = page([STUDY], {"toy": draw(STUDY)}, failed, {"versions": {"numpy": "1"}})
    fitted = ["b", "cycles", "100", "50", "-50.0 %", "fitted", "paper, Table 1"]
    cells = [re.sub("<.*?>", "", cell) for cell in re.findall(r"<td.*?</td>", text)]
    assert any(cells[k : k + len(fitted)] == fitted for k in range(len(cells)))
    assert "not met" in cells
    worst_section = text[text.index("Worst predictions") : text.index("<h2>Bounds")]
    assert worst_section.index(">c<") < worst_section.index(">a<")
    assert ">b<" not in worst_section  # fitted: no prediction
    assert "&lt;b&gt;no" in text
    assert "<li>Run <code>a &lt;b&gt;</code>.</li>" in text
    assert "<script" not in text
    assert "http" not in text.replace("http-equiv", "")
    assert text == page([STUDY], {"toy": draw(STUDY)}, failed, {"versions": {"numpy": "1"}})


def test_every_compared_row_is_drawn_and_rows_alone_where_their_group_is() -> None:
    shown = [(one.title, [row.label for row in one.rows], one.alone) for one in panels(STUDY)]
    assert shown == [("Table 1", ["a", "b", "c"], False), ("Table 2", ["d"], False)]
    alone = Study("alone", "Alone", (ROWS[4], Row("f", None, 2.0, False, "ours", "s", "Table 2")))
    assert [(one.rows[0].label, one.alone) for one in panels(alone)] == [("e", True), ("f", True)]
    assert b"<svg" in draw(Study("empty", "Empty", ()))


def test_the_picture_is_the_same_twice() -> None:
    assert draw(STUDY) == draw(STUDY)


def test_every_module_is_a_study_or_of_the_frame() -> None:
    listed = studies()
    assert all(one.title for one in listed.values())
    for name in FRAME:
        assert (FOLDER / f"{name}.py").is_file()
        assert name not in listed


def test_an_unknown_study_names_those_there_are() -> None:
    with pytest.raises(StudyError, match="allowed: all"):
        run("no-such")


def test_the_command_lists_and_refuses(tmp_path: Path) -> None:
    runner = CliRunner()
    listed = runner.invoke(app, ["reproduce", "--json"])
    assert [each["name"] for each in json.loads(listed.stdout)["studies"]] == [*studies()]
    for arguments in (["reproduce", "no-such"], ["reproduce", "-o", str(tmp_path)]):
        assert runner.invoke(app, arguments).exit_code == 2
    assert not list(tmp_path.iterdir())


GOOD = """\"\"\"A good one.\"\"\"
from experiments.reproduce.study import Row, Study

def study():
    row = Row("a", 2.0, 3.0, False, "nowhere", "x", "A group")
    return Study("{name}", "A good one", (row,), inputs=(("kept.json", "0" * 64),))
"""
BAD = """\"\"\"A bad one.\"\"\"
def study():
    raise {error}
"""


@pytest.fixture
def own_studies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[dict[str, str]], Path]]:
    """Put modules in the place of the studies that there are; gives a folder to write to."""
    folder = tmp_path / "studies"
    folder.mkdir()
    monkeypatch.setattr(registry, "FOLDER", folder)
    paths = [str(folder), *experiments.reproduce.__path__]
    monkeypatch.setattr(experiments.reproduce, "__path__", paths)
    made: list[str] = []

    def make(sources: dict[str, str]) -> Path:
        for name, text in sources.items():
            (folder / f"{name}.py").write_text(text, encoding="utf-8")
            made.append(name)
        importlib.invalidate_caches()
        return tmp_path / "out"

    yield make
    for name in made:
        sys.modules.pop(f"experiments.reproduce.{name}", None)
        vars(experiments.reproduce).pop(name, None)


def test_a_study_that_fails_costs_itself_alone(
    own_studies: Callable[[dict[str, str]], Path],
) -> None:
    out = own_studies(
        {
            "a_good": GOOD.format(name="a-good"),
            "b_bad": BAD.format(error="ZeroDivisionError('no such constant')"),
            "c_good": GOOD.format(name="c-good"),
        }
    )
    done = CliRunner().invoke(app, ["reproduce", "all", "-o", str(out), "--json"])
    assert done.exit_code == 1
    document = json.loads(done.stdout)
    assert [each["name"] for each in document["studies"]] == ["a-good", "c-good"]
    assert document["failed"] == {"b-bad": "ZeroDivisionError: no such constant"}
    assert document["manifest"]["inputs_sha256"] == {"kept.json": "0" * 64}
    assert "b-bad failed (ZeroDivisionError: no such constant)" in done.stderr
    assert "2 of 3: b-bad" in done.stderr
    names = [f"{name}.{kind}" for name in ("a-good", "c-good") for kind in ("json", "svg")]
    assert sorted(path.name for path in out.iterdir()) == sorted([*names, "report.html"])
    assert "b-bad failed and is missing here" in (out / "report.html").read_text(encoding="utf-8")
    alone = CliRunner().invoke(app, ["reproduce", "a-good"])
    assert alone.exit_code == 0
    assert "+50.0 %" in alone.stdout


def test_an_interrupt_leaves_whole_files_of_what_was_done(
    own_studies: Callable[[dict[str, str]], Path],
) -> None:
    out = own_studies(
        {"a_good": GOOD.format(name="a-good"), "b_stop": BAD.format(error="KeyboardInterrupt")}
    )
    with pytest.raises(KeyboardInterrupt):
        cli_reproduce.reproduce("all", out)
    assert sorted(path.name for path in out.iterdir()) == ["a-good.json", "a-good.svg"]
    assert json.loads((out / "a-good.json").read_text(encoding="utf-8"))["rows"][0]["ours"] == 3
    assert (out / "a-good.svg").read_text(encoding="utf-8").rstrip().endswith("</svg>")


@pytest.mark.parametrize("place", ["file/out", "link", "file"])
def test_a_folder_that_cannot_be_made_is_told_before_any_study_runs(
    own_studies: Callable[[dict[str, str]], Path], tmp_path: Path, place: str
) -> None:
    own_studies({"a_stop": BAD.format(error="SystemError('a study ran')")})
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "nowhere" / "deep")
    for name in ("a-stop", "all"):
        done = CliRunner().invoke(app, ["reproduce", name, "-o", str(tmp_path / place)])
        assert done.exit_code == 2
        assert f"--output {tmp_path / place}: no file can be made there (" in done.stderr


@pytest.mark.parametrize("name", ["no-such", "a-stop"])
def test_a_folder_that_nothing_was_put_in_is_removed(
    own_studies: Callable[[dict[str, str]], Path], name: str
) -> None:
    out = own_studies({"a_stop": BAD.format(error="KeyboardInterrupt")})
    with pytest.raises((KeyboardInterrupt, StudyError)):
        cli_reproduce.reproduce(name, out / "deep")
    assert not out.exists()
    out.mkdir()
    with pytest.raises((KeyboardInterrupt, StudyError)):
        cli_reproduce.reproduce(name, out)
    assert out.is_dir()  # it was there before


def test_a_file_that_cannot_be_written_loses_no_study(
    own_studies: Callable[[dict[str, str]], Path],
) -> None:
    out = own_studies({f"{k}_good": GOOD.format(name=f"{k}-good") for k in "ab"})
    (out / "a-good.svg").mkdir(parents=True)
    (out / "report.html").mkdir()
    done = CliRunner().invoke(app, ["reproduce", "all", "-o", str(out), "--json"])
    assert done.exit_code == 1
    document = json.loads(done.stdout)
    assert [each["name"] for each in document["studies"]] == ["a-good", "b-good"]
    assert document["failed"] == {}
    for name in ("a-good.svg", "report.html"):
        assert f"error: {out / name}: is not a regular file" in done.stderr
    assert "wrote" not in done.stderr
    assert all((out / name).is_file() for name in ("a-good.json", "b-good.json", "b-good.svg"))


def test_small_errors_keep_a_digit() -> None:
    shown = [error_shown(Row("r", 100.0, ours, False, "s")) for ours in (100.0, 99.97, 100.2)]
    assert shown == ["+0.0 %", "-0.03 %", "+0.2 %"]


def test_kept_figures_are_read_with_their_digest_or_missing(tmp_path: Path) -> None:
    path = tmp_path / "kept.json"
    none = read_kept(path, "train it")
    assert (none.content, none.inputs) == ({}, ())
    assert none.missing("Accuracy").startswith("Accuracy: not trained yet; `train it`")
    path.write_text('{"command": "train it so", "versions": {"numpy": "1"}}', encoding="utf-8")
    kept = read_kept(path, "train it")
    assert kept.inputs == (("kept.json", hashlib.sha256(path.read_bytes()).hexdigest()),)
    assert kept.origin("Accuracy") == (
        "Accuracy: trained with `train it so` (numpy 1), in kept.json."
    )
    message = r"kept.json: is not as it was written \(KeyError.*train again: train it"
    with pytest.raises(ResultError, match=message), kept.reading():
        _ = kept.content["runs"]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            [{"active": 1, "test": {"accuracy": "0.5"}}],
            r"rows\.0\.test\.accuracy is '0\.5', allowed",
        ),
        (
            {"one": {"test": {"accuracy": 1.5}}},
            r"rows\.one\.test\.accuracy is 1\.5, allowed: a number",
        ),
        ([{"test": {"accuracy": True}}], r"rows\.0\.test\.accuracy is True, allowed"),
        ([{"test": {"accuracy": math.nan}}], r"rows\.0\.test\.accuracy is nan, allowed"),
        ([{"test": {}}], r"rows\.0\.test\.accuracy is missing"),
        ([{"test": 3}], r"rows\.0\.test is 3, allowed: a JSON object"),
        ("none", r"rows is 'none', allowed: a JSON list or object"),
    ],
)
def test_a_damaged_figure_is_told_with_file_field_and_remedy(
    tmp_path: Path, rows: object, message: str
) -> None:
    path = tmp_path / "kept.json"
    path.write_text(json.dumps({"rows": rows}), encoding="utf-8")
    kept = read_kept(path, "train it")
    whole = rf"kept\.json: is not as it was written \({message}.*train again: train it"
    with pytest.raises(ResultError, match=whole):
        kept.check_numbers("rows", EVERY, "test", "accuracy")


def test_counts_among_kept_figures_are_whole(tmp_path: Path) -> None:
    path = tmp_path / "kept.json"
    path.write_text('{"rows": [{"active": 4}, {"active": 1.5}]}', encoding="utf-8")
    message = r"rows\.1\.active is 1\.5, allowed: a whole number from 1 to 4"
    with pytest.raises(ResultError, match=message):
        read_kept(path, "train it").check_numbers(
            "rows", EVERY, "active", low=1, high=4, whole=True
        )


def test_whatever_kept_figures_lead_to_is_told_with_their_file(tmp_path: Path) -> None:
    path = tmp_path / "kept.json"
    path.write_text('{"runs": {"one": {"images": 0}}, "versions": "1.0"}', encoding="utf-8")
    kept = read_kept(path, "train it")
    for fault in (lambda runs: 1 / runs["one"]["images"], lambda runs: int("one"), max):
        with pytest.raises(ResultError, match=r"kept\.json: .*; restore it"), kept.reading():
            fault(kept.content["runs"] if fault is not max else [])
    with pytest.raises(ResultError, match=r"\(versions is '1\.0', allowed: a JSON object\)"):
        kept.origin("Accuracy")


def test_kept_figures_are_found_from_any_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = Path("results") / "accuracy.json"
    monkeypatch.chdir(tmp_path)
    found = read_kept(name, "train it")
    assert found.path == ROOT / name
    assert found.name == "results/accuracy.json"
    (tmp_path / "results").mkdir()
    (tmp_path / name).write_text("{}", encoding="utf-8")
    assert read_kept(name, "train it").sha256 != found.sha256
