"""What running HVX kernels needs, step by step: what ``mandheling hw doctor`` prints."""

from __future__ import annotations

from hw_bridge.hexagon.build import CACHE_REMEDY, runner_path, usable_cache
from hw_bridge.hexagon.errors import ToolError
from hw_bridge.hexagon.protocol import Kernel
from hw_bridge.hexagon.runner import Runner
from hw_bridge.hexagon.toolchain import (
    ARCHITECTURES,
    COMPILER_INSTALL,
    EMULATOR_INSTALL,
    compiler,
    emulator,
)
from hw_bridge.steps import Step, look


def _runs(arch: str) -> str:
    path = runner_path(arch)
    with Runner(arch) as runner:
        built_for, vector, threads = runner.call(Kernel.INFO).values
    if f"v{built_for}" != arch:
        raise ToolError(f"{path} was built for v{built_for}; remove it")
    return f"{path.name}: {vector}-byte vectors, {threads} threads"


def examine() -> list[Step]:
    """Look at each step; later ones are left out where what they need is missing."""
    steps = [
        look("C compiler", lambda: compiler().version, COMPILER_INSTALL),
        look("emulator", lambda: emulator().version, EMULATOR_INSTALL),
        look("cache folder", lambda: str(usable_cache()), CACHE_REMEDY),
    ]
    if not all(step.ok for step in steps):
        return steps
    remedy = "if its C does not compile, install the package and the compiler again"
    for arch in ARCHITECTURES:
        steps.append(look(f"runner for {arch}", lambda arch=arch: _runs(arch), remedy))  # type: ignore[misc]
    return steps
