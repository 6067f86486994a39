"""Choices about the step as a whole: reuse, clocks, FastRPC mode, dispatch, libraries, input.

They rewrite no items. ``reuse`` acts through the state (which subgraphs are prepared),
``operating_point`` and ``gpu_clock`` convert cycles to time, ``rpc_qos`` picks a latency table,
``dispatch`` sets priorities, ``library`` names whose kernels run on CPU and GPU, ``input`` says how
the next batch gets ready.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial

from cost_models.device import Device, named
from cost_models.library import library_names, load_library
from sim.aspects.base import STEP
from sim.dispatch import DISPATCH_RULES, UNBLOCK_DSP
from sim.plan import Plan, PlanError
from sim.reuse import RULES as REUSE_RULES

INPUT_MODES = ("none", "serial", "prefetch")


SUSTAINED = "sustained"
CPU_POINTS = ("max", SUSTAINED, "90%", "75%", "60%", "45%")
"""What CPUs offer; :func:`cpu_points` adds the clocks that a board lets software set."""
DSP_POINTS = ("max", "nominal", "turbo", "turbo_l1")
"""``max`` is the clock that the device usually votes for."""


@dataclass(frozen=True, slots=True)
class StepAspect:
    """One choice about the step, for one subject.

    Attributes
    ----------
    name, subject
        Of the choice in a plan.
    default
        What holds where a plan says nothing.
    offered
        Choices that a device has, the default included; what would have no effect on it is left
        out.
    """

    name: str
    subject: str
    default: str
    offered: Callable[[Device], tuple[str, ...]]

    @property
    def key(self) -> str:
        """Name under which the choice stands in a plan's settings."""
        return self.name if self.subject == STEP else f"{self.name}.{self.subject}"

    def resolve(self, plan: Plan, device: Device) -> str:
        """Return the plan's choice, or the default.

        Raises
        ------
        PlanError
            The plan names a subject that this aspect does not have, or a choice not offered.
        """
        chosen = plan.aspect(self.name)
        subjects = [aspect.subject for aspect in STEP_ASPECTS if aspect.name == self.name]
        unknown = sorted(chosen.keys() - set(subjects))
        if unknown:
            raise PlanError(
                f"plan {plan.name!r}: {self.name}.{unknown[0]} is no subject; "
                f"choose one of {', '.join(subjects)}"
            )
        choice = chosen.get(self.subject, self.default)
        offered = self.offered(device)
        if choice not in offered:
            raise PlanError(
                f"plan {plan.name!r}: {self.name}.{self.subject} = {choice!r} is not offered by "
                f"{device.name}; choose one of {', '.join(offered)}"
            )
        return choice


def cpu_points(device: Device) -> tuple[str, ...]:
    """Operating points of the CPU: shares of its highest clock, and clocks that can be set.

    ``sustained`` is one where some cluster's sustained clock is known to be below its highest.
    At a clock, clusters that lack it run at their highest one below (or their lowest).
    """
    clusters = device.cpu.clusters
    falls = any(device.clock_hz(c.name, SUSTAINED) < device.clock_hz(c.name) for c in clusters)
    points = tuple(point for point in CPU_POINTS if falls or point != SUSTAINED)
    if not device.cpu.settable:
        return points
    clocks = {mhz for cluster in clusters for mhz, _ in cluster.operating_points.rows}
    return (*points, *(named(mhz) for mhz in sorted(clocks, reverse=True)))


def gpu_points(device: Device) -> tuple[str, ...]:
    """Operating points of the GPU: ``max``, and clocks that can be set."""
    points = None if device.gpu is None else device.gpu.operating_points
    rows = () if points is None else points.rows
    return ("max", *(named(mhz) for mhz, _ in reversed(rows[:-1])))


@cache
def _cpu_libraries() -> tuple[str, ...]:
    return tuple(n for n in library_names() if load_library(n).unit_kind == "cpu")


def _on_a_dsp(choices: tuple[str, ...], default: str, device: Device) -> tuple[str, ...]:
    """What has no effect without a DSP."""
    return (default,) if device.dsp is None else choices


def _dispatch_rules(device: Device) -> tuple[str, ...]:
    return tuple(r for r in DISPATCH_RULES if device.dsp is not None or r != UNBLOCK_DSP)


def _rpc_modes(device: Device) -> tuple[str, ...]:
    return ("default", *(device.fastrpc.modes if device.fastrpc is not None else ()))


def _libraries(device: Device) -> tuple[str, ...]:
    """A microcontroller's costs rest on no library."""
    return _cpu_libraries() if device.mcu is None else ("mnn",)


def _input_modes(device: Device) -> tuple[str, ...]:
    return INPUT_MODES


STEP_ASPECTS: tuple[StepAspect, ...] = (
    StepAspect("reuse", STEP, "none", partial(_on_a_dsp, REUSE_RULES, "none")),
    StepAspect("operating_point", "cpu", "max", cpu_points),
    StepAspect("operating_point", "dsp", "max", partial(_on_a_dsp, DSP_POINTS, "max")),
    StepAspect("gpu_clock", STEP, "max", gpu_points),
    StepAspect("rpc_qos", STEP, "default", _rpc_modes),
    StepAspect("dispatch", STEP, "topological", _dispatch_rules),
    StepAspect("library", STEP, "mnn", _libraries),
    StepAspect("input", STEP, "none", _input_modes),
)
