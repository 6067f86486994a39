"""Backend ``host``: a job of the bridge on two processes of this machine."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

from llvmlite.binding import get_host_cpu_name

from cost_models.samples import Fingerprint
from hw_bridge.backends import PlanJob, PlanRun
from hw_bridge.host.session import HostSession, two_cores
from kernels.gemm.backends import chosen

NOTES = (
    "CPU and DSP kernels run on one core of this machine each: times are this machine's, not a "
    "phone's.",
)
_PACKAGES = ("numpy", "numba")


def host_fingerprint() -> Fingerprint:
    """What the two processes run on: the CPU, how its clock is governed, and versions.

    Raises
    ------
    HostError
        Fewer than two cores, or a system that does not pin processes.
    """
    core, _ = two_cores()
    governor = Path(f"/sys/devices/system/cpu/cpu{core}/cpufreq/scaling_governor")
    return Fingerprint(
        "host",
        {
            "machine": platform.machine(),
            "cpu": get_host_cpu_name(),
            "cores": str(os.cpu_count()),
            "governor": governor.read_text().strip() if governor.is_file() else "not told",
            "int8_products": chosen(None),
            "python": platform.python_version(),
            **{name: version(name) for name in _PACKAGES},
        },
    )


class HostBackend:
    """Runs jobs in two processes, each pinned to a core; times are measured.

    Examples
    --------
    >>> from hw_bridge.backends import PlanJob, reference
    >>> from sim import build_plan, load_device, load_model, training_graph
    >>> graph, device = training_graph(load_model("lenet", batch=4)), load_device("snapdragon-865")
    >>> job = PlanJob(graph, build_plan("mandheling", graph, device), device, steps=2)
    >>> run = HostBackend().run(job)
    >>> run.parameters_sha256 == reference(job)[1]
    True
    """

    name = "host"

    def fingerprint(self) -> Fingerprint:
        """See :func:`host_fingerprint`."""
        return host_fingerprint()

    def run(self, job: PlanJob, advance: Callable[[], None] = lambda: None) -> PlanRun:
        """See :meth:`hw_bridge.backends.Backend.run`; raises :class:`HostError`."""
        found = self.fingerprint()
        steps = []
        with HostSession(
            job.graph, job.plan, job.device, profile=job.profile, seed=job.seed
        ) as session:
            for step in range(job.steps):
                images, labels = job.batch(step)
                steps.append(session.step(images, labels, rate_q24=job.rate_q24))
                advance()
            digest = session.executor.parameters.sha256()
        timelines = tuple(step.timeline for step in steps if step.timeline is not None)
        return PlanRun(timelines, tuple(step.result for step in steps), digest, found, NOTES)
