"""Predicted against measured step times of plans, re-derived from the samples.

The laws are fitted on the rows of the calibration networks. Each is also left out once, so that
the errors of its plans give an interval for networks that no fit has seen.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from cost_models.fitting import CalibrationError
from cost_models.fitting.conformal import interval_of
from cost_models.host import HostLaws, Row, fit_laws
from cost_models.host.law import ALONE
from cost_models.samples import Sample
from experiments.host.measured import MeasuredPlan, distinct, plans_of
from experiments.host.stored import all_wanted, check_plans

WORST = 12
"""Rows that a result lists."""


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """One plan that was visited twice.

    Attributes
    ----------
    plan
        Its first visit.
    visits_ns
        Median step time of each visit, nanoseconds.
    within_ns
        Half of the range of the middle half of the step times of a visit, the larger of both.
    measured_ns, predicted_ns
        Median of all steps, and what was predicted.
    equal
        Whether the numbers of both visits were those of the numeric executor, bit for bit.
    worst
        The row of the first visit that was predicted worst.
    """

    plan: MeasuredPlan
    visits_ns: tuple[float, float]
    within_ns: float
    measured_ns: float
    predicted_ns: float
    equal: bool
    worst: dict[str, Any]

    @property
    def error(self) -> float:
        """``predicted / measured - 1``."""
        return self.predicted_ns / self.measured_ns - 1


def outcome(plan: MeasuredPlan, again: MeasuredPlan, laws: HostLaws) -> Outcome:
    """Predict a plan and lay it beside what was measured in two visits."""
    steps = (plan.makespans_ns, again.makespans_ns)
    kind, timeline = next(iter(plan.kept()))
    timelines = plan.predicted(laws)
    said = timelines[plan.kinds.index(kind)]
    took = timeline.end_ns - timeline.start_ns
    awaited = said.end_ns - said.start_ns
    row = int(np.argmax(np.abs(awaited - took)))
    worst = {
        "row": timeline.graph.names[row],
        "family": kind.works[row].family,
        "measured_ns": int(took[row]),
        "predicted_ns": int(awaited[row]),
    }
    first, second = (float(np.median(one)) for one in steps)
    spreads = [np.percentile(one, 75) - np.percentile(one, 25) for one in steps]
    return Outcome(
        plan,
        (first, second),
        float(max(spreads)) / 2,
        float(np.median(np.concatenate(steps))),
        plan.step_ns(timelines),
        plan.equal and again.equal,
        worst,
    )


def paired(visits: Iterable[MeasuredPlan]) -> list[tuple[MeasuredPlan, MeasuredPlan]]:
    """Both visits to each plan, the first one first."""
    found: dict[str, list[MeasuredPlan]] = {}
    for one in visits:
        found.setdefault(one.name, []).append(one)
    pairs = []
    for both in found.values():
        first, second = sorted(both, key=lambda one: one.sample.key)
        pairs.append((first, second))
    return pairs


def study(samples: Iterable[Sample]) -> dict[str, Any]:
    """Everything that the samples say about predictions, as plain data.

    Raises
    ------
    CalibrationError
        Some plans were not measured yet.
    SampleError
        A sample is not one of a plan of this study; the message names sample, field and value.
    """
    kept = list(samples)
    check_plans(kept)
    if len(kept) < (total := len(all_wanted())):
        raise CalibrationError(
            f"{len(kept)} of {total} visits are measured; go on with validate --measure"
        )
    calibration, predict = plans_of(kept, "calibrate"), plans_of(kept, "predict")
    rows = distinct(row for plan in calibration for row in plan.rows())
    laws = fit_laws(rows)
    outcomes = [outcome(plan, again, laws) for plan, again in paired(predict)]
    held = left_out(calibration, rows)
    interval = _interval(held, outcomes)  # refuses where nothing left out could be predicted
    return {
        "step": _summary(outcomes),
        "models": {name: _summary(found) for name, found in _by_model(outcomes).items()},
        "kendall_tau": kendall(outcomes),
        "equal_numbers": sum(one.equal for one in outcomes),
        "left_out": _held_summary(held),
        "interval": interval,
        "families": _families(laws, rows, predict),
        "plans": [_plan(one) for one in outcomes],
        "worst_rows": sorted((_worst(one) for one in outcomes), key=_size, reverse=True)[:WORST],
        "slowdown": _round(laws.slowdown),
        "laws": {name: dict(law) for name, law in laws.families.items()},
    }


def _by_model(outcomes: Sequence[Outcome]) -> dict[str, list[Outcome]]:
    found: dict[str, list[Outcome]] = {}
    for one in outcomes:
        found.setdefault(one.plan.model, []).append(one)
    return found


def _summary(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    errors = np.array([one.error for one in outcomes])
    worst = int(np.argmax(np.abs(errors)))
    return {
        "plans": len(errors),
        "median": _round(float(np.median(np.abs(errors)))),
        "p90": _round(float(np.percentile(np.abs(errors), 90))),
        "worst": _round(float(errors[worst])),
        "worst_plan": outcomes[worst].plan.name,
        "signed_median": _round(float(np.median(errors))),
        "between_visits": _round(between_visits(outcomes)),
    }


def between_visits(found: Sequence[Outcome]) -> float:
    """How far a visit's step time is from the mean of both: root mean square over plans."""
    halves = [(a - b) / (a + b) for a, b in (one.visits_ns for one in found)]
    return float(np.sqrt(np.mean(np.square(halves))))


