"""Aspects: the kinds of decision that a plan is made of, in their fixed order of rewriting.

Backward comes first: it decides which gradient kernels there are. Precision comes before batch
split and batch split before rescale: splitting after rescaling would rescale each micro-batch. What
updates keep between steps follows precision, since INT8 layers keep what their profile says.
Placement sees all fragments, grouping sees placement. Choices
about the step as a whole (:mod:`sim.aspects.step`) come last, when nothing but clocks,
latencies and the state remain.
"""

from sim.aspects.backward import Backward
from sim.aspects.base import STEP, Aspect, StepContext
from sim.aspects.batch_split import BatchSplit
from sim.aspects.grouping import Grouping
from sim.aspects.optimiser import OptimiserState
from sim.aspects.placement import PlacementAspect
from sim.aspects.precision import Precision
from sim.aspects.rescale import Rescale
from sim.aspects.step import STEP_ASPECTS, StepAspect

ORDER: tuple[Aspect, ...] = (
    Backward(),
    Precision(),
    OptimiserState(),
    BatchSplit(),
    Rescale(),
    PlacementAspect(),
    Grouping(),
)

__all__ = ["ORDER", "STEP", "STEP_ASPECTS", "Aspect", "StepAspect", "StepContext"]
