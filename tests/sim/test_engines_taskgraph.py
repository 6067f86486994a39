"""What a task graph refuses, with the message that says what to do."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from sim import engines
from sim.taskgraph import StaticPower, TaskGraph, TaskGraphError, Unit, make_task_graph


def graph(**changes: Any) -> TaskGraph:
    good = make_task_graph(
        [Unit("cpu", 2), Unit("dsp", 4, 256)],
        [0, 1],
        preds=[[], [0]],
        names=["a", "b"],
        tensors=[(10, 0, [1])],
    )
    return replace(good, **changes)


def i64(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def i32(*values: int) -> np.ndarray:
    return np.array(values, np.int32)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"units": ()}, "units is empty; allowed: one unit or more"),
        ({"units": (Unit("cpu", 0), Unit("dsp", 4, 256))}, r"units\[cpu\].slots is 0"),
        ({"units": (Unit("cpu", 63), Unit("dsp", 4, 256))}, r"slots is 63; allowed: 1..62"),
        ({"units": (Unit("dsp", 1), Unit("dsp", 4, 256))}, "unique names"),
        ({"units": (Unit("cpu", 1), Unit("dsp", 4, -1))}, "vtcm_bytes is -1"),
        ({"ddr_rate": 5}, r"ddr_rate is 5; allowed: 6 \(all slots\)"),
        ({"pj_per_byte": -1}, "pj_per_byte is -1"),
        ({"static_power": (StaticPower("soc", -3),)}, r"static_power\[soc\] is -3"),
        ({"lead_ns": i64(1)}, r"lead_ns is int64\[1\]; allowed: int64\[2\]"),
        ({"unit": i64(0, 1)}, r"unit is int64\[2\]; allowed: int32\[2\]"),
        ({"compute_ns": np.array([0.0, np.nan])}, "compute_ns is float64"),
        ({"names": ("a", "a")}, "names is 'a' twice"),
        ({"unit": i32(0, 2)}, "unit of task 'b' is 2; allowed: 0..1"),
        ({"slots": i32(0, 1)}, "slots of task 'a' is 0; allowed: 1..2"),
        ({"slots": i32(3, 1)}, "slots of task 'a' is 3; allowed: 1..2"),
        ({"vtcm_bytes": i64(0, 257)}, "vtcm_bytes of task 'b' is 257; allowed: 0..256"),
        ({"lead_ns": i64(0, -1)}, "lead_ns of task 'b' is -1"),
        ({"compute_ns": i64(-1, 0)}, "compute_ns of task 'a' is -1"),
        ({"release_ns": i64(-1, 0)}, "release_ns of task 'a' is -1"),
        ({"power_mw": i64(-1, 0)}, "power_mw of task 'a' is -1"),
        ({"ddr_bytes": i64(1 << 50, 0)}, "Use bytes below 2.50"),
        ({"rate_cap": i64(1, 0)}, "rate_cap of task 'b' is 0"),
        ({"category": i32(0, 7)}, "category of task 'b' is 7; allowed: 0..6"),
        ({"groups": np.array([[0, 0, 0], [0, 1, 0]], np.int32)}, r"groups\[1\] of task 'b' is 1"),
        ({"pred_ptr": i64(0, 1, 0)}, "pred_ptr is .* Build it with cumsum"),
        ({"pred": i64(1)}, r"pred of task 1 \('b'\) is 1; allowed: 0..0, an earlier task"),
        ({"pred": i64(-1)}, r"pred of task 1 \('b'\) is -1"),
        ({"tensor_user_ptr": i64(0, 2)}, "tensor_user_ptr"),
        ({"tensor_bytes": i64(-4)}, r"tensor_bytes\[0\] is -4"),
        ({"tensor_producer": i64(2)}, r"tensor_producer\[0\] is 2; allowed: -1..1"),
        ({"tensor_users": i64(2)}, r"tensor_users\[0\] is 2"),
        ({"resident_bytes": -1}, "resident_bytes is -1"),
        ({"compute_ns": i64(1 << 60, 1 << 60)}, "bound of the makespan"),
        (
            {"release_ns": i64(1 << 60, 0), "lead_ns": i64(1 << 60, 0)},
            "bound of the makespan",
        ),
        (
            {
                "ddr_bytes": i64(1 << 49, (1 << 50) - 1),
                "rate_cap": i64(1, 1),
                "lead_ns": i64(1 << 60, 0),
            },
            "bound of the makespan",
        ),
        ({"compute_ns": i64(1 << 50, 0), "power_mw": i64(1 << 12, 0)}, "bound of the energy"),
        ({"pj_per_byte": 1 << 40, "ddr_bytes": i64(1 << 30, 0)}, "bound of the energy"),
    ],
)
def test_refused(changes: dict[str, Any], message: str) -> None:
    assert len(graph()) == 2
    with pytest.raises(TaskGraphError, match=message):
        graph(**changes)


def test_sum_of_tensors_is_bounded() -> None:
    n = 1 << 12
    columns = {
        "tensor_bytes": np.full(n, (1 << 50) - 1, np.int64),
        "tensor_producer": np.zeros(n, np.int64),
        "tensor_user_ptr": np.zeros(n + 1, np.int64),
        "tensor_users": i64(),
    }
    with pytest.raises(TaskGraphError, match="sum of tensor_bytes"):
        graph(**columns)


def test_builder_refuses_unknown_columns_and_wrong_lengths() -> None:
    with pytest.raises(TaskGraphError, match="column is compute_us"):
        make_task_graph([Unit("cpu", 1)], [0], compute_us=3)
    with pytest.raises(TaskGraphError, match="compute_ns is 2 values; allowed: 1 or 1"):
        make_task_graph([Unit("cpu", 1)], [0], compute_ns=[3, 4])


def test_largest_allowed_numbers_run_without_overflow() -> None:
    # 2^50 - 1 bytes at 2^31 B/us take ceil((2^50 - 1) * 1000 / 2^31) ns; shared by two: twice that.
    size, rate = (1 << 50) - 1, 1 << 31
    big = make_task_graph([Unit("cpu", 2)], [0, 0], ddr_bytes=size, ddr_rate=rate)
    for engine in engines.ENGINES:
        ends = engines.run(big, engine).end_ns.tolist()
        assert ends == [-(-size * 1000 // (rate // 2))] * 2
