"""CPU cores working together: which cores a number of threads gets, and what they do per second.

Threads take the fastest free cores of their pool. Work is divided evenly, so all wait for the
slowest core in use (static partition, as MNN's thread pool does); its clock and its rate count for
all.
"""

from __future__ import annotations

from dataclasses import dataclass

from cost_models.device import Device
from cost_models.parts import Cluster, Pool


@dataclass(frozen=True, slots=True)
class Cores:
    """``count`` cores of one pool, working on one kernel.

    Attributes
    ----------
    clusters
        Names of the clusters they belong to and how many cores of each are used, fastest first.
    fp32_macs_per_cycle, int8_macs_per_cycle
        Rate of the slowest core in use.
    max_hz
        Highest clock of the slowest core in use.
    rate
        DDR traffic that these cores can draw together, bytes per microsecond.
    rate_path
        Name of the constant of the CPU that bounds it.
    """

    count: int
    clusters: tuple[tuple[str, int], ...]
    fp32_macs_per_cycle: float
    int8_macs_per_cycle: float
    max_hz: int
    rate: int
    rate_path: str

    def macs_per_cycle(self, dtype: str) -> float:
        """MAC per cycle and core for a data type."""
        return self.int8_macs_per_cycle if dtype == "int8" else self.fp32_macs_per_cycle


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
    if not 1 <= count <= core_count(device, pool):
        raise ValueError(
            f"{device.name}: pool {pool!r} has {core_count(device, pool)} cores, not {count}; "
            "ask for fewer, or for at least one"
        )
    used: list[tuple[Cluster, int]] = []
    left = count
    for cluster in sorted(device.pool(pool), key=lambda cluster: -cluster.max_mhz):
        taken = min(left, cluster.cores)
        left -= taken
        if taken:
            used.append((cluster, taken))
    copying = sum(2 * c.copy_rate.value * n for c, n in used)
    bound = device.cpu.pool_rate.value
    slowest = used[-1][0].name
    return Cores(
        count=count,
        clusters=tuple((cluster.name, taken) for cluster, taken in used),
        fp32_macs_per_cycle=min(c.fp32_macs_per_cycle.value for c, _ in used),
        int8_macs_per_cycle=min(c.int8_macs_per_cycle.value for c, _ in used),
        max_hz=min(device.clock_hz(c.name, "max") for c, _ in used),
        rate=int(min(bound, copying)),
        rate_path="pool_rate" if bound <= copying else f"clusters.{slowest}.copy_rate",
    )


def clock_and_power(device: Device, cores: Cores, point: str = "max") -> tuple[int, int]:
    """Return the clock of the slowest core in use, Hz, and the power of all of them, mW.

    Parameters
    ----------
    point
        ``max``, ``sustained``, or a share of the highest clock such as ``75%``: each cluster then
        runs at its highest operating point that does not exceed it. A clock such as ``1400MHz``
        limits every cluster to it in the same way.
    """
    mhz = {name: _mhz(device, device.cluster(name), point) for name, _ in cores.clusters}
    power = sum(n * device.core_power_mw(name, mhz[name]) for name, n in cores.clusters)
    return round(min(mhz.values()) * 1e6), power


def _mhz(device: Device, cluster: Cluster, point: str) -> float:
    if point.endswith("MHz"):
        limit = float(point.removesuffix("MHz"))
    elif point.endswith("%"):
        limit = cluster.max_mhz * int(point.removesuffix("%")) / 100
    else:
        return device.clock_hz(cluster.name, point) / 1e6
    points = [mhz for mhz, _ in cluster.operating_points.rows]
    return max((mhz for mhz in points if mhz <= limit), default=points[0])
