"""Driving searches: the same front whoever runs the shards, in whatever order and portions."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from search_cases import SHARDS, SMALL, budget, sha256, whole

from cost_models.device import FOLDER
from experiments.search.backends import Backend, LostWorkerError, started
from experiments.search.budget import Budget
from experiments.search.drive import Run, finished_shard, search
from experiments.search.front import Found
from experiments.search.journal import Journal
from experiments.search.limits import parse_limits
from experiments.search.objectives import COLUMNS, SearchError
from experiments.search.provenance import versions_of


def loky_workers() -> list[int]:
    """Process ids of the workers that this process started."""
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    lines = {int(c): Path(f"/proc/{c}/cmdline").read_bytes() for c in children}
    return [pid for pid, line in lines.items() if b"popen_loky" in line]


def test_more_shards_find_more() -> None:
    assert sha256(whole(2)) != sha256(whole())
    rows = whole().rows
    assert rows[-1].shards == SHARDS
    assert rows[-1].evaluations == whole().evaluations == SHARDS * SMALL.evaluations_per_shard
    assert [row.best for row in rows] == sorted((row.best for row in rows), reverse=True)
    assert rows[-1].best == whole().front[0].values[0]


def test_two_processes_of_which_one_is_killed_find_the_same_front(tmp_path: Path) -> None:
    seen: list[int] = []
    killed: list[int] = []

    def kill_one(run: Run) -> None:
        seen.append(run.ran)
        if run.ran == 3:
            killed.append(loky_workers()[0])
            os.kill(killed[0], signal.SIGKILL)

    with (
        started("processes", 2) as backend,
        Journal.open(tmp_path / "j", SMALL) as journal,
    ):
        found = search(SMALL, budget(), backend, journal, kill_one)
    assert killed
    assert found.lost == 1
    assert seen == list(range(1, SHARDS + 1))  # no finished shard ran twice
    assert sha256(found) == sha256(whole())


def test_a_time_budget_gives_what_its_number_of_shards_gives(tmp_path: Path) -> None:
    with started("serial") as backend:
        found = search(SMALL, Budget(seconds=1), backend)
        assert found.shards >= 1
        assert 0.9 < found.seconds < 10
        again = search(SMALL, budget(found.shards), backend)
    assert sha256(again) == sha256(found)


def test_what_is_in_the_journal_does_not_run_again(tmp_path: Path) -> None:
    path = tmp_path / "j"

    def stop_after_five(run: Run) -> None:
        if run.ran == 5:
            raise KeyboardInterrupt

    with started("serial") as backend:
        with Journal.open(path, SMALL) as journal, pytest.raises(KeyboardInterrupt):
            search(SMALL, budget(), backend, journal, stop_after_five)
        with Journal.open(path, SMALL) as journal:
            found = search(SMALL, budget(), backend, journal)
            assert (found.ran, found.shards) == (SHARDS - 5, SHARDS)
            fewer = search(SMALL, budget(2), backend, journal)
            assert (fewer.ran, fewer.shards) == (0, 2)
    assert sha256(found) == sha256(whole())
    assert sha256(fewer) == sha256(whole(2))


def changed(found: Found, column: str, value: int) -> Found:
    """A plan with another figure."""
    values = list(found.values)
    values[COLUMNS.index(column)] = value
    return Found(tuple(values), found.genes)


ABSURD: dict[str, tuple[Callable[[Found], Found], str]] = {
    "a figure of 0": (
        lambda f: changed(f, "time_ns", 0),
        r"j: shard 3: time_ns of a plan is 0, and \d{6,} when scored; .*line of shard 3",
    ),
    "energy of another plan": (
        lambda f: changed(f, "energy_pj", 1),
        r"shard 3: energy_pj of a plan is 1, and \d+ when scored",
    ),
    "beyond a limit": (
        lambda f: changed(f, "risk_ppm", 2**63 - 1),
        r"shard 3: a plan is beyond the limit on risk: 9\d{18}, and \d+ is allowed",
    ),
    "too few genes": (
        lambda f: Found(f.values, f.genes[:2]),
        r"shard 3: a plan has 2 genes, and those of the space have \d\d",
    ),
    "no such choice": (
        lambda f: Found(f.values, (32767, *f.genes[1:])),
        r"shard 3: a plan has \S+ = 32767; allowed: 0 to \d",
    ),
}


@pytest.mark.parametrize("case", ABSURD)
def test_a_journal_of_what_no_search_finds_is_refused_by_its_shard(
    case: str, tmp_path: Path
) -> None:
    change, message = ABSURD[case]
    known = whole().finished[3]
    found = tuple(change(one) for one in whole().front[:1])  # it stays in the front
    with started("serial") as backend, Journal.open(tmp_path / "j", SMALL) as journal:
        for one in whole().finished[:3]:
            journal.add(one)
        journal.add(replace(known, result=replace(known.result, found=found)))
        with pytest.raises(SearchError, match=message):
            search(SMALL, budget(4), backend, journal)


def test_a_shard_that_scored_more_than_its_portion_is_refused(tmp_path: Path) -> None:
    known = whole().finished[0]
    with started("serial") as backend, Journal.open(tmp_path / "j", SMALL) as journal:
        journal.add(replace(known, result=replace(known.result, evaluated=2**53)))
        with pytest.raises(SearchError, match=r"shard 0: evaluated is 90.*scores at most 12; it"):
            search(SMALL, budget(1), backend, journal)


def test_a_shard_that_found_more_than_it_scored_is_refused(tmp_path: Path) -> None:
    starts = {tuple(start.row.tolist()) for start in SMALL.ground().starts}
    known = whole().finished[3]
    new = {plan.genes for plan in known.result.found} - starts
    assert new
    with started("serial") as backend, Journal.open(tmp_path / "j", SMALL) as journal:
        journal.add(replace(known, result=replace(known.result, evaluated=len(new) - 1)))
        said = rf"shard 3: evaluated is {len(new) - 1}, and {len(new)} of its plans are neither"
        with pytest.raises(SearchError, match=said):
            search(SMALL, budget(1), backend, journal)


def test_starts_and_plans_of_earlier_shards_need_no_scoring(tmp_path: Path) -> None:
    first, second = whole().finished[0], whole().finished[SMALL.generation]
    again = replace(second, result=replace(second.result, evaluated=0, found=first.result.found))
    with started("serial") as backend, Journal.open(tmp_path / "j", SMALL) as journal:
        for one in (*whole().finished[: SMALL.generation], again):
            journal.add(one)
        assert search(SMALL, budget(5), backend, journal).shards == 5


def test_one_process_is_a_process_and_may_die() -> None:
    with started("processes", 1) as backend:
        with backend.pool() as results:
            (there,) = results([(os.getpid, ())])
        assert there != os.getpid()
        with pytest.raises(LostWorkerError), backend.pool() as results:
            list(results([(os._exit, (3,))]))


def test_a_shard_missing_in_the_middle_is_run_before_it_counts(tmp_path: Path) -> None:
    with started("serial") as backend, Journal.open(tmp_path / "j", SMALL) as journal:
        for one in (0, 2, 3):  # as after a crash of two workers
            journal.add(whole().finished[one])
        found = search(SMALL, budget(4), backend, journal)
    assert (found.ran, found.shards) == (1, 4)
    assert sha256(found) == sha256(whole(4))


def test_workers_that_die_again_and_again_end_the_search() -> None:
    class Dying(Backend):
        entered = 0

        def pool(self):  # type: ignore[no-untyped-def]
            Dying.entered += 1
            raise LostWorkerError("killed")

    with pytest.raises(SearchError, match=r"workers died 3 times without .*\(killed\); if memory"):
        search(SMALL, budget(), Dying("processes", 2, {}))
    assert Dying.entered == 3


RAISES = """
from experiments.search import Searcher
class Broken(Searcher):
    def ask(self, n):
        raise {raised}
    def tell(self, batch, values):
        pass
