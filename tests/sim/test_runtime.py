"""Run-time managers: what is picked, what is remembered, and budgets that are met."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim import expect, load_device
from sim.autodiff import inference_graph
from sim.runtime import (
    MANAGERS,
    Budget,
    Circumstances,
    Row,
    RuntimeTable,
    choose,
    run_episode,
    runtime_table,
)
from sim.runtime.budget import MILLION, Q12
from sim.runtime.episode import Slowdown
from sim.runtime.managers import Steady, chosen
from sim.runtime.table import RuntimeTableError, configurations, row_plan
from sim.runtime.traces import TraceSettings, draw_trace
from sim.state import SCENARIOS
from sim.zoo.grouped import grouped_alexnet

ACCURACY = {1: 56.0, 2: 63.0, 3: 68.0, 4: 71.0}
NO_SLOWDOWN = (Q12, Q12, Q12)
MS, MJ = 1_000_000, 1_000_000_000


@cache
def table(device: str = "jetson-nano", mode: str | None = None) -> RuntimeTable:
    models = {active: grouped_alexnet(1, active) for active in ACCURACY}
    return runtime_table(models, load_device(device), ACCURACY, mode=mode)


def small() -> RuntimeTable:
    """Two accuracies on CPU and GPU."""
    rows = (
        Row(1, "cpu:2", "max", 20 * MS, 40 * MJ, 50.0),
        Row(2, "cpu:2", "max", 40 * MS, 80 * MJ, 60.0),
        Row(2, "cpu:4", "max", 25 * MS, 90 * MJ, 60.0),
        Row(2, "gpu", "max", 10 * MS, 100 * MJ, 60.0),
    )
    return RuntimeTable(rows)


def test_a_table_holds_what_the_simulator_says() -> None:
    found, device = table(), load_device("jetson-nano")
    places = list(configurations(device))
    assert len(found.rows) == 4 * len(places) == 4 * (4 * 15 + 12)
    row = next(r for r in found.rows if (r.active, r.unit, r.point) == (3, "cpu:4", "614.4MHz"))
    graph = inference_graph(grouped_alexnet(1, 3))
    direct = expect(graph, row_plan(graph, row.unit, row.point, "tflite"), device)
    assert (row.time_ns, row.energy_pj) == (direct.time_ns, direct.energy_pj)
    assert row.power_mw == -(-row.energy_pj // row.time_ns)


def test_fewer_cores_are_slower_at_every_clock() -> None:
    """A row on two cores leaves the others alone: groups do not run beside each other there."""
    for active in ACCURACY:
        for point in ("204MHz", "1479MHz"):
            times = [
                next(
                    r.time_ns
                    for r in table().rows
                    if (r.active, r.unit, r.point) == (active, f"cpu:{cores}", point)
                )
                for cores in (1, 2, 3, 4)
            ]
            assert times == sorted(times, reverse=True)
            assert len(set(times)) == 4


def test_costs_are_nearly_linear_in_the_active_groups() -> None:
    """But for the sum of the logits, which all groups share."""
    rows = [r for r in table().rows if (r.unit, r.point) == ("cpu:4", "921.6MHz")]
    for row in rows:
        assert row.time_ns == pytest.approx(row.active * rows[0].time_ns, rel=0.01)
        assert row.energy_pj == pytest.approx(row.active * rows[0].energy_pj, rel=0.01)


def test_power_modes_limit_rows() -> None:
    limited = table(mode="5w")
    assert {row.unit for row in limited.rows} == {"cpu:1", "cpu:2", "gpu"}
    assert max(float(r.point[:-3]) for r in limited.rows if r.unit == "cpu:2") == 825.6
    assert max(float(r.point[:-3]) for r in limited.rows if r.unit == "gpu") == 614.4


@pytest.mark.parametrize(
    ("device", "mode", "accuracy", "message"),
    [
        ("jetson-nano", "15w", ACCURACY, r"power mode of jetson-nano.*'15w'.*maxn"),
        ("odroid-xu3", "5w", ACCURACY, r"mode = '5w': odroid-xu3 has no power modes; leave it out"),
        (
            "odroid-xu3",
            None,
            {1: 50.0},
            r"accuracy is given for \[1\] active groups and models for",
        ),
    ],
)
def test_tables_that_cannot_be_made(
    device: str, mode: str | None, accuracy: dict[int, float], message: str
) -> None:
    models = {active: grouped_alexnet(1, active) for active in ACCURACY}
    with pytest.raises(RuntimeTableError, match=message):
        runtime_table(models, load_device(device), accuracy, mode=mode)


def plain_choice(
    rows: tuple[Row, ...], budget: Budget, free: int, slow: tuple[int, ...]
) -> tuple[bool, float, int]:
    """Whether a row fits, and accuracy and energy of the best: one row after the other."""
    fits = []
    for row in rows:
        factor = slow[("cpu", "little", "gpu").index(row.unit.partition(":")[0])]
        time, energy = -(-row.time_ns * factor // Q12), -(-row.energy_pj * factor // Q12)
        met = all(
            limit is None or value <= limit
            for limit, value in (
                (budget.time_ns, time),
                (budget.energy_pj, energy),
                (budget.power_mw, row.power_mw),
            )
        )
        if row.cores <= free and met:
            fits.append((row.accuracy, -row.energy_pj))
    best = max(fits, default=(0.0, 0))
    return bool(fits), best[0], -best[1]


@settings(deadline=None)
@given(
    time=st.none() | st.integers(1, 200 * MS),
    energy=st.none() | st.integers(1, 400 * MJ),
    power=st.none() | st.integers(1000, 9000),
    free=st.integers(1, 4),
    slow=st.tuples(*[st.integers(Q12 // 2, 2 * Q12)] * 3),
)
def test_the_pick_is_the_best_that_fits(
    time: int | None, energy: int | None, power: int | None, free: int, slow: tuple[int, ...]
) -> None:
    budget = Budget(time, energy, power)
    pick = choose(table(), budget, free, slow)
    row = table().rows[pick.row]
    fits, accuracy, least = plain_choice(table().rows, budget, free, slow)
    assert pick.feasible == fits
    assert row.cores <= free
    if fits:
        assert (row.accuracy, row.energy_pj) == (accuracy, least)


def test_where_nothing_fits_the_least_excess_is_picked_and_said() -> None:
    pick = choose(small(), Budget(time_ns=8 * MS), 4, NO_SLOWDOWN)
    assert small().rows[pick.row].unit == "gpu"
    assert pick.excess_ppm == 250_000
    assert not pick.feasible


def test_a_row_that_is_ruled_out_is_picked_only_where_there_is_no_other() -> None:
    assert choose(small(), Budget(), 4, NO_SLOWDOWN, without=(1,)).row == 2
    assert choose(small(), Budget(), 4, NO_SLOWDOWN, without=(0, 1, 2, 3)).row == 1
    big = RuntimeTable(small().rows[2:3])
    with pytest.raises(RuntimeTableError, match="free_cores = 3: every row needs 4 big cores"):
        choose(big, Budget(), 3, NO_SLOWDOWN)


def test_budgets_that_change_are_followed_at_once() -> None:
    loose, tight = Budget(time_ns=50 * MS), Budget(time_ns=22 * MS, energy_pj=50 * MJ)
    episode = run_episode(
        small(), Steady(), Circumstances(((0, loose), (10, tight), (20, loose))), 30
    )
    assert episode.rows.tolist() == [1] * 10 + [0] * 10 + [1] * 10
    assert episode.switches == 2
    assert episode.violations == 0


def test_cores_that_others_take_are_left_at_once_and_taken_back_in_peace() -> None:
    wide = RuntimeTable(small().rows[:3])
    budget = Circumstances(((0, Budget(time_ns=30 * MS)),), SCENARIOS["busy"])
    episode = run_episode(wide, Steady(patience=5), budget, 60, seed=3)
    for frame, row in enumerate(episode.rows):
        free = 4 - SCENARIOS["busy"].busy_cores(3, frame)
        assert wide.rows[row].cores <= free
    naive = run_episode(wide, MANAGERS["naive"], budget, 60, seed=3)
    assert 0 < episode.switches < naive.switches


def test_what_was_measured_of_a_unit_is_remembered() -> None:
    """The GPU is shared with a job that the table does not know: it looks better and is not."""
    rows = (small().rows[0], small().rows[3])
    shared = (Slowdown("gpu", 2 * MILLION),)
    what = Circumstances(((0, Budget(time_ns=22 * MS)),), slowdowns=shared)
    manager = Steady(patience=4, probation=4, hold_off=50)
    episode = run_episode(RuntimeTable(rows), manager, what, 40)
    assert episode.rows[0] == 1  # the table says that the GPU fits
    assert episode.rows[1:].tolist() == [0] * 39  # once it was measured, it does not
    assert episode.violations == 1
    naive = run_episode(RuntimeTable(rows), MANAGERS["naive"], what, 40)
    assert naive.violations == 40


def after_two_bursts(hold_off: int, *changes: tuple[int, Budget]) -> list[int]:
    """Rows of 120 frames; bursts at frames 20 and 40 leave no room for row 1, the better one.

    Both rows run on the CPU, so row 0 shows when a burst has ended.
    """
    bursts = tuple(Slowdown("cpu", 300_000, first, first + 2) for first in (20, 40))
    what = Circumstances(((0, Budget(time_ns=41 * MS)), *changes), slowdowns=bursts)
    manager = Steady(patience=2, probation=30, hold_off=hold_off, guard_ppm=10_000)
    return run_episode(RuntimeTable(small().rows[:2]), manager, what, 120).rows.tolist()


def test_a_rise_that_fails_is_remembered_until_the_hold_off_ends() -> None:
    """The first row of an episode is no rise: after the first burst it is taken again in peace."""
    begun = [1] * 21 + [0] * 3 + [1] * 17
    assert after_two_bursts(60) == begun + [0] * 60 + [1] * 19
    assert after_two_bursts(1) == begun + [0] * 3 + [1] * 76


def test_another_budget_ends_a_hold_off() -> None:
    rows = after_two_bursts(60, (70, Budget(time_ns=42 * MS)))
    assert rows[41:] == [0] * 29 + [1] * 50


def test_a_slowdown_nobody_announced_is_answered_in_the_next_frame() -> None:
    what = Circumstances(
        ((0, Budget(time_ns=41 * MS)),), slowdowns=(Slowdown("cpu", 300_000, first=30, last=60),)
    )
    cores = RuntimeTable(small().rows[:2])
    episode = run_episode(cores, Steady(guard_ppm=20_000), what, 90)
    assert np.flatnonzero(episode.excess_ppm > 0).tolist() == [30]
    assert episode.rows[:31].tolist() == [1] * 31
    assert episode.rows[31:60].tolist() == [0] * 29
    assert episode.rows[89] == 1


def test_the_oracle_is_a_bound() -> None:
    traced = TraceSettings(frames=40)
    for seed in range(5):
        what = draw_trace(table(), seed, traced)
        oracle, steady = (
            run_episode(table(), manager, what, 40, seed)
            for manager in (MANAGERS["oracle"], traced.manager())
        )
        assert oracle.violations == 0
        assert oracle.accuracy(table()) >= steady.accuracy(table())


def managed(traces: range) -> tuple[int, int, int]:
    """Violations and switches of the steady manager, and switches of the naive one."""
    traced, sums = TraceSettings(), np.zeros(3, int)
    for seed in traces:
        for device in ("odroid-xu3", "jetson-nano"):
            what = draw_trace(table(device), seed, traced)
            steady = run_episode(table(device), traced.manager(), what, traced.frames, seed)
            naive = run_episode(table(device), MANAGERS["naive"], what, traced.frames, seed)
            sums += (steady.violations, steady.switches, naive.switches)
    return int(sums[0]), int(sums[1]), int(sums[2])


def test_every_budget_that_can_be_met_is_met_with_fewer_switches() -> None:
    violations, steady, naive = managed(range(25))
    assert violations == 0
    assert steady < naive / 2


@pytest.mark.accept
def test_a_thousand_traces_are_met_with_fewer_switches() -> None:
    violations, steady, naive = managed(range(500))
    assert violations == 0
    assert steady < naive / 2


def test_episodes_are_deterministic_and_live_in_the_state() -> None:
    what = draw_trace(table(), 1)
    one, two = (run_episode(table(), Steady(), what, 50, 1) for _ in range(2))
    assert one.rows.tolist() == two.rows.tolist()
    assert one.final == two.final
    assert one.final.step == 50
    assert one.final.manager.row == one.rows[-1]
    assert one.final.manager.switches == int((np.diff(one.rows) != 0).sum())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Budget(time_ns=0), "time_ns = 0; allowed: a whole number of 1 or more"),
        (lambda: Budget(power_mw=1.5), "power_mw = 1.5"),  # type: ignore[arg-type]
        (lambda: Circumstances(()), r"budgets begin at frames \[\]; they must rise from 0"),
        (lambda: Circumstances(((3, Budget()),)), r"frames \[3\]"),
        (lambda: Circumstances(((0, Budget()),), jitter_ppm=-1), "jitter_ppm = -1"),
        (lambda: Slowdown("dsp", 1), "unit = 'dsp'; allowed: cpu, little, gpu"),
        (lambda: Slowdown("gpu", -MILLION), "ppm = -1000000; allowed"),
        (lambda: Steady(window=0), "window = 0; allowed: a whole number of 1 or more"),
        (lambda: Steady(guard_ppm=-1), "guard_ppm = -1"),
        (lambda: RuntimeTable(()), "rows is empty"),
        (lambda: chosen(["lucky"]), "manager 'lucky' is unknown; allowed: steady, naive, oracle"),
        (lambda: run_episode(small(), Steady(), Circumstances(((0, Budget()),)), 0), "frames = 0"),
    ],
)
def test_refusals(make: object, message: str) -> None:
    with pytest.raises(RuntimeTableError, match=message):
        make()  # type: ignore[operator]