def kendall(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Order of the plans of one network: pairs in the same order minus those in the other.

    Only pairs count whose measured medians differ by more than both plans' noise together. Noise
    is what steps of one visit differ by, or visits to the plans of the network, if that is more.
    ``tau_within`` takes the steps of one visit alone; ``tau_visits`` is of the second visit
    against the first, as if it were a prediction.
    """
    same = dict.fromkeys(("noise", "within", "visits"), 0)
    other, close = dict(same), 0
    for found in _by_model(outcomes).values():
        rough = between_visits(found)
        for a, b in combinations(found, 2):
            apart = a.measured_ns - b.measured_ns
            within = a.within_ns + b.within_ns
            noise = sum(max(one.within_ns, rough * one.measured_ns) for one in (a, b))
            said, first, second = (
                a.predicted_ns - b.predicted_ns,
                a.visits_ns[0] - b.visits_ns[0],
                a.visits_ns[1] - b.visits_ns[1],
            )
            close += abs(apart) <= noise
            for name, counts, agree in (
                ("noise", abs(apart) > noise, apart * said > 0),
                ("within", abs(apart) > within, apart * said > 0),
                ("visits", abs(first) > within, first * second > 0),
            ):
                if counts:
                    (same if agree else other)[name] += 1
    tau = {n: _round((same[n] - other[n]) / max(1, same[n] + other[n])) for n in same}
    return {
        "tau": tau["noise"],
        "pairs": same["noise"] + other["noise"],
        "within_noise": close,
        "tau_within": tau["within"],
        "tau_visits": tau["visits"],
    }


def left_out(
    calibration: Sequence[MeasuredPlan], rows: Sequence[Row]
) -> list[tuple[str, float, float | None]]:
    """Network, measured and predicted step time (ns) of each plan, by laws without the network.

    None where the other networks do not have a kernel that it has.
    """
    found: list[tuple[str, float, float | None]] = []
    for model in dict.fromkeys(plan.model for plan in calibration):
        laws = fit_laws([row for row in rows if row.group != model])
        for plan in calibration:
            if plan.model == model:
                said = _predicted_or_none(plan, laws)
                found.append((model, float(np.median(plan.makespans_ns)), said))
    return found


def _predicted_or_none(plan: MeasuredPlan, laws: HostLaws) -> float | None:
    try:
        return plan.step_ns(plan.predicted(laws))
    except CalibrationError:
        return None


def _held_summary(held: Sequence[tuple[str, float, float | None]]) -> dict[str, Any]:
    errors = np.array([said / measured - 1 for _, measured, said in held if said is not None])
    return {
        "networks": len({model for model, _, _ in held}),
        "plans": len(errors),
        "not_predicted": len(held) - len(errors),
        "median": _round(float(np.median(np.abs(errors)))),
        "p90": _round(float(np.percentile(np.abs(errors), 90))),
        "signed_median": _round(float(np.median(errors))),
    }


def _interval(
    held: Sequence[tuple[str, float, float | None]], outcomes: Sequence[Outcome]
) -> dict[str, Any]:
    """The interval of networks that were left out, and how many predicted plans it covers."""
    names = np.array([model for model, _, _ in held], dtype=np.str_)
    measured = np.array([ns for _, ns, _ in held])
    said = np.array([np.nan if ns is None else ns for _, _, ns in held])
    one = interval_of(names, said, measured)
    inside = [one.low <= each.measured_ns / each.predicted_ns <= one.high for each in outcomes]
    return {
        "kind": one.kind,
        "low": _round(one.low),
        "high": _round(one.high),
        "groups": one.groups,
        "level": one.level,
        "covered": sum(inside),
        "of": len(inside),
    }


def _families(
    laws: HostLaws, rows: Sequence[Row], predict: Sequence[MeasuredPlan]
) -> dict[str, dict[str, Any]]:
    """Errors of the rows of each family whose process was awake and alone: fitted, predicted."""
    found: dict[str, dict[str, Any]] = {}
    new = [row for plan in predict for row in plan.rows()]
    total = sum(row.ns for row in new)
    for name in laws.families:
        fitted, told = (_errors(laws, name, each) for each in (rows, new))
        share = sum(row.ns for row in new if row.work.family == name) / total
        found[name] = {
            "share": _round(share),
            "fitted_rows": len(fitted),
            "fitted_median": _median(fitted),
            "predicted_rows": len(told),
            "predicted_median": _median(told),
        }
    return found


def _errors(laws: HostLaws, family: str, rows: Sequence[Row]) -> list[float]:
    mine = (row for row in rows if row.work.family == family)
    plain = (row for row in mine if not row.slept_ns and row.beside <= ALONE)
    return [abs(laws.ns(row.work) / row.ns - 1) for row in plain]


def _median(errors: Sequence[float]) -> float | None:
    return _round(float(np.median(errors))) if errors else None


def _plan(one: Outcome) -> dict[str, Any]:
    return {
        "plan": one.plan.name,
        "measured_ns": round(one.measured_ns),
        "predicted_ns": round(one.predicted_ns),
        "error": _round(one.error),
        "visits_ns": [round(each) for each in one.visits_ns],
        "noise": _round(one.within_ns / one.measured_ns),
        "equal": one.equal,
        "worst_row": one.worst["row"],
    }


def _worst(one: Outcome) -> dict[str, Any]:
    share = (one.worst["predicted_ns"] - one.worst["measured_ns"]) / one.measured_ns
    return {"plan": one.plan.name, **one.worst, "of_step": _round(share)}


def _size(row: dict[str, Any]) -> float:
    return abs(float(row["of_step"]))


def _round(value: float) -> float:
    return float(f"{value:.4g}")
