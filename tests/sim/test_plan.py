"""Plans survive a round trip byte for byte, compare, and refuse what they cannot hold."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import sim.plan
from sim.files import FileError
from sim.plan import SCHEMA_VERSION, Key, Plan, PlanError

PLAN = Plan.make("mine", "abc", {("rescale", "conv1"): "fixed:3", ("placement", "conv1"): "dsp:4"})

names = st.text(max_size=200).filter(str.isprintable)
choices = st.dictionaries(st.tuples(st.text(), st.text()), st.text(), max_size=8)


@settings(max_examples=150, derandomize=True, deadline=None, database=None)
@given(names, st.text(), choices)
def test_json_round_trip(name: str, graph_hash: str, chosen: dict[Key, str]) -> None:
    plan = Plan.make(name, graph_hash, chosen)
    text = plan.to_json()
    again = Plan.from_json(text)
    assert again == plan
    assert again.to_json().encode() == text.encode()


def test_a_file_holds_what_was_written(tmp_path: Path) -> None:
    PLAN.write(tmp_path / "plan.json")
    assert (tmp_path / "plan.json").read_text("utf-8") == PLAN.to_json()
    assert Plan.read(tmp_path / "plan.json") == PLAN
    with pytest.raises(FileError, match="give the name of a file"):
        PLAN.write(tmp_path)


@settings(max_examples=100, derandomize=True, deadline=None, database=None)
@given(choices, choices)
def test_diff_lists_what_to_change(one: dict[Key, str], two: dict[Key, str]) -> None:
    a, b = Plan.make("a", "h", one), Plan.make("b", "h", two)
    differences = a.diff(b)
    assert differences == sorted(differences, key=lambda row: row[:2])
    changed = dict(one)
    for aspect, subject, here, there in differences:
        assert here == one.get((aspect, subject))
        assert here != there
        changed.pop((aspect, subject), None)
        if there is not None:
            changed[aspect, subject] = there
    assert changed == two
    assert a.diff(a) == []


def test_order_of_choices_does_not_matter() -> None:
    backwards = Plan.make("mine", "abc", dict(reversed(PLAN.choices)))
    assert backwards == PLAN
    assert hash(backwards) == hash(PLAN)
    assert [key for key, _ in PLAN.choices] == [("placement", "conv1"), ("rescale", "conv1")]


def test_reading_choices() -> None:
    assert PLAN.aspect("placement") == {"conv1": "dsp:4"}
    assert PLAN.aspect("precision") == {}
    assert PLAN.get("rescale", "conv1", "every") == "fixed:3"
    assert PLAN.get("rescale", "conv2", "every") == "every"


def test_changing_a_plan_leaves_the_old_one() -> None:
    moved = PLAN.replace("placement", "conv1", "cpu:4")
    assert moved.get("placement", "conv1", "") == "cpu:4"
    assert PLAN.get("placement", "conv1", "") == "dsp:4"
    assert moved.diff(PLAN) == [("placement", "conv1", "cpu:4", "dsp:4")]
    renamed = PLAN.update({("reuse", "step"): "mru"}, name="other")
    assert (renamed.name, renamed.graph_hash) == ("other", "abc")
    assert len(renamed.choices) == 3


def test_files(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    path.write_text(PLAN.to_json(), encoding="utf-8")
    assert Plan.read(path) == PLAN
    with pytest.raises(PlanError, match=r"missing\.json: cannot be read"):
        Plan.read(tmp_path / "missing.json")
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(PlanError, match=r"plan\.json: cannot be read"):
        Plan.read(path)
    with pytest.raises(PlanError, match=r"not a regular file\); give the path of a file"):
        Plan.read(tmp_path)
    with pytest.raises(PlanError, match="cannot be read"):
        Plan.read(Path("a\0b"))


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="needs a Unix")
def test_only_regular_files_of_some_size_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe = tmp_path / "pipe.json"
    os.mkfifo(pipe)
    for path in (pipe, Path("/dev/zero")):
        with pytest.raises(PlanError, match="not a regular file"):
            Plan.read(path)
    large = tmp_path / "large.json"
    large.write_text(PLAN.to_json() + " " * 1000)
    monkeypatch.setattr(sim.plan, "MAX_FILE_BYTES", 1000)
    with pytest.raises(PlanError, match=r"large\.json: is too large; at most 1000 bytes"):
        Plan.read(large)


def document(**changes: Any) -> str:
    return json.dumps({**json.loads(PLAN.to_json()), **changes})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", r"here: not JSON"),
        ("[" * 100_000, r"here: not JSON"),
        ("[]", r"here: keys are list; a plan has exactly \['choices', 'graph_hash', 'name'"),
        ("{}", r"here: keys are \[\]; a plan has exactly"),
        (document(more=1), r"keys are .*'more'"),
        (document(schema_version=2), r"schema_version 2 is not 1; write the plan again"),
        (document(schema_version="1"), r"schema_version '1' is not 1"),
        (document(schema_version=True), r"schema_version True is not 1"),
        (document(schema_version=1.0), r"schema_version 1\.0 is not 1"),
        ('{"schema_version": ' + "9" * 5000 + "}", r"here: not JSON \(.*4300"),
        (document(name="\ud800"), r"plan name '\\ud800' \(1 characters\).*printable"),
        (document(name="\x1b[31mred"), r"plan name '\\x1b\[31mred'.*one line"),
        (document(name="a\nb"), r"plan name 'a\\nb'"),
        (document(name="x" * 201), r"201 characters\) is not allowed; give up to 200"),
        (document(graph_hash=[10**4000]), r"graph_hash is \[10{50}.*\.\.\., not a string"),
        ('{"name": "a", "name": "b"}', r"not JSON \(key 'name' stands twice"),
        (document(name=3), r"name is 3, not a string"),
        (document(choices=[]), r"choices must be a mapping of aspects, not \[\]"),
        (document(choices={"rescale": 3}), r"choices\.rescale must map subjects to choices"),
        (document(choices={"rescale": {"conv1": 3}}), r"choices\.rescale\.conv1 is 3, not a str"),
    ],
)
def test_documents_that_are_no_plan(text: str, message: str) -> None:
    with pytest.raises(PlanError, match=message):
        Plan.from_json(text, "here")


def test_choices_are_sorted_and_each_once() -> None:
    with pytest.raises(
        PlanError, match=r"'mine': choices must be sorted, each once: use Plan\.make"
    ):
        Plan("mine", "abc", PLAN.choices[::-1])
    with pytest.raises(PlanError, match="each once"):
        Plan("mine", "abc", PLAN.choices[:1] * 2)


def test_schema_version_is_written() -> None:
    assert json.loads(PLAN.to_json())["schema_version"] == SCHEMA_VERSION == 1
