"""What a session and an executor are given, checked before anything is computed with it.

A rate of 0.02 where ``rate_q24`` is wanted, a name with a slip in it or a plan by name where a plan
is wanted would otherwise show steps later, deep in a kernel, or not at all.
"""

from __future__ import annotations

from dataclasses import replace
from operator import index

from cost_models.device import Device
from kernels.gemm import lacking
from kernels.gemm.backends import chosen
from kernels.int8.update import RATE_UNIT
from kernels.profiles import PROFILES, NumericProfile
from sim.engines import ENGINES
from sim.graph import TrainingGraph
from sim.numeric.frame import NumericError, StepInputs
from sim.numeric.trained import Hyper
from sim.plan import Plan
from sim.state import SCENARIOS, Scenario

NO_TIMING = "none"
"""The engine that times nothing."""
SEEDS = 1 << 63
"""Seeds are below, and epochs."""
THREADS = 1024
RATES = 16 * RATE_UNIT
"""Rates are below, in units of ``2^-24``, where weights are FP32."""
_REMEDY = {
    TrainingGraph: "make one with training_graph(load_model(...))",
    Plan: "make one with build_plan(name, graph, device)",
    Device: "load one with load_device(name)",
    Hyper: "make one with Hyper(momentum, weight_decay), or leave it out",
}


def check_kind(name: str, value: object, kind: type) -> None:
    """Refuse an argument of another type.

    Raises
    ------
    NumericError
        It is one, such as the name of a plan where a plan is wanted.
    """
    if not isinstance(value, kind):
        raise NumericError(
            f"{name} is {_short(value)}; allowed: a {kind.__name__}; {_REMEDY[kind]}"
        )


def check_integer(name: str, value: object, low: int, high: int, unit: str = "") -> int:
    """Return an argument that must be an integer from ``low`` to ``high``, Python's or NumPy's.

    Raises
    ------
    NumericError
        It is a bool, a float or anything else, or out of range.
    """
    try:
        number = None if isinstance(value, bool) else index(value)  # type: ignore[arg-type]
    except TypeError:
        number = None
    if number is None or not low <= number <= high:
        raise NumericError(f"{name} is {_short(value)}; allowed: integers {low} .. {high}{unit}")
    return number


def chosen_profile(profile: object) -> NumericProfile:
    """Return a profile by name, or one that is given itself.

    Raises
    ------
    NumericError
        An unknown name, or another type.
    """
    if isinstance(profile, NumericProfile):
        return profile
    if not isinstance(profile, str) or profile not in PROFILES:
        raise NumericError(
            f"profile {_short(profile)} is unknown; choose one of {', '.join(PROFILES)}, or give a "
            "NumericProfile"
        )
    return PROFILES[profile]


def chosen_scenario(scenario: object, engine: str) -> Scenario:
    """Return a scenario by name.

    Raises
    ------
    NumericError
        An unknown name, or one that follows the energy of steps that the engine does not time.
    """
    if not isinstance(scenario, str) or scenario not in SCENARIOS:
        raise NumericError(
            f"scenario {_short(scenario)} is unknown; choose one of {', '.join(SCENARIOS)}"
        )
    found = SCENARIOS[scenario]
    if found.thermal and engine == NO_TIMING:
        raise NumericError(
            f"scenario {scenario!r} follows the energy of each step, and engine {NO_TIMING!r} "
            "times none; choose another of the two"
        )
    return found


def check_engine(engine: object) -> None:
    """Refuse an engine that is not known.

    Raises
    ------
    NumericError
        It is unknown.
    """
    allowed = (*ENGINES, NO_TIMING)
    if not isinstance(engine, str) or engine not in allowed:
        raise NumericError(
            f"engine {_short(engine)} is unknown; choose one of {', '.join(allowed)}"
        )


def check_what(graph: object, plan: object, device: object) -> None:
    """Refuse names where a graph, a plan and a device are wanted.

    Raises
    ------
    NumericError
        One is of another type.
    """
    check_kind("graph", graph, TrainingGraph)
    check_kind("plan", plan, Plan)
    check_kind("device", device, Device)


def check_backend(backend: object) -> None:
    """Refuse a back-end that is not known, or that this CPU cannot run; None is the environment's.

    Raises
    ------
    NumericError, GemmError
        It is no name; it is unknown, or the CPU lacks what it needs.
    """
    if backend is not None and not isinstance(backend, str):
        raise NumericError(
            f"backend is {_short(backend)}; allowed: a name, or None for the fastest"
        )
    if backend is not None:
        lacking(backend)  # refuses "", which is none to the next
    chosen(backend)


def checked_inputs(inputs: StepInputs, wide: bool) -> StepInputs:
    """Return the inputs of a step with its rate and epoch as integers that an update takes.

    Parameters
    ----------
    inputs
        Of a step.
    wide
        Whether a trained tensor is wide integers, which take rates up to 1.

    Raises
    ------
    NumericError
        Another type, or out of range.
    """
    unit = " (the rate times 2^24: round(rate * 2**24))"
    most = RATE_UNIT if wide else RATES - 1
    rate = check_integer("rate_q24", inputs.rate_q24, 0, most, unit)
    epoch = check_integer("epoch", inputs.epoch, 0, SEEDS - 1)
    return replace(inputs, rate_q24=rate, epoch=epoch)


def _short(value: object) -> str:
    try:
        text = " ".join(repr(value).split())
    except ValueError:  # of an integer of thousands of digits
        text = f"{type(value).__name__} too long to write out"
    return text if len(text) <= 60 else f"{text[:57]}..."
