"""Real training of a plan: the numeric executor, and sessions that time what it computes.

Importing this package imports Numba; ``import sim`` does not import it.
"""

from sim.numeric.executor import NumericExecutor, StepResult
from sim.numeric.frame import NumericError, StepInputs
from sim.numeric.parameters import Parameters
from sim.numeric.records import RescaleTrace, ShiftRecord, load_trace
from sim.numeric.session import SessionStep, TrainingSession
from sim.numeric.trained import Hyper, ParameterError

__all__ = [
    "Hyper",
    "NumericError",
    "NumericExecutor",
    "ParameterError",
    "Parameters",
    "RescaleTrace",
    "SessionStep",
    "ShiftRecord",
    "StepInputs",
    "StepResult",
    "TrainingSession",
    "load_trace",
]
