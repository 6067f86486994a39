"""Choices about the step as a whole: reuse rule, clocks, FastRPC mode, dispatch order, libraries.

They rewrite no items. ``reuse`` acts through the state (which subgraphs are prepared),
``operating_point`` converts cycles to time, ``rpc_qos`` picks a latency table, ``dispatch``
sets priorities, ``library`` names whose kernels run on CPU and GPU, ``input`` says how
the next batch gets ready.
"""

from __future__ import annotations

from dataclasses import dataclass

from cost_models.device import Device
from sim.aspects.base import STEP
from sim.plan import Plan, PlanError

REUSE_RULES = ("none", "lru", "mru", "belady")
DISPATCH_RULES = ("topological", "critical-path", "unblock-dsp")
INPUT_MODES = ("none", "serial", "prefetch")
CPU_LIBRARIES = ("mnn", "tflite")


@dataclass(frozen=True, slots=True)
class StepAspect:
    """One choice about the step; its only subject is ``step``."""

    name: str
    choices: tuple[str, ...]
    default: str

    def resolve(self, plan: Plan, device: Device) -> str:
        """Return the plan's choice, or the default.

        Raises
        ------
        PlanError
            Another subject than ``step`` is named, or the choice is not offered.
        """
        chosen = plan.aspect(self.name)
        if chosen.keys() - {STEP}:
            subject = min(chosen.keys() - {STEP})
            raise PlanError(
                f"plan {plan.name!r}: {self.name}.{subject}: its only subject is 'step'"
            )
        choice = chosen.get(STEP, self.default)
        offered = self.offered(device)
        if choice not in offered:
            raise PlanError(
                f"plan {plan.name!r}: {self.name}.step = {choice!r} is not offered by "
                f"{device.name}; choose one of {', '.join(offered)}"
            )
        return choice

    def offered(self, device: Device) -> tuple[str, ...]:
        """Choices that the device has."""
        if self.name != "rpc_qos":
            return self.choices
        modes = tuple(device.fastrpc.modes) if device.fastrpc is not None else ()
        return (self.default, *modes)


STEP_ASPECTS: tuple[StepAspect, ...] = (
    StepAspect("reuse", REUSE_RULES, "none"),
    StepAspect("operating_point", ("max", "sustained"), "max"),
    StepAspect("rpc_qos", (), "default"),
    StepAspect("dispatch", DISPATCH_RULES, "topological"),
    StepAspect("library", CPU_LIBRARIES, "mnn"),
    StepAspect("input", INPUT_MODES, "none"),
)
