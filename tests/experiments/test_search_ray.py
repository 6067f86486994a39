"""A cluster of two Ray nodes finds what one process finds, whatever dies."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from search_cases import SHARDS, SMALL, budget, sha256, whole

from experiments.search.backends import started
from experiments.search.drive import Run, search
from experiments.search.journal import Journal

ray = pytest.importorskip("ray", reason="pip install 'mandheling-sandbox[cluster]'")


@pytest.fixture(scope="module")
def cluster() -> Iterator[object]:
    """Two nodes with a CPU each, on this machine."""
    from ray.cluster_utils import Cluster

    nodes = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False}
    )
    nodes.add_node(num_cpus=1)
    yield nodes
    ray.shutdown()
    nodes.shutdown()


def actor_pids() -> list[int]:
    """Process ids of the workers of this cluster."""
    actors = ray._private.state.actors()
    return [one["Pid"] for one in actors.values() if one["State"] == "ALIVE"]


def test_two_nodes_of_which_one_loses_its_worker_find_the_same_front(
    cluster: Any, tmp_path: Path
) -> None:
    seen: list[int] = []

    def kill_one(run: Run) -> None:
        seen.append(run.ran)
        if run.ran == 3:
            os.kill(actor_pids()[0], signal.SIGKILL)

    with (
        started("ray", address=cluster.address) as backend,
        Journal.open(tmp_path / "j", SMALL) as journal,
    ):
        assert backend.workers == 2
        found = search(SMALL, budget(), backend, journal, kill_one)
    assert found.lost == 1
    assert seen == list(range(1, SHARDS + 1))
    assert sha256(found) == sha256(whole())


@pytest.mark.accept
def test_a_node_that_dies_leaves_its_shards_to_the_others(cluster: Any, tmp_path: Path) -> None:
    third = cluster.add_node(num_cpus=1)
    workers: list[int] = []

    def remove_one(run: Run) -> None:
        workers.append(run.backend.workers)
        if run.ran == 3:
            cluster.remove_node(third)

    with (
        started("ray", address=cluster.address) as backend,
        Journal.open(tmp_path / "j", SMALL) as journal,
    ):
        assert backend.workers == 3
        found = search(SMALL, budget(), backend, journal, remove_one)
    assert found.lost >= 1
    assert len(workers) == SHARDS
    assert workers[-1] == 2
    assert sha256(found) == sha256(whole())
