"""The parts of a device description: clusters, DSP, GPU, memory, power and heat.

:class:`cost_models.device.Device` is made of them.
"""

from __future__ import annotations

from math import expm1
from typing import Literal, Self

from pydantic import Field, StrictBool, StrictInt, field_validator, model_validator

from cost_models.description import OperatingPoints, Voltages
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
    Seconds,
    SharedByteRate,
)

Pool = Literal["big", "little"]


class Cluster(Part):
    """Identical CPU cores that share a clock; rates and powers are those of one core.

    ``copy_rate`` counts each copied byte once (it is read and written). ``sustained_mhz`` is the
    clock held under a long load on all big cores; absent: not known, the highest clock is used.
    ``voltages``: supply at each operating point, where it is known.
    """

    name: Literal["prime", "big", "little"]
    core: Name
    pool: Pool
    cores: StrictInt = Field(ge=1, le=16)
    fp32_macs_per_cycle: MacsPerCycle
    int8_macs_per_cycle: MacsPerCycle
    copy_rate: ByteRate
    operating_points: OperatingPoints
    voltages: Voltages | None = None
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

    @model_validator(mode="after")
    def _voltage_of_each_point(self) -> Self:
        if self.voltages is not None:
            clocks, known = (
                [mhz for mhz, _ in table.rows] for table in (self.operating_points, self.voltages)
            )
            differs = sorted({*clocks} ^ {*known})
            if differs:
                raise ValueError(
                    f"{differs[0]:g} MHz is in only one of operating_points and voltages; give both"
                )
        return self

    @property
    def max_mhz(self) -> float:
        """Highest clock of the operating points, MHz."""
        return self.operating_points.rows[-1][0]


class Cpu(Part):
    """All clusters; ``pool_rate`` is what the big cores draw together, reads plus writes.

    ``settable``: software may hold the cores at any of their operating points (a board with a
    userspace governor), so that plans choose clocks by MHz.
    """

    clusters: tuple[Cluster, ...] = Field(min_length=1)
    llc_bytes: Bytes
    pool_rate: ByteRate
    settable: StrictBool = False

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
    """The GPU as one queue; ``fp32_macs_per_cycle`` is of the whole unit.

    ``operating_points``: clock and power of the busy GPU at each point that software may set; the
    last is ``clock`` and ``power_mw``.
    """

    name: Name
    fp32_macs_per_cycle: MacsPerCycle
    clock: Megahertz
    rate: ByteRate
    power_mw: Milliwatts
    launch_us: Microseconds
    operating_points: OperatingPoints | None = None

    @model_validator(mode="after")
    def _ends_at_its_clock(self) -> Self:
        if self.operating_points is not None:
            last = self.operating_points.rows[-1]
            if last != (self.clock.value, self.power_mw.value):
                raise ValueError(
                    f"operating_points end at {list(last)}; the last must be clock and power_mw, "
                    f"[{self.clock.value:g}, {self.power_mw.value:g}]: correct one of them"
                )
        return self


class PowerMode(Part):
    """What a board allows under a named limit: big cores online, and the highest clocks."""

    name: Name
    big_cores: StrictInt = Field(ge=1, le=16)
    cpu_mhz: Megahertz
    gpu_mhz: Megahertz | None = None


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
