"""CPU cores working together: which cores a number of threads gets, and what they do per second.

Threads take the fastest free cores of their pool. Work is divided evenly, so all wait for the
slowest core in use (static partition, as MNN's thread pool does); its clock and its rate count for
all.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from cost_models.device import Cluster, Device, Pool


@dataclass(frozen=True, slots=True)
class Cores:
    """``count`` cores of one pool, working on one kernel.

    Attributes
    ----------
    fp32_macs_per_cycle, int8_macs_per_cycle
        Rate of the slowest core in use.
    rate
        DDR traffic that these cores can draw together, bytes per microsecond.
    """

    count: int
    fp32_macs_per_cycle: float
    int8_macs_per_cycle: float
    max_hz: int
    sustained_hz: int
    max_power_mw: int
    sustained_power_mw: int
    rate: int

    def macs_per_cycle(self, dtype: str) -> float:
        """MAC per cycle and core for a data type."""
        return self.int8_macs_per_cycle if dtype == "int8" else self.fp32_macs_per_cycle

    def clock_and_power(self, *, sustained: bool) -> tuple[int, int]:
        """Clock in Hz and power of all these cores in mW."""
        if sustained:
            return self.sustained_hz, self.sustained_power_mw
        return self.max_hz, self.max_power_mw


def core_count(device: Device, pool: Pool) -> int:
    """Cores in a pool; 0 when the device has no such pool."""
    return sum(cluster.cores for cluster in device.pool(pool))


def cores_of(device: Device, pool: Pool, count: int) -> Cores:
    """Return the ``count`` fastest cores of a pool.

    Raises
    ------
    ValueError
        The pool has fewer cores.
    """
    known = _known(device.sha256, pool, count, _Ref(device))
    if known is None:
        raise ValueError(
            f"{device.name}: pool {pool!r} has {core_count(device, pool)} cores, not {count}; "
            "ask for fewer"
        )
    return known


class _Ref:
    """Carries a device past the cache key, which holds its digest."""

    def __init__(self, device: Device) -> None:
        self.device = device

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Ref)

    def __hash__(self) -> int:
        return 0


@lru_cache(maxsize=256)
def _known(digest: str, pool: Pool, count: int, ref: _Ref) -> Cores | None:
    device = ref.device
    fastest = sorted(device.pool(pool), key=lambda cluster: -cluster.max_mhz)
    chosen: list[Cluster] = [cluster for cluster in fastest for _ in range(cluster.cores)][:count]
    if not 1 <= count <= len(chosen):
        return None

    def power(point: str) -> int:
        hz = [(c.name, device.clock_hz(c.name, point)) for c in chosen]
        return sum(device.core_power_mw(name, value / 1e6) for name, value in hz)

    return Cores(
        count=count,
        fp32_macs_per_cycle=min(c.fp32_macs_per_cycle.value for c in chosen),
        int8_macs_per_cycle=min(c.int8_macs_per_cycle.value for c in chosen),
        max_hz=min(device.clock_hz(c.name, "max") for c in chosen),
        sustained_hz=min(device.clock_hz(c.name, "sustained") for c in chosen),
        max_power_mw=power("max"),
        sustained_power_mw=power("sustained"),
        rate=int(min(device.cpu.pool_rate.value, sum(2 * c.copy_rate.value for c in chosen))),
    )
