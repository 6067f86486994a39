"""Device descriptions: what the hardware is, each number with its evidence.

A :class:`Device` is read from YAML (``cost_models/devices/*.yaml`` or a file of the user) and is
frozen. It knows no kernel and no policy; what software makes of the hardware is a
:class:`cost_models.library.Library`. Questions that need arithmetic (a clock in Hz, the power
of a core at a clock) are answered here in exact integers.
"""

from __future__ import annotations

from bisect import bisect_left
from math import expm1
from pathlib import Path
from typing import ClassVar, Literal, Self

from pydantic import Field, StrictBool, StrictInt, field_validator, model_validator

from cost_models.description import (
    Description,
    OperatingPoints,
    load,
    names_in,
)
from cost_models.errors import DeviceError, unknown_name
from cost_models.mcu.description import Mcu
from cost_models.offload import FastRpc, Prepare
from cost_models.quantity import (
    ByteRate,
    Bytes,
    BytesPerCycle,
    Celsius,
    IdleMilliwatts,
    KelvinPerWatt,
    MacsPerCycle,
    Megahertz,
    Microseconds,
    Milliwatts,
    Name,
    Part,
    PicojoulesPerByte,
    Prose,
    Seconds,
    SharedByteRate,
)

FOLDER = Path(__file__).parent / "devices"
MCU_FOLDER = FOLDER / "mcu"
HALF_HZ = 0.5000001e-6
"""In MHz, with room for the rounding of the division by 10^6."""

Pool = Literal["big", "little"]


class Cluster(Part):
    """Identical CPU cores that share a clock; rates and powers are those of one core.

    ``copy_rate`` counts each copied byte once (it is read and written). ``sustained_mhz`` is the
    clock held under a long load on all big cores; absent: not known, the highest clock is used.
    """

    name: Literal["prime", "big", "little"]
    core: Name
    pool: Pool
    cores: StrictInt = Field(ge=1, le=16)
    fp32_macs_per_cycle: MacsPerCycle
    int8_macs_per_cycle: MacsPerCycle
    copy_rate: ByteRate
    operating_points: OperatingPoints
    sustained_mhz: Megahertz | None = None

    @model_validator(mode="after")
    def _sustains_a_clock_it_has(self) -> Self:
        lowest = self.operating_points.rows[0][0]
        if self.sustained_mhz is not None and self.sustained_mhz.value < lowest:
            raise ValueError(
                f"sustained_mhz {self.sustained_mhz.value:g} is below the lowest operating point "
                f"{lowest:g} MHz; correct it or add that point"
            )
        return self

    @property
    def max_mhz(self) -> float:
        """Highest clock of the operating points, MHz."""
        return self.operating_points.rows[-1][0]


class Cpu(Part):
    """All clusters; ``pool_rate`` is what the big cores draw together, reads plus writes."""

    clusters: tuple[Cluster, ...] = Field(min_length=1)
    llc_bytes: Bytes
    pool_rate: ByteRate

    @field_validator("clusters")
    @classmethod
    def _named_once(cls, clusters: tuple[Cluster, ...]) -> tuple[Cluster, ...]:
        names = [cluster.name for cluster in clusters]
        if len(set(names)) < len(names):
            raise ValueError(f"clusters are named {names}; each name may appear once: merge them")
        if all(cluster.pool != "big" for cluster in clusters):
            raise ValueError("no cluster is in pool 'big'; put the fastest cores there")
        return clusters


class DspClock(Part):
    """Clock by vote level."""

    nominal: Megahertz
    turbo: Megahertz
    turbo_l1: Megahertz

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        levels = (self.nominal.value, self.turbo.value, self.turbo_l1.value)
        if not levels[0] <= levels[1] <= levels[2]:
            raise ValueError(f"clocks {levels} MHz must not decrease: nominal, turbo, turbo_l1")
        return self


