"""Sources of shifts, scenarios, and the state between steps."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest

from cost_models.draws import draw_u32
from sim.state import SCENARIOS, RecordedShifts, Scenario, StepState, SyntheticShifts


def walk(source: SyntheticShifts, seed: int, subject: str, steps: int) -> list[int]:
    shift, trace = 0, []
    for step in range(steps):
        shift = source.shift(seed, step, subject, shift)
        trace.append(shift)
    return trace


def test_synthetic_shifts_flicker_around_a_level() -> None:
    traces = [walk(SyntheticShifts(), 1, f"t{k}", 400) for k in range(60)]
    for trace in traces:
        assert max(trace) - min(trace) <= 3  # half-widths of 0.7 and 0.8 on either side
        assert 6 <= min(trace) <= max(trace) <= 10
    moves = sum(a != b for trace in traces for a, b in pairwise(trace))
    assert 0.3 < moves / (60 * 399) < 0.45


def test_synthetic_shifts_by_hand() -> None:
    source = SyntheticShifts()
    for subject in (f"t{k}" for k in range(200)):
        level = draw_u32(7, 0, subject, "shift level")
        parts = [
            (draw_u32(7, (21 + level % 8) // 8, subject, "shift held"), 0.7),
            (draw_u32(7, 21, subject, "shift"), 0.8),
        ]
        log2 = 8 + level / 2**32
        log2 += sum(width * (draw // 2**16 + draw % 2**16 - 65535) / 2**16 for draw, width in parts)
        if abs(log2 - round(log2)) > 1e-4:
            assert source.shift(7, 21, subject, 0) == int(log2)


def test_shifts_never_fall_below_zero() -> None:
    wide = SyntheticShifts(start=0, fast=4 * 65_536)
    found = {wide.shift(0, 5, f"t{k}", 0) for k in range(200)}
    assert min(found) == 0
    assert max(found) >= 2


def test_recorded_shifts_hold_their_last_value() -> None:
    source = RecordedShifts({"conv1": (8, 9)})
    assert [source.shift(0, step, "conv1", 0) for step in range(4)] == [8, 9, 9, 9]
    assert (source.kind, SyntheticShifts().kind) == ("recorded", "derived")


def test_busy_cores_by_their_probabilities() -> None:
    busy = SCENARIOS["busy"]
    counts = Counter(busy.busy_cores(0, step) for step in range(2000))
    assert counts[1] / 2000 == pytest.approx(0.3, abs=0.04)
    assert counts[2] / 2000 == pytest.approx(0.2, abs=0.04)
    assert set(counts) == {0, 1, 2}


def test_probabilities_are_exact_cuts_of_one_draw() -> None:
    scenario = Scenario("mine", busy_cores_ppm=(250_000, 250_000, 500_000))
    for step in range(200):
        ppm = draw_u32(9, step, "other-apps", "cores") * 1_000_000 // 2**32
        assert scenario.busy_cores(9, step) == (1 if ppm < 250_000 else 2 if ppm < 500_000 else 3)


def test_quiet_takes_no_cores() -> None:
    assert {SCENARIOS["quiet"].busy_cores(0, step) for step in range(50)} == {0}
    assert set(SCENARIOS) == {"quiet", "sustained", "busy"}
    assert all(name == scenario.name for name, scenario in SCENARIOS.items())


def test_states_compare_by_content() -> None:
    assert StepState() == StepState()
    assert StepState(seed=1) != StepState(seed=2)
