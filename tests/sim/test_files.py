"""A file is written whole or not at all, and a refusal names it."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from sim.files import FileError, write_atomic


def test_new_and_replaced_files_hold_the_text(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    for text in ("first, longer\n", "2 µs\n"):
        write_atomic(path, text)
        assert path.read_bytes() == text.encode()
        assert list(tmp_path.iterdir()) == [path]


def test_a_new_file_has_the_permissions_of_any_other(tmp_path: Path) -> None:
    path, other = tmp_path / "result.json", tmp_path / "other"
    write_atomic(path, "text")
    other.write_text("text")
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE(other.stat().st_mode)


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_failed_write_names_the_file_and_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    path = tmp_path / "result.json"
    path.write_text("old")

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, call, refuse)
    with pytest.raises(FileError, match=r"result\.json: .*No space left on device.*check"):
        write_atomic(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_an_interrupted_write_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_atomic(tmp_path / "result.json", "new")
    assert list(tmp_path.iterdir()) == []


def test_text_that_is_no_utf8_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(UnicodeEncodeError):
        write_atomic(tmp_path / "result.json", "\ud800")
    assert list(tmp_path.iterdir()) == []


def test_only_regular_files_are_replaced(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for path in (pipe, tmp_path):
        with pytest.raises(FileError, match="is not a regular file; give the name of a file"):
            write_atomic(path, "text")
    assert stat.S_ISFIFO(pipe.stat().st_mode)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"nowhere/a\.json: .*No such file.*check the folder"):
        write_atomic(tmp_path / "nowhere" / "a.json", "text")
