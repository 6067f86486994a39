"""FastRPC: published latencies come back out, and interpolation is exact."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cost_models.device import device_names, load_device
from cost_models.errors import DeviceError
from cost_models.rpc import rpc_latency_ns, rpc_mode, rpc_tail

PHONES = tuple(name for name in device_names() if load_device(name).dsp is not None)
MIB = 1 << 20


@pytest.mark.parametrize(
    ("size", "microseconds"),
    [(32 * 1024, 144), (128 * 1024, 143), (MIB, 226.0), (4 * MIB, 281.5), (8 * MIB, 334.0)],
)
def test_the_law_stays_near_the_rows_of_sm8250(size: int, microseconds: float) -> None:
    found = rpc_latency_ns(load_device("snapdragon-865"), "pm_qos", size) / 1000
    assert found == pytest.approx(microseconds, rel=0.06)


def test_an_empty_call_is_as_measured() -> None:
    assert rpc_latency_ns(load_device("snapdragon-865"), "pm_qos", 0) == 92_000


def test_between_and_beyond_rows() -> None:
    phone = load_device("snapdragon-888")
    rows = dict(rpc_mode(phone, "pm_qos").per_mib.rows)
    at = {size: rpc_latency_ns(phone, "pm_qos", size * MIB) for size in (0, 4, 6, 8, 12)}
    assert at[4] - at[0] == 1000 * rows[4.0 * MIB]
    assert at[6] == (at[4] + at[8]) // 2
    assert at[12] == at[8] + (at[8] - at[4])


@settings(derandomize=True, deadline=None)
@given(
    name=st.sampled_from(PHONES),
    mode=st.sampled_from(["none", "adaptive", "pm_qos"]),
    sizes=st.tuples(st.integers(0, 2**31), st.integers(0, 2**31)),
)
def test_more_bytes_never_cost_less(name: str, mode: str, sizes: tuple[int, int]) -> None:
    phone = load_device(name)
    small, large = sorted(sizes)
    assert 0 < rpc_latency_ns(phone, mode, small) <= rpc_latency_ns(phone, mode, large)


@pytest.mark.parametrize("name", PHONES)
def test_better_service_is_faster(name: str) -> None:
    phone = load_device(name)
    none, adaptive, pm_qos = (
        rpc_latency_ns(phone, mode, MIB) for mode in ("none", "adaptive", "pm_qos")
    )
    assert none > adaptive > pm_qos


def test_default_mode_is_used() -> None:
    phone = load_device("snapdragon-855")
    assert rpc_mode(phone) is rpc_mode(phone, "pm_qos")
    assert rpc_latency_ns(phone, None, 7) == rpc_latency_ns(phone, "pm_qos", 7)


@pytest.mark.parametrize("name", PHONES)
def test_tail_is_mostly_nothing_and_rarely_long(name: str) -> None:
    phone = load_device(name)
    tail = rpc_tail(phone)
    assert tail.at(0) == 0
    assert tail.at(2**31 - 1) == pytest.approx(0, abs=100)
    assert tail.at(2**32 - 1) > 25_000_000
    assert 0 < tail.mean_ns < 30_000


@pytest.mark.parametrize(
    ("name", "mode", "size", "said"),
    [
        ("laptop", None, 0, "fastrpc is null"),
        ("snapdragon-865", "poll", 0, "allowed: adaptive, none, pm_qos"),
        ("snapdragon-865", None, -1, "negative"),
    ],
)
def test_questions_without_an_answer(name: str, mode: str | None, size: int, said: str) -> None:
    with pytest.raises(DeviceError, match=said):
        rpc_latency_ns(load_device(name), mode, size)
