"""What a policy is: an object that makes the choices of one aspect.

:func:`sim.policies.build_plan` calls :meth:`Policy.decide` once per plan, in the order of the
aspects. The draft it gets was rewritten by all earlier aspects, so a placement policy sees
micro-batches, scans and transposes as items to place. A policy returns choices by subject; what it
leaves out takes the aspect's default. It must be deterministic and must not keep state between
calls.

A policy of your own subclasses one of the bases below and goes into a recipe like the built-in
ones.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from cost_models.cost import UnsupportedKernelError
from cost_models.device import Device
from cost_models.model import CostModel
from sim.aspects.placement import default_unit, units_for
from sim.draft import Draft, Item
from sim.plan import PlanError

NS = 1_000_000_000


class PolicyError(PlanError):
    """A policy raised, or returned what makes no plan; names policy, model, device and rule."""


@dataclass(frozen=True, slots=True)
class Situation:
    """What a policy may look at besides the draft: device, costs, and the plan's clocks."""

    device: Device
    costs: CostModel
    cpu_point: str = "max"
    dsp_point: str = "max"
    gpu_point: str = "max"

    @property
    def cpu(self) -> str:
        """All big cores, as a unit."""
        return default_unit(self.device)

    def time_ns(self, item: Item, unit: str) -> int | None:
        """Return the time of an item alone on a unit, nanoseconds; ``None`` if it has no kernel."""
        try:
            cost = self.costs.cost(item.call, unit)
        except UnsupportedKernelError:
            return None
        name, _, _ = unit.partition(":")
        points = {"dsp": self.dsp_point, "gpu": self.gpu_point}
        point = points.get(name, self.cpu_point)
        hz, _ = self.costs.clock_and_power(unit, point)
        compute = -(-cost.cycles * NS // hz)
        transfer = -(-cost.ddr_bytes * 1000 // cost.rate_cap)
        return cost.lead_ns + max(compute, transfer)

    def units(self, item: Item) -> tuple[str, ...]:
        """Return the units that have a kernel for an item."""
        return units_for(item, self.device)


class Policy(ABC):
    """Makes the choices of the aspect named ``aspect``."""

    aspect: ClassVar[str]
    name: str

    @abstractmethod
    def decide(self, draft: Draft, situation: Situation) -> Mapping[str, str]:
        """Return choices by subject."""


class BackwardPolicy(Policy):
    """Decides by which rule each convolution's gradients are made."""

    aspect = "backward"


class PrecisionPolicy(Policy):
    """Decides which layers compute in INT8."""

    aspect = "precision"


class OptimiserPolicy(Policy):
    """Decides which state the updates keep."""

    aspect = "optimiser_state"


class BatchSplitPolicy(Policy):
    """Decides the micro-batch of each kernel with MACs."""

    aspect = "batch_split"


class RescalePolicy(Policy):
    """Decides by which rule each INT8 result finds its shift."""

    aspect = "rescale"


class PlacementPolicy(Policy):
    """Decides on which unit each kernel runs."""

    aspect = "placement"


class GroupingPolicy(Policy):
    """Decides where DSP subgraphs are cut."""

    aspect = "grouping"
