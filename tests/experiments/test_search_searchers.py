"""Searchers: the built-in ones conform, broken ones are told what is wrong, users' are found."""

from __future__ import annotations

import sys
from pathlib import Path
from unittest import mock

import numpy as np
import pytest

from experiments.search import Problem, Searcher, SearchError, run_shard, searcher_names
from experiments.search.annealing import WORD, Tuning, blends, exponential
from experiments.search.conformance import (
    SearcherConformanceError,
    check_searcher,
    default_spaces,
)
from experiments.search.frames import FrameMoves
from experiments.search.moves import Moves
from experiments.search.moves_jit import DRAWS
from experiments.search.objectives import Values
from experiments.search.pricing import RulePrices
from experiments.search.random_search import RandomSearch
from experiments.search.registry import load_searcher
from experiments.search.risk import risk_table
from sim.encoding import Genes, Space
from sim.plugins import PluginError

WHOLE = default_spaces()[0]


@pytest.mark.parametrize("name", searcher_names())
def test_built_in_searchers_conform(name: str) -> None:
    check_searcher(load_searcher(name))


class WrongType(RandomSearch):
    def ask(self, n: int) -> Genes:
        return super().ask(n).astype(np.int64)  # type: ignore[return-value]


class TooMany(RandomSearch):
    def ask(self, n: int) -> Genes:
        return super().ask(n + 1)


class OutOfRange(RandomSearch):
    def ask(self, n: int) -> Genes:
        batch = super().ask(n)
        batch[-1, 3] = 77
        return batch


class Unseeded(RandomSearch):
    calls = 0

    def ask(self, n: int) -> Genes:
        Unseeded.calls += 1
        return self.space.random(n, Unseeded.calls)


class Mutates(RandomSearch):
    def tell(self, batch: Genes, values: Values) -> None:
        values[:] = 0


class SpoilsStarts(RandomSearch):
    def tell(self, batch: Genes, values: Values) -> None:
        self.starts[0] = 0


class Reuses(RandomSearch):
    """Hands out one array again and again."""

    def ask(self, n: int) -> Genes:
        if not hasattr(self, "held"):
            self.held = np.zeros((1, len(self.space.genes)), dtype=np.int16)
        self.held[:] = super().ask(1)
        return self.held


