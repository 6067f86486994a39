"""MuPPET's rule: diversity of gradients, and when the next precision is taken."""

from __future__ import annotations

from math import exp

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim import PlanError
from sim.policies.switching import GradientSums, PrecisionSwitching, SwitchState


def diversity_of(gradients: list[dict[str, list[float]]]) -> float:
    sums = GradientSums()
    for one in gradients:
        sums.add({name: np.array(values, np.float32) for name, values in one.items()})
    return sums.diversity()


def test_equal_gradients_have_one_over_the_epochs_and_orthogonal_ones_1() -> None:
    assert diversity_of([{"w": [3.0, 4.0]}] * 4) == pytest.approx(1 / 4)
    assert diversity_of([{"w": [1.0, 0.0]}, {"w": [0.0, 2.0]}]) == pytest.approx(1)
    assert diversity_of([{"w": [1.0, 1.0]}, {"w": [-1.0, 0.0]}]) == pytest.approx(3)


def test_layers_count_alike_whatever_their_size() -> None:
    gradients = [{"a": [1.0], "b": [100.0, 0.0]}, {"a": [1.0], "b": [0.0, 100.0]}]
    assert diversity_of(gradients) == pytest.approx((1 / 2 + 1) / 2)


@given(
    st.lists(st.lists(st.floats(-10, 10, width=32), min_size=5, max_size=5), min_size=1, max_size=6)
)
def test_diversity_is_at_least_one_over_the_epochs(values: list[list[float]]) -> None:
    """Cauchy and Schwarz: ``||sum g||^2 <= n sum ||g||^2``."""
    total = np.sum(np.array(values, np.float64), axis=0)
    if np.square(total).sum() > 1e-6:
        assert diversity_of([{"w": one} for one in values]) >= 1 / len(values) * (1 - 1e-6)


def test_what_cannot_be_summed() -> None:
    sums = GradientSums()
    with pytest.raises(PlanError, match="none was added"):
        sums.diversity()
    sums.add({"w": np.ones(2, np.float32)})
    with pytest.raises(PlanError, match="gradients: v is in only some epochs"):
        sums.add({"v": np.ones(2, np.float32)})
    with pytest.raises(PlanError, match="w is not finite; take a smaller rate"):
        sums.add({"w": np.array([np.nan, 0], np.float32)})


def test_the_threshold_tightens() -> None:
    rule = PrecisionSwitching()
    assert rule.threshold(0) == 2.5
    assert rule.threshold(10) == pytest.approx(1 + 1.5 * exp(-1))
    assert rule.threshold(1000) == pytest.approx(1)


def after(rule: PrecisionSwitching, diversities: list[float]) -> list[SwitchState]:
    state, states = SwitchState(), []
    for number, diversity in enumerate(diversities, 1):
        state = rule.after(state, diversity, rule.resolution * number)
        states.append(state)
    return states


def test_patience_then_the_next_level_with_a_clean_memory() -> None:
    rule = PrecisionSwitching(levels=("int8", "int16", "fp32"))
    states = after(rule, [1.0, 2.0, 0.5, 1.9, 0.5, 0.7, 0.8, 0.1, 0.1])
    assert [s.level for s in states] == [0, 0, 0, 0, 1, 1, 1, 1, 2]
    assert [s.largest for s in states] == [1, 2, 2, 2, 0, 0.7, 0.8, 0.8, 0]
    assert [s.violations for s in states] == [0, 0, 1, 1, 0, 0, 0, 1, 0]


def test_a_shortfall_within_the_threshold_is_none() -> None:
    rule = PrecisionSwitching(patience=1)
    bound = rule.threshold(6)
    assert after(rule, [1.0, 1.0001 / bound])[-1].level == 0
    assert after(rule, [1.0, 0.9999 / bound])[-1].level == 1


def test_the_last_level_stays() -> None:
    rule = PrecisionSwitching(patience=1)
    assert [s.level for s in after(rule, [1.0, 0.1, 1.0, 0.01, 0.001])] == [0, 1, 1, 1, 1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"levels": ()}, "levels is empty"),
        ({"resolution": 1}, "resolution = 1; allowed: a whole number of 2 or more"),
        ({"patience": 0}, "patience = 0; allowed: a whole number of 1 or more"),
        ({"alpha": -1.0}, "alpha = -1.0; allowed: a number of 0 or more"),
        ({"beta": float("nan")}, "beta = nan"),
    ],
)
def test_rules_that_cannot_be(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(PlanError, match=message):
        PrecisionSwitching(**arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize("diversity", [0.0, -1.0, float("inf")])
def test_diversities_that_cannot_be(diversity: float) -> None:
    with pytest.raises(PlanError, match="allowed: a positive number"):
        PrecisionSwitching().after(SwitchState(), diversity, 3)
