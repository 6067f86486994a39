"""The main comparison: baselines, each technique alone and one after the other, and why.

One :class:`Row` per plan. Times are expectations in steady state, computed and not measured,
with an interval from resampled constants; the first step and the scatter of single steps
stand beside them. A speed-up's interval uses the same worlds for both plans.
"""

from __future__ import annotations

import gc
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import exp, log

from cost_models.device import Device
from cost_models.model import CostModel
from sim.checks import ConservationError
from sim.expected import Expectation, expect
from sim.graph import TrainingGraph
from sim.lowering import cost_model
from sim.plan import Plan, PlanError
from sim.plugins import PluginError
from sim.policies.build import (
    Adoption,
    Built,
    adopt_all,
    available,
    build,
    build_plan,
    plan_names,
    recipe_of,
)
from sim.policies.recipes import BASELINES, RECIPES, TECHNIQUES
from sim.run import sample_steady, simulate
from sim.uncertainty import Shared, Worlds, evidence_shares, interval, resampled

OFFLOAD = "dsp-int8"
MANDHELING = "mandheling"
WORLDS = 64
"""Worlds behind an interval of one comparison, which answers in two seconds: 3 lie beyond either
end, which moves by up to a tenth from one set of worlds to another."""
SAMPLES = 12
FAILURES = (PlanError, PluginError, ConservationError)
"""What a policy or plug-in of anybody's may come to; it costs its own plan and no other."""


@dataclass(frozen=True, slots=True)
class Row:
    """One plan on one device; times in ns, energy in pJ, memory in bytes.

    ``speedup`` and ``energy_ratio`` are against the reference plan (``mnn-fp32``). ``worlds`` is
    the step in each world of resampled constants, the same worlds for all rows.
    """

    name: str
    summary: str
    time_ns: int
    time_interval_ns: tuple[int, int]
    energy_pj: int
    peak_bytes: int
    speedup: float
    speedup_interval: tuple[float, float]
    energy_ratio: float
    energy_ratio_interval: tuple[float, float]
    breakdown_ns: dict[str, int]
    evidence: dict[str, float]
    first_step_ns: int
    p50_ns: int
    p95_ns: int
    over_budget: bool
    plan: Plan
    worlds: Worlds
    adoptions: tuple[Adoption, ...] = ()


@dataclass(frozen=True, slots=True)
class Waterfall:
    """Time after each technique is adopted, from the naive offload on; integer deltas.

    ``names[k]`` was adopted (or declined, then its delta is 0) between ``times_ns[k]`` and
    ``times_ns[k + 1]``; the deltas add up to the whole difference exactly. A technique that was
    declined is offered again at the end and then appears twice.
    """

    names: tuple[str, ...]
    times_ns: tuple[int, ...]

    @property
    def deltas_ns(self) -> tuple[int, ...]:
        """Change by each technique, nanoseconds; negative is faster."""
        return tuple(b - a for a, b in zip(self.times_ns, self.times_ns[1:], strict=False))


@dataclass(frozen=True, slots=True)
class Comparison:
    """All rows for one model on one device."""

    model: str
    device: str
    batch: int
    reference: str
    budget_bytes: int
    rows: tuple[Row, ...]
    missing: dict[str, str] = field(default_factory=dict)
    """Plans that the device cannot run, with the reason."""
    failed: dict[str, str] = field(default_factory=dict)
    """Plans that could not be made or run, since a policy or plug-in of theirs fails."""
    waterfalls: tuple[Waterfall, ...] = ()
    """The stated order, then the reverse order; empty without a DSP."""
    notes: tuple[str, ...] = ()
    """Calibrations that were fitted on something else, in sentences."""

    def row(self, name: str) -> Row:
        """Return the row of a plan; KeyError if it is not there."""
        return {row.name: row for row in self.rows}[name]


def reference_of(device: Device) -> str:
    """Return the plan that others are compared with: FP32 on all cores."""
    return "mnn-fp32" if device.mcu is None else "pulp-fp32"


def plan_list() -> tuple[str, ...]:
    """Return the plans that are compared, baselines first."""
    alone = tuple(f"{OFFLOAD}+{technique}" for technique in TECHNIQUES)
    return (*BASELINES, OFFLOAD, *alone, MANDHELING)


@contextmanager
def uncollected() -> Iterator[None]:
    """Put garbage collection off: plans and drafts hold no cycles, and there are millions.

    It decorates a function or opens a block.
    """
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