class NeedsMany(RandomSearch):
    def ask(self, n: int) -> Genes:
        return np.concatenate([super().ask(n // 2), super().ask(n // 2)])


class Overflows(RandomSearch):
    def tell(self, batch: Genes, values: Values) -> None:
        np.random.default_rng(0).integers(0, int(values.max()) * 16)


class GivesUp(RandomSearch):
    def ask(self, n: int) -> Genes:
        return super().ask(n)[:0]


class RefusesAll(RandomSearch):
    def __init__(self, space: Space, starts: Genes, seed: int, objectives: tuple[str, ...]) -> None:
        raise SearchError("not today")


class Unborn(RandomSearch):
    def __init__(self, space: Space, starts: Genes, seed: int, objectives: tuple[str, ...]) -> None:
        raise KeyError("budget")


class NoBatch(RandomSearch):
    batch = 0


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (WrongType, r"'WrongType' .*ask\(1\) returned int64; return int16"),
        (TooMany, r"ask\(1\) returned 2 plans; return at most 1"),
        (OutOfRange, r"returned 77 for precision\.\S+; allowed: 0 to 1"),
        (Unseeded, "not deterministic: at ask number 1 another run"),
        (Mutates, "tell changed the values it was told"),
        (SpoilsStarts, "tell changed the (plans it was told|starts)"),
        (Reuses, "it changed plans that it had handed out"),
        (NeedsMany, r"ask\(1\) (returned no plan|raised)"),
        (Overflows, "tell.* raised ValueError: high is out of bounds"),
        (GivesUp, r"ask\(1\) returned no plan at once"),
        (RefusesAll, "refuses every space and objective"),
        (Unborn, "raised KeyError when it was made: 'budget'"),
        (NoBatch, "the searcher's batch is 0; give a whole number from 1 to"),
        (lambda *_: object(), "subclass experiments.search.Searcher"),
    ],
)
def test_a_broken_searcher_is_told_what_is_wrong(broken: type[Searcher], message: str) -> None:
    with pytest.raises(SearcherConformanceError, match=message):
        check_searcher(broken)


# -- by name ------------------------------------------------------------------------------------


def install(folder: Path, name: str, entries: str, module: str) -> None:
    """Put a distribution with entry points into a folder."""
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[mandheling.searchers]\n{entries}\n")
    (folder / f"{name}_search.py").write_text(module)


def test_users_searchers_are_found_and_run_like_built_in_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = (
        "from experiments.search.random_search import RandomSearch\n"
        "class Mine(RandomSearch):\n    batch = 16\n"
    )
    install(tmp_path, "own", "mine = own_search:Mine\nbad = own_search:Missing", module)
    install(tmp_path, "other", "sums = other_search:ready\n", "ready = 3\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert {"mine", "bad", "annealing"} <= set(searcher_names())
    check_searcher(load_searcher("mine"))
    problem = Problem("lenet", batch=16, searcher="mine", evaluations_per_shard=64)
    assert run_shard(problem, 0).evaluated == 64
    with pytest.raises(PluginError, match=r"searcher 'bad' of own 1.0 cannot be imported from"):
        load_searcher("bad")
    with pytest.raises(PluginError, match=r"searcher 'sums' of other 1.0 .*: it is 3; name a sub"):
        load_searcher("sums")
    with pytest.raises(SearchError, match=r"'mines' is unknown .did you mean 'mine'"):
        load_searcher("mines")


def test_without_pymoo_the_install_line_is_given() -> None:
    import experiments.search as package

    factory = load_searcher("nsga2")
    with (
        mock.patch.dict(sys.modules, {"experiments.search.pymoo_parts": None}),
        mock.patch.object(package, "pymoo_parts", None, create=True),
    ):
        del package.pymoo_parts
        with pytest.raises(SearchError, match=r"nsga2 needs pymoo.*'mandheling-sandbox\[search"):
            factory(WHOLE, WHOLE.random(1, 0), 0, ("time",))


# -- moves --------------------------------------------------------------------------------------


def test_moves_change_the_schedule_of_kernels_that_exist_and_nothing_else() -> None:
    moves, tuning = Moves.of(WHOLE), Tuning()
    current = np.concatenate([WHOLE.encode(WHOLE.base)[None], WHOLE.random(2, 5)])
    orders = [moves.order(row) for row in current]
    chain = np.arange(3000) % 3
    draws = np.random.default_rng(1).integers(0, WORD, size=(3000, DRAWS))
    odds = moves.odds(dict(tuning.odds))
    out = moves.propose(current, chain, orders, draws, odds)
    assert np.array_equal(out, moves.propose(current, chain, orders, draws, odds))
    assert ((out >= 0) & (out < WHOLE.counts)).all()
    changed = out != current[chain]
    assert not changed[:, : WHOLE.frame_genes].any()
    assert changed.any(axis=1).mean() > 0.9
    for k in range(3):
        touched = changed[chain == k].any(axis=0)
        assert touched[moves.column[orders[k]]].mean() > 0.95
        on_dsp = [WHOLE.genes[c].choices[current[k, c]][:3] == "dsp" for c in moves.column]
        cuts = [c for c, here in zip(moves.cut, on_dsp, strict=True) if here]
        assert touched[[c for c in cuts if WHOLE.live(current[k])[c]]].all()
    step = [k for k, g in enumerate(WHOLE.genes) if g.subject in ("step", "cpu", "dsp")]
    assert changed[:, step].any(axis=0).all()


def test_each_kind_of_move_alone_changes_something() -> None:
    moves = Moves.of(WHOLE)
    current = WHOLE.encode(WHOLE.base)[None]
    draws = np.random.default_rng(2).integers(0, WORD, size=(200, DRAWS))
    for kind, _ in Tuning().odds:
        odds = moves.odds({kind: 1})
        out = moves.propose(
            current, np.zeros(200, np.int64), [moves.order(current[0])], draws, odds
        )
        assert (out != current).any(axis=1).sum() > 50, kind


def test_frame_moves_change_what_is_computed() -> None:
    frames, draws = FrameMoves.of(WHOLE), np.random.default_rng(3)
    row = WHOLE.encode(WHOLE.base)
    rows = np.array([frames.propose(row, draws) for _ in range(200)])
    assert ((rows >= 0) & (rows < WHOLE.counts)).all()
    frame = rows[:, : WHOLE.frame_genes] != row[: WHOLE.frame_genes]
    assert frame.any(axis=0).all()
    assert frame.any(axis=1).mean() > 0.9


def test_priced_rules_save_time_at_the_risk_they_are_given() -> None:
    problem = Problem("lenet", batch=16)
    ground = problem.ground()
    prices = RulePrices(ground.space, risk_table(ground.space))
    row = ground.space.encode(ground.space.base)
    risk = int(prices.risk.of(row[None])[0])
    times = []
    for share in (0.3, 0.6, 1.0):
        priced = prices.proposed(row, share * risk)
        (time, _, found, _) = ground.measurer(priced[None], "expected", memory=False)[0]
        assert found <= share * risk + len(prices.places())  # each tensor's risk is rounded
        times.append(int(time))
    assert times == sorted(times, reverse=True)
    assert times[-1] < ground.measurer(row[None], "expected", memory=False)[0, 0]


def test_exponential_draws_have_mean_one() -> None:
    words = np.random.default_rng(4).integers(1, WORD, size=100_000)
    draws = exponential(words)
    assert (draws >= 0).all()
    assert abs(draws.mean() - 1) < 0.06
    assert np.abs(draws + np.log(words / WORD)).max() < 0.07


def test_blends_cover_the_corners() -> None:
    assert blends(1, 8).tolist() == [[1.0]]
    for objectives in (2, 3, 4):
        found = blends(objectives, 8)
        assert len(found) >= 8
        assert np.allclose(found.sum(axis=1), 1)
        assert {tuple(corner) for corner in np.eye(objectives)} <= set(map(tuple, found))
