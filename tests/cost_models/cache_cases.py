"""Kernels and caches on which the cache simulator is compared with pycachesim."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from cost_models.caches import CacheError, Hierarchy, Level, kernel_nests
from cost_models.caches.nest import Nest
from cost_models.caches.streams import CPU, DSP, rescaling_nests
from cost_models.cost import DType, KernelCall
from kernels.conv import Conv2d
from kernels.layout import Concat, LayoutTranspose, Split, WeightRotate180
from kernels.linear import Linear
from kernels.loss import SoftmaxCrossEntropy
from kernels.norm import BatchNorm2d
from kernels.operators import Operator, OperatorError, Role
from kernels.pointwise import Add, Dropout, Relu, Relu6
from kernels.pool import AvgPool2d, GlobalAvgPool, MaxPool2d
from kernels.precision import Dequantise, Quantise, Requantise, RescaleScan
from kernels.update import SgdUpdate

GOLDEN = Path(__file__).parent / "cache_golden.json"
COUNTS = ("loads", "stores", "hits", "misses", "evictions")

OPERATORS: dict[str, Operator] = {
    "conv 3x3": Conv2d(3, 16, 8, 8, 24, 3, pad=1),
    "conv 3x3, stride 2": Conv2d(2, 32, 9, 9, 40, 3, stride=2, pad=1),
    "conv of an image": Conv2d(2, 3, 12, 12, 16, 5, pad=2),
    "conv, 1x1": Conv2d(2, 64, 4, 4, 32, 1),
    "conv, dilated": Conv2d(1, 8, 10, 10, 8, 3, pad=2, dilation=2),
    "conv in 2 groups": Conv2d(2, 16, 6, 6, 32, 3, pad=1, groups=2),
    "depthwise conv": Conv2d(2, 32, 8, 8, 32, 3, stride=2, pad=1, groups=32),
    "linear": Linear(5, 100, 40),
    "max pool": MaxPool2d(2, 32, 8, 8, 3, 2, 1),
    "average pool": AvgPool2d(2, 32, 8, 8, 2, 2),
    "global average pool": GlobalAvgPool(2, 48, 5, 5),
    "relu": Relu((2, 40, 7, 7)),
    "relu6": Relu6((2, 32, 8, 8)),
    "dropout": Dropout((4, 200)),
    "residual add": Add((2, 32, 8, 8)),
    "concat": Concat((2, 96, 5, 5), (64, 32)),
    "split": Split((2, 96, 5, 5), (64, 32)),
    "to NHWC": LayoutTranspose((2, 32, 8, 16), (0, 2, 3, 1)),
    "to NCHW": LayoutTranspose((2, 8, 16, 32), (0, 3, 1, 2)),
    "matrix transpose": LayoutTranspose((64, 128), (1, 0)),
    "rotate weights": WeightRotate180((16, 24, 3, 3)),
    "quantise": Quantise((2, 32, 8, 8)),
    "dequantise": Dequantise((2, 32, 8, 8)),
    "requantise": Requantise((2, 32, 8, 8)),
    "scan": RescaleScan((2, 32, 8, 8)),
    "update": SgdUpdate(3000),
    "batch norm": BatchNorm2d(2, 32, 8, 8),
    "loss": SoftmaxCrossEntropy(8, 10),
}
KIB = 1024
CPU_CACHES = (
    Hierarchy((Level("L1", 64 * KIB, 4, 64), Level("L2", 256 * KIB, 8, 64),
               Level("L3", 5632 * KIB, 16, 64))),
    Hierarchy((Level("L1", 2 * KIB, 2, 32), Level("L2", 12 * KIB, 4, 64),
               Level("L3", 40 * KIB, 5, 128))),
)  # fmt: skip
DSP_CACHES = (
    Hierarchy((Level("L1", 32 * KIB, 4, 64), Level("L2", KIB * KIB, 8, 64)), 256 * KIB, 1),
    Hierarchy((Level("L1", KIB, 2, 32), Level("L2", 10 * KIB, 5, 64)), 8 * KIB, 1),
)
"""A phone's caches, then small ones with odd numbers of sets, which small kernels overflow."""


def cases() -> Iterator[tuple[str, list[Nest], Hierarchy]]:
    """Give each case's name, nests and caches: all kinds, roles and units."""
    for name, op in OPERATORS.items():
        for role in Role:
            for unit, caches in (("cpu", CPU_CACHES), ("dsp", DSP_CACHES)):
                for dtype in ("int8", "fp32"):
                    yield from _cases_of(name, op, role, unit, dtype, caches)
    for mode in ("fused", "dynamic"):
        for unit, lanes, caches in (("cpu", CPU, CPU_CACHES), ("dsp", DSP, DSP_CACHES)):
            for size, hierarchy in zip(("phone", "small"), caches, strict=True):
                nests = rescaling_nests(4000, lanes, mode == "dynamic")
                yield f"rescaling {mode}, {unit}, {size} caches", nests, hierarchy


def _cases_of(
    name: str, op: Operator, role: Role, unit: str, dtype: DType, caches: tuple[Hierarchy, ...]
) -> Iterator[tuple[str, list[Nest], Hierarchy]]:
    try:
        work = op.work(role)
    except OperatorError:
        return
    modes = {"dynamic": False, "none": True} if work.macs and dtype == "int8" else {"fused": False}
    for size, hierarchy in zip(("phone", "small"), caches, strict=True):
        for rescaling, adds in modes.items():
            call = KernelCall(op, role, dtype, rescaling, adds)  # type: ignore[arg-type]
            try:
                nests = kernel_nests(call, unit, hierarchy.scratchpad_bytes)  # type: ignore[arg-type]
            except CacheError:
                return  # no such kernel on the DSP
            yield f"{name}, {role}, {dtype} {rescaling}, {unit}, {size} caches", nests, hierarchy


def read_golden() -> dict[str, list[list[list[int]]]]:
    """Counts by case: as the trace ends and after write-back, level by level, of ``COUNTS``."""
    found: dict[str, list[list[list[int]]]] = json.loads(GOLDEN.read_text(encoding="utf-8"))
    return found
