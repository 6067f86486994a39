"""Tables of operating rows: on every kind of device, and in a line; managers by their names."""

from __future__ import annotations

import pytest

from sim import load_device
from sim.runtime import (
    MANAGERS,
    Budget,
    Circumstances,
    Row,
    RuntimeTable,
    run_episode,
    runtime_table,
)
from sim.runtime.table import RuntimeTableError
from sim.zoo.grouped import grouped_alexnet

MS, MJ = 1_000_000, 1_000_000_000
ROWS = (
    Row(1, "cpu:2", "max", 20 * MS, 40 * MJ, 50.0),
    Row(4, "gpu", "max", 10 * MS, 100 * MJ, 60.0),
)
TABLE = RuntimeTable(ROWS)
LOOSE = Circumstances(((0, Budget()), (3, Budget(energy_pj=50 * MJ))))


@pytest.mark.parametrize("library", [None, "mnn"])
def test_a_microcontroller_s_rows_take_its_own_library(library: str | None) -> None:
    models = {1: grouped_alexnet(1, 1, groups=16, image=16)}
    found = runtime_table(models, load_device("gap9"), {1: 50.0}, library=library)
    assert {row.unit for row in found.rows} == {f"cpu:{cores}" for cores in range(1, 9)}
    times = [row.time_ns for row in found.rows]
    assert times == sorted(times, reverse=True)
    assert times[0] > times[-1]


def test_a_table_is_shown_in_a_line_whatever_it_holds() -> None:
    assert repr(TABLE) == "RuntimeTable(2 rows: 1, 4 groups; cpu:2, gpu)"
    many = RuntimeTable(ROWS * 500)
    assert repr(many) == "RuntimeTable(1000 rows: 1, 4 groups; cpu:2, gpu)"


@pytest.mark.parametrize("name", [*MANAGERS])
def test_a_manager_is_known_by_its_name(name: str) -> None:
    named, given = (run_episode(TABLE, one, LOOSE, 6, seed=2) for one in (name, MANAGERS[name]))
    assert named.rows.tolist() == given.rows.tolist()
    assert named.final == given.final
    assert [TABLE.rows[k].active for k in named.rows] == [4, 4, 4, 1, 1, 1]


@pytest.mark.parametrize("manager", ["lucky", None, ["steady"]])
def test_what_is_no_manager_is_refused_with_those_there_are(manager: object) -> None:
    with pytest.raises(RuntimeTableError, match="is unknown; allowed: steady, naive, oracle"):
        run_episode(TABLE, manager, LOOSE, 6)  # type: ignore[arg-type]


@pytest.mark.parametrize("one", [(0, 60), (0, None), (0.0, Budget()), Budget(), (0, Budget(), 1)])
def test_what_is_no_budget_from_a_frame_on_is_refused(one: object) -> None:
    message = r"budgets has .*; allowed: pairs of a frame and a Budget, like \(0, Budget"
    with pytest.raises(RuntimeTableError, match=message):
        Circumstances(((0, Budget()), one))  # type: ignore[arg-type]
