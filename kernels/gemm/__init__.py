"""Exact INT8 matrix products: the arithmetic of every INT8 convolution and linear layer."""

from kernels.gemm.backends import GemmError, available_backends, lacking
from kernels.gemm.interface import MAX_K, PackedB, gemm_s8s8s32, pack_b

__all__ = [
    "MAX_K",
    "GemmError",
    "PackedB",
    "available_backends",
    "gemm_s8s8s32",
    "lacking",
    "pack_b",
]
