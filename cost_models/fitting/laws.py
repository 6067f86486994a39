"""The laws that measured tables calibrate, each with a handful of physical coefficients.

None has a coefficient of a single network. What each is fitted on, how well it predicts rows it
has not seen, and what it misses: ``docs/background/calibration.md``.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from cost_models.fitting.law import Coefficient, Law
from cost_models.fitting.table import FloatArray, Table

MIB: Final = 1 << 20
CLEAN_ALL_BYTES: Final = MIB
"""Buffers above 1 MiB: the driver cleans the whole cache of the process instead of line by line
(Hexagon SDK 4.4.0.1 documentation, software/system_performance/system_optimizations)."""


def _rpc_size(theta: FloatArray, rows: Table) -> FloatArray:
    """``empty + [size > 0] buffer + line min(size, 1 MiB) + page max(size - 1 MiB, 0)``."""
    size = rows.numbers["buffer_bytes"]
    near = np.minimum(size, CLEAN_ALL_BYTES) / MIB
    far = np.maximum(size - CLEAN_ALL_BYTES, 0.0) / MIB
    return np.asarray(theta[0] + theta[1] * (size > 0) + theta[2] * near + theta[3] * far)


_SWEEP = "a sweep of buffer sizes from 32 KiB to 8 MiB in this setup"
RPC_SIZE = Law(
    "fastrpc-size",
    "FastRPC call by buffer size",
    "us",
    (
        Coefficient("empty_us", "us", 150, 1, 1e5, "empty call", "an empty call in this setup"),
        Coefficient("buffer_us", "us", 100, 0.1, 1e5, "passing any buffer", _SWEEP),
        Coefficient("line_us_per_mib", "us/MiB", 80, 0.01, 1e5, "by line, up to 1 MiB", _SWEEP),
        Coefficient("page_us_per_mib", "us/MiB", 15, 0.01, 1e5, "beyond 1 MiB", _SWEEP),
    ),
    _rpc_size,
    block="setup",
)

QOS_MODES: Final = ("none", "adaptive", "pm_qos")
SLEEP_US: Final = 100.0
"""Shortest job after which the waiting CPU counts as asleep more deeply: fixed, not fitted."""


def _rpc_qos(theta: FloatArray, rows: Table) -> FloatArray:
    """``awake + [mode is not pm_qos] wake + [none] deeper log(1 + job / 100 us)``.

    PM-QoS forbids the CPU to sleep while it waits. Otherwise it must wake up; the adaptive mode
    wakes it ahead of a job's expected end, and without any the idle governor sends it the deeper
    the longer it waits (Hexagon SDK 3.5.4 documentation, FastRPC QoS page).
    """
    mode = rows.labels["mode"]
    asleep = np.log1p(rows.numbers["job_us"] / SLEEP_US) * (mode == "none")
    return np.asarray(theta[0] + theta[1] * (mode != "pm_qos") + theta[2] * asleep)


RPC_QOS = Law(
    "fastrpc-qos",
    "FastRPC overhead by QoS mode and job length",
    "us",
    (
        Coefficient("awake_us", "us", 400, 1, 1e5, "CPU kept awake", "calls with PM-QoS"),
        Coefficient("wake_us", "us", 200, 1, 1e5, "waking it up", "calls in adaptive mode"),
        Coefficient(
            "deeper_us", "us", 200, 1, 1e5, "per e-fold of waiting", "calls without QoS, by length"
        ),
    ),
    _rpc_qos,
)


def _core_power(theta: FloatArray, rows: Table) -> FloatArray:
    """``awake + linear f + cubic f^3``, f in GHz.

    Dynamic power is ``C V^2 f``: linear in f where V is at its floor, cubic where V rises with f.
    """
    ghz = rows.numbers["clock_mhz"] / 1000
    return np.asarray(theta[0] + theta[1] * ghz + theta[2] * ghz**3)


_CLOCKS = "this core at clocks from the lowest to the highest"
CORE_POWER = Law(
    "core-power",
    "Power of one busy core by operating point",
    "mW",
    (
        Coefficient("awake_mw", "mW", 10, 0.1, 1e4, "power that no clock changes", _CLOCKS),
        Coefficient("linear_mw_per_ghz", "mW/GHz", 100, 0.1, 1e4, "C V^2, V at floor", _CLOCKS),
        Coefficient("cubic_mw_per_ghz3", "mW/GHz^3", 20, 0.01, 1e4, "V rises with f", _CLOCKS),
    ),
    _core_power,
    block="core",
)


def _dsp_networks(theta: FloatArray, rows: Table) -> FloatArray:
    """``fixed + MACs / rate``; GMAC/s is MAC per ns, and a ms has 10^6 ns."""
    return np.asarray(theta[0] + rows.numbers["macs"] / theta[1] / 1e6)


DSP_NETWORKS = Law(
    "dsp-networks",
    "DSP inference in INT8 (v66), whole networks",
    "ms",
    (
        Coefficient("fixed_ms", "ms", 3, 0.01, 100, "per inference", "a network of few MACs"),
        Coefficient(
            "rate_gmacs", "GMAC/s", 500, 1, 768, "sustained rate", "networks of 1 to 10 GMAC"
        ),
    ),
    _dsp_networks,
)
"""The upper bound of the rate is the peak: 4 contexts x 128 MAC per cycle x 1.5 GHz (turbo L1)."""

PEAK_GMACS: Final = {
    "ncnn-fp16": 47.4,
    "ncnn-int8": 94.7,
    "paddlelite-fp32": 22.7,
    "paddlelite-int8": 90.9,
}
"""Peak of one prime core, GMAC/s: 8 FP32 MAC per cycle of a Cortex-A76 or A77 (MegEngine/MegPeak
README), twice in FP16, four times in INT8, at 2.96 GHz (855+, ncnn) or 2.84 GHz (Paddle-Lite)."""
CPU_LIBRARIES: Final = tuple(PEAK_GMACS)


def _cpu_networks(theta: FloatArray, rows: Table) -> FloatArray:
    """``(MACs / rate + activations c) / threads^s + weight bytes / copy rate``.

    Convolutions 3x3 of stride 1 in float count ``winograd`` times their MACs. Weights stream from
    DDR once, at the copy rate of the device file: one core already draws nearly all of it.
    """
    library, dtype = rows.labels["library"], rows.labels["dtype"]
    rate = np.select([library == name for name in CPU_LIBRARIES], theta[:4].tolist())
    share = np.where(dtype == "int8", 1.0, theta[4])
    macs = rows.numbers["direct_macs"] + share * rows.numbers["winograd_macs"]
    single = macs / rate / 1e6 + rows.numbers["activations"] * theta[5] / 1e6
    shared = single / rows.numbers["threads"] ** theta[6]
    return np.asarray(shared + rows.numbers["weights_ms"])


CPU_NETWORKS = Law(
    "cpu-networks",
    "CPU inference by threads (855, 855+, 865)",
    "ms",
    (
        *(
            Coefficient(
                f"rate_{name}", "GMAC/s", 0.7 * peak, 1, peak, "prime core", f"networks with {name}"
            )
            for name, peak in PEAK_GMACS.items()
        ),
        Coefficient(
            "winograd_share", "share", 0.6, 0.1, 1.5, "of 3x3 MACs", "float networks of 3x3 kernels"
        ),
        Coefficient(
            "activation_ns", "ns/element", 0.3, 1e-3, 10, "read or written", "depthwise networks"
        ),
        Coefficient(
            "thread_exponent", "1", 0.7, 0.05, 1.0, "speedup = threads^s", "2 to 4 threads"
        ),
    ),
    _cpu_networks,
)


def _training(theta: FloatArray, rows: Table) -> FloatArray:
    """``governor (fixed + node nodes + depthwise + window elements)``; ns x 10^6 in ms."""
    depthwise = theta[3] * rows.numbers["depthwise_macs"] / 1e6
    windows = theta[4] * rows.numbers["window_elements"] / 1e6
    step = theta[1] + theta[2] * rows.numbers["nodes"] + depthwise + windows
    return np.asarray(step * np.where(rows.labels["setting"] == "default", theta[0], 1.0))


TRAINING = Law(
    "training-sd855",
    "MNN training step in FP32 (855)",
    "ms",
    (
        Coefficient(
            "governor_ratio", "1", 0.9, 0.3, 3, "default over 1.7088 GHz", "the default governor"
        ),
        Coefficient("fixed_ms", "ms", 3, 0.01, 100, "per step", "small networks at batch 1"),
        Coefficient("node_ms", "ms", 0.1, 1e-3, 10, "per operator and role", "batch 1"),
        Coefficient(
            "depthwise_ns_per_mac", "ns/MAC", 1, 1e-3, 100, "all roles", "depthwise networks"
        ),
        Coefficient(
            "window_ns", "ns/element", 1, 1e-3, 100, "outputs x kernel taps", "large batches"
        ),
    ),
    _training,
)
"""``window_elements``: ``n c_out h_out w_out k_h k_w`` of the dense convolutions, what the input
gradient gathers when it is a convolution of the error. MACs were offered and not identified."""


def _null_calls(theta: FloatArray, rows: Table) -> FloatArray:
    """``call + asleep log(1 + gap / 100 us)``: who idled longer sleeps more deeply."""
    return np.asarray(theta[0] + theta[1] * np.log1p(rows.numbers["gap_us"] / SLEEP_US))


NULL_CALLS = Law(
    "null-calls",
    "Empty FastRPC call by QoS mode and time idle",
    "us",
    (
        Coefficient("call_us", "us", 150, 0.1, 1e5, "an empty call", "null calls without a gap"),
        Coefficient(
            "asleep_us", "us", 50, 0.001, 1e5, "per e-fold of idling", "null calls after gaps"
        ),
    ),
    _null_calls,
    block="qos",
)

COPIES = Law(
    "buffer-copies",
    "FastRPC call that copies a buffer",
    "us",
    (
        Coefficient("call_us", "us", 150, 0.1, 1e5, "call with a buffer", "copies of few bytes"),
        Coefficient("us_per_mib", "us/MiB", 100, 0.01, 1e6, "by size", "copies of many bytes"),
    ),
    lambda theta, rows: theta[0] + theta[1] * rows.numbers["bytes"] / MIB,
    block="memory",
)

KERNELS = Law(
    "kernels",
    "Kernels by shape",
    "us",
    (
        Coefficient("launch_us", "us", 20, 0.001, 1e5, "per call", "shapes of little work"),
        Coefficient("rate_per_ns", "1/ns", 10, 1e-4, 1e5, "sustained", "shapes of much work"),
    ),
    lambda theta, rows: theta[0] + rows.numbers["work"] / theta[1] / 1000,
    block="family",
)
"""``work``: MACs of a product, elements of any other kernel."""

LAWS: Final = {
    law.name: law
    for law in (
        *(RPC_SIZE, RPC_QOS, CORE_POWER, DSP_NETWORKS, CPU_NETWORKS, TRAINING),
        *(NULL_CALLS, COPIES, KERNELS),
    )
}
"""By name; the last three are fitted to samples only: no such table is published for a DSP."""
