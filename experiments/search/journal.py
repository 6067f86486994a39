"""The journal of a search: every finished shard, on the disk before anyone is told of it.

A file of lines (:mod:`cost_models.lines`). The line after the schema holds the problem, its digest
and the versions that results may depend on; every other line is one finished shard. A search that
was stopped, in whatever way, goes on from its journal, and no finished shard runs twice.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from cost_models.lines import LineFile, LineFormat, Lines
from experiments.search.objectives import SearchError
from experiments.search.problem import Problem
from experiments.search.provenance import versions_of
from experiments.search.shard import ShardResult
from experiments.values import short, whole

SCHEMA = "mandheling-search-journal/1"
SUFFIX = ".journal"
HEADER = frozenset({"problem", "problem_sha256", "versions"})
LONGEST_MS = 10**12


class JournalError(SearchError):
    """A journal cannot be used; the message names file and line, and says what to do."""


AGAIN = "go on with: mandheling search --resume {path}"
FORMAT = LineFormat(SCHEMA, "finished shards", JournalError, AGAIN)


@dataclass(frozen=True, slots=True)
class Finished:
    """A shard that is done, and the wall time that it took wherever it ran, milliseconds."""

    result: ShardResult
    wall_ms: int


@dataclass(frozen=True, slots=True)
class JournalContent:
    """What a journal holds.

    Attributes
    ----------
    problem
        What is searched; ``None`` if the search was killed before its journal said.
    finished
        In the order in which they were written, which is that of the clock.
    torn_bytes
        Length of the last line, if a crash tore it.
    """

    problem: Problem | None
    problem_sha256: str
    versions: Mapping[str, str]
    finished: tuple[Finished, ...]
    torn_bytes: int


def read_journal(path: Path) -> JournalContent:
    """Read a journal; a torn last line is left out.

    Raises
    ------
    JournalError
        The file is missing, no journal, of another schema, or damaged before its last line.
    """
    return _content(FORMAT.read(path), str(path))


class Journal:
    """The journal of one search, open for writing by one process; use in a ``with`` block.

    Attributes
    ----------
    finished
        Shards that are done, by number.
    torn_bytes
        Length of the last line that a crash tore when the journal was opened; it is cut off.
    """

    def __init__(self, file: LineFile, content: JournalContent) -> None:
        self._file, self.path = file, file.path
        self.finished = {one.result.shard: one for one in content.finished}
        self.torn_bytes = content.torn_bytes

    @classmethod
    def open(cls, path: Path, problem: Problem) -> Self:
        """Begin a journal, or continue that of the same search; its folder must exist.

        Raises
        ------
        JournalError
            The file cannot be written, is in use, is no journal, or belongs to another search or
            to other versions: the message says what differs.
        """
        file = LineFile.open(path, FORMAT)
        try:
            content = _content(file.found, str(path))
            header = _header(problem)
            if content.problem is None:
                file.append({"search": header})
            else:
                _check_same(path, content, header)
            return cls(file, content)
        except BaseException:
            file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()

    def add(self, one: Finished) -> None:
        """Write a finished shard; it is on the disk when this returns.

        Raises
        ------
        JournalError
            It is there already, or the disk is full; the journal is as it was then.
        """
        shard = one.result.shard
        if shard in self.finished:
            raise JournalError(f"{self.path}: shard {shard} is there already")
        self._file.append({"shard": one.result.to_json(), "wall_ms": one.wall_ms})
        self.finished[shard] = one


def _header(problem: Problem) -> dict[str, Any]:
    return {
        "problem": problem.to_json(),
        "problem_sha256": problem.sha256,
        "versions": versions_of(problem),
    }


def _check_same(path: Path, content: JournalContent, header: Mapping[str, Any]) -> None:
    """Refuse to mix shards of different searches, and say in what they differ."""
    assert content.problem is not None
    mine, found = header["problem"], content.problem.to_json()
    names = sorted(mine.keys() | found.keys())
    parts = [_differs(n, found.get(n), mine.get(n)) for n in names if found.get(n) != mine.get(n)]
    if not parts and content.problem_sha256 != header["problem_sha256"]:
        parts = ["what the names of model and device stand for has changed"]
    if parts:
        raise JournalError(
            f"{path}: is the journal of another search ({'; '.join(parts)}); give the options that "
            "it was begun with, or another file"
        )
    old, new = content.versions, header["versions"]
    names = sorted(n for n in old.keys() | new.keys() if old.get(n) != new.get(n))
    if names:
        parts = [_differs(name, old.get(name), new.get(name)) for name in names]
        raise JournalError(
            f"{path}: was begun with other versions ({'; '.join(parts)}), whose results may differ;"
            " install those, or begin again in another file"
        )


def _differs(name: str, there: object, here: object) -> str:
    return f"{name} is {short(there)} there and {short(here)} here"


def _content(lines: Lines, name: str) -> JournalContent:
    """Read the lines of a journal."""
    if not lines.records:
        return JournalContent(None, "", {}, (), lines.torn_bytes)
    problem, header = _read_header(lines.records[0], f"{name}, line 2")
    finished: dict[int, Finished] = {}
    for number, data in enumerate(lines.records[1:], 3):
        one = _read_shard(data, name, number)
        if one.result.shard in finished:
            raise JournalError(
                f"{name}, line {number}: shard {one.result.shard} is there twice; remove one line"
            )
        finished[one.result.shard] = one
    return JournalContent(
        problem,
        header["problem_sha256"],
        header["versions"],
        tuple(finished.values()),
        lines.torn_bytes,
    )


def _read_header(data: Mapping[str, Any], where: str) -> tuple[Problem, Mapping[str, Any]]:
    header = data.get("search")
    if not isinstance(header, dict) or header.keys() != HEADER:
        raise JournalError(
            f"{where}: holds {short(dict(data))}; search with {', '.join(sorted(HEADER))} must "
            "come; give the journal of a search"
        )
    if not isinstance(header["problem"], dict) or not isinstance(header["versions"], dict):
        raise JournalError(f"{where}: {short(header)} is no problem with versions; give a journal")
    try:
        return Problem.from_json(header["problem"]), header
    except ValueError as error:
        raise JournalError(f"{where}: {error}") from None


def _read_shard(data: Mapping[str, Any], path: str, line: int) -> Finished:
    where = f"{path}, line {line}"
    wall = whole(data.get("wall_ms"), 0, LONGEST_MS)
    if data.keys() != {"shard", "wall_ms"} or not isinstance(data["shard"], dict) or wall is None:
        raise JournalError(
            f"{where}: holds {short(dict(data))}; a finished shard with wall_ms must come; "
            f"cut the file before this line and {AGAIN.format(path=shlex.quote(path))}"
        )
    try:
        return Finished(ShardResult.from_json(data["shard"]), wall)
    except ValueError as error:
        raise JournalError(f"{where}: {error}") from None