@uncollected()
def compare(
    graph: TrainingGraph,
    device: Device,
    *,
    names: Sequence[str] | None = None,
    reference: str | None = None,
    with_waterfalls: bool = True,
    seed: int = 0,
    worlds: int = WORLDS,
    samples: int = SAMPLES,
    extra: Iterable[Plan] = (),
) -> Comparison:
    """Compare the named plans, and plans of your own, for one graph on one device.

    Parameters
    ----------
    names
        Named plans to compare; by default :func:`plan_list`, on a microcontroller all that it can
        run. The reference is always among them.
    reference
        Plan that speed-ups and energy ratios refer to; by default :func:`reference_of`.
    with_waterfalls
        Whether to adopt the techniques one by one in both orders as well.
    extra
        Further plans for the same graph.

    A named plan whose policies fail is left out and told in ``failed``; the others are compared.

    Raises
    ------
    PlanError
        There is no plan of a name; a plan of ``extra`` does not fit the graph or the device; or
        the reference fails.
    """
    reference = reference_of(device) if reference is None else reference
    listed = names or (plan_list() if device.mcu is None else plan_names(device))
    chosen = list(dict.fromkeys([*listed, reference]))
    built, missing, failed = _built(chosen, graph, device)
    if reference in missing:
        raise PlanError(
            f"reference {reference!r} needs a {recipe_of(reference).needs or 'phone'}: choose "
            f"another: {', '.join(plan_names(device))}"
        )
    if reference in failed:
        raise PlanError(f"reference {reference!r}: {failed[reference]}")
    plans = {name: one.plan for name, one in built.items()}
    for plan in extra:
        if plan.name in plans or plan.name in RECIPES:
            raise PlanError(f"extra plan {plan.name!r} has the name of another; rename it")
        plans[plan.name] = plan
    adoptions = {name: one.adoptions for name, one in built.items()}
    compared = _Compared(graph, device, seed, worlds, samples)
    base = compared.measure(plans[reference])
    rows = []
    for name, plan in plans.items():
        try:
            rows.append(compared.row(name, plan, base, adoptions.get(name, ())))
        except FAILURES as error:
            if name not in built:
                raise
            failed[name] = str(error)
    falls: tuple[Waterfall, ...] = ()
    if with_waterfalls and available(RECIPES[OFFLOAD], device):
        falls = waterfalls(build_plan(OFFLOAD, graph, device), graph, device)
    budget = int(device.memory.training_budget_bytes.value)
    notes = dict.fromkeys(
        n for plan in plans.values() for n in compared.costs(plan).calibration_notes()
    )
    return Comparison(
        model=graph.name,
        device=device.name,
        batch=graph.batch,
        reference=reference,
        budget_bytes=budget,
        rows=tuple(rows),
        missing=missing,
        failed=failed,
        waterfalls=falls,
        notes=tuple(notes),
    )


def _built(
    names: Sequence[str], graph: TrainingGraph, device: Device
) -> tuple[dict[str, Built], dict[str, str], dict[str, str]]:
    """Return the plans of these names, those that the device cannot run, and those that fail."""
    built: dict[str, Built] = {}
    missing: dict[str, str] = {}
    failed: dict[str, str] = {}
    for name in names:
        if name not in RECIPES:
            recipe_of(name)  # says which there are
        try:
            recipe = recipe_of(name)
            if available(recipe, device):
                built[name] = build(name, graph, device)
            else:
                missing[name] = f"{device.name} has no {recipe.needs}"
        except FAILURES as error:
            failed[name] = str(error)
    return built, missing, failed


def waterfalls(naive: Plan, graph: TrainingGraph, device: Device) -> tuple[Waterfall, ...]:
    """Adopt the techniques one after the other, in the stated and in the reverse order."""
    return tuple(
        waterfall(naive, graph, device, order) for order in (list(TECHNIQUES), [*TECHNIQUES][::-1])
    )


def waterfall(naive: Plan, graph: TrainingGraph, device: Device, order: Sequence[str]) -> Waterfall:
    """Adopt techniques in the given order and record the expected time after each."""
    outcome = adopt_all(naive, graph, device, order)
    times = [outcome.adoptions[0].before_ns]
    for adoption in outcome.adoptions:
        times.append(adoption.proposed_ns if adoption.adopted else adoption.before_ns)
    return Waterfall(tuple(a.technique for a in outcome.adoptions), tuple(times))


@dataclass(frozen=True, slots=True)
class _Measured:
    expected: Expectation
    worlds: Worlds


@dataclass(slots=True)
class _Compared:
    """Common ground of all rows: graph, device, seed and the worlds of the intervals."""

    graph: TrainingGraph
    device: Device
    seed: int
    worlds: int
    samples: int

    def costs(self, plan: Plan) -> CostModel:
        return cost_model(self.device, plan.get("library", "step", "mnn"))

    def measure(self, plan: Plan) -> _Measured:
        expected = expect(self.graph, plan, self.device)
        quantities = self.costs(plan).quantities()
        worlds = resampled(expected, quantities, Shared.of(self.device), self.worlds, self.seed)
        return _Measured(expected, worlds)

    def row(self, name: str, plan: Plan, base: _Measured, adoptions: tuple[Adoption, ...]) -> Row:
        mine = self.measure(plan)
        cold = simulate(self.graph, plan, self.device, steps=1, seed=self.seed)
        steady = sample_steady(self.graph, plan, self.device, samples=self.samples, seed=self.seed)
        expected, peak = mine.expected, mine.expected.peak_bytes
        faster = ratios(base.worlds.times_ns, mine.worlds.times_ns)
        saved = ratios(base.worlds.energies_pj, mine.worlds.energies_pj)
        return Row(
            name=name,
            summary=RECIPES[name].summary if name in RECIPES else "your plan",
            time_ns=expected.time_ns,
            time_interval_ns=interval(mine.worlds.times_ns),
            energy_pj=expected.energy_pj,
            peak_bytes=peak,
            speedup=base.expected.time_ns / expected.time_ns,
            speedup_interval=interval(faster),
            energy_ratio=base.expected.energy_pj / expected.energy_pj,
            energy_ratio_interval=interval(saved),
            breakdown_ns=expected.breakdown_ns,
            evidence=evidence_shares(expected, self.costs(plan).quantities()),
            first_step_ns=cold.mean_ns,
            p50_ns=steady.percentile_ns(50),
            p95_ns=steady.percentile_ns(95),
            over_budget=peak > int(self.device.memory.training_budget_bytes.value),
            plan=plan,
            worlds=mine.worlds,
            adoptions=adoptions,
        )


def ratios(base: Sequence[int], mine: Sequence[int]) -> list[float]:
    """Return ``base / mine`` in each world."""
    return [a / b for a, b in zip(base, mine, strict=True)]


def geometric_mean(values: Sequence[float]) -> float:
    """Geometric mean of positive numbers."""
    return exp(sum(log(value) for value in values) / len(values))


__all__ = ["Comparison", "Row", "Waterfall", "compare", "geometric_mean", "plan_list", "waterfalls"]
