"""The GEMM back-ends by name, which of them this CPU can run, and which one is taken.

``MANDHELING_GEMM`` in the environment names one for a whole process; otherwise the first of
:data:`NAMES` that the CPU can run. All give the same numbers.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

ENVIRONMENT = "MANDHELING_GEMM"
NAMES = ("vnni", "vnni256", "dotprod", "blas", "portable", "reference")
"""All back-ends, the fastest first."""

_NEEDS = {
    "vnni": (("avx512vnni", "avx512bw"),),
    "vnni256": (("avxvnni",), ("avx512vnni", "avx512vl")),
    "dotprod": (("dotprod",),),
}
"""Sets of CPU features of which one must be there whole, in LLVM's names."""


class GemmError(ValueError):
    """A back-end that cannot be used, or a sum that INT32 may not hold; it says what is allowed."""


@dataclass(frozen=True, slots=True)
class Backend:
    """How one back-end reads B, and how it multiplies."""

    pack: Callable[[NDArray[np.int8], int], NDArray[Any]]
    multiply: Callable[[NDArray[np.int8], NDArray[Any], NDArray[np.int32], int], None]


@lru_cache(maxsize=1)
def _cpu_features() -> frozenset[str]:
    """Features that Numba compiles for: the host's, unless NUMBA_CPU_FEATURES says otherwise."""
    from numba.core.registry import cpu_target

    triple, cpu, features = cpu_target.target_context.codegen().magic_tuple()
    names = {name[1:] for name in features.split(",") if name.startswith("+")}
    if triple.startswith(("aarch64", "arm64")):
        from kernels.gemm.dotprod import compiles_sdot

        names |= {"dotprod"} if compiles_sdot(triple, cpu, features) else set()
    return frozenset(names)


def cpu_has(feature: str) -> bool:
    """Whether compiled code may use a CPU feature, in LLVM's name."""
    return feature in _cpu_features()


def lacking(name: str) -> str | None:
    """What the CPU lacks for a back-end, in words; None if it can run it.

    Raises
    ------
    GemmError
        No back-end of that name.
    """
    if name not in NAMES:
        raise GemmError(f"backend is {name!r}; allowed: {', '.join(NAMES)}")
    needs = _NEEDS.get(name)
    if needs is None or any(_cpu_features().issuperset(need) for need in needs):
        return None
    return " or ".join("+".join(need) for need in needs)


def available_backends() -> tuple[str, ...]:
    """Back-ends that this CPU can run, the fastest first."""
    return tuple(name for name in NAMES if lacking(name) is None)


def chosen(name: str | None) -> str:
    """Name of the back-end to use: ``name``, else the environment's, else the fastest.

    Raises
    ------
    GemmError
        No back-end of that name, or one that the CPU lacks features for.
    """
    field = "backend" if name is not None else ENVIRONMENT
    name = name if name is not None else os.environ.get(ENVIRONMENT)
    if not name:
        return _fastest()
    if name not in NAMES:
        raise GemmError(f"{field} is {name!r}; allowed: {', '.join(NAMES)}")
    missing = lacking(name)
    if missing is not None:
        raise GemmError(
            f"{field} is {name!r}, which needs the CPU features {missing}; this CPU can run:"
            f" {', '.join(available_backends())}"
        )
    return name


@lru_cache(maxsize=1)
def _fastest() -> str:
    return available_backends()[0]


@cache
def load(name: str) -> Backend:
    """The functions of a back-end; a compiled one imports Numba here."""
    if name == "vnni":
        from kernels.gemm import vnni

        return Backend(vnni.pack_512, vnni.multiply_512)
    if name == "vnni256":
        from kernels.gemm import vnni

        return Backend(vnni.pack_256, vnni.multiply_256)
    if name == "dotprod":
        from kernels.gemm import dotprod

        return Backend(dotprod.pack, dotprod.multiply)
    if name == "portable":
        from kernels.gemm import portable

        return Backend(portable.pack, portable.multiply)
    from kernels.gemm import plain

    if name == "blas":
        return Backend(plain.pack_blas, plain.multiply_blas)
    return Backend(plain.pack_reference, plain.multiply_reference)
