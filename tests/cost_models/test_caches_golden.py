"""Hits, misses and evictions equal pycachesim's on the traces of all kernels."""

from __future__ import annotations

from cache_cases import COUNTS, OPERATORS, cases, read_golden

from cost_models.caches import Traffic
from cost_models.caches.simulator import Simulator
from cost_models.caches.trace import trace
from kernels.operators import OperatorError, Role


def counts(traffic: Traffic) -> list[list[int]]:
    return [[getattr(level, name) for name in COUNTS] for level in traffic.levels]


def test_counts_equal_pycachesim() -> None:
    golden, found = read_golden(), {}
    for name, nests, hierarchy in cases():
        simulator = Simulator(hierarchy)
        for chunk in trace(nests, hierarchy):
            simulator.run(chunk)
        before = counts(simulator.traffic())
        simulator.flush()
        found[name] = [before, counts(simulator.traffic())]
    assert list(found) == list(golden)
    assert [name for name in found if found[name] != golden[name]] == []


def test_cases_cover_all_roles_on_both_units() -> None:
    names = set(read_golden())
    for name, op in OPERATORS.items():
        for role in Role:
            try:
                op.work(role)
            except OperatorError:
                continue
            assert any(case.startswith(f"{name}, {role}, ") for case in names)
    assert {case.split(", ")[-2] for case in names} == {"cpu", "dsp"}


def test_small_caches_overflow_at_every_level() -> None:
    small = [levels for name, levels in read_golden().items() if name.endswith("small caches")]
    for index in (0, 1):
        evicting = [counts for before, _ in small for counts in before[index : index + 1]]
        assert sum(row[COUNTS.index("evictions")] > 0 for row in evicting) > 50
