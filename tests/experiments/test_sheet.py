"""Tables lose no cell at any width: texts fold, columns go into parts, pipes have no width."""

from __future__ import annotations

from io import StringIO

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from experiments.render import show, table

COLUMNS = ("plan", "time ms", "worst plan", "energy")
ROWS = (
    ("mnn-fp32", "1030.2", "resnet18/4x32/10 with a long tail", "4.781"),
    ("mandheling", "188.58", "lenet/32x28/21", "0.906"),
)


def printed(width: int, keys: int = 1) -> str:
    out = StringIO()
    shown = table("Title", COLUMNS, ROWS, also_left=(2,), keys=keys)
    show(Console(file=out, width=width, force_terminal=False), shown)
    return out.getvalue()


@settings(max_examples=60, derandomize=True, deadline=None, database=None)
@given(st.integers(32, 120))
def test_no_cell_is_lost_or_wider_than_the_terminal(width: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLUMNS", str(width))
        text = printed(width)
    assert max(map(len, text.splitlines())) <= width
    for number in ("1030.2", "188.58", "4.781", "0.906"):
        assert text.count(number) == 1
    for word in " ".join(ROWS[0]).split():
        assert word in text
    for title in COLUMNS:
        assert all(word in text for word in title.split())


def test_each_part_says_what_its_rows_are_about(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "34")
    text = printed(34)
    parts = text.count("mandheling")
    assert parts > 1
    assert text.count("mnn-fp32") == parts


def test_a_pipe_has_no_width(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    lines = printed(20).splitlines()
    assert [line.split() for line in lines if line.startswith("mandheling")] == [
        ["mandheling", "188.58", "lenet/32x28/21", "0.906"]
    ]
    assert all(cell in lines[3] for cell in ROWS[0])
