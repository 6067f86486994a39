"""Built binaries: kept, built again when damaged, and a cache that cannot be used is named."""

from __future__ import annotations

from pathlib import Path

import pytest
from hexagon_cases import need_tools
from typer.testing import CliRunner

from experiments import cli
from hw_bridge.hexagon.build import built, is_whole
from hw_bridge.hexagon.errors import ToolError
from hw_bridge.hexagon.toolchain import compile_flags


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("MANDHELING_CACHE", str(folder))
    return folder


def test_a_damaged_binary_is_built_again(cache: Path, tmp_path: Path) -> None:
    need_tools()
    source = tmp_path / "one.c"
    source.write_text("int _start(void) { return 0; }\n", "utf-8")
    words = [*compile_flags("v66"), str(source)]
    path = built("one", "a test", words)
    content = path.read_bytes()
    assert is_whole(path)
    for damaged in (b"", b"garbage", b"#!/bin/sh\n" * 20, content[:-1], content[:100]):
        path.write_bytes(damaged)
        assert not is_whole(path)
        assert built("one", "a test", words).read_bytes() == content
    assert list(cache.iterdir()) == [path]
    old = path.stat().st_ino
    assert built("one", "a test", words).stat().st_ino == old  # a whole one is kept


@pytest.mark.parametrize("below", ["", "folder"])
def test_a_cache_that_is_no_folder_is_named(
    below: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "file"
    file.touch()
    monkeypatch.setenv("MANDHELING_CACHE", str(file / below))
    said = f"the cache folder {file / below} cannot be used .*; set MANDHELING_CACHE to a folder"
    with pytest.raises(ToolError, match=said):
        built("one", "a test", [])
    told = CliRunner().invoke(cli.app, ["hw", "doctor"], env={"COLUMNS": "60"})
    assert told.exit_code == 1
    (line,) = [one for one in told.stdout.splitlines() if "cache folder" in one]
    assert line.startswith("missing  cache folder: the cache folder ")
    assert told.stdout.count("set MANDHELING_CACHE to a folder that can be written") == 1
