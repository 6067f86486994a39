"""Caches: kernels' loop nests as data, a trace-driven simulator, and the closed form that agrees.

>>> from cost_models.cost import KernelCall
>>> from kernels.operators import Role
>>> from kernels.pointwise import Relu
>>> nests = kernel_nests(KernelCall(Relu((8, 64, 32, 32)), Role.FORWARD, "int8"), "cpu")
>>> caches = Hierarchy((Level("L1", 32 * 1024, ways=4, line_bytes=64),))
>>> simulate(nests, caches).memory_bytes == estimate(nests, caches).memory_bytes
True
"""

from cost_models.caches.analytic import Estimate, LevelEstimate, estimate
from cost_models.caches.geometry import device_hierarchy
from cost_models.caches.kernels import kernel_nests, simulate
from cost_models.caches.levels import CacheError, Hierarchy, Level, LevelCounts, Traffic
from cost_models.caches.splits import SplitPoint, split_point

__all__ = [
    "CacheError",
    "Estimate",
    "Hierarchy",
    "Level",
    "LevelCounts",
    "LevelEstimate",
    "SplitPoint",
    "Traffic",
    "device_hierarchy",
    "estimate",
    "kernel_nests",
    "simulate",
    "split_point",
]
