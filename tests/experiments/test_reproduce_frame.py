"""The frame of studies: rows, errors, the list, and what the command writes and refuses."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from typer.testing import CliRunner

from experiments.cli import app
from experiments.reproduce.drawn import draw
from experiments.reproduce.registry import FOLDER, FRAME, run, studies
from experiments.reproduce.shown import report
from experiments.reproduce.study import Check, Row, Study, StudyError, summary, worst

ROWS = (
    Row("a", 100.0, 110.0, False, "paper, Table 1", "cycles", "Table 1"),
    Row("b", 100.0, 50.0, True, "paper, Table 1", "cycles", "Table 1"),
    Row("c", 100.0, 80.0, False, "paper, Table 1", "cycles", "Table 1"),
    Row("d", 71.0, 70.5, False, "paper, Table 2", "%", "Table 2", absolute=True),
    Row("e", None, 1.0, False, "ours", "x", "Table 2"),
)
STUDY = Study("toy", "A toy", ROWS, ("A note.",), (Check("median", 15.0, 10.0),))


def test_errors_are_signed_shares_or_differences() -> None:
    errors = [row.error for row in ROWS]
    assert errors[:4] == pytest.approx([0.1, -0.5, -0.2, -0.5])
    assert errors[4] is None


def test_fitted_rows_count_in_no_error_of_predictions() -> None:
    assert [row.label for row in STUDY.predicted()] == ["a", "c", "d"]
    found = STUDY.document()["predicted"]
    assert found["median"] == pytest.approx(0.15)
    assert found["worst"] == pytest.approx(0.2)
    assert found["worst_row"] == "Table 1: c"


def test_differences_are_the_worst_only_among_themselves() -> None:
    assert worst(ROWS[3:]) == ROWS[3]
    assert summary(ROWS[3:])["median"] is None
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


def test_the_report_names_fitted_rows_and_bounds_that_are_missed() -> None:
    page = report([STUDY])
    assert "| b | cycles | 100.0 | 50.00 | -50.0 % | fitted | paper, Table 1 |" in page
    assert "not met" in page


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
