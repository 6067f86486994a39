"""Journals: what is finished stays, what is torn goes, and searches are never mixed."""

from __future__ import annotations

import multiprocessing
import resource
import signal
from dataclasses import replace
from pathlib import Path

import pytest
from search_cases import SMALL

from experiments.search import journal as journals
from experiments.search.front import Found
from experiments.search.journal import FORMAT, Finished, Journal, JournalError, read_journal
from experiments.search.projection import projected
from experiments.search.shard import ShardResult

HEADER = {
    "problem": SMALL.to_json(),
    "problem_sha256": "0" * 64,
    "versions": {"numpy": "1"},
}
PLAN = Found((5, 6, 0, 7), (1, 0, 2))


def a_shard(number: int) -> Finished:
    return Finished(ShardResult(number, 12, (PLAN,)), 1000 + number)


def kept(path: Path) -> list[int]:
    return [one.result.shard for one in read_journal(path).finished]


def test_shards_come_back_as_they_were(tmp_path: Path) -> None:
    path = tmp_path / "j"
    with Journal.open(path, SMALL) as journal:
        for number in (1, 0, 2):
            journal.add(a_shard(number))
    content = read_journal(path)
    assert content.problem == SMALL
    assert content.finished == (a_shard(1), a_shard(0), a_shard(2))
    with Journal.open(path, SMALL) as journal:
        assert journal.finished == {k: a_shard(k) for k in range(3)}
        with pytest.raises(JournalError, match="shard 1 is there already"):
            journal.add(a_shard(1))


def test_every_cut_goes_on_without_losing_a_whole_line(tmp_path: Path) -> None:
    path = tmp_path / "j"
    with Journal.open(path, SMALL) as journal:
        for number in range(3):
            journal.add(a_shard(number))
    content = path.read_bytes()
    ends = [i + 1 for i, byte in enumerate(content) if byte == 10]
    for cut in [*range(0, len(content), 17), *ends, *(end - 1 for end in ends)]:
        path.write_bytes(content[:cut])
        whole = sum(end <= cut for end in ends)
        assert read_journal(path).torn_bytes == cut - ([0, *ends][whole])
        with Journal.open(path, SMALL) as journal:
            assert len(journal.finished) == max(0, whole - 2)
            for number in {0, 1, 2} - journal.finished.keys():
                journal.add(a_shard(number))
        assert sorted(kept(path)) == [0, 1, 2]
        assert read_journal(path).torn_bytes == 0


def test_a_damaged_line_in_the_middle_is_named(tmp_path: Path) -> None:
    path = tmp_path / "j"
    with Journal.open(path, SMALL) as journal:
        for number in range(3):
            journal.add(a_shard(number))
    path.write_bytes(path.read_bytes().replace(b'"wall_ms":1001', b'"wall_ms":1009'))
    with pytest.raises(JournalError, match=r"line 4: damaged \(its checksum does not fit\)"):
        Journal.open(path, SMALL)


def test_the_journal_of_another_search_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "j"
    with Journal.open(path, SMALL) as journal:
        journal.add(a_shard(0))
    before = path.read_bytes()
    other = replace(SMALL, seed=3, limits={"memory": 10**9})
    said = r"another search \(limits is \{\} there and .*; seed is 0 there and 3 here\); give"
    with pytest.raises(JournalError, match=said):
        Journal.open(path, other)
    assert path.read_bytes() == before


def test_a_journal_of_other_versions_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "j"
    with monkeypatch.context() as patch:
        patch.setattr(journals, "versions_of", lambda problem: {"numpy": "0.9", "numba": "0.1"})
        with Journal.open(path, SMALL):
            pass
    with pytest.raises(JournalError, match=r"other versions \(.*numba is '0.1' there and"):
        Journal.open(path, SMALL)


def test_only_one_process_writes(tmp_path: Path) -> None:
    path = tmp_path / "j"
    with (
        Journal.open(path, SMALL),
        pytest.raises(JournalError, match="another process is writing finished shards"),
    ):
        Journal.open(path, SMALL)


def test_a_full_disk_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "j"
    with Journal.open(path, SMALL) as journal:
        journal.add(a_shard(0))
        before = path.read_bytes()
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 50, limits[1]))
        try:
            with pytest.raises(JournalError, match=r"make space and go on with: .* --resume /"):
                journal.add(a_shard(1))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
            signal.signal(signal.SIGXFSZ, ignored)
        assert path.read_bytes() == before
        journal.add(a_shard(1))
    assert kept(path) == [0, 1]


def _write_for_ever(path: Path) -> None:
    with Journal.open(path, SMALL) as journal:
        for number in range(len(journal.finished), 10**9):
            journal.add(a_shard(number))


def test_kill_9_while_writing_loses_no_shard_that_was_added(tmp_path: Path) -> None:
    path = tmp_path / "j"
    process = multiprocessing.get_context("fork").Process(target=_write_for_ever, args=[path])
    process.start()
    while not path.exists() or path.stat().st_size < 5000:
        process.join(0.002)
    process.kill()
    process.join()
    found = kept(path)
    assert found == list(range(len(found)))
    assert len(found) > 10


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([{"schema": "mandheling-search-journal/9"}], "line 1: 'mandheling-search-journal/9'"),
        ([{"schema": "mandheling-samples/1"}], "line 1: 'mandheling-samples/1'; this version"),
        ([{"search": 1}], r"line 2: holds \{'search': 1\}; search with problem, problem_sha256"),
        ([{"search": {**HEADER, "problem": 1}}], "line 2: .*is no problem"),
        (
            [{"search": {**HEADER, "problem": {**SMALL.to_json(), "batch": 0}}}],
            "line 2: batch is 0; give a whole number",
        ),
        ([{"search": HEADER}, {"shard": {}}], "line 3: holds .*a finished shard with wall_ms"),
        ([{"search": HEADER}, {"shard": {}, "wall_ms": -1}], "line 3: holds"),
        ([{"search": HEADER}, {"shard": {}, "wall_ms": 1}], "line 3: a shard's result is {}"),
        (
            [{"search": HEADER}, *[{"shard": a_shard(0).result.to_json(), "wall_ms": 1}] * 2],
            "line 4: shard 0 is there twice",
        ),
    ],
)
def test_files_that_are_no_journals_are_refused(
    tmp_path: Path, lines: list[dict[str, object]], message: str
) -> None:
    path = tmp_path / "j"
    first = [] if "schema" in lines[0] else [{"schema": FORMAT.schema}]
    path.write_bytes(b"".join(map(FORMAT.line, [*first, *lines])))
    with pytest.raises(JournalError, match=message):
        read_journal(path)
    with pytest.raises(JournalError, match=message):
        Journal.open(path, SMALL)


def test_another_kind_of_file_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("notes\n")
    with pytest.raises(JournalError, match="is no file of finished shards; give another name"):
        Journal.open(path, SMALL)
    assert path.read_text() == "notes\n"


def test_a_projection_leaves_out_what_the_first_shard_prepares() -> None:
    shards = [Finished(ShardResult(k, 1000, ()), 9000 if k == 0 else 500) for k in range(5)]
    found = projected(shards, plans=7_200_000)
    assert found is not None
    assert found.plans_per_second == 2000
    assert (found.core_hours, found.hours(4)) == (1.0, 0.25)
    assert projected(shards[:2]) is None
    assert projected(shards, workers=3) is None
