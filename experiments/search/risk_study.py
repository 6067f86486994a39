"""How good the risk estimate is: predicted for each rescale rule, and met in held-out trainings.

``python -m experiments.search.risk_study --runs DIR`` trains every rule of the search's palette
closed-loop with another seed than the recorded one, compares what its stale shifts did with the
estimate, and keeps the table in ``results/risk.json``. ``--table`` prints what is kept.
The same networks and data sets as the recording's: what carries over to other networks is asked by
estimating each from the *other* one's recording, by role and depth; and to other data by
``--trace RUN/rescale-trace.json --model NAME --rule RULE --source COMMAND``, which compares a run
of your own in which every tensor had that rule.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from scipy.stats import kendalltau

from experiments.results import FOLDER, read_result, write_result
from experiments.search.damage import met_damage
from experiments.search.recorded import (
    CONFIGS,
    SETTLED,
    file_sha256,
    met_errors,
    recordings,
    run_name,
    trained,
)
from experiments.search.risk import MILLION, PlanRisk, plan_risk
from experiments.told import STOPPED, one_line_errors
from experiments.training.config import TrainConfig
from experiments.values import short
from sim import Plan, build_plan, load_device, load_model, training_graph
from sim.encoding.space import PALETTES
from sim.lowering import lowering
from sim.numeric.records import RescaleTrace, load_trace

RESULT = FOLDER / "risk.json"
HELD_OUT_SEED = 1
RULES = PALETTES["rescale"]
SCHEMA = 1
RENEW = "renew it with python -m experiments.search.risk_study --runs DIR"


class RiskStudyError(ValueError):
    """A trace or a table cannot be used; the message names the file and says what to do."""


def basis() -> dict[str, Any]:
    """Return what the table follows from, besides the trainings' settings."""
    return {
        "schema": SCHEMA,
        "recording_sha256": file_sha256(),
        "rules": list(RULES),
        "settled": SETTLED,
        "seed": HELD_OUT_SEED,
    }


def kept_table() -> dict[str, Any]:
    """Return the table that is kept; empty where there is none.

    Raises
    ------
    ResultError
        The file is not a JSON object.
    RiskStudyError
        It was made from another recording, of other rules, or in another format.
    """
    content = read_result(RESULT)
    if not content:
        return content
    stated, here = content.get("basis"), basis()
    known = stated if isinstance(stated, dict) else {}
    for field in sorted(here.keys() | known.keys()):
        if known.get(field) != here.get(field):
            raise RiskStudyError(
                f"{RESULT}: basis.{field} is {short(known.get(field))}, and "
                f"{short(here.get(field))} in this version, whose estimates are others; {RENEW}"
            )
    return content


def met_ppm(trace: RescaleTrace) -> dict[str, float]:
    """Return what stale shifts did in a run, as :func:`~experiments.search.risk.plan_risk` counts.

    ``lost`` is beyond the mean of the same tensor's steps with a true shift, in the same run.
    """
    saturated = lost = 0.0
    for subject, rows in trace.rows.items():
        clipped, gone = met_damage(rows[0][5], met_errors([trace], subject))
        saturated, lost = saturated + clipped, lost + gone
    whole = len(trace.rows)
    return {
        "total": round((saturated + lost) * MILLION / whole, 1),
        "saturated": round(saturated * MILLION / whole, 1),
        "lost": round(lost * MILLION / whole, 1),
    }


def all_lost_ppm(trace: RescaleTrace) -> float:
    """Return the share of values that a run saturated or lost for whatever reason, settled."""
    shares = [
        sum((row[3] + row[4]) / row[5] for row in rows[SETTLED:]) / (len(rows) - SETTLED)
        for rows in trace.rows.values()
    ]
    return round(sum(shares) * MILLION / len(shares), 1)


def compared(config: TrainConfig, runs: Path) -> dict[str, Any]:
    """Train each rule with the held-out seed; return predicted and met risk, ppm."""
    held_out = replace(config, seed=HELD_OUT_SEED)
    graph = training_graph(load_model(config.model, batch=config.batch))
    device = load_device(config.device)
    others = [one for one in recordings() if one.model != config.model]
    rows: dict[str, Any] = {}
    for rule in RULES:
        print(f"{config.model} {rule}", flush=True)
        trace, accuracy = trained(held_out, rule, runs)
        plan = Plan.read(runs / f"{run_name(held_out, rule)}.plan.json")
        own, other = (plan_risk(graph, plan, device, known=k) for k in (None, others))
        rows[rule] = {
            "predicted": _predicted(own),
            "from_the_other": other.total_ppm,
            "met": met_ppm(trace),
            "all_lost": all_lost_ppm(trace),
            "accuracy": accuracy,
        }
    return {"dataset": config.dataset, "seed": HELD_OUT_SEED, "rules": rows}


def elsewhere(path: Path, model: str, rule: str, source: str) -> dict[str, Any]:
    """Compare the estimate with the trace of another run, in which every tensor had one rule.

    Raises
    ------
    TraceError
        The file is no rescale trace.
    RiskStudyError
        The trace has other tensors than the model, or no settled step.
    """
    trace = load_trace(path)
    config = TrainConfig(model, "-", epochs=1)
    graph = training_graph(load_model(model, batch=config.batch))
    device = load_device(config.device)
    plan = build_plan("mandheling", graph, device)
    subjects = lowering(graph, plan, device).rules
    steps = min(map(len, trace.rows.values()), default=0)
    if set(trace.rows) != set(subjects) or steps <= SETTLED:
        raise RiskStudyError(
            f"{path}: holds {len(trace.rows)} tensors of {steps} steps; allowed: the "
            f"{len(subjects)} tensors that {model} rescales, more than {SETTLED} steps each"
        )
    found = plan_risk(graph, plan.update({("rescale", s): rule for s in subjects}), device)
    return {
        "model": model,
        "rule": rule,
        "source": source,
        "steps": steps,
        "predicted": _predicted(found),
        "met": met_ppm(trace),
    }


