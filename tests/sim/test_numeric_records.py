"""The rescale trace: what it counts, and the file that carries it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sim.numeric.records import RescaleTrace, ShiftRecord, TraceError, load_trace


def trace() -> RescaleTrace:
    found = RescaleTrace("lenet", "mandheling", "sandbox")
    found.append({"a": ShiftRecord(9, 9, True, 0, 4, 100), "b": ShiftRecord(5, 5, True, 1, 0, 50)})
    found.append(
        {"a": ShiftRecord(10, 9, False, 3, 2, 100), "b": ShiftRecord(5, 5, False, 0, 0, 50)}
    )
    return found


def test_totals_count_what_happened() -> None:
    totals = trace().totals()
    assert totals == {
        "tensors": 4, "scans": 2, "stale": 1, "saturated": 4, "lost": 6,
        "skipped_share": 0.5, "saturated_share": 4 / 300, "lost_share": 6 / 300,
    }  # fmt: skip
    assert trace().totals(first_step=1)["skipped_share"] == 1.0
    assert trace().shifts().trace == {"a": (9, 10), "b": (5, 5)}


def test_micro_batches_of_one_tensor_are_one_record() -> None:
    first, second = ShiftRecord(9, 8, False, 2, 1, 50), ShiftRecord(7, 8, False, 0, 3, 50)
    assert first.joined(second) == ShiftRecord(9, 8, False, 2, 4, 100)


def test_the_file_comes_back_equal(tmp_path: Path) -> None:
    path = tmp_path / "trace.json"
    trace().save(path)
    assert load_trace(path) == trace()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema": 2}, "is no rescale trace of schema 1"),
        ({"fields": ["true"]}, r"fields are \['true'\]; allowed"),
        ({"fields": 3}, "fields are 3; allowed"),
        ({"plan": ["a"]}, r"plan is \['a'\]; allowed: a name; record one with"),
        ({"rows": []}, "rows must map each tensor"),
        ({"rows": {"a": [[1, 2, 3, 4, 5, 10**30]]}}, "a row of 'a' is .*; allowed: 6 ints of 64"),
        ({"rows": {"a": [[1, 2, 3]]}}, r"a row of 'a' is \[1, 2, 3\]; allowed: 6 ints"),
        ({"rows": {"a": [[1, 2, 3, 4, 5, 6.5]]}}, "allowed: 6 ints"),
        ({"spare": 1}, "is no rescale trace"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, change: dict[str, object], message: str) -> None:
    path = tmp_path / "trace.json"
    trace().save(path)
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(TraceError, match=message):
        load_trace(path)


@pytest.mark.parametrize("content", ["", "{", "\x00", "[" * 100_000, "1" + "0" * 5000])
def test_a_broken_file_is_named(tmp_path: Path, content: str) -> None:
    path = tmp_path / "trace.json"
    path.write_text(content)
    with pytest.raises(TraceError, match=r"trace\.json: no rescale trace can be read"):
        load_trace(path)
    with pytest.raises(TraceError, match=r"absent\.json: no rescale trace can be read"):
        load_trace(tmp_path / "absent.json")
