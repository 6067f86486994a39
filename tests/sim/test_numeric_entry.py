"""What a session is given is checked before it computes, and named with what is allowed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from cost_models.device import load_device
from kernels.gemm import GemmError, lacking
from kernels.gemm.backends import ENVIRONMENT, NAMES
from kernels.profiles import PROFILES
from sim.autodiff import training_graph
from sim.model import INPUT, ModelBuilder
from sim.numeric import Hyper, NumericError, NumericExecutor, StepInputs, TrainingSession
from sim.policies.build import build_plan

PHONE = load_device("snapdragon-865")


def _graph() -> Any:
    builder = ModelBuilder("one-linear", (2, 3), source="this test")
    return training_graph(builder.build(builder.linear(INPUT, 4)))


GRAPH = _graph()
INT8, FP32 = (build_plan(name, GRAPH, PHONE) for name in ("mnn-int8", "mnn-fp32"))
IMAGES, LABELS = np.ones((2, 3), np.float32), np.array([1, 3])

FAULTS: list[tuple[dict[str, Any], str]] = [
    ({"scenario": "sunny"}, "scenario 'sunny' is unknown; choose one of quiet, sustained, busy"),
    ({"scenario": None}, "scenario None is unknown"),
    ({"scenario": ["quiet"]}, r"scenario \['quiet'\] is unknown"),
    ({"engine": "warp"}, "engine 'warp' is unknown; choose one of compiled, simpy, none"),
    ({"engine": None}, "engine None is unknown"),
    ({"engine": ["simpy"]}, r"engine \['simpy'\] is unknown"),
    ({"engine": "none", "scenario": "sustained"}, "scenario 'sustained' follows the energy"),
    ({"profile": "fp8"}, "profile 'fp8' is unknown; choose one of niti_v1"),
    ({"profile": 3}, "profile 3 is unknown; .* or give a NumericProfile"),
    ({"profile": ["sandbox"]}, r"profile \['sandbox'\] is unknown"),
    ({"backend": 3}, "backend is 3; allowed: a name, or None"),
    ({"threads": 0}, "threads is 0; allowed: integers 1 .. 1024"),
    ({"threads": 2.0}, "threads is 2.0; allowed: integers"),
    ({"threads": True}, "threads is True"),
    ({"seed": -1}, "seed is -1; allowed: integers 0 .. 9223372036854775807"),
    ({"seed": 1 << 63}, "seed is 9223372036854775808; allowed"),
    ({"seed": 1.0}, "seed is 1.0; allowed"),
    ({"seed": "1"}, "seed is '1'; allowed"),
    ({"hyper": 0.9}, "hyper is 0.9; allowed: a Hyper; make one with Hyper"),
    ({"graph": "lenet"}, "graph is 'lenet'; allowed: a TrainingGraph; make one with training_gr"),
    ({"plan": "mandheling"}, "plan is 'mandheling'; allowed: a Plan; make one with build_plan"),
    ({"device": "snapdragon-865"}, "device is 'snapdragon-865'; allowed: a Device; load one"),
]


@pytest.mark.parametrize(("change", "message"), FAULTS, ids=[message for _, message in FAULTS])
def test_a_session_refuses_what_it_cannot_use(change: dict[str, Any], message: str) -> None:
    given = {"graph": GRAPH, "plan": INT8, "device": PHONE} | change
    with pytest.raises(NumericError, match=message):
        TrainingSession(**given)
    if not {"engine", "scenario"} & change.keys():
        with pytest.raises(NumericError, match=message):
            NumericExecutor(**given)


def test_a_backend_is_checked_before_the_first_step(monkeypatch: pytest.MonkeyPatch) -> None:
    for unknown in ("cuda", ""):
        with pytest.raises(GemmError, match=f"backend is '{unknown}'; allowed: vnni"):
            TrainingSession(GRAPH, INT8, PHONE, backend=unknown)
    with monkeypatch.context() as patch:
        patch.setenv(ENVIRONMENT, "cuda")
        with pytest.raises(GemmError, match=f"{ENVIRONMENT} is 'cuda'; allowed: vnni"):
            TrainingSession(GRAPH, INT8, PHONE)
    monkeypatch.setattr("kernels.gemm.backends._cpu_features", frozenset)
    name = next(name for name in NAMES if lacking(name))
    with pytest.raises(GemmError, match=f"backend is '{name}', which needs .*; this CPU can run"):
        TrainingSession(GRAPH, INT8, PHONE, backend=name)


RATES: list[tuple[dict[str, Any], str]] = [
    ({"rate_q24": 0.02}, r"rate_q24 is 0.02; allowed: integers 0 .. 16777216 \(.* round\(rate"),
    ({"rate_q24": np.float64(4.0)}, "rate_q24 is .*4.0"),
    ({"rate_q24": True}, "rate_q24 is True; allowed: integers"),
    ({"rate_q24": -1}, "rate_q24 is -1; allowed: integers"),
    ({"rate_q24": "1"}, "rate_q24 is '1'"),
    ({"rate_q24": None}, "rate_q24 is None"),
    ({"rate_q24": (1 << 24) + 1}, "rate_q24 is 16777217; allowed: integers 0 .. 16777216"),
    ({"rate_q24": 10**30}, "rate_q24 is 10{30}; allowed"),
    ({"rate_q24": 10**5000}, "rate_q24 is int too long to write out; allowed"),
    ({"rate_q24": 1, "epoch": -1}, "epoch is -1; allowed: integers 0 .. "),
    ({"rate_q24": 1, "epoch": 1.0}, "epoch is 1.0"),
    ({"rate_q24": 1, "epoch": True}, "epoch is True"),
]


@pytest.mark.parametrize(("change", "message"), RATES, ids=[message for _, message in RATES])
def test_a_rate_is_an_integer_and_nothing_else(change: dict[str, Any], message: str) -> None:
    session = TrainingSession(GRAPH, INT8, PHONE, engine="none")
    before = session.executor.parameters.sha256()
    with pytest.raises(NumericError, match=message):
        session.step(IMAGES, LABELS, **change)
    assert session.executor.parameters.sha256() == before
    assert session.state.step == 0
    with pytest.raises(NumericError, match=message):
        session.executor.step(None, IMAGES, LABELS, StepInputs(**change))  # type: ignore[arg-type]


def test_float_weights_take_larger_rates() -> None:
    session = TrainingSession(GRAPH, FP32, PHONE, engine="none")
    session.step(IMAGES, LABELS, rate_q24=(1 << 28) - 1)
    with pytest.raises(NumericError, match=r"allowed: integers 0 \.\. 268435455"):
        session.step(IMAGES, LABELS, rate_q24=1 << 28)


def test_integers_of_numpy_are_taken_as_those_of_python() -> None:
    digests = set()
    for kind in (int, np.int64, np.uint32):
        session = TrainingSession(
            GRAPH, INT8, PHONE, engine="none", seed=kind(5), threads=kind(1),
            profile=PROFILES["sandbox"], hyper=Hyper(0.5),
        )  # fmt: skip
        session.step(IMAGES, LABELS, rate_q24=kind(1 << 20), epoch=kind(0))
        assert type(session.state.seed) is int
        digests.add(session.executor.parameters.sha256())
    assert len(digests) == 1


def test_a_session_begins_anew_with_a_seed_alone() -> None:
    session = TrainingSession(GRAPH, INT8, PHONE)
    with pytest.raises(NumericError, match="seed is -1"):
        session.restart(-1)
    session.restart(7)
    assert session.state.seed == 7
