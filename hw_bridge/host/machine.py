"""What this machine is, and whether the host backend runs on it."""

from __future__ import annotations

import os
import platform
import socket
from pathlib import Path
from statistics import median
from time import perf_counter_ns

import numba
import numpy as np

from cost_models.samples import Fingerprint
from hw_bridge.host.memory import Arena
from hw_bridge.host.session import two_cores
from hw_bridge.steps import Step, look
from kernels.gemm.backends import chosen

_POLICIES = {"SCHED_OTHER": "other", "SCHED_FIFO": "fifo", "SCHED_RR": "round robin"}
_TURNS = 200


def host_fingerprint() -> Fingerprint:
    """What plans run on: processor, clock governor, scheduling policy, INT8 back-end, versions."""
    names = {getattr(os, key): name for key, name in _POLICIES.items() if hasattr(os, key)}
    policy = os.sched_getscheduler(0) if hasattr(os, "sched_getscheduler") else None
    facts = {
        "processor": _processor(),
        "cores": str(os.cpu_count()),
        "governor": _governor(),
        "scheduler": names.get(policy, "unknown") if policy is not None else "unknown",
        "system": f"{platform.system()} {platform.release()}",
        "int8": chosen(None),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "numba": numba.__version__,
    }
    return Fingerprint("host", facts)


def _governor() -> str:
    path = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
    return path.read_text(encoding="ascii").strip() if path.is_file() else "not told"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.machine()


def examine() -> list[Step]:
    """Look at what the backend needs: two cores, shared memory, a socket between processes."""
    return [
        look("two cores", _cores, "give this process two cores (taskset, cpuset)"),
        look("shared memory", _memory, "free some memory"),
        look("a message and its answer", _round_trip, "run on Linux"),
    ]


def _cores() -> str:
    cpu, accelerator = two_cores()
    return f"core {cpu} for the CPU process, core {accelerator} for the accelerator"


def _memory() -> str:
    Arena(1 << 20).take((1 << 18,), np.int32).fill(1)
    return "anonymous, shared by fork, gone with the last process"


def _round_trip() -> str:
    """Time messages there and back between this process and a fork of it."""
    core, other = two_cores()
    before = os.sched_getaffinity(0)
    mine, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    child = os.fork()
    if not child:
        try:
            mine.close()
            os.sched_setaffinity(0, {other})
            while data := theirs.recv(64):
                theirs.send(data)
        finally:
            os._exit(0)
    theirs.close()
    os.sched_setaffinity(0, {core})
    times = []
    for _ in range(_TURNS):
        begin = perf_counter_ns()
        mine.send(b"x")
        mine.recv(64)
        times.append(perf_counter_ns() - begin)
    mine.close()
    os.waitpid(child, 0)
    os.sched_setaffinity(0, before)
    return f"median {median(times) / 1000:.0f} us there and back"
