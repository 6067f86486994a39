"""Device descriptions: what the hardware is, each number with its evidence.

A :class:`Device` is read from YAML (``cost_models/devices/*.yaml`` or a file of the user) and is
frozen. It knows no kernel and no policy; what software makes of the hardware is a
:class:`cost_models.library.Library`. Questions that need arithmetic (a clock in Hz, the power
of a core at a clock) are answered here in exact integers.
"""

from __future__ import annotations

from bisect import bisect_left
from pathlib import Path
from typing import ClassVar, Self

from pydantic import Field, field_validator, model_validator

from cost_models.description import Description, load, names_in
from cost_models.errors import DeviceError, unknown_name
from cost_models.mcu.description import Mcu
from cost_models.offload import FastRpc, Prepare
from cost_models.parts import Cluster, Cpu, Dsp, Gpu, Memory, Pool, PowerMode, Static, Thermal
from cost_models.quantity import Name, Prose

FOLDER = Path(__file__).parent / "devices"
MCU_FOLDER = FOLDER / "mcu"
HALF_HZ = 0.5000001e-6
"""In MHz, with room for the rounding of the division by 10^6."""


class Device(Description):
    """A phone, board, laptop or microcontroller.

    ``dsp``, ``fastrpc`` and ``prepare`` come together or not at all. With ``mcu``, the pool ``big``
    is a cluster of RISC-V cores on a scratchpad and ``memory`` is its L2.

    Examples
    --------
    >>> phone = load_device("snapdragon-865")
    >>> phone.clock_hz("dsp"), phone.core_power_mw("prime", 2841.6)
    (1400000000, 984)
    """

    what: ClassVar[str] = "device"
    error: ClassVar[type[DeviceError]] = DeviceError
    came_later: ClassVar[tuple[str, ...]] = ("mcu",)

    soc: Name
    description: Prose
    notes: tuple[Prose, ...] = ()
    cpu: Cpu
    dsp: Dsp | None
    gpu: Gpu | None
    memory: Memory
    fastrpc: FastRpc | None
    prepare: Prepare | None
    static: tuple[Static, ...] = Field(min_length=1)
    thermal: Thermal
    power_modes: tuple[PowerMode, ...] = ()
    mcu: Mcu | None = None

    @property
    def facts(self) -> dict[str, str]:
        """Chip and Hexagon version."""
        return {"soc": self.soc} | ({} if self.dsp is None else {"hexagon": self.dsp.arch})

    @model_validator(mode="after")
    def _dsp_is_whole(self) -> Self:
        present = {"dsp": self.dsp, "fastrpc": self.fastrpc, "prepare": self.prepare}
        missing = [name for name, part in present.items() if part is None]
        if missing and len(missing) < len(present):
            raise ValueError(f"{', '.join(missing)} is null but the others are not; give all three")
        return self

    @field_validator("static")
    @classmethod
    def _domain_once(cls, static: tuple[Static, ...]) -> tuple[Static, ...]:
        domains = [row.domain for row in static]
        if len(set(domains)) < len(domains):
            raise ValueError(f"domains are {domains}; each may appear once: add their powers")
        return static

    def cluster(self, name: str) -> Cluster:
        """Return the CPU cluster of that name; :class:`DeviceError` if there is none."""
        for cluster in self.cpu.clusters:
            if cluster.name == name:
                return cluster
        names = [cluster.name for cluster in self.cpu.clusters]
        raise DeviceError(unknown_name(f"cluster of {self.name}", name, names))

    def pool(self, name: Pool) -> tuple[Cluster, ...]:
        """Return the clusters whose cores work together as pool ``name``; may be empty."""
        return tuple(cluster for cluster in self.cpu.clusters if cluster.pool == name)

    def clock_hz(self, unit: str, point: str | None = None) -> int:
        """Return a clock in Hz, rounded to an integer.

        Parameters
        ----------
        unit
            ``dsp``, ``gpu``, or the name of a CPU cluster.
        point
            DSP: ``nominal``, ``turbo`` or ``turbo_l1`` (default: ``default_clock``). Cluster:
            ``max`` (default) or ``sustained`` (the highest where it is not known). GPU: ``max``,
            or one of its operating points such as ``614.4MHz``.

        Raises
        ------
        DeviceError
            The device has no such unit, or the unit no such point.
        """
        points = self._clocks_mhz(unit)
        default = self.dsp.default_clock if unit == "dsp" and self.dsp is not None else "max"
        chosen = default if point is None else point
        if chosen not in points:
            raise DeviceError(unknown_name(f"clock of {unit} on {self.name}", chosen, list(points)))
        return _rounded(points[chosen] * 1e6)

    def _clocks_mhz(self, unit: str) -> dict[str, float]:
        if unit == "dsp" and self.dsp is not None:
            clock = self.dsp.clock
            return {
                "nominal": clock.nominal.value,
                "turbo": clock.turbo.value,
                "turbo_l1": clock.turbo_l1.value,
            }
        if unit == "gpu" and self.gpu is not None:
            points = self.gpu.operating_points
            rows = () if points is None else points.rows
            return {"max": self.gpu.clock.value} | {named(mhz): mhz for mhz, _ in rows}
        if unit in ("dsp", "gpu"):
            raise DeviceError(f"{self.name}: has no {unit}; place its operators on the CPU")
        cluster = self.cluster(unit)
        sustained = cluster.sustained_mhz
        held = cluster.max_mhz if sustained is None else sustained.value
        return {"max": cluster.max_mhz, "sustained": min(held, cluster.max_mhz)}

    def gpu_power_mw(self, mhz: float) -> int:
        """Return the power of the busy GPU at its clock or an operating point, integer mW.

        Raises
        ------
        DeviceError
            There is no GPU, or it has no such operating point.
        """
        if self.gpu is None:
            raise DeviceError(f"{self.name}: has no gpu; place its operators on the CPU")
        points = self.gpu.operating_points
        known = {self.gpu.clock.value: self.gpu.power_mw.value}
        known |= dict(points.rows) if points is not None else {}
        for clock, power in known.items():
            if abs(clock - mhz) <= HALF_HZ:
                return _rounded(power)
        allowed = ", ".join(f"{clock:g}" for clock in sorted(known))
        raise DeviceError(
            f"{self.name}: gpu: {mhz:g} MHz is no operating point; choose one of {allowed} MHz"
        )

    def core_power_mw(self, cluster: str, mhz: float) -> int:
        """Return the power of one busy core at a clock, integer milliwatts.

        Linear between the operating points on either side; at a point, its own power.

        Raises
        ------
        DeviceError
            Unknown cluster, or a clock outside its operating points.
        """
        rows = self.cluster(cluster).operating_points.rows
        # Clocks pass through whole Hz, which may lie up to half a Hz outside.
        if not rows[0][0] - HALF_HZ <= mhz <= rows[-1][0] + HALF_HZ:
            raise DeviceError(
                f"{self.name}: cluster {cluster}: {mhz:g} MHz is outside its operating points; "
                f"allowed: {rows[0][0]:g} to {rows[-1][0]:g} MHz; choose a clock in this range"
            )
        mhz = min(max(mhz, rows[0][0]), rows[-1][0])
        after = bisect_left(rows, mhz, key=lambda row: row[0])
        if rows[after][0] == mhz:
            return _rounded(rows[after][1])
        (x0, y0), (x1, y1) = rows[after - 1], rows[after]
        return _rounded(y0 + (y1 - y0) * (mhz - x0) / (x1 - x0))


def named(mhz: float) -> str:
    """Name of an operating point in plans.

    >>> named(614.4), named(1400.0)
    ('614.4MHz', '1400MHz')
    """
    return f"{mhz:g}MHz"


def _rounded(value: float) -> int:
    """Half up; for numbers of 0 or more."""
    return int(value + 0.5)


def device_names() -> tuple[str, ...]:
    """Return the names of the devices that come with the sandbox, sorted; see also mcu_names."""
    return names_in(FOLDER)


def mcu_names() -> tuple[str, ...]:
    """Return the names of the microcontroller clusters, sorted: they train at batch 1 only."""
    return names_in(MCU_FOLDER)


def load_device(name_or_path: str | Path) -> Device:
    """Return a device by its built-in name, or read it from a ``.yaml`` file.

    Raises
    ------
    DeviceError
        One line: the file, the field, its value, what is allowed, what to do.
    """
    return load(name_or_path, FOLDER, Device, MCU_FOLDER)
