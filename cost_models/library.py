"""Kernel libraries: what software makes of the hardware, each number with its evidence.

A :class:`Library` says which share of a unit's MAC peak its kernels sustain, how it scales over
threads, what a kernel call costs, and how fast its pointwise and strided kernels are. The same
library runs on every device that has its kind of unit.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import ClassVar, Literal, Self, TypeVar

from pydantic import Field, model_validator

from cost_models.description import Description, load, names_in
from cost_models.errors import LibraryError, unknown_name
from cost_models.quantity import (
    ByteRate,
    BytesPerElement,
    ElementsPerCycle,
    GatherRate,
    Microseconds,
    Part,
    Prose,
    Quantity,
    Share,
)

FOLDER = Path(__file__).parent / "libraries"

Dtype = Literal["fp32", "fp16", "int8"]
AluKind = Literal["fp32", "fp16", "int8", "int32"]


class RoleShares(Part):
    """Sustained share of the unit's MAC peak in each role, at one thread or context per unit."""

    forward: Share
    input_grad: Share
    weight_grad: Share


class Efficiency(Part):
    """Shares by kernel family; a grouped convolution counts as ``conv``."""

    conv: RoleShares
    depthwise: RoleShares
    linear: RoleShares


class Strided(Part):
    """Factor on the share of a gradient when the convolution has a stride above 1."""

    input_grad: Share
    weight_grad: Share


class Int32Passes(Part):
    """Memory traffic of dynamic rescaling, bytes per output element and pass.

    ``clear`` and ``write`` the INT32 accumulators, ``scan`` them for their largest magnitude,
    ``read`` them again and store the ``result``.
    """

    clear: BytesPerElement
    write: BytesPerElement
    scan: BytesPerElement
    read: BytesPerElement
    result: BytesPerElement
    scan_contexts: int = Field(ge=1, le=16)


M = TypeVar("M", bound=Part | Quantity)


class Library(Description):
    """A kernel library on one kind of unit.

    ``input_rate`` is how fast one core makes FP32 input tensors ready (decode, augment, normalise).

    Examples
    --------
    >>> round(load_library("hexagon_nn").share("int8", "conv", "forward"), 2)
    0.77
    """

    what: ClassVar[str] = "library"
    is_library: ClassVar[bool] = True
    error: ClassVar[type[LibraryError]] = LibraryError

    unit_kind: Literal["cpu", "gpu", "dsp"]
    description: Prose
    notes: tuple[Prose, ...] = ()
    efficiency: dict[Dtype, Efficiency] = Field(min_length=1)
    strided: Strided
    parallel_efficiency: dict[int, Share] | None = None
    launch_us: Microseconds
    alu_elements_per_cycle: dict[AluKind, ElementsPerCycle] = Field(min_length=1)
    gather_rate: GatherRate
    input_rate: ByteRate | None = None
    int32_passes: Int32Passes | None = None

    @property
    def facts(self) -> dict[str, str]:
        """The library's name; the chip is that of a device."""
        return {"library": self.name}

    @model_validator(mode="after")
    def _threads_ordered(self) -> Self:
        if not self.parallel_efficiency:
            if self.unit_kind == "cpu":
                raise ValueError("parallel_efficiency is missing; a CPU library gives {1: ..}")
            return self
        threads = list(self.parallel_efficiency)
        if threads[0] != 1 or any(a >= b for a, b in pairwise(threads)):
            raise ValueError(f"parallel_efficiency: threads {threads} must increase from 1: sort")
        return self

    @model_validator(mode="after")
    def _within_the_peak(self) -> Self:
        """On a DSP no product is saved by Winograd: a share above 1 is a slip, or no share."""
        for path, quantity in self.quantities().items() if self.unit_kind == "dsp" else ():
            if path.startswith("efficiency.") and quantity.value > 1:
                raise ValueError(
                    f"{path} {quantity.value:g} exceeds the peak of a context: lower it"
                )
        return self

    def quantities(self) -> dict[str, Quantity]:
        """Return every number by its path; shares of a DSP's peak end at the peak."""
        found = super().quantities()
        if self.unit_kind == "dsp":
            for path in (each for each in found if each.startswith(("efficiency.", "strided."))):
                found[path] = found[path].model_copy(update={"limit": max(1.0, found[path].value)})
        return found

    def share(self, dtype: str, family: str, role: str) -> float:
        """Return the sustained share of the MAC peak.

        Parameters
        ----------
        dtype
            ``fp32``, ``fp16`` or ``int8``; :class:`LibraryError` if there are no such kernels.
        family
            ``conv``, ``depthwise`` or ``linear``.
        role
            ``forward``, ``input_grad`` or ``weight_grad``.
        """
        for name, efficiency in self.efficiency.items():
            if name == dtype:
                roles = _member(efficiency, f"{self.name}: kernel family", family, RoleShares)
                return _member(roles, f"{self.name}: role", role, Quantity).value
        raise LibraryError(unknown_name(f"{self.name}: data type", dtype, list(self.efficiency)))

    def strided_share(self, role: str) -> float:
        """Return the factor on a gradient's share when its convolution has a stride above 1."""
        if role == "forward":
            return 1.0
        return _member(self.strided, f"{self.name}: role", role, Quantity).value

    def alu_elements(self, kind: str) -> float:
        """Return elements per cycle of a pointwise kernel on one core or context."""
        for name, quantity in self.alu_elements_per_cycle.items():
            if name == kind:
                return quantity.value
        raise LibraryError(
            unknown_name(f"{self.name}: ALU", kind, list(self.alu_elements_per_cycle))
        )

    def gather_bytes_per_us(self, rate: int) -> float:
        """Return the effective rate of strided kernels where ``rate`` is the contiguous one."""
        gather = self.gather_rate
        return gather.value * rate if gather.unit == "share" else min(gather.value, rate)

    @property
    def launch_ns(self) -> int:
        """Latency of one kernel call, nanoseconds."""
        return round(self.launch_us.value * 1000)

    def listed_threads(self, threads: int) -> int:
        """Return the listed number of threads whose efficiency stands for ``threads``.

        The next one up, or the last: what :meth:`parallel_share` interpolates towards.
        """
        listed = list(self.parallel_efficiency or (1,))
        return next((count for count in listed if count >= threads), listed[-1])

    def parallel_share(self, threads: int) -> float:
        """Return the efficiency of ``threads`` threads against as many separate cores.

        Linear between the given counts; beyond the last it stays. 1.0 without a table.
        """
        if threads < 1:
            raise LibraryError(f"{self.name}: threads: {threads} is not allowed; give 1 or more")
        if self.parallel_efficiency is None:
            return 1.0
        points = [(count, share.value) for count, share in self.parallel_efficiency.items()]
        for (n0, s0), (n1, s1) in pairwise(points):
            if threads <= n1:
                return s0 + (s1 - s0) * (threads - n0) / (n1 - n0)
        return points[-1][1]


def _member(part: Part, what: str, name: str, kind: type[M]) -> M:
    """Return a field by its name from outside, or say which there are."""
    member = getattr(part, name) if name in type(part).model_fields else None
    if not isinstance(member, kind):
        raise LibraryError(unknown_name(what, name, list(type(part).model_fields)))
    return member


def library_names() -> tuple[str, ...]:
    """Return the names of the libraries that come with the sandbox, sorted."""
    return names_in(FOLDER)


def load_library(name_or_path: str | Path) -> Library:
    """Return a library by its built-in name, or read it from a ``.yaml`` file.

    Raises
    ------
    LibraryError
        One line: the file, the field, its value, what is allowed, what to do.
    """
    return load(name_or_path, FOLDER, Library)