"""


@pytest.mark.parametrize(
    ("name", "raised"),
    [("luckless", 'ZeroDivisionError("no luck")'), ("leaver", 'SystemExit("no luck")')],
)
def test_a_searcher_of_a_user_that_raises_or_exits_is_named(
    name: str, raised: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / f"{name}.py").write_text(RAISES.format(raised=raised))
    info = tmp_path / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[mandheling.searchers]\n{name} = {name}:Broken\n")
    monkeypatch.syspath_prepend(tmp_path)
    problem = replace(SMALL, searcher=name)
    message = f"shard 0, searcher '{name}': {raised.partition('(')[0]}: no luck"
    with started("serial") as backend, pytest.raises(SearchError, match=message):
        search(problem, budget(), backend)


def test_a_worker_with_other_versions_is_refused() -> None:
    with pytest.raises(SearchError, match=r"worker on .* has other versions \(.*, not 0.1\)"):
        finished_shard(SMALL, 0, (), {**versions_of(SMALL), "numpy": "0.1"})


def test_a_worker_with_another_device_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "phone.yaml"
    text = (FOLDER / "snapdragon-865.yaml").read_text()
    path.write_text(text)
    problem = replace(SMALL, device=str(path))
    prepared, known = problem.ground().prepared, versions_of(problem)
    assert finished_shard(problem, 0, (), known, prepared).result == whole().finished[0].result
    path.write_text(text.replace("memory_budget_bytes: {value: ", "memory_budget_bytes: {value: 1"))
    said = (
        r"device '.*phone.yaml' is another on .* than where the search was begun \(.*\.\.\.\); give"
    )
    with pytest.raises(SearchError, match=said):
        finished_shard(problem, 0, (), known, prepared)


def test_a_file_that_changes_is_searched_as_it_is_now(tmp_path: Path) -> None:
    path = tmp_path / "phone.yaml"
    path.write_text((FOLDER / "snapdragon-865.yaml").read_text())
    problem = replace(SMALL, device=str(path))
    before = problem.ground()
    assert problem.ground() is before
    path.write_text((FOLDER / "snapdragon-888.yaml").read_text())
    after = problem.ground()
    assert after.device.sha256 != before.device.sha256
    assert problem.sha256 != SMALL.sha256
    assert problem.space().device.sha256 == after.device.sha256


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("threads",), "backend 'threads' is unknown; choose one of processes, ray, serial"),
        (("serial", 2), "backend 'serial' has 1 worker, not 2"),
        (("processes", 2, "here:1"), "address 'here:1' is for backend 'ray'"),
    ],
)
def test_backends_that_cannot_be(given: tuple[str], message: str) -> None:
    with pytest.raises(SearchError, match=message), started(*given):
        pass


def test_without_ray_its_install_line_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with (
        pytest.raises(SearchError, match=r"pip install 'mandheling-sandbox\[cluster\]'"),
        started("ray"),
    ):
        pass


@pytest.mark.parametrize(
    "text", ["", "0s", "0-shards", "-5s", "1.5s", "10", "10d", "721h", "99999999-shards", "1 s"]
)
def test_budgets_that_cannot_be(text: str) -> None:
    with pytest.raises(SearchError, match=r"budget .* is not allowed; give a time such as 10s"):
        Budget.parse(text)


@pytest.mark.parametrize("text", ["10s", "16-shards", "1-shard", "2592000s"])
def test_budgets_are_read(text: str) -> None:
    assert str(Budget.parse(text)).replace("shards", "shard") == text.replace("shards", "shard")


@pytest.mark.parametrize(
    ("text", "limits"),
    [
        ("risk=0.05%", {"risk": 500}),
        ("memory=1.5GiB,energy=2mJ", {"energy": 2 * 10**9, "memory": 3 * 2**29}),
        ("time=12.5us", {"time": 12_500}),
    ],
)
def test_limits_are_read(text: str, limits: dict[str, int]) -> None:
    assert parse_limits(text) == limits


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "limit '' is not allowed; give NAME=VALUE"),
        ("speed=3", "limit 'speed=3' is not allowed; give NAME=VALUE"),
        ("time=1,time=2", "limit 'time=2' is not allowed; .*at most once"),
        ("time=-1", "give a number of time_ns, or one with a unit: ns, us, ms, s"),
        ("memory=3mb", "with a unit: B, KiB, MiB, GiB"),
        ("time=9999999999999999999", "limit on time is"),
    ],
)
def test_limits_that_cannot_be(text: str, message: str) -> None:
    with pytest.raises(SearchError, match=message):
        parse_limits(text)
