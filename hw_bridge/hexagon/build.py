"""Binaries built from the C sources of this project, kept per user by the hash of what they are.

The cache lies in ``$MANDHELING_CACHE``, else ``$XDG_CACHE_HOME/mandheling``, else
``~/.cache/mandheling``; the source tree stays as it is. A binary's name holds the hash of sources,
flags and compiler version, so that an old one is never run for a new one.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from hw_bridge.hexagon.errors import ToolError
from hw_bridge.hexagon.toolchain import compile_flags, compiler

SOURCES = Path(__file__).parent / "c"
_BUILD_S = 1800
"""A build takes two seconds; on a machine that others keep busy, minutes."""


def cache_folder() -> Path:
    """Folder of built runners; not made yet."""
    named = os.environ.get("MANDHELING_CACHE")
    if named:
        return Path(named)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "mandheling"


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
        No compiler, or C that does not compile: the first lines of what the compiler said are in
        the message.
    """
    folder = cache_folder()
    target = folder / name
    if target.exists():
        return target
    folder.mkdir(parents=True, exist_ok=True)
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
