"""FastRPC: what a call from the CPU to the DSP costs before the DSP computes anything.

A call costs a fixed part (an empty call), a part for the cache maintenance of its buffers, and a
drawn part: the rare long delays of the scheduler. Each is an integer in nanoseconds.
"""

from __future__ import annotations

from functools import lru_cache

from cost_models.description import Row
from cost_models.device import Device
from cost_models.draws import InverseCdf
from cost_models.errors import DeviceError, unknown_name
from cost_models.offload import RpcLatency


def rpc_mode(device: Device, mode: str | None = None) -> RpcLatency:
    """Return the latencies of a quality-of-service mode, or of the default one.

    Raises
    ------
    DeviceError
        The device has no FastRPC, or does not describe this mode.
    """
    if device.fastrpc is None:
        raise DeviceError(
            f"{device.name}: fastrpc is null (no DSP); place its operators on the CPU"
        )
    modes = device.fastrpc.modes
    chosen = device.fastrpc.default_mode if mode is None else mode
    for name, latency in modes.items():
        if name == chosen:
            return latency
    raise DeviceError(unknown_name(f"FastRPC mode of {device.name}", chosen, sorted(modes)))


def rpc_latency_ns(device: Device, mode: str | None, size_bytes: int) -> int:
    """Return the latency of a call that passes ``size_bytes`` in all its buffers, nanoseconds.

    The empty call plus a piecewise-linear function of the bytes; beyond the last row of the table
    its last slope goes on. The drawn part is of :func:`rpc_tail`.

    Raises
    ------
    DeviceError
        See :func:`rpc_mode`; or ``size_bytes`` is negative.

    Examples
    --------
    >>> from cost_models.device import load_device
    >>> rpc_latency_ns(load_device("snapdragon-865"), "pm_qos", 0)
    92000
    """
    latency = rpc_mode(device, mode)
    if size_bytes < 0:
        raise DeviceError(f"size_bytes: {size_bytes} is negative; give 0 or more")
    return _ns(latency.null_us.value) + _interpolated(_knots(latency.per_mib.rows), size_bytes)


def rpc_table(device: Device, mode: str | None) -> tuple[int, tuple[tuple[int, int], ...]]:
    """Return what :func:`rpc_latency_ns` computes with: the fixed latency, and (bytes, ns) rows."""
    latency = rpc_mode(device, mode)
    return _ns(latency.null_us.value), _knots(latency.per_mib.rows)


def rpc_tail(device: Device, mode: str | None = None) -> InverseCdf:
    """Return the distribution of the drawn extra latency of a call, nanoseconds."""
    return _tail(rpc_mode(device, mode).tail.rows)


def _ns(microseconds: float) -> int:
    return round(microseconds * 1000)


@lru_cache(maxsize=256)
def _tail(rows: tuple[Row, ...]) -> InverseCdf:
    return InverseCdf.from_quantiles(rows)


@lru_cache(maxsize=256)
def _knots(rows: tuple[Row, ...]) -> tuple[tuple[int, int], ...]:
    return tuple((round(size), _ns(extra)) for size, extra in rows)


def _interpolated(knots: tuple[tuple[int, int], ...], size: int) -> int:
    """Exact integer interpolation, rounded down; the last segment extends without end."""
    index = next((i for i in range(1, len(knots)) if size <= knots[i][0]), len(knots) - 1)
    (x0, y0), (x1, y1) = knots[index - 1], knots[index]
    return y0 + (y1 - y0) * (size - x0) // (x1 - x0)
