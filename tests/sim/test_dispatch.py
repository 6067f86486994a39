"""Priorities of tasks under each dispatch rule, by hand on a small graph."""

from __future__ import annotations

import pytest

from sim.dispatch import durations, priorities, unlocked_dsp, upward_rank
from sim.taskgraph import TaskGraph, Unit, make_task_graph


def graph() -> TaskGraph:
    """cpu a -> rpc call -> dsp d1 -> dsp d2; cpu b -> cpu c; a -> c as well."""
    return make_task_graph(
        [Unit("cpu", 1), Unit("dsp", 1), Unit("rpc", 1)],
        [0, 2, 1, 1, 0, 0],
        names=["a", "call", "d1", "d2", "b", "c"],
        preds=[[], [0], [1], [2], [], [0, 4]],
        lead_ns=[5, 100, 0, 0, 0, 0],
        compute_ns=[10, 0, 50, 20, 7, 9],
        ddr_bytes=[0, 0, 0, 60, 0, 0],
        rate_cap=1000,
    )


def test_durations() -> None:
    # d2: 60 bytes at 1,000 bytes/us take 60 ns, more than 20 ns of computing.
    assert durations(graph()).tolist() == [15, 100, 50, 60, 7, 9]


def test_transfers_round_up() -> None:
    one = make_task_graph([Unit("cpu", 1)], [0], ddr_bytes=1, rate_cap=3)
    assert durations(one).tolist() == [334]


def test_upward_rank() -> None:
    # d2 60, d1 110, call 210, a 15 + max(210, 9) = 225; c 9, b 16.
    assert upward_rank(graph()).tolist() == [225, 210, 110, 60, 16, 9]


def test_critical_path_first() -> None:
    assert priorities(graph(), "critical-path").tolist() == [-225, -210, -110, -60, -16, -9]


def test_unlocked_work_is_what_waits_directly_behind() -> None:
    # Behind a, through the call: d1's 50. Behind d1: d2's 60. Behind b only CPU work.
    assert unlocked_dsp(graph()).tolist() == [50, 50, 60, 0, 0, 0]


def test_unblock_dsp_takes_the_longest_on_the_dsp() -> None:
    assert priorities(graph(), "unblock-dsp").tolist() == [-50, -50, -50, -60, 0, 0]


def test_topological_leaves_all_equal() -> None:
    assert priorities(graph(), "topological").tolist() == [0] * 6


def test_unknown_rule() -> None:
    with pytest.raises(ValueError, match=r"dispatch rule 'random': choose one of topological"):
        priorities(graph(), "random")


def test_rules_need_neither_dsp_nor_rpc() -> None:
    plain = make_task_graph([Unit("cpu", 1)], [0, 0], preds=[[], [0]], compute_ns=[4, 6])
    assert priorities(plain, "unblock-dsp").tolist() == [0, 0]
    assert priorities(plain, "critical-path").tolist() == [-10, -6]
