"""A search that is killed at any moment and resumed ends in the same front."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest
from search_cases import OPTIONS, ROOT, SMALL, command, sha256, whole

from experiments.search.journal import read_journal
from experiments.search.result import SearchResult


def begun(*arguments: object) -> subprocess.Popen[str]:
    """Start a search in a process of its own."""
    pipe = subprocess.PIPE
    return subprocess.Popen(
        command(*arguments),
        cwd=ROOT,
        stderr=pipe,
        stdout=pipe,
        text=True,
        start_new_session=True,
    )


def finished(journal: Path) -> int:
    """How many shards are kept."""
    return len(read_journal(journal).finished) if journal.exists() else 0


def kill_until_done(out: Path, shards: int, kills: int, seed: int, workers: int) -> int:
    """Kill a search at random moments and resume it, then let it end; return the kills."""
    draw = random.Random(seed)
    journal = Path(f"{out}.journal")
    ways = ["--backend", "serial"] if workers == 1 else ["--workers", str(workers)]
    for landed in range(kills + 1):
        before = finished(journal)
        known = journal.exists() and read_journal(journal).problem is not None
        what = ["--resume", journal] if known else [*OPTIONS, "-o", out]
        process = begun(
            *what, "--budget", f"{shards}-shards", "--no-robust", "--no-why", "--no-bound", *ways
        )
        if landed < kills:
            while process.poll() is None and finished(journal) == before:
                time.sleep(0.01)
            time.sleep(draw.random() * 0.3)
            process.kill()
        _, said = process.communicate(timeout=120)
        if process.returncode != -signal.SIGKILL:
            assert process.returncode == 0, said
            return landed
        assert finished(journal) > before
    raise AssertionError("the last run was not to be killed")


def assert_front_is_whole(out: Path, shards: int) -> None:
    """Compare with the front of a search that nothing disturbed."""
    result = SearchResult.read(out)
    assert result.manifest.shards == shards
    assert result.manifest.front_sha256 == sha256(whole(shards))
    numbers = [one.result.shard for one in read_journal(Path(f"{out}.journal")).finished]
    assert sorted(numbers) == list(range(shards))  # each once: reading refuses another
    assert not list(out.parent.glob(".*.part"))


def test_a_search_killed_twice_ends_in_the_same_front(tmp_path: Path) -> None:
    assert kill_until_done(tmp_path / "run.json", 10, kills=2, seed=1, workers=1) == 2
    assert_front_is_whole(tmp_path / "run.json", 10)


@pytest.mark.accept
@pytest.mark.parametrize("workers", [1, 2])
def test_a_search_killed_twenty_times_ends_in_the_same_front(
    tmp_path: Path, workers: int, record_property: pytest.RecordProperty
) -> None:
    landed = kill_until_done(tmp_path / "run.json", 600, kills=20, seed=workers, workers=workers)
    record_property("kills", landed)
    assert landed == 20
    assert_front_is_whole(tmp_path / "run.json", 600)


def workers_of(process: subprocess.Popen[str]) -> list[Path]:
    """Folders in /proc of the processes that a search started to run shards."""
    pids = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    folders = [Path("/proc", pid) for pid in pids]
    return [one for one in folders if b"popen_loky" in (one / "cmdline").read_bytes()]


def test_workers_end_with_a_search_that_is_killed(tmp_path: Path) -> None:
    out = tmp_path / "run.json"
    process = begun(*OPTIONS, "-o", out, "--budget", "10000-shards", "--workers", "2")
    while process.poll() is None and finished(Path(f"{out}.journal")) < 1:
        time.sleep(0.02)
    workers = workers_of(process)
    process.kill()
    process.communicate()
    assert len(workers) == 2
    ends = time.monotonic() + 20
    while any(one.exists() for one in workers):
        assert time.monotonic() < ends
        time.sleep(0.05)


@pytest.mark.parametrize("times", [1, 3])
def test_an_interrupt_says_how_to_go_on(tmp_path: Path, times: int) -> None:
    out = tmp_path / "run.json"
    journal = Path(f"{out}.journal")
    process = begun(*OPTIONS, "-o", out, "--budget", "10000-shards", "--workers", "2")
    while process.poll() is None and finished(journal) < 2:
        time.sleep(0.02)
    for _ in range(times):  # to the whole group, as a terminal sends it
        os.killpg(process.pid, signal.SIGINT)
        time.sleep(0.02)
    printed, said = process.communicate(timeout=60)
    by_signal = (-signal.SIGINT,) if times > 1 else ()  # pressed again while it was ending
    assert process.returncode in (128 + signal.SIGINT, *by_signal)
    assert printed == ""
    kept = finished(journal)
    assert f"stopped; {kept} shards are kept; go on with: mandheling search --resume" in said
    assert "Traceback" not in said
    assert not out.exists()
    assert read_journal(journal).problem == SMALL
    assert kept >= 1  # a line that the signal met on its way to the disk is cut off
