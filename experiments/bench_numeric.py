"""Figures of the numeric side: INT8 products, whole training steps, and the first step of all.

PyTorch is compared with where it is importable; a figure that needs it is left out otherwise.
"""

from __future__ import annotations

import os
import subprocess
import sys
from tempfile import TemporaryDirectory

from experiments import bench_gemm, bench_training
from experiments.bench_figure import Figure
from kernels.gemm import available_backends

THREADS = 2
COLD_SECONDS, WARM_SECONDS = 20.0, 3.0
"""From the start of a process to the end of its first training step, without and with compiled
kernels on disk."""
PATIENCE_SECONDS = 600

_FIRST_STEP = """
from time import perf_counter
begin = perf_counter()
import numpy as np
from sim import build_plan, load_device, load_model, training_graph
from sim.numeric import TrainingSession
graph, device = training_graph(load_model("lenet", 64)), load_device("snapdragon-865")
session = TrainingSession(graph, build_plan("mandheling", graph, device), device)
images = np.random.default_rng(0).standard_normal((64, 28, 28, 1)).astype(np.float32)
session.step(images, np.arange(64) % 10, rate_q24=1 << 18)
print(perf_counter() - begin)
"""


def first_step_figures() -> list[Figure]:
    """Time LeNet's first step in a new process, with an empty cache of compiled code and again."""
    with TemporaryDirectory() as cache:
        environment = {**os.environ, "NUMBA_CACHE_DIR": cache}
        cold, warm = (_first_step(environment) for _ in range(2))
    return [
        Figure("first step, nothing compiled", cold, "s", COLD_SECONDS),
        Figure("first step, compiled before", warm, "s", WARM_SECONDS),
    ]


def _first_step(environment: dict[str, str]) -> float:
    command = [sys.executable, "-c", _FIRST_STEP]
    child = subprocess.run(
        command, env=environment, check=True, capture_output=True, text=True,
        timeout=PATIENCE_SECONDS,
    )  # fmt: skip
    return float(child.stdout)


def product_figures(rounds: int) -> list[Figure]:
    """INT8 product of the fastest back-end as ratios to PyTorch's and to the CPU's peak."""
    bounds = {
        "torch._int_mm": bench_gemm.INT8_RATIO,
        "torch float32": bench_gemm.FP32_RATIO,
        "NumPy float32": None,
        "peak": None,
    }
    rates = bench_gemm.measure(THREADS, rounds)
    found = bench_gemm.ratios(rates, f"ours: {available_backends()[0]}")
    return [
        Figure(f"INT8 product vs {rival}", found[rival], "x", bound, at_least=True)
        for rival, bound in bounds.items()
        if rival in found
    ]


def training_figures(rounds: int) -> list[Figure]:
    """Whole training steps as ratios to PyTorch's."""
    figures = []
    for model, aims in bench_training.AIMS.items():
        times = bench_training.measure(model, 64, THREADS, rounds)
        figures.append(Figure(f"{model} step, int8", times["int8"]["best"], "ms"))
        found = bench_training.ratios(times)
        for rival, bound in aims.items():
            if found:
                ratio = found["int8"][rival]
                figures.append(Figure(f"{model} int8 vs {rival}", ratio, "x", bound, at_least=True))
        if found and model == "vgg11":
            ratio = found["int8, portable"]["torch fp32"]
            bound = bench_training.PORTABLE_AIM
            figures.append(Figure("vgg11 portable vs torch fp32", ratio, "x", bound, at_least=True))
    return figures