class Dsp(Part):
    """A Hexagon compute DSP with its vector (HVX) contexts of 128 bytes.

    ``macs_per_cycle_per_context`` is the INT8 rate of one context; ``rate`` the DDR traffic of all
    contexts (reads plus writes), ``single_context_rate`` that of one. ``power_mw`` is drawn with
    all contexts busy at turbo. ``memory_budget_bytes`` bounds prepared subgraphs. The matrix unit
    of v68 and later (``has_hmx``) is not modelled: results are HVX-only.
    """

    arch: Literal["v66", "v68", "v69", "v73", "v75", "v79"]
    contexts: StrictInt = Field(ge=1, le=16)
    vtcm_bytes: Bytes
    l2_bytes: Bytes
    clock: DspClock
    default_clock: Literal["nominal", "turbo", "turbo_l1"] = "turbo"
    macs_per_cycle_per_context: MacsPerCycle
    rate: ByteRate
    single_context_rate: ByteRate
    l2_bytes_per_cycle: BytesPerCycle
    power_mw: Milliwatts
    idle_power_mw: IdleMilliwatts
    has_hmx: StrictBool
    memory_budget_bytes: Bytes

    @model_validator(mode="after")
    def _one_below_all(self) -> Self:
        one, all_ = self.single_context_rate.value, self.rate.value
        if one > all_:
            raise ValueError(f"single_context_rate {one:g} exceeds rate {all_:g} MB/s; lower it")
        idle, busy = self.idle_power_mw.value, self.power_mw.value
        if idle > busy:
            raise ValueError(f"idle_power_mw {idle:g} exceeds power_mw {busy:g}; lower it")
        return self


class Gpu(Part):
    """The GPU as one queue; ``fp32_macs_per_cycle`` is of the whole unit."""

    name: Name
    fp32_macs_per_cycle: MacsPerCycle
    clock: Megahertz
    rate: ByteRate
    power_mw: Milliwatts
    launch_us: Microseconds


class Memory(Part):
    """DRAM: ``ddr_rate`` is the sustained traffic of all units together, not the pin rate."""

    capacity_bytes: Bytes
    training_budget_bytes: Bytes
    ddr_rate: SharedByteRate
    pj_per_byte: PicojoulesPerByte

    @model_validator(mode="after")
    def _budget_fits(self) -> Self:
        budget, capacity = self.training_budget_bytes.value, self.capacity_bytes.value
        if budget > capacity:
            raise ValueError(
                f"training_budget_bytes {budget:g} exceeds capacity_bytes {capacity:g}; lower it"
            )
        return self


class Static(Part):
    """Power that flows for as long as the run lasts, by domain."""

    domain: Name
    mw: IdleMilliwatts


class Thermal(Part):
    """A first-order thermal model; above ``throttle_c`` clocks fall to the sustained ones."""

    ambient_c: Celsius
    resistance_c_per_w: KelvinPerWatt
    time_constant_s: Seconds
    throttle_c: Celsius

    def after(self, temperature_mc: int, energy_pj: int, time_ns: int) -> int:
        """Return the temperature after ``time_ns`` in which ``energy_pj`` was used, millidegrees.

        Newton's law: it closes ``1 - exp(-t / tau)`` of the gap to ambient + power x resistance.
        """
        watts = energy_pj / (1000 * time_ns)
        target = 1000 * (self.ambient_c.value + watts * self.resistance_c_per_w.value)
        closed = -expm1(-time_ns / (1e9 * self.time_constant_s.value))
        return round(temperature_mc + (target - temperature_mc) * closed)


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
            ``max`` (default) or ``sustained`` (the highest where it is not known). GPU: ``max``.

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
            return {"max": self.gpu.clock.value}
        if unit in ("dsp", "gpu"):
            raise DeviceError(f"{self.name}: has no {unit}; place its operators on the CPU")
        cluster = self.cluster(unit)
        sustained = cluster.sustained_mhz
        held = cluster.max_mhz if sustained is None else sustained.value
        return {"max": cluster.max_mhz, "sustained": min(held, cluster.max_mhz)}

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
