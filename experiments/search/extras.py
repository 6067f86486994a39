"""What is worth knowing of a front once it is there: proofs, doubts and reasons."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.search.baselines import baselines, rivals_of
from experiments.search.drive import Outcome
from experiments.search.objectives import OBJECTIVES
from sim.plan import Plan

if TYPE_CHECKING:
    from experiments.certify.bounds import Bound
    from experiments.search.problem import Problem
    from experiments.search.robustness import Robustness
    from experiments.search.verify import Verification
    from experiments.search.why import Change

RIVALS = 3
"""Best baselines that the chosen plan is compared with, besides the plan of the space."""


@dataclass(frozen=True, slots=True)
class ProvenBound:
    """What no plan of a space can beat in time, and how far what was found may be from it.

    Attributes
    ----------
    time_ns, method, parts, seconds
        See :class:`~experiments.certify.bounds.Bound`: for every plan of the space, be it within
        the limits of the search or not.
    gap
        Share of the time of the quickest plan found that a better one could save at most.
    """

    time_ns: int
    method: str
    parts: Mapping[str, int]
    seconds: float
    gap: float

    def document(self) -> dict[str, Any]:
        """Return it as plain data."""
        return asdict(self)


def chosen_plan(outcome: Outcome) -> Plan:
    """Return the plan that is best in the first objective, then in the others."""
    return outcome.problem.ground().space.decode(outcome.front[0].row, "searched P1")


def rivals(problem: Problem) -> Mapping[str, Plan]:
    """Return the baselines that are best in the first objective, and the plan of the space."""
    ground = problem.ground()
    found = rivals_of(baselines(ground, problem.starts), problem.objectives[0])
    plans = [one.plan for one in found]
    base = [plan for plan in plans[RIVALS:] if plan.name == ground.space.base.name]
    return {plan.name: plan for plan in (*plans[:RIVALS], *base)}


def robustness_of(outcome: Outcome) -> Robustness:
    """Compare the chosen plan with built-in ones over drawn worlds."""
    from experiments.search.robustness import compare_plans

    ground, chosen = outcome.problem.ground(), chosen_plan(outcome)
    plans = {chosen.name: chosen, **rivals(outcome.problem)}
    return compare_plans(ground.graph, ground.device, plans, seed=outcome.problem.seed)


def quick_bound_of(problem: Problem) -> Bound | None:
    """Return a bound for a line of progress; ``None`` where none can be proven."""
    from experiments.certify.bounds import quick_bound
    from experiments.certify.relaxation import CertificateError

    try:
        return quick_bound(problem.space())
    except CertificateError:
        return None


def bound_of(outcome: Outcome) -> ProvenBound:
    """Prove a lower bound on the time of every plan of the space, and say how far one is from it.

    Limits are left out of the proof: fewer plans keep to them, so that the bound holds for these.

    Raises
    ------
    CertificateError
        The space searches an aspect that no bound is known for.
    """
    from experiments.certify.bounds import lower_bound

    bound = lower_bound(outcome.problem.space())
    time = OBJECTIVES.index("time")
    gap = bound.gap(min(found.values[time] for found in outcome.front))
    return ProvenBound(bound.time_ns, bound.method, bound.parts, bound.seconds, round(gap, 6))


def why_of(outcome: Outcome) -> Change:
    """Explain what the chosen plan does differently from the one the space is built around."""
    from experiments.search.why import explain_change

    ground = outcome.problem.ground()
    return explain_change(ground.graph, ground.device, ground.space.base, chosen_plan(outcome))


def verified_of(
    outcome: Outcome, finalists: int, dataset: str, data: str | None, epochs: int, out: Path
) -> Verification:
    """Train the first plans of the front for real, beside the one the space is built around."""
    from experiments.search.verify import verify_top
    from experiments.training.config import TrainConfig

    problem, space = outcome.problem, outcome.problem.ground().space
    plans = [
        space.decode(found.row, f"searched P{number}")
        for number, found in enumerate(outcome.front[:finalists], 1)
    ]
    config = TrainConfig(
        model=problem.model,
        dataset=dataset,
        data=data,
        device=problem.device,
        epochs=epochs,
        batch=problem.batch,
        seed=problem.seed,
    )
    return verify_top(plans, finalists, base=space.base, config=config, out=out)
