"""The compiler and the emulator: where they are, which versions, and how to install them."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec

from hw_bridge.hexagon.errors import ToolError

COMPILER_INSTALL = "python -m pip install ziglang"
EMULATOR_INSTALL = "apt-get install qemu-user"
ARCHITECTURES = ("v66", "v68", "v73")
"""Hexagon versions that runners are built for; each has HVX vectors of 128 bytes."""
_EMULATED_AS = "v67"
"""QEMU 7.2 knows no later one; the instructions used here are all in it."""
_ANSWER_S = 30


@dataclass(frozen=True, slots=True)
class Tool:
    """A program that was found.

    Attributes
    ----------
    command
        The words that start it.
    version
        As it says itself.
    """

    command: tuple[str, ...]
    version: str


def check_architecture(arch: str) -> str:
    """Give ``arch`` back, or refuse it.

    Raises
    ------
    ToolError
        Not one of :data:`ARCHITECTURES`.
    """
    if arch not in ARCHITECTURES:
        raise ToolError(f"arch is {arch!r}; allowed: {', '.join(ARCHITECTURES)}")
    return arch


def compiler() -> Tool:
    """Find the C compiler: ``zig cc`` of the Python package ziglang.

    Raises
    ------
    ToolError
        It is not installed.
    """
    try:
        found = version("ziglang")
    except PackageNotFoundError:
        found = ""
    if not found or find_spec("ziglang") is None:
        raise ToolError(f"the C compiler is missing; install it: {COMPILER_INSTALL}")
    return Tool((sys.executable, "-m", "ziglang"), f"ziglang {found}")


def emulator() -> Tool:
    """Find ``qemu-hexagon`` on the path.

    Raises
    ------
    ToolError
        It is not installed, or does not start.
    """
    path = shutil.which("qemu-hexagon")
    if path is None:
        raise ToolError(f"qemu-hexagon is missing; install it: {EMULATOR_INSTALL}")
    try:
        said = subprocess.run(
            [path, "--version"], capture_output=True, text=True, timeout=_ANSWER_S, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError) as error:
        raise ToolError(
            f"{path} does not start ({error}); install it: {EMULATOR_INSTALL}"
        ) from None
    return Tool((path,), said.splitlines()[0] if said else "unknown version")


def compile_flags(arch: str) -> tuple[str, ...]:
    """Give the compiler's words for one Hexagon version.

    Examples
    --------
    >>> compile_flags("v66")[2]
    '-mcpu=hexagonv66+hvxv66+hvx_length128b'
    """
    return (*target_flags(arch), "-static")


def target_flags(arch: str) -> tuple[str, ...]:
    """Give the compiler's words for one Hexagon version, whatever the binary's form."""
    check_architecture(arch)
    cpu = f"-mcpu=hexagon{arch}+hvx{arch}+hvx_length128b"
    return ("-target", "hexagon-linux-none", cpu, "-O3", "-ffreestanding", "-nostdlib")


def emulate(arch: str) -> tuple[str, ...]:
    """Give the words that run a binary of one Hexagon version in the emulator."""
    words = emulator().command
    return words if check_architecture(arch) == "v66" else (*words, "-cpu", _EMULATED_AS)
