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


def test_synthetic_shifts_start_and_move_by_one() -> None:
    trace = walk(SyntheticShifts(), 1, "conv1", 400)
    assert trace[0] == 8
    assert {abs(b - a) for a, b in pairwise(trace)} == {0, 1}
    assert min(trace) >= 0


def test_synthetic_moves_get_rarer() -> None:
    # 20 % at first, 0.5 % once settled: of 64 tensors' steps 1..16 and 401..416.
    moves = Counter[str]()
    for tensor in range(64):
        trace = walk(SyntheticShifts(), 3, f"t{tensor}", 417)
        moves["early"] += sum(a != b for a, b in pairwise(trace[:17]))
        moves["late"] += sum(a != b for a, b in pairwise(trace[400:]))
    # In steps t = 1..16 the share is 0.2 x 16 / (16 + t): 0.138 on average, 141 of 1,024; later
    # 0.2 x 16 / 424 = 0.0075: 8.
    assert moves["early"] == pytest.approx(141, abs=35)
    assert moves["late"] == pytest.approx(8, abs=8)
    assert moves["late"] > 0


def test_synthetic_moves_by_hand() -> None:
    # Step 4: 200,000 x 16 // 20 = 160,000 ppm. The upper 31 bits of the draw decide whether, the
    # lowest bit decides where.
    source = SyntheticShifts()
    for subject in (f"t{k}" for k in range(200)):
        draw = draw_u32(7, 4, subject, "shift")
        moves = (draw // 2) * 1_000_000 // 2**31 < 160_000
        wanted = 5 + ((1 if draw % 2 else -1) if moves else 0)
        assert source.shift(7, 4, subject, 5) == wanted


def test_shifts_never_fall_below_zero() -> None:
    restless = SyntheticShifts(first_ppm=10**6, floor_ppm=10**6)
    assert {restless.shift(0, 5, f"t{k}", 0) for k in range(50)} == {0, 1}


def test_recorded_shifts_hold_their_last_value() -> None:
    source = RecordedShifts({"conv1": (8, 9)})
    assert [source.shift(0, step, "conv1", 0) for step in range(4)] == [8, 9, 9, 9]
    assert (source.kind, SyntheticShifts().kind) == ("recorded", "assumed")


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
