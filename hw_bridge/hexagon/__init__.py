"""HVX kernels in C, and the emulator that runs them: what a DSP would compute, bit for bit."""

from hw_bridge.hexagon.errors import HexagonError, KernelError, RunnerError, ToolError
from hw_bridge.hexagon.protocol import Answer, Counts, Kernel
from hw_bridge.hexagon.runner import Runner

__all__ = [
    "Answer",
    "Counts",
    "HexagonError",
    "Kernel",
    "KernelError",
    "Runner",
    "RunnerError",
    "ToolError",
]
