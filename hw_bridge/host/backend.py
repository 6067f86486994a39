"""The host as a backend: jobs of a plan in two processes of this machine."""

from __future__ import annotations

from collections.abc import Callable

from cost_models.samples import Fingerprint
from hw_bridge.backends import PlanJob, PlanRun
from hw_bridge.host.machine import examine, host_fingerprint
from hw_bridge.host.session import HostSession
from hw_bridge.steps import Step

NOTES = (
    "Times are measured on this machine; its two processes stand for CPU and DSP, and neither is "
    "a phone's.",
    "A row begins when its process was free and its last predecessor had ended, so waking up, "
    "taking messages and choosing the row are part of it.",
    "Kernels pack their filters in every execution, so rows of re-packing only take the call.",
    "Energy, VTCM and clocks are not modelled.",
)


class HostBackend:
    """Runs plans on two cores of this machine.

    Examples
    --------
    >>> from sim import build_plan, load_device, load_model, training_graph
    >>> graph = training_graph(load_model("lenet", batch=4))
    >>> device = load_device("snapdragon-865")
    >>> job = PlanJob(graph, build_plan("mandheling", graph, device), device, steps=2)
    >>> [timeline.source for timeline in HostBackend().run(job).timelines]
    ['measured', 'measured']
    """

    name = "host"

    def fingerprint(self) -> Fingerprint:
        """See :func:`host_fingerprint`."""
        return host_fingerprint()

    def doctor(self) -> list[Step]:
        """What the backend needs, step by step."""
        return examine()

    def run(self, job: PlanJob, advance: Callable[[], None] = lambda: None) -> PlanRun:
        """Run a job; ``advance`` is called after every step.

        Raises
        ------
        HostError
            Fewer than two cores, too little memory, or the accelerator process died.
        """
        timelines, results = [], []
        with HostSession(
            job.graph, job.plan, job.device, profile=job.profile, seed=job.seed
        ) as session:
            for step in range(job.steps):
                images, labels = job.batch(step)
                done = session.step(images, labels, rate_q24=job.rate_q24)
                assert done.timeline is not None
                timelines.append(done.timeline)
                results.append(done.result)
                advance()
            digest = session.executor.parameters.sha256()
        return PlanRun(tuple(timelines), tuple(results), digest, self.fingerprint(), NOTES)
