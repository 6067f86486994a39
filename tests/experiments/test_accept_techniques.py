"""Techniques on held-out draws: none is slower, and one that is would be found."""

from __future__ import annotations

from math import sqrt

import numpy as np
import pytest

from experiments import accept_techniques
from experiments.accept_common import PHONE, Size, graph_of
from experiments.accept_techniques import Case, paired, techniques
from sim import Plan, TrainingGraph, build_plan, device_names, load_device
from sim.policies.build import Adoption, Built
from sim.policies.recipes import TECHNIQUES

SIZE = Size(("lenet", "vgg11"), device_names(), 1, 3, ("lenet", PHONE), workers=1)


def test_no_technique_is_slower_on_any_device() -> None:
    outcome = techniques(SIZE)
    assert outcome["passed"], outcome
    assert outcome["slower"] == []
    assert outcome["pairs"] == 2 * sum(load_device(name).dsp is not None for name in device_names())
    assert outcome["slower_beyond_a_thousandth"] == 0
    declined = sum(outcome["declined_alone"].values())
    kept_alone = len(TECHNIQUES) * outcome["pairs"] - declined
    assert outcome["cases"] >= kept_alone + outcome["pairs"] > outcome["pairs"]


def test_a_technique_that_lengthens_the_step_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    graph, device = graph_of("lenet"), load_device(PHONE)
    slow = build_plan("dsp-int8", graph, device)

    def keep_the_slow_one(_: Plan, graph: TrainingGraph, device: object, offered: object) -> Built:
        """Whatever is offered, say that the slow plan was faster."""
        return Built(slow, (Adoption("reuse", 2, 1),))

    monkeypatch.setattr(accept_techniques, "OFFLOAD", "mandheling")
    monkeypatch.setattr(accept_techniques, "adopt_all", keep_the_slow_one)
    outcome = techniques(Size(("lenet",), (PHONE,), 1, 3, ("lenet", PHONE), workers=1))
    assert not outcome["passed"]
    # Four alone, and the first in turn; after that it is slow with and without.
    assert outcome["slower_beyond_standard_error"] == len(TECHNIQUES) + 1
    assert outcome["slower_beyond_a_thousandth"] == len(TECHNIQUES) + 1
    assert outcome["worst_ratio"] > 5
    assert outcome["worst"] == f"lenet, {PHONE}: reuse alone"


def test_the_error_is_that_of_the_paired_difference() -> None:
    before = np.array([[100, 200], [300, 400]])
    case = paired("x", before, before + np.array([[1, 3], [5, 7]]))
    assert case.difference_ns == 4
    assert case.error_ns == pytest.approx(sqrt((9 + 1 + 1 + 9) / 3) / 2)
    assert case.ratio == pytest.approx(254 / 250)
    assert case.slower


def test_one_step_stands_for_all_where_nothing_is_drawn() -> None:
    case = paired("x", np.array([[100], [100]]), np.array([[90, 110], [90, 110]]))
    assert (case.difference_ns, case.ratio) == (0, 1)
    assert case.error_ns == pytest.approx(sqrt(400 / 3) / 2)
    assert not case.slower


@pytest.mark.parametrize(
    ("difference", "error", "slower"),
    [(2.0, 1.0, True), (1.0, 1.0, False), (-5.0, 1.0, False), (0.0, 0.0, False), (1.0, 0.0, True)],
)
def test_slower_means_beyond_the_standard_error(
    difference: float, error: float, slower: bool
) -> None:
    assert Case("x", 1.0, difference, error).slower == slower
