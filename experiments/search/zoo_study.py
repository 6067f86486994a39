"""What ten seconds of search find, for every network of the zoo on three phones.

``python -m experiments.search.zoo_study`` searches what is not yet in ``results/search.json`` and
prints the table; ``--table`` only prints it. A row holds how many shards its time was enough for:
searching that many again gives the same front on any machine.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from experiments.results import FOLDER, read_result, versions, write_result
from experiments.search.backends import started
from experiments.search.budget import Budget
from experiments.search.drive import search
from experiments.search.front import front_sha256
from experiments.search.problem import Problem
from experiments.told import one_line_errors
from sim.expected import expected_ns
from sim.policies.build import build_plan, plan_names
from sim.zoo import model_names

RESULT = FOLDER / "search.json"
PHONES = ("snapdragon-750g", "snapdragon-865", "snapdragon-888")
REFERENCE = "mandheling"


def searched(problem: Problem, budget: Budget, workers: int) -> dict[str, Any]:
    """Search a problem and every built-in plan beside it; times in ns of the expected step."""
    ground = problem.ground()
    plans = {
        name: expected_ns(
            ground.graph, build_plan(name, ground.graph, ground.device), ground.device
        )
        for name in plan_names(ground.device)
    }
    with started("processes", workers) as backend:
        found = search(problem, budget, backend)
    built_in = min(plans, key=lambda name: (plans[name], name))
    return {
        "model": problem.model,
        "device": problem.device,
        "found_ns": found.front[0].values[0],
        "mandheling_ns": plans[REFERENCE],
        "built_in": built_in,
        "built_in_ns": plans[built_in],
        "shards": found.shards,
        "evaluations": found.evaluations,
        "seconds": round(found.seconds, 1),
        "front": front_sha256(found.front),
    }


def shown(content: dict[str, Any]) -> str:
    """Return the table as Markdown, and what it comes to."""
    phones = [phone.removeprefix("snapdragon-") for phone in PHONES]
    head = " | ".join(f"{phone}: mandheling, ms | found, ms | faster" for phone in phones)
    lines = [f"| network | {head} |", "|---" * (1 + 3 * len(phones)) + "|"]
    rows = {(row["model"], row["device"]): row for row in content["rows"]}
    for model in sorted({row["model"] for row in content["rows"]}):
        cells = []
        for phone in PHONES:
            row = rows.get((model, phone))
            if row is None:
                cells += ["", "", ""]
                continue
            before, after = row["mandheling_ns"], row["found_ns"]
            cells += [_ms(before), _ms(after), f"{100 * (1 - after / before):.1f} %"]
        lines.append(f"| {model} | {' | '.join(cells)} |")
    every = content["rows"]
    kept = sum(row["found_ns"] <= row["built_in_ns"] for row in every)
    better = sum(row["found_ns"] < row["mandheling_ns"] for row in every)
    beaten = sum(row["built_in_ns"] < row["mandheling_ns"] for row in every)
    lines += [
        "",
        f"{len(every)} searches of {content['budget']} on {content['workers']} cores: "
        f"at least as quick as every built-in plan in {kept}, quicker than mandheling in {better} "
        f"(in {beaten} of them another built-in plan is, too).",
    ]
    return "\n".join(lines)


def _ms(ns: int) -> str:
    return f"{ns / 1e6:,.4g}" if ns < 1e10 else f"{ns / 1e6:,.0f}"


@one_line_errors()
def main(arguments: Sequence[str] | None = None) -> None:
    """Search what is missing, keep each row as it comes, and print the table."""
    parser = argparse.ArgumentParser(prog="python -m experiments.search.zoo_study")
    parser.add_argument("--table", action="store_true", help="print what is kept; search nothing")
    parser.add_argument("--budget", default="10s", help="of each search (10s)")
    parser.add_argument("--workers", type=int, default=2, help="of each search (2)")
    parser.add_argument("--only", default="", help="one network")
    options = parser.parse_args(arguments)
    same = {"budget": options.budget, "workers": options.workers, "versions": versions()}
    content = read_result(RESULT)
    if options.table:
        if not content:
            parser.error(f"{RESULT} is not there yet; run it without --table first")
        print(shown(content))
        return
    if any(content.get(name) != value for name, value in same.items()):
        content = {**same, "rows": []}
    known = {(row["model"], row["device"]) for row in content["rows"]}
    for model in [options.only] if options.only else model_names():
        for phone in PHONES:
            if (model, phone) not in known:
                problem = Problem(model, device=phone)
                row = searched(problem, Budget.parse(options.budget), options.workers)
                content["rows"].append(row)
                write_result(RESULT, content)
                print(model, phone, _ms(row["mandheling_ns"]), _ms(row["found_ns"]), flush=True)
    print(shown(content))


if __name__ == "__main__":
    main()
