"""What the tests of the Hexagon kernels share: tools or a reason to skip, and one runner."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from hw_bridge.hexagon.errors import ToolError
from hw_bridge.hexagon.protocol import Kernel
from hw_bridge.hexagon.runner import Runner
from hw_bridge.hexagon.toolchain import compiler, emulator

KERNELS = [kernel for kernel in Kernel if kernel is not Kernel.INFO]


def missing_tool() -> str:
    """The line that says what is missing and how to install it; empty if nothing is."""
    try:
        compiler()
        emulator()
    except ToolError as error:
        return str(error)
    return ""


def need_tools() -> None:
    """Skip the test with the install line unless compiler and emulator are there."""
    if reason := missing_tool():
        pytest.skip(reason)


def open_runner(arch: str = "v66") -> Iterator[Runner]:
    """A runner of one build, ended afterwards."""
    need_tools()
    with Runner(arch) as runner:
        yield runner
