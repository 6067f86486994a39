"""Binaries built from the C sources of this project, kept per user by the hash of what they are.

The cache lies in ``$MANDHELING_CACHE``, else ``$XDG_CACHE_HOME/mandheling``, else
``~/.cache/mandheling``; the source tree stays as it is. A binary's name holds the hash of sources,
flags and compiler version, so that an old one is never run for a new one; one that a crash or a
full disk left damaged is built again.
"""

from __future__ import annotations

import hashlib
import os
import struct
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from hw_bridge.hexagon.errors import ToolError
from hw_bridge.hexagon.toolchain import compile_flags, compiler

SOURCES = Path(__file__).parent / "c"
_BUILD_S = 1800
"""A build takes two seconds; on a machine that others keep busy, minutes."""
_SECTIONS = {1: ("<I", 0x20, 0x2E), 2: ("<Q", 0x28, 0x3A)}
"""By ELF class (32 and 64 bits): type and place of the section table's offset, place of its entry's
size and count."""
CACHE_REMEDY = "set MANDHELING_CACHE to a folder that can be written"


def cache_folder() -> Path:
    """Folder of built runners; not made yet."""
    named = os.environ.get("MANDHELING_CACHE")
    if named:
        return Path(named)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "mandheling"


def usable_cache() -> Path:
    """Folder of built runners, made if it is not there, and found to take files.

    Raises
    ------
    ToolError
        It cannot be made or written.
    """
    folder = cache_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as tried:
            tried.write(b"0")
    except OSError as error:
        raise ToolError(
            f"the cache folder {folder} cannot be used ({error.strerror or error}); {CACHE_REMEDY}"
        ) from None
    return folder


def is_whole(path: Path) -> bool:
    """Whether a file is an ELF binary with all its bytes: linkers put the section table last."""
    content = path.read_bytes()
    if len(content) < 64 or content[:4] != b"\x7fELF" or content[4] not in _SECTIONS:
        return False
    form, where, sizes = _SECTIONS[content[4]]
    (offset,) = struct.unpack_from(form, content, where)
    size, count = struct.unpack_from("<2H", content, sizes)
    return bool(offset > 0 and offset + size * count <= len(content))


def source_files() -> list[Path]:
    """C files and headers, sorted by name.

    Raises
    ------
    ToolError
        The package came without them.
    """
    found = sorted(path for path in SOURCES.iterdir() if path.suffix in (".c", ".h"))
    if not found:
        raise ToolError(f"{SOURCES} has no C sources; install the package again")
    return found


def hash_of(words: Sequence[str], files: Sequence[Path]) -> str:
    """Hash of a compiler, its words and the files it reads: 16 hexadecimal digits."""
    digest = hashlib.sha256()
    for word in (compiler().version, *words):
        digest.update(word.encode() + b"\0")
    for path in files:
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def build_hash(arch: str) -> str:
    """Hash of all that a runner is made from: 16 hexadecimal digits."""
    return hash_of(compile_flags(arch), source_files())


def built(name: str, what: str, words: Sequence[str]) -> Path:
    """Give the cache's file of this name, compiled by ``words`` if there is none yet.

    Parameters
    ----------
    name
        Of the file; holds a hash of all that it is made from.
    what
        What it is, for the message.
    words
        For ``zig cc``: flags and sources; the output is added.

    Raises
    ------
    ToolError
        No compiler, a cache that cannot be written, or C that does not compile: the first lines of
        what the compiler said are in the message.
    """
    target = cache_folder() / name
    if target.is_file() and is_whole(target):
        return target
    folder = usable_cache()
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        made = Path(scratch) / name
        command = [*compiler().command, "cc", *words, "-o", str(made)]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=_BUILD_S, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise ToolError(f"the compiler did not finish: {error}") from None
        if done.returncode != 0:
            said = " ".join(done.stderr.split())[:600]
            raise ToolError(f"{what} does not compile: {said}")
        with made.open("rb") as file:
            os.fsync(file.fileno())  # else a crash may leave the name without the bytes
        made.replace(target)  # whole or not at all, whoever else builds it
    return target


def runner_path(arch: str) -> Path:
    """Static runner for one Hexagon version, built if the cache has none.

    Parameters
    ----------
    arch
        ``v66``, ``v68`` or ``v73``.

    Raises
    ------
    ToolError
        No compiler, an unknown version, or C that does not compile.
    """
    sources = [str(path) for path in source_files() if path.suffix == ".c"]
    words = [*compile_flags(arch), *sources]
    return built(f"runner-{arch}-{build_hash(arch)}", f"the runner for {arch}", words)
