"""Batch norm in the executor: INT8 that is handed on gives the bits of FP32 tensors."""

from __future__ import annotations

import numpy as np
import pytest

from kernels.int8 import norm as between
from sim import build_plan, load_device, load_model, training_graph
from sim.numeric import TrainingSession
from sim.numeric.frame import Frame

DEVICE = load_device("snapdragon-865")


def weights_after(model: str, plan: str, steps: int = 3) -> str:
    graph = training_graph(load_model(model, batch=2))
    session = TrainingSession(graph, build_plan(plan, graph, DEVICE), DEVICE, engine="none")
    rng = np.random.default_rng(5)
    for _ in range(steps):
        images = rng.standard_normal((2, 32, 32, 3), dtype=np.float32)
        session.step(images, rng.integers(0, 10, 2), rate_q24=1 << 18)
    return session.executor.parameters.sha256()


@pytest.mark.parametrize("plan", ["mandheling", "dsp-int8"])
def test_bits_do_not_depend_on_what_is_handed_on(
    plan: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    for name in ("norm_forward", "norm_weight_grad", "norm_input_grad"):
        real = getattr(between, name)

        def counted(*args: object, name: str = name, real: object = real, **how: object) -> object:
            calls.append(name)
            return real(*args, **how)  # type: ignore[operator]

        monkeypatch.setattr(between, name, counted)
    handed_on = weights_after("resnet18", plan)
    assert all(calls.count(name) == 20 * 3 for name in set(calls))
    assert len(set(calls)) == 3

    monkeypatch.setattr(Frame, "handed_on", lambda self, name: None)
    calls.clear()
    assert weights_after("resnet18", plan) == handed_on
    assert not calls
