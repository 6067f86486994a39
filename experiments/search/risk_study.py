"""How good the risk estimate is: predicted for each rescale rule, and met in held-out trainings.

``python -m experiments.search.risk_study --runs DIR`` trains every rule of the search's palette
closed-loop with another seed than the recorded one, compares what its stale shifts did with the
estimate, and keeps the table in ``results/risk.json``. ``--table`` prints what is kept.
The same networks and data sets as the recording's: what carries over to others is asked by
estimating each network from the *other* one's recording, by role and depth.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from scipy.stats import kendalltau

from experiments.results import FOLDER, read_result, write_result
from experiments.search.recorded import (
    CONFIGS,
    SETTLED,
    TensorRecord,
    counted,
    recordings,
    run_name,
    trace_of,
)
from experiments.search.risk import MILLION, mean_damage, plan_risk
from experiments.training.config import TrainConfig
from sim import Plan, load_device, load_model, training_graph
from sim.encoding.space import PALETTES
from sim.numeric.records import RescaleTrace

RESULT = FOLDER / "risk.json"
HELD_OUT_SEED = 1
RULES = PALETTES["rescale"]


def met_ppm(trace: RescaleTrace) -> dict[str, float]:
    """Return what stale shifts did in a run, as :func:`~experiments.search.risk.plan_risk` counts.

    ``lost`` is beyond the mean of the same tensor's steps with a true shift, in the same run.
    """
    saturated = lost = 0.0
    for subject, rows in trace.rows.items():
        record = TensorRecord(subject, "", "", (), rows[0][5], counted([trace], subject))
        steps = len(rows) - SETTLED
        for error, (found, _, _) in record.met.items():
            clipped, gone = mean_damage([record], error, found) if error else (0.0, 0.0)
            saturated, lost = saturated + clipped * found / steps, lost + gone * found / steps
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
        trace = trace_of(held_out, rule, runs)
        plan = Plan.read(runs / f"{run_name(held_out, rule)}.plan.json")
        own, other = (plan_risk(graph, plan, device, known=k) for k in (None, others))
        rows[rule] = {
            "predicted": {
                "total": own.total_ppm,
                "saturated": own.saturated_ppm,
                "lost": own.lost_ppm,
            },
            "from_the_other": other.total_ppm,
            "met": met_ppm(trace),
            "all_lost": all_lost_ppm(trace),
        }
    return {"dataset": config.dataset, "seed": HELD_OUT_SEED, "rules": rows}


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
    """Predicted and met risk of each rule, ppm, and how well they agree."""
    lines = []
    for model, study in content["models"].items():
        lines.append(f"{model} on {study['dataset']}, seed {study['seed']} (recorded: 0), ppm")
        lines.append(
            f"  {'rule':16s} {'predicted':>9s} {'met':>8s} {'error':>7s} {'saturated':>15s} "
            f"{'lost':>15s} {'from the other':>14s}"
        )
        for rule, row in study["rules"].items():
            ours, met = row["predicted"], row["met"]
            error = f"{ours['total'] / met['total'] - 1:+7.0%}" if met["total"] else f"{'-':>7s}"
            pairs = (f"{ours[n]:.0f} / {met[n]:.0f}" for n in ("saturated", "lost"))
            saturated, lost = (f"{text:>15s}" for text in pairs)
            lines.append(
                f"  {rule:16s} {ours['total']:9d} {met['total']:8.0f} {error} {saturated} {lost} "
                f"{row['from_the_other']:14d}"
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
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Train what is missing, keep the table, print it."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.search.risk_study", description=__doc__
    )
    parser.add_argument("--runs", type=Path, default=Path("runs/risk"), help="folder of runs")
    parser.add_argument("--threads", type=int, default=None, help="threads of each run")
    parser.add_argument("--table", action="store_true", help="print what is kept; train nothing")
    options = parser.parse_args(arguments)
    if not options.table:
        models = {}
        for name, config in CONFIGS.items():
            found = compared(replace(config, threads=options.threads), options.runs)
            models[name] = {**found, "agreement": agreement(found["rules"])}
        write_result(RESULT, {"models": models})
    content = read_result(RESULT)
    if not content:
        parser.error("no figures are kept yet; run it without --table")
    print(shown(content))


if __name__ == "__main__":
    main()
