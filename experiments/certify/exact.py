"""The best choice of units for a small graph of tasks, with a proof.

The engine dispatches by its own rule: each unit takes its ready tasks by (priority, index), and
running tasks share the memory. CP-SAT (OR-tools) holds a model in which each schedule of the engine
is a solution: starts, units, slots, crossings; a task lasts *at least* as long as it does alone;
and of two tasks on a unit the one of lower rank starts first only if the other was not ready.
So a bound of the model bounds every choice. A choice that the model finds is run by the engine,
which gives its true value, and is then excluded; when no choice is left that could be better, the
best one is proven optimal.

A solver may be wrong: OR-tools 9.15 is known to call solutions optimal that are not
(google/or-tools issue 5293), and did so here. So a graph is searched twice, by models made anew and
with other random numbers, and the weaker bound counts; a bound above a choice that was found later
is thrown away.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from time import perf_counter
from typing import Any

import numpy as np

from experiments.certify.choices import ChoiceGraph, Variant
from experiments.certify.integral import check_valid
from experiments.certify.relaxation import CertificateError

DESCENTS = 24
"""Local searches for a good choice before the proof begins."""
SEARCHES, AGREEING = 3, 2
"""Searches at most, and how many of their bounds must hold against all that was found."""
WORK = 32.0
"""Default limit of a proof; graphs of 60 tasks that are proven take a tenth of it or so."""


@dataclass(frozen=True, slots=True)
class _Way:
    """One way to search: with linear relaxations or not, raising the bound from below or not."""

    linearization: int
    from_below: bool


WAYS = (_Way(0, False), _Way(0, True), _Way(1, True))
"""Each proves some graphs soon that the others do not; the last leaves the best bound."""
SHARES = (0.02, 0.08, 0.2, 0.7)
"""Of the work, for all ways together: which random numbers are lucky differs a hundredfold, so
that many short trials come before few long ones."""


@dataclass(frozen=True, slots=True)
class Proof:
    """What is known of the best choice of units.

    Attributes
    ----------
    choice
        Variant of each task in the best choice found.
    time_ns
        Its makespan by the event engine.
    bound_ns
        No choice has a smaller makespan than this.
    examined
        Choices that the engine ran after the model had found them.
    seconds
        Wall time that the search took.
    """

    choice: tuple[int, ...]
    time_ns: int
    bound_ns: int
    examined: int
    seconds: float

    @property
    def optimal(self) -> bool:
        """Whether nothing can be better."""
        return self.bound_ns >= self.time_ns

    @property
    def gap(self) -> float:
        """Share of the time that a better choice could save at most."""
        return 1 - self.bound_ns / self.time_ns if self.time_ns else 0.0


def certify_graph(graph: ChoiceGraph, *, work: float = WORK, seed: int = 0) -> Proof:
    """Find the choice of least makespan and prove it, or return a bound.

    Parameters
    ----------
    work
        Limit of each search in CP-SAT's deterministic units, each some seconds of one core; the
        same limit gives the same result on every machine.

    Raises
    ------
    CertificateError
        OR-tools is not installed, or refuses the model.

    Examples
    --------
    >>> from experiments.certify.choices import training_instance
    >>> proof = certify_graph(training_instance(2, seed=1, memory=True))
    >>> proof.optimal
    True
    """
    begin = perf_counter()
    found, examined = _descend(graph, seed), 0
    bounds: list[int] = []
    for turn in range(SEARCHES):
        bound, found, more = _search(graph, found, work, seed + turn)
        bounds, examined = [*bounds, bound], examined + more
        sound = [bound for bound in bounds if bound <= found[1]]
        if len(sound) == AGREEING:
            break
    best, time_ns = found
    bound = min(sound) if len(sound) == AGREEING else 0
    return Proof(best, time_ns, bound, examined, perf_counter() - begin)


def _search(
    graph: ChoiceGraph, start: tuple[tuple[int, ...], int], work: float, seed: int
) -> tuple[int, tuple[tuple[int, ...], int], int]:
    """Search once; a bound, the best choice known with its time, and choices examined."""
    best, time_ns = start
    model, examined, bound = _Model(graph, time_ns), 0, 0
    for turn, (share, way) in enumerate(product(SHARES, WAYS)):
        left = work * share / len(WAYS)
        while left > 0 and bound < time_ns:
            found = model.solve(left, seed + SEARCHES * turn, way)
            left -= found.work
            bound = max(bound, min(time_ns, found.bound_ns))
            if found.choice is None:
                bound = time_ns if found.proven else bound
                break
            examined += 1
            value = graph.time_ns(found.choice)
            if value < time_ns:
                best, time_ns = found.choice, value
                model.below(time_ns)
            model.exclude(found.choice)
    return min(bound, time_ns), (best, time_ns), examined


def _descend(graph: ChoiceGraph, seed: int) -> tuple[tuple[int, ...], int]:
    """Local search: change one task while that helps, from drawn choices near the best one."""
    draws = np.random.default_rng(np.random.SeedSequence(seed))
    counts = np.array([len(options) for options in graph.variants])
    fastest = [
        min(range(len(o)), key=lambda k, o=o: (o[k].least_ns, k))  # type: ignore[misc]
        for o in graph.variants
    ]
    best: tuple[int, ...] = tuple(fastest)
    time_ns = graph.time_ns(best)
    for attempt in range(DESCENTS):
        choice = np.array(best)
        if attempt:
            some = draws.random(len(choice)) < 0.2
            choice[some] = draws.integers(0, counts[some])
        value, moved = graph.time_ns(choice.tolist()), True
        while moved:
            moved = False
            for task in draws.permutation(len(choice)).tolist():
                for other in range(counts[task]):
                    tried = choice.copy()
                    tried[task] = other
                    found = graph.time_ns(tried.tolist())
                    if found < value:
                        choice, value, moved = tried, found, True
        if value < time_ns:
            best, time_ns = tuple(choice.tolist()), value
    return best, time_ns


@dataclass(frozen=True, slots=True)
class _Found:
    """Outcome of one solve: a choice that might be better, or what was proven."""

    choice: tuple[int, ...] | None
    proven: bool
    bound_ns: int
    work: float


class _Model:
    """The model of a graph for CP-SAT; choices are excluded one by one."""

    def __init__(self, graph: ChoiceGraph, below_ns: int) -> None:
        try:
            from ortools.sat.python import cp_model
        except ImportError as error:
            raise CertificateError(
                "certifying a graph needs OR-tools; install it: "
                "pip install 'mandheling-sandbox[search]'"
            ) from error
        self.cp: Any = cp_model
        self.graph = graph
        self.model = cp_model.CpModel()
        self.horizon = below_ns - 1
        self.share = _least_share(graph)
        self.taken: list[list[Any]] = []
        self.on: list[dict[int, Any]] = []
        self.start = [self._time() for _ in graph.variants]
        self.end = [self._time() for _ in graph.variants]
        self._choices()
        self._intervals()
        self._dispatch()
        self.makespan = self._time()
        self.model.add_max_equality(self.makespan, self.end)
        self._windows()
        self.model.minimize(self.makespan)

    def below(self, time_ns: int) -> None:
        """Ask only for what is better than this."""
        self.model.add(self.makespan <= time_ns - 1)

    def exclude(self, choice: tuple[int, ...]) -> None:
        """Ask only for other choices."""
        self.model.add_bool_or(
            [taken[k].negated() for taken, k in zip(self.taken, choice, strict=True)]
        )

    def solve(self, work: float, seed: int, way: _Way) -> _Found:
        """Search for a choice whose makespan could be below the limit."""
        solver = self.cp.CpSolver()
        solver.parameters.max_deterministic_time = work
        solver.parameters.random_seed = seed
        solver.parameters.num_workers = 1  # the same search on every machine
        solver.parameters.linearization_level = way.linearization
        solver.parameters.use_objective_lb_search = way.from_below
        status = solver.solve(self.model)
        check_valid(self.cp, self.model, status)
        spent = solver.response_proto.deterministic_time
        bound = int(solver.best_objective_bound)
        if status == self.cp.INFEASIBLE:
            return _Found(None, True, self.horizon + 1, spent)
        if status not in (self.cp.OPTIMAL, self.cp.FEASIBLE):
            return _Found(None, False, max(0, bound), spent)
        chosen = tuple([solver.value(t) for t in taken].index(1) for taken in self.taken)
        return _Found(chosen, status == self.cp.OPTIMAL, bound, spent)

    def _time(self) -> Any:
        return self.model.new_int_var(0, self.horizon, "")

    def _choices(self) -> None:
        for options in self.graph.variants:
            taken = [self.model.new_bool_var("") for _ in options]
            self.model.add_exactly_one(taken)
            self.taken.append(taken)
            on = {}
            for unit in sorted({v.unit for v in options}):
                on[unit] = self.model.new_bool_var("")
                mine = [t for t, v in zip(taken, options, strict=True) if v.unit == unit]
                self.model.add(sum(mine) == on[unit])
            self.on.append(on)

    def _intervals(self) -> None:
        model, graph = self.model, self.graph
        on_unit: list[list[tuple[Any, int]]] = [[] for _ in graph.units]
        for task, options in enumerate(graph.variants):
            for before in graph.preds[task]:
                model.add(self.start[task] >= self.end[before])
            crossing = graph.crossing_ns * self._crosses(task)
            for taken, variant in zip(self.taken[task], options, strict=True):
                size = variant.least_ns + crossing
                slack = _longest_ns(graph, variant, self.share) - variant.least_ns
                if slack:  # contention may make it longer
                    longer = model.new_int_var(0, min(slack, self.horizon), "")
                    least, size = size, self._time()
                    model.add(size == least + longer).only_enforce_if(taken)
                interval = model.new_optional_interval_var(
                    self.start[task], size, self.end[task], taken, ""
                )
                on_unit[variant.unit].append((interval, variant.slots))
        for unit, intervals in zip(graph.units, on_unit, strict=True):
            if intervals:
                parts, demands = zip(*intervals, strict=True)
                model.add_cumulative(parts, demands, unit.slots)

    def _crosses(self, task: int) -> Any:
        """Whether some predecessor runs on another unit."""
        before = self.graph.preds[task]
        if not before or not self.graph.crossing_ns:
            return 0
        crosses = self.model.new_bool_var("")
        differ = []
        for other in before:
            apart = self.model.new_bool_var("")
            for unit, here in self.on[task].items():
                there = self.on[other].get(unit)
                if there is None:
                    self.model.add_implication(here, apart)
                    continue
                self.model.add_bool_or([here.negated(), there, apart])
                self.model.add_bool_or([here.negated(), there.negated(), apart.negated()])
            differ.append(apart)
        self.model.add_max_equality(crosses, differ)
        return crosses

    def _windows(self) -> None:
        """Between the end of a task and that of the step, its successors must fit on each unit.

        The same holds for its ancestors and its start. These follow from the rest, but a linear
        relaxation does not see it.
        """
        graph, above = self.graph, _ancestors(self.graph)
        for task in range(len(graph)):
            below = [k for k in range(len(graph)) if task in above[k]]
            for unit, pool in enumerate(graph.units):
                for inside, span in (
                    (below, self.makespan - self.end[task]),
                    (above[task], self.start[task]),
                ):
                    work = [
                        variant.slots * variant.least_ns * taken
                        for k in inside
                        for variant, taken in zip(graph.variants[k], self.taken[k], strict=True)
                        if variant.unit == unit
                    ]
                    if work:
                        self.model.add(sum(work) <= pool.slots * span)
            for inside, span in (
                (below, self.makespan - self.end[task]),
                (above[task], self.start[task]),
            ):
                moved = [
                    1000 * variant.ddr_bytes * taken
                    for k in inside
                    for variant, taken in zip(graph.variants[k], self.taken[k], strict=True)
                    if variant.ddr_bytes
                ]
                if moved:
                    self.model.add(sum(moved) <= graph.ddr_rate * span)

    def _dispatch(self) -> None:
        """Of two tasks on a unit, the lower in rank starts first only if the other is not ready."""
        graph, above = self.graph, _ancestors(self.graph)
        rank = sorted(range(len(graph)), key=lambda k: (graph.priority[k], k))
        ready = [self._ready(task) for task in range(len(graph))]
        for place, first in enumerate(rank):
            for second in rank[place + 1 :]:
                if second in above[first] or first in above[second]:
                    continue
                overtakes = self.model.new_bool_var("")
                for unit in self.on[first].keys() & self.on[second].keys():
                    here = [self.on[first][unit], self.on[second][unit]]
                    self.model.add(self.start[first] <= self.start[second]).only_enforce_if(
                        [overtakes.negated(), *here]
                    )
                    self.model.add(ready[first] >= self.start[second]).only_enforce_if(
                        [overtakes, *here]
                    )

    def _ready(self, task: int) -> Any:
        before = self.graph.preds[task]
        if not before:
            return 0
        ready = self._time()
        self.model.add_max_equality(ready, [self.end[b] for b in before])
        return ready


def _least_share(graph: ChoiceGraph) -> int:
    """Rate that a stream gets at least, whatever else runs, if its cap is no smaller."""
    streams = 0
    for unit, pool in enumerate(graph.units):
        narrow = [v.slots for options in graph.variants for v in options if v.unit == unit]
        streams += pool.slots // min(narrow) if narrow else 0
    return max(1, graph.ddr_rate // max(1, streams))


def _longest_ns(graph: ChoiceGraph, variant: Variant, share: int) -> int:
    """Time of a variant that always has its least share; re-timings lose a byte each at most."""
    if not variant.ddr_bytes:
        return variant.least_ns
    moved = variant.ddr_bytes + 2 * len(graph)
    transfer = -(-moved * 1000 // min(share, variant.rate_cap))
    if variant.rate_cap <= share:
        transfer = -(-variant.ddr_bytes * 1000 // variant.rate_cap)
    return variant.lead_ns + max(variant.compute_ns, transfer)


def _ancestors(graph: ChoiceGraph) -> list[set[int]]:
    found: list[set[int]] = []
    for before in graph.preds:
        found.append(set(before).union(*(found[b] for b in before)))
    return found
