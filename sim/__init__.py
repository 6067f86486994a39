"""Floor 3: training graphs, plans, lowering, engines and timelines.

A plan is data and many executors run it. The words of a policy-search script are the names below;
engines import Numba or SimPy only when they are first used.
"""

from cost_models.device import device_names, load_device
from sim.autodiff import training_graph
from sim.choices import choices
from sim.engines import run as run_engine
from sim.expected import expect
from sim.graph import TrainingGraph
from sim.lowering import lower_step, validate
from sim.onnx_import import import_onnx
from sim.plan import Plan, PlanError
from sim.policies.build import build_plan, decide, plan_names
from sim.run import Run, sample_steady, simulate
from sim.state import StepState
from sim.taskgraph import TaskGraph
from sim.timeline import Timeline
from sim.zoo import load_model, model_names

__all__ = [
    "Plan",
    "PlanError",
    "Run",
    "StepState",
    "TaskGraph",
    "Timeline",
    "TrainingGraph",
    "build_plan",
    "choices",
    "decide",
    "device_names",
    "expect",
    "import_onnx",
    "load_device",
    "load_model",
    "lower_step",
    "model_names",
    "plan_names",
    "run_engine",
    "sample_steady",
    "simulate",
    "training_graph",
    "validate",
]