def _predicted(risk: PlanRisk) -> dict[str, float]:
    return {"total": risk.total_ppm, "saturated": risk.saturated_ppm, "lost": risk.lost_ppm}


def agreement(rows: Mapping[str, Any]) -> dict[str, float]:
    """Return how well the ranks agree (Kendall's tau) and the errors of all rules that can err."""
    stale = [row for rule, row in rows.items() if rule != "every"]
    met = [row["met"]["total"] for row in stale]
    found: dict[str, float] = {}
    for name, key in (("total", "tau"), ("saturated", "tau_saturated"), ("lost", "tau_lost")):
        found[key] = _tau([(row["predicted"][name], row["met"][name]) for row in stale])
    found["tau_from_the_other"] = _tau(
        [(row["from_the_other"], m) for row, m in zip(stale, met, strict=True)]
    )
    for key, values in (
        ("error", [row["predicted"]["total"] for row in stale]),
        ("error_from_the_other", [row["from_the_other"] for row in stale]),
    ):
        errors = sorted((abs(p / m - 1) for p, m in zip(values, met, strict=True)))
        found[f"median_{key}"] = round(errors[len(errors) // 2], 3)
        found[f"worst_{key}"] = round(errors[-1], 3)
    return found


def _tau(pairs: Sequence[tuple[float, float]]) -> float:
    predicted, met = zip(*pairs, strict=True)
    return round(float(kendalltau(predicted, met).statistic), 3)


def shown(content: Mapping[str, Any]) -> str:
    """Predicted and met risk of each rule, ppm, and how well they agree.

    ``saturated`` and ``lost`` are predicted / met; ``other`` is estimated from the other network's
    recording.
    """
    lines = []
    for model, study in content["models"].items():
        lines.append(f"{model} on {study['dataset']}, seed {study['seed']} (recorded: 0), ppm")
        lines.append(
            f"  {'rule':16s} {'predicted':>9s} {'met':>8s} {'error':>7s} {'saturated':>15s} "
            f"{'lost':>15s} {'other':>7s} {'test %':>6s}"
        )
        for rule, row in study["rules"].items():
            ours, met = row["predicted"], row["met"]
            error = f"{ours['total'] / met['total'] - 1:+7.0%}" if met["total"] else f"{'-':>7s}"
            pairs = (f"{ours[n]:.0f} / {met[n]:.0f}" for n in ("saturated", "lost"))
            saturated, lost = (f"{text:>15s}" for text in pairs)
            lines.append(
                f"  {rule:16s} {ours['total']:9d} {met['total']:8.0f} {error} {saturated} {lost} "
                f"{row['from_the_other']:7d} {100 * row['accuracy']:6.1f}"
            )
        found = study["agreement"]
        for key, what in (("", "own recording"), ("_from_the_other", "the other's")):
            tau, median, worst = (
                found[f"{n}{key}"] for n in ("tau", "median_error", "worst_error")
            )
            lines.append(f"  {what}: tau {tau:.2f}, error median {median:.0%}, worst {worst:.0%}")
        lines.append(
            f"  tau of the parts: saturated {found['tau_saturated']:.2f}, "
            f"lost {found['tau_lost']:.2f}"
        )
    for other in content.get("elsewhere", []):
        ours, met = other["predicted"], other["met"]
        lines.append(
            f"{other['model']} {other['rule']}, {other['steps']} steps elsewhere: predicted "
            f"{ours['total']}, met {met['total']:.0f} ({ours['total'] / met['total'] - 1:+.0%}); "
            f"saturated {ours['saturated']:.0f} / {met['saturated']:.0f}, "
            f"lost {ours['lost']:.0f} / {met['lost']:.0f}"
        )
        lines.append(f"  {other['source']}")
    return "\n".join(lines)


@one_line_errors(STOPPED)
def main(arguments: Sequence[str] | None = None) -> None:
    """Train what is missing, keep the table, print it."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.search.risk_study", description=__doc__
    )
    parser.add_argument("--runs", type=Path, default=Path("runs/risk"), help="folder of runs")
    parser.add_argument("--threads", type=int, default=None, help="threads of each run")
    parser.add_argument("--table", action="store_true", help="print what is kept; train nothing")
    parser.add_argument("--trace", type=Path, help="rescale-trace.json of another run")
    parser.add_argument("--model", default="vgg11", help="its network")
    parser.add_argument("--rule", default="adaptive:4:64", help="its rule, of every tensor")
    parser.add_argument("--source", default="", help="the command that recorded it")
    options = parser.parse_args(arguments)
    renewing = options.trace is None and not options.table
    try:
        content = kept_table()
    except RiskStudyError as error:
        if not renewing:
            parser.error(str(error))
        content = {}
    if options.trace is not None:
        found = elsewhere(options.trace, options.model, options.rule, options.source)
        content["elsewhere"] = [found]
    elif renewing:
        content |= {"basis": basis(), "models": {}}
        for name, config in CONFIGS.items():
            study = compared(replace(config, threads=options.threads), options.runs)
            content["models"][name] = {**study, "agreement": agreement(study["rules"])}
    if not content.get("models"):
        parser.error("no figures are kept yet; run it without --table and --trace first")
    if not options.table:
        write_result(RESULT, content)
    print(shown(content))


if __name__ == "__main__":
    main()
