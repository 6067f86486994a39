"""What a board is sent: the rules for its library, and that each is checked."""

from __future__ import annotations

import struct
import subprocess
from pathlib import Path

import pytest
from board_cases import need_board_tools
from hypothesis import given, settings
from hypothesis import strategies as st

from hw_bridge.board.build import (
    DSP,
    ENTRY,
    LAUNCHER,
    SYSTEMS,
    launcher_path,
    library_flags,
    library_path,
    library_sources,
)
from hw_bridge.board.elf import (
    IMPORTS,
    RELOCATIONS,
    ElfError,
    check_library,
    emulator_registers,
    read_library,
)
from hw_bridge.hexagon.errors import ToolError
from hw_bridge.hexagon.toolchain import ARCHITECTURES, compiler


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_libraries_keep_the_rules(arch: str) -> None:
    need_board_tools()
    whole = read_library(library_path(arch).read_bytes())
    assert (whole.arch, whole.exports) == (arch, {ENTRY})
    assert whole.imports == IMPORTS  # no import is allowed that is not used
    assert whole.soname == library_path(arch).name
    assert set(whole.relocations) == set(RELOCATIONS)
    bare = read_library(library_path(arch, bare=True).read_bytes())
    assert (bare.arch, bare.exports, bare.imports) == (arch, {ENTRY}, frozenset())


def compiled(folder: Path, code: str, *more: str, drop: tuple[str, ...] = ()) -> bytes:
    """A library of one C file, by the board's flags but some."""
    need_board_tools()
    source, made = folder / "one.c", folder / "one.so"
    source.write_text(code)
    flags = [flag for flag in library_flags("v66") if flag not in drop]
    command = [*compiler().command, "cc", *flags, *more, str(source), "-o", str(made)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return made.read_bytes()


SHOWN = '__attribute__((visibility("default"))) '
ENTRY_CODE = SHOWN + f"int {ENTRY}(void) {{ return 0; }}\n"


@pytest.mark.parametrize(
    ("code", "more", "drop", "said"),
    [
        (SHOWN + "int other(void) { return 0; }", (), (), "does not export"),
        (ENTRY_CODE + SHOWN + "int f(void);" + SHOWN + "int g(void) { return f(); }", (), (),
         "imports f"),
        (ENTRY_CODE, ("-Wl,--hash-style=gnu",), ("-Wl,--hash-style=sysv",), "DT_HASH"),
        (ENTRY_CODE + "__thread int t;" + SHOWN + "int *g(void) { return &t; }", (),
         ("-T", str(DSP / "library.ld")), "thread-local"),
        (ENTRY_CODE + '#include "counters.h"\n' + SHOWN
         + "int g(void) { return (int)read_counts().packets; }", (), ("-DMANDHELING_BOARD",),
         r"reads c20, c21, c22|reads c20"),
    ],
)  # fmt: skip
def test_a_library_that_breaks_a_rule_is_not_sent(
    tmp_path: Path, code: str, more: tuple[str, ...], drop: tuple[str, ...], said: str
) -> None:
    data = compiled(tmp_path, code, *more, drop=drop)
    with pytest.raises(ElfError, match=said):
        check_library(data, "v66", ENTRY)


def test_versions_and_bare_imports(tmp_path: Path) -> None:
    need_board_tools()
    data = library_path("v68").read_bytes()
    with pytest.raises(ElfError, match="its version is v68; expected v66"):
        check_library(data, "v66", ENTRY)
    with pytest.raises(ElfError, match="imports HAP_mmap"):
        check_library(data, "v68", ENTRY, imports=False)
    executable = bytearray(data)
    struct.pack_into("<H", executable, 16, 2)
    with pytest.raises(ElfError, match="type 2"):
        check_library(bytes(executable), "v68", ENTRY)
    with pytest.raises(ElfError, match="no 32-bit"):
        check_library(launcher_path("linux").read_bytes(), "v68", ENTRY)


def test_reads_of_invented_registers_are_found() -> None:
    words = [0x6A14C000, 0x6A15C003, 0x6A16C01F, 0x6814C000, 0x6816C002]
    assert emulator_registers(struct.pack("<5I", *words)) == {20, 21, 22}
    real = [0x681EC000, 0x680EC000, 0x6812C000, 0x6A14E3FF & ~0x3FE0 | 0x20]
    assert emulator_registers(struct.pack("<4I", *real)) == set()


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_damaged_library_is_refused_in_words(data: st.DataObject) -> None:
    """Cut, or with other bytes in its tables: an ElfError or a library that keeps the rules."""
    need_board_tools()
    whole = library_path("v66", bare=True).read_bytes()
    end = data.draw(st.integers(0, len(whole)))
    damaged = bytearray(whole[:end])
    for at in data.draw(st.lists(st.integers(0, 0x3200), max_size=4)):
        if at < len(damaged):
            damaged[at] = data.draw(st.integers(0, 255))
    try:
        check_library(bytes(damaged), "v66", ENTRY)
    except ElfError:
        return
    assert end > 0


@pytest.mark.parametrize("bare", [False, True])
def test_the_library_compiles_without_a_warning(tmp_path: Path, bare: bool) -> None:
    need_board_tools()
    words = [*library_flags("v66", bare), *map(str, library_sources(bare))]
    strict = ["-Wall", "-Wextra", "-Werror", "-Wstrict-prototypes", "-o", str(tmp_path / "one.so")]
    command = [*compiler().command, "cc", *words, *strict]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_launchers_compile_without_a_warning(tmp_path: Path) -> None:
    need_board_tools()
    sources = [str(path) for path in LAUNCHER.rglob("*.c") if "lib" not in path.name]
    strict = ["-Wall", "-Wextra", "-Werror", "-Wstrict-prototypes", "-c", "-ffreestanding"]
    command = [*compiler().command, "cc", "-target", "aarch64-linux-none", *strict, *sources]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=600, check=False, cwd=tmp_path
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert {launcher_path(system).name.split("-")[2] for system in SYSTEMS} == set(SYSTEMS)
    with pytest.raises(ToolError, match="allowed: linux, android"):
        launcher_path("windows")


def test_file_names_change_with_what_they_are_made_of() -> None:
    need_board_tools()
    names = {library_path(arch, bare).name for arch in ARCHITECTURES for bare in (False, True)}
    assert len(names) == 6
    assert str(DSP) not in "".join(names)
