"""Which cores a number of threads gets, and their clocks and power."""

from __future__ import annotations

import pytest

from cost_models.cores import clock_and_power, core_count, cores_of
from cost_models.device import load_device

PHONE = load_device("snapdragon-865")  # 1 prime at 2,841.6, 3 big at 2,419.2, 4 little MHz


@pytest.mark.parametrize(
    ("pool", "count", "hz", "mw"),
    [
        # Threads take the fastest cores and all wait for the slowest of them.
        ("big", 1, 2_841_600_000, 984),
        ("big", 2, 2_419_200_000, 984 + 710),
        ("big", 4, 2_419_200_000, 984 + 3 * 710),
        ("little", 3, 1_804_800_000, 3 * 115),
    ],
)
def test_cores_by_hand(pool: str, count: int, hz: int, mw: int) -> None:
    cores = cores_of(PHONE, pool, count)  # type: ignore[arg-type]
    assert (cores.count, cores.max_hz) == (count, hz)
    assert clock_and_power(PHONE, cores, "max") == (hz, mw)


def test_rates_by_hand() -> None:
    # One A77 copies 14,470 MB/s: 28,940 read and written, which is all that the pool draws.
    assert cores_of(PHONE, "big", 1).rate == 28_940
    assert cores_of(PHONE, "big", 4).rate == 28_940
    assert cores_of(PHONE, "little", 1).rate == 2 * 3769
    assert cores_of(PHONE, "big", 4).macs_per_cycle("fp32") == 7.946
    assert cores_of(PHONE, "little", 1).macs_per_cycle("int8") == 15.074


def test_sustained_clock_by_hand() -> None:
    # All four cores fall to 2,007 MHz. Prime: between 1,977.6 MHz at 484.6 mW and 2,073.6 at
    # 522.1: 496.08; big: between 1,958.4 at 443.5 and 2,054.4 at 508.3: 476.3 mW.
    hz, mw = clock_and_power(PHONE, cores_of(PHONE, "big", 4), "sustained")
    assert (hz, mw) == (2_007_000_000, 496 + 3 * 476)


def test_lower_points_are_slower_and_draw_less() -> None:
    cores = cores_of(PHONE, "big", 4)
    points = [clock_and_power(PHONE, cores, p) for p in ("max", "90%", "75%", "60%", "45%")]
    assert points == sorted(points, reverse=True)
    assert len(set(points)) == len(points)


def test_counts() -> None:
    assert (core_count(PHONE, "big"), core_count(PHONE, "little")) == (4, 4)
    assert core_count(load_device("laptop"), "little") == 0
    with pytest.raises(ValueError, match=r"pool 'big' has 4 cores, not 5; ask for fewer"):
        cores_of(PHONE, "big", 5)
    with pytest.raises(ValueError, match="not 0"):
        cores_of(PHONE, "big", 0)
