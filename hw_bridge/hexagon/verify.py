"""HVX kernels against :mod:`kernels`, case by case: what ``mandheling hw verify`` runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hw_bridge.hexagon.backend import HexagonKernels
from hw_bridge.hexagon.errors import KernelError
from hw_bridge.hexagon.expected import CHECKS
from hw_bridge.hexagon.protocol import Kernel
from hw_bridge.hexagon.runner import Runner

MOST_THREADS = 4
"""Threads that are drawn, at most; a DSP with fewer HVX contexts takes as many as it has."""
_SHOWN = 5
"""Differences that a result keeps."""


@dataclass(slots=True)
class KernelVerdict:
    """How one kernel fared on one build.

    Attributes
    ----------
    arch, kernel
        Build and kernel name.
    cases, mismatches
        Cases run, and those with any difference in a value or a count.
    packets
        Packets of all cases and threads together.
    examples
        (seed, case, kernel) of the first mismatches: :func:`run_case` repeats one.
    """

    arch: str
    kernel: str
    cases: int = 0
    mismatches: int = 0
    packets: int = 0
    examples: list[str] = field(default_factory=list)


def case_rng(seed: int, kernel: Kernel, case: int) -> np.random.Generator:
    """Draws of one case: they depend on nothing else, so that one case can be run alone."""
    return np.random.default_rng([seed, int(kernel), case])


def same(got: Any, want: Any) -> bool:
    """Whether values and type agree, to the last bit."""
    if isinstance(want, np.ndarray):
        return bool(got.dtype == want.dtype and np.array_equal(got, want))
    return bool(got == want)


def run_case(
    runner: Runner, kernel: Kernel, seed: int, case: int, most_threads: int = MOST_THREADS
) -> tuple[bool, int]:
    """Run one case; whether all agrees, and the packets.

    Threads are drawn too. A refusal counts as a difference: all that is drawn is allowed.
    """
    rng = case_rng(seed, kernel, case)
    threads = min(int(rng.integers(1, MOST_THREADS + 1)), most_threads)
    dsp = HexagonKernels(runner, threads)
    try:
        pairs, counts = CHECKS[kernel](rng, dsp)
    except KernelError:
        return False, 0
    return all(same(got, want) for got, want in pairs), counts.packets


def share(cases: int, kernels: Sequence[Kernel]) -> Iterator[tuple[Kernel, int]]:
    """Split cases among kernels as evenly as integers allow."""
    for i, kernel in enumerate(kernels):
        yield kernel, cases * (i + 1) // len(kernels) - cases * i // len(kernels)


def verify(
    arch: str,
    cases: int,
    kernels: Sequence[Kernel],
    seed: int = 0,
    advance: Callable[[], None] = lambda: None,
) -> list[KernelVerdict]:
    """Compare kernels with their definitions on drawn shapes and values.

    Parameters
    ----------
    arch
        Build to run: ``v66``, ``v68`` or ``v73``.
    cases
        Cases of all kernels together.
    kernels
        Which; the cases are shared out among them.
    seed
        Of all draws.
    advance
        Called after each case.

    Raises
    ------
    ToolError
        No compiler or emulator.
    RunnerError, FrameError
        The runner crashed, hung or answered nonsense: no kernel may, whatever it is given.
    """
    with Runner(arch) as runner:
        return verify_on(runner, arch, cases, kernels, seed, advance)


def verify_on(
    runner: Runner,
    arch: str,
    cases: int,
    kernels: Sequence[Kernel],
    seed: int = 0,
    advance: Callable[[], None] = lambda: None,
    most_threads: int = MOST_THREADS,
) -> list[KernelVerdict]:
    """Compare kernels as :func:`verify`, on a runner that is there already."""
    verdicts = []
    for kernel, count in share(cases, kernels):
        verdict = KernelVerdict(arch, kernel.name.lower())
        for case in range(count):
            agrees, packets = run_case(runner, kernel, seed, case, most_threads)
            verdict.cases += 1
            verdict.packets += packets
            if not agrees:
                verdict.mismatches += 1
                if len(verdict.examples) < _SHOWN:
                    verdict.examples.append(f"seed {seed}, {verdict.kernel}, case {case}")
            advance()
        verdicts.append(verdict)
    return verdicts
