"""A small real search as a result file has it, for tests of the report."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from experiments.results import versions
from experiments.search.front import Found, merge
from experiments.search.ground import Ground, measures
from experiments.search.objectives import COLUMNS
from experiments.search.problem import Problem


def neighbours(ground: Ground, count: int, seed: int) -> list[Found]:
    """Plans of which each takes a few genes of one start from another, scored as reported."""
    draws = np.random.default_rng(seed)
    rows = np.stack([start.row for start in ground.starts])
    a, b = draws.integers(0, len(rows), size=(2, count))
    taken = draws.random((count, rows.shape[1])) < 0.05
    batch = np.where(taken, rows[b], rows[a]).astype(np.int16)
    values = measures(ground.space, ground.risk, batch, "expected", memory=True)
    inside = ground.excess_ppm(values) == 0
    return [Found.of(row, v) for row, v, ok in zip(batch, values, inside, strict=True) if ok]


def searched(problem: Problem, plans: int = 40) -> dict[str, Any]:
    """Return a result with a front of real plans and the built-in baselines."""
    ground = problem.ground()
    names = [start.name for start in ground.starts]
    known = [Found.of(start.row, v) for start, v in zip(ground.starts, ground.values, strict=True)]
    front = merge(problem.objectives, neighbours(ground, plans, problem.seed), ground.feasible)

    def plan_of(found: Found, name: str) -> dict[str, Any]:
        return json.loads(ground.space.decode(found.row, name).to_json())

    def measured(found: Found) -> dict[str, int]:
        return dict(zip(COLUMNS, found.values, strict=True))

    best = min(front)
    return {
        "schema": "mandheling-search",
        "schema_version": 1,
        "manifest": {
            "problem": problem.to_json(),
            "config_sha256": problem.sha256,
            "versions": versions(),
            "shards": 2,
            "evaluations": plans,
            "seconds": 1.5,
        },
        "objectives": list(problem.objectives),
        "limits": dict(ground.limits),
        "baselines": [
            {"name": name, "plan": plan_of(one, name), **measured(one)}
            for name, one in zip(names, known, strict=True)
            if "/" not in name
        ],
        "front": [
            {
                "id": f"s{k}",
                "plan": plan_of(one, f"s{k}"),
                "genes": list(one.genes),
                **measured(one),
            }
            for k, one in enumerate(front)
        ],
        "chosen": f"s{front.index(best)}",
        "bound": {"time_ns": int(best.values[0] * 0.8), "gap": 0.25, "method": "a test", "seconds": 1},
        "robustness": None,
        "why": None,
        "verified": None,
        "progress": [
            [k, 10 * k, best.values[0] + (3 - k) * 10**5] for k in (1, 2, 3)
        ],
    }
