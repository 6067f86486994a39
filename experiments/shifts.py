"""How the shifts of real training move, beside the drawn ones that comparisons rest on.

``python -m experiments.shifts RUN/rescale-trace.json --first-step N`` reads what ``mandheling train
--trace`` recorded and keeps two tables in ``results/shifts.json``: how often a shift differs from
that of 1 to 128 steps before (:class:`sim.state.SyntheticShifts` is fitted to it), and how often
each rescale rule would scan (not fitted, but of the same trace: drawn shifts scan too little). The
rules are run on the recorded shifts open-loop. Without a trace it prints what is kept.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.results import FOLDER, read_result, write_result
from experiments.told import one_line_errors
from sim.numeric.records import load_trace
from sim.rescaling import parse_rule
from sim.state import SyntheticShifts

RESULT = FOLDER / "shifts.json"
LAGS = (1, 2, 4, 8, 16, 32, 64, 128)
RULES = (
    "adaptive:1:64",
    "adaptive:2:64",
    "adaptive:4:64",
    "adaptive:8:64",
    "adaptive:4:256",
)
DRAWN_TENSORS, DRAWN_STEPS = 100, 2000
SETTLING = 256
"""Steps in which the period of an adaptive rule grows: not counted."""

Shifts = Mapping[str, Sequence[int]]


def differing(shifts: Shifts) -> dict[str, float]:
    """Share of steps whose shift differs from that of ``lag`` steps before; mean over tensors."""
    found = {}
    for lag in LAGS:
        shares = [
            sum(a != b for a, b in zip(row, row[lag:], strict=False)) / (len(row) - lag)
            for row in shifts.values()
        ]
        found[str(lag)] = round(sum(shares) / len(shares), 4)
    return found


def scanned(shifts: Shifts) -> dict[str, float]:
    """Share of settled steps in which each rule scans, run on these shifts."""
    found = {}
    for text in RULES:
        rule, scans, steps = parse_rule(text), 0, 0
        for row in shifts.values():
            state = rule.start()
            for step, true in enumerate(row):
                if step >= SETTLING:
                    scans += rule.mode(state) == "dynamic"
                    steps += 1
                state = rule.next(state, true)
        found[text] = round(scans / steps, 4)
    return found


def drawn() -> Shifts:
    """Shifts as comparisons draw them."""
    source = SyntheticShifts()
    return {
        f"tensor{k}": [source.shift(0, step, f"tensor{k}", 0) for step in range(DRAWN_STEPS)]
        for k in range(DRAWN_TENSORS)
    }


def tables(shifts: Shifts) -> dict[str, dict[str, float]]:
    """Both tables of some shifts."""
    return {"differing": differing(shifts), "scanned": scanned(shifts)}


def shown(content: Mapping[str, Any]) -> str:
    """Recorded and drawn shares side by side, with the worst difference."""
    lines = []
    for name, title in (
        ("differing", "shift differs from that of N steps before (fitted)"),
        ("scanned", "a rule scans (not fitted; same trace)"),
    ):
        recorded, ours = content["recorded"][name], content["drawn"][name]
        lines.append(f"{title:52s} {'recorded':>9s} {'drawn':>7s}")
        lines += [f"  {key:50s} {recorded[key]:9.3f} {ours[key]:7.3f}" for key in recorded]
        worst = max(recorded, key=lambda key: abs(recorded[key] - ours[key]))
        gap = ours[worst] - recorded[worst]
        lines.append(f"  worst: {worst}, drawn {gap:+.3f}")
    return "\n".join([f"recorded: {content['source']}", *lines])


@one_line_errors()
def main(arguments: Sequence[str] | None = None) -> None:
    """Read a trace if one is given, keep its tables, print them."""
    parser = argparse.ArgumentParser(prog="python -m experiments.shifts", description=__doc__)
    parser.add_argument("trace", nargs="?", type=Path, help="rescale-trace.json of a run")
    parser.add_argument("--source", default="", help="the command that recorded the trace")
    parser.add_argument("--first-step", type=int, default=0, help="steps before it are left out")
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    options = parser.parse_args(arguments)
    content = read_result(RESULT)
    if options.trace is not None:
        recorded = load_trace(options.trace).shifts().trace
        kept = {subject: row[options.first_step :] for subject, row in recorded.items()}
        least = min((len(row) for row in kept.values()), default=0)
        if least <= max(SETTLING, *LAGS):
            parser.error(f"{options.trace} holds {least} steps; give more than {SETTLING}")
        source = options.source or str(options.trace)
        content = {
            "source": source,
            "first_step": options.first_step,
            "steps": least,
            "tensors": len(kept),
            "recorded": tables(kept),
            "drawn": tables(drawn()),
        }
        write_result(RESULT, content)
    if not content:
        parser.error("no figures are kept yet; give a rescale-trace.json")
    print(json.dumps(content, indent=1) if options.json else shown(content))


if __name__ == "__main__":
    main()
