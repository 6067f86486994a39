"""Problems and shards: pure, within limits, never worse than what is built in."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from experiments.search import (
    Problem,
    Searcher,
    SearchError,
    ShardResult,
    explore,
    front_sha256,
    merge,
    run_shard,
)
from experiments.search.exhaustive import Exhaustive
from experiments.search.objectives import OBJECTIVES, Values
from experiments.search.protocol import SearcherFactory
from experiments.search.shard import checked_batch
from sim import expect
from sim.encoding import HELD, Genes, Space, SpaceError

STEP_ONLY = (*HELD, "placement", "grouping", "precision", "batch_split", "rescale")
LENET = Problem("lenet", batch=16, evaluations_per_shard=1024)
FRONT = replace(LENET, objectives=("time", "energy"))


def test_a_problem_survives_json_and_its_digest_covers_every_field() -> None:
    assert Problem.from_json(FRONT.to_json()) == FRONT
    others = [
        replace(LENET, seed=1),
        replace(LENET, limits={"risk": 0}),
        replace(LENET, batch=8),
        replace(LENET, device="snapdragon-888"),
        replace(LENET, searcher="random"),
        replace(LENET, generation=2),
        replace(LENET, rules=("fixed:24",)),
    ]
    digests = [p.sha256 for p in (LENET, FRONT, *others)]
    assert len(set(digests)) == len(digests)
    assert Problem.from_json(LENET.to_json()).sha256 == LENET.sha256


def test_rules_are_searched_where_they_are_asked_for_and_leave_other_digests_alone() -> None:
    assert "rules" not in LENET.to_json()  # as in files from before there could be any
    more = replace(LENET, rules=("fixed:24", "delayed:2", "fixed:24"))
    assert more.rules == ("delayed:2", "fixed:24")
    assert Problem.from_json(more.to_json()) == more
    here, there = (
        {g.key: g.choices for g in p.space().genes if g.aspect == "rescale"} for p in (LENET, more)
    )
    assert there == {key: (*choices, *more.rules) for key, choices in here.items()}
    ground = more.ground()
    assert replace(more, seed=1).ground(ground.prepared).space.sha256 == ground.space.sha256


def test_a_problem_refuses_what_is_not_allowed() -> None:
    for change, message in (
        ({"batch": 0}, "batch is 0; give a whole number from 1"),
        ({"seed": -1}, "seed is -1"),
        ({"evaluations_per_shard": True}, "evaluations_per_shard is True"),
        ({"generation": 0}, "generation is 0"),
        ({"image": 0}, "image is 0"),
        ({"searcher": "anealing"}, "did you mean 'annealing'"),
        ({"objectives": ("speed",)}, "objective 'speed' is unknown"),
        ({"rules": ("slow:3",)}, "rule: rescale rule 'slow:3': choose one of adaptive:LOW:HIGH, "),
        ({"rules": ("fixed:0",)}, "rule: rescale rule 'fixed:0': parameters are whole numbers"),
        ({"rules": ("every",)}, "rule 'every' is in every search; leave it out"),
        ({"rules": ("fixed:24",), "held": (*HELD, "rescale")}, "rule 'fixed:24': rescale is held"),
    ):
        with pytest.raises(SearchError, match=message):
            replace(LENET, **change)  # type: ignore[arg-type]
    document = LENET.to_json()
    with pytest.raises(SearchError, match="'extra' is unknown"):
        Problem.from_json({**document, "extra": 1})
    with pytest.raises(SearchError, match="held is 'x'; give a list of names"):
        Problem.from_json({**document, "held": "x"})
    with pytest.raises(SearchError, match="limits is 5; give a dict"):
        Problem.from_json({**document, "limits": 5})
    with pytest.raises(SpaceError, match="aspect 'placements' is unknown"):
        replace(LENET, held=("placements",)).ground()


def test_a_shard_depends_on_its_arguments_alone() -> None:
    first = run_shard(FRONT, 0)
    assert run_shard(FRONT, 1, first.found) != first
    assert run_shard(FRONT, 0) == first
    assert ShardResult.from_json(first.to_json()) == first
    code = (
        "from experiments.search import *\n"
        "p = Problem('lenet', 16, evaluations_per_shard=1024, objectives=('time', 'energy'))\n"
        "print(front_sha256(run_shard(p, 0).found))"
    )
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert other.stdout.strip() == front_sha256(first.found)


@pytest.mark.parametrize("searcher", ["annealing", "nsga2", "random"])
def test_no_start_is_better_than_what_a_shard_finds(searcher: str) -> None:
    problem = replace(FRONT, searcher=searcher, evaluations_per_shard=512)
    ground = problem.ground()
    result = run_shard(problem, 0)
    assert result.evaluated == 512
    assert merge(problem.objectives, result.found, ground.feasible) == result.found
    later = run_shard(problem, 1, result.found)
    together = merge(problem.objectives, result.found, later.found)
    assert together[0].values <= result.found[0].values


def test_values_are_those_of_the_expected_step() -> None:
    ground = LENET.ground()
    for found in run_shard(FRONT, 0).found[:3]:
        exact = expect(ground.graph, ground.space.decode(found.row), ground.device)
        assert found.values[:2] == (exact.time_ns, exact.energy_pj)
        assert found.values[3] == exact.peak_bytes


def test_annealing_shortens_the_step_and_keeps_to_the_risk_of_mandheling() -> None:
    ground = LENET.ground()
    mandheling = next(
        v for s, v in zip(ground.starts, ground.values, strict=True) if s.name == "mandheling"
    )
    (found,) = run_shard(LENET, 0).found
    assert found.values[0] < ground.values[:, 0].min()
    assert found.values[2] <= mandheling[2] == ground.limits["risk"]


def test_limits_hold_and_a_plan_within_them_is_found() -> None:
    (free,) = run_shard(LENET, 0).found
    tight = replace(LENET, limits={"energy": free.values[1] * 9 // 10, "risk": 1000})
    for found in run_shard(tight, 0).found:
        assert found.values[1] <= tight.limits["energy"]
        assert found.values[2] <= 1000


def test_an_empty_feasible_set_names_its_limit_and_the_least_value() -> None:
    with pytest.raises(SearchError, match=r"limit on energy: .* least found is \d{6,} .*raise it"):
        replace(LENET, limits={"energy": 1000}).ground()
    ground = LENET.ground()
    fast, thrifty = ground.values[:, 0].min(), ground.values[:, 3].min()
    both = {"time": int(fast), "memory": int(thrifty)}
    with pytest.raises(SearchError, match="each can be kept to, but no plan found keeps to all"):
        replace(LENET, limits=both).ground()


def test_exhaustive_finds_the_best_of_a_small_space() -> None:
    problem = replace(LENET, held=STEP_ONLY, searcher="exhaustive", evaluations_per_shard=100)
    ground = problem.ground()
    plans = int(np.prod(ground.space.counts))
    whole = Exhaustive(ground.space, ground.space.random(1, 0), 0, ("time",))
    rows = whole.ask(plans + 1)
    assert len(np.unique(rows, axis=0)) == len(rows) == plans
    values = ground.measurer(rows, "expected", memory=True)
    best = values[ground.excess_ppm(values) == 0, 0].min()
    results = [run_shard(problem, shard) for shard in range(-(-plans // 100) + 1)]
    assert sum(r.evaluated for r in results) == plans
    assert results[-1].evaluated == 0
    assert merge(["time"], *(r.found for r in results))[0].values[0] == best
    annealed = run_shard(replace(problem, searcher="annealing", evaluations_per_shard=512), 0)
    assert annealed.found[0].values[0] == best


def test_exhaustive_refuses_a_large_space_with_its_size() -> None:
    with pytest.raises(SearchError, match=r"has about 10\^1\d\d plans and the most .* 10000000"):
        run_shard(replace(LENET, searcher="exhaustive"), 0)


def test_genetic_refuses_several_objectives() -> None:
    with pytest.raises(SearchError, match="was given time,energy; choose nsga2"):
        run_shard(replace(FRONT, searcher="genetic"), 0)
    assert run_shard(replace(LENET, searcher="genetic"), 0).evaluated == 1024


class Asks(Searcher):
    """Asks for the same rows again and again."""

    rows: Genes

    def ask(self, n: int) -> Genes:
        return self.rows

    def tell(self, batch: Genes, values: Values) -> None:
        pass


def asking(rows: object) -> SearcherFactory:
    return type("AsksFor", (Asks,), {"rows": rows})


def test_a_searcher_that_asks_for_no_plans_is_refused() -> None:
    ground = LENET.ground()
    row = ground.starts[0].row[None]
    beyond = row.copy()
    beyond[0, -1] = 99
    for rows, message in (
        (None, "the searcher asked for None; return int16"),
        (row.astype(np.int64), r"return int16 of shape \(plans, \d+\)"),
        (row[:, :3], r"plans of shape \(1, 3\); allowed: up to 5 plans"),
        (np.repeat(row, 6, axis=0), "up to 5 plans"),
        (row[:0], "asked for no plan at once in shard 0; return up to 64 plans"),
        (beyond, "= 99; allowed: 0 to"),
    ):
        with pytest.raises(SearchError, match=message):
            explore(ground, asking(rows), seed=0, evaluations=5)
    assert explore(ground, asking(row[:0]), seed=0, evaluations=5, shard=1).evaluated == 0


@pytest.mark.parametrize("batch", [0, -3, "64", 2.0, None])
def test_a_searcher_wants_a_whole_number_of_plans_at_a_time(batch: object) -> None:
    with pytest.raises(SearchError, match=r"the searcher's batch is .*; give a whole number from"):
        checked_batch(batch)


def test_no_searcher_can_change_how_many_choices_there_are() -> None:
    with pytest.raises(ValueError, match="read-only"):
        LENET.ground().space.counts[0] = 1


def test_what_is_held_stays() -> None:
    problem = replace(LENET, held=(*HELD, "precision", "placement"))
    space: Space = problem.space()
    (found,) = run_shard(problem, 0).found
    plan = space.decode(found.row)
    for aspect in ("precision", "placement"):
        assert plan.aspect(aspect) == space.base.aspect(aspect)


def test_objectives_have_columns_in_one_order() -> None:
    ground = FRONT.ground()
    assert ground.chosen(ground.values).shape == (len(ground.starts), 2)
    assert OBJECTIVES == ("time", "energy", "risk", "memory")
