"""What fine-tuning compares: its cases, the table of what was trained, and the comparisons."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import mean, stdev
from typing import Any

from experiments.intervals import half_width

MOST_SEEDS = 5
"""Trainings of a case, at most."""


@dataclass(frozen=True, slots=True)
class Case:
    """What is fine-tuned how: ``patch`` is 1 for exact gradients."""

    last: int
    patch: int
    precision: str = "fp32"

    @property
    def name(self) -> str:
        """Such as ``r2-last4-int8``."""
        how = "exact" if self.patch == 1 else f"r{self.patch}"
        return f"{how}-last{self.last}-{self.precision}"


CASES = (
    *(Case(last, 1) for last in (2, 4, 6)),
    *(Case(last, 2) for last in (2, 4, 6)),
    *(Case(last, 4) for last in (4, 6)),
    Case(4, 2, "int8"),
    Case(6, 4, "int8"),
)


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two cases; ``first`` is expected to be no worse, by at least ``least`` points."""

    question: str
    first: Case
    second: Case
    least: float = 0.0


COMPARISONS = (
    Comparison("fixed layers: exact >= r2", Case(4, 1), Case(4, 2)),
    Comparison("fixed layers: r2 >= r4", Case(4, 2), Case(4, 4)),
    Comparison("fixed layers: exact >= r2", Case(6, 1), Case(6, 2)),
    Comparison("fixed layers: r2 >= r4", Case(6, 2), Case(6, 4)),
    Comparison("fewer operations: r2 on 6 >= exact on 2", Case(6, 2), Case(2, 1)),
    Comparison("fewer operations: r4 on 6 >= exact on 2", Case(6, 4), Case(2, 1)),
    Comparison("fewer operations: r2 on 4 >= exact on 2", Case(4, 2), Case(2, 1)),
    Comparison("fewer operations: r4 on 4 >= exact on 2", Case(4, 4), Case(2, 1)),
    Comparison("INT8 + r2 within a point of FP32 + r2", Case(4, 2, "int8"), Case(4, 2), -1.0),
    Comparison("INT8 + r4 within a point of FP32 + r4", Case(6, 4, "int8"), Case(6, 4), -1.0),
)
"""Those of 4 filtered layers with 2 exact ones were added after the first results were seen."""


def table(content: dict[str, Any]) -> str:
    """Each case: mean test accuracy over the seeds, operations, saved memory, predicted joules."""
    lines = [
        f"{'case':22s} {'seeds':>5s} {'test %':>7s} {'dev.':>5s} {'Mop/image':>10s} "
        f"{'saved KiB':>10s} {'J/epoch':>8s}"
    ]
    for name, members in by_case(content).items():
        tested = [100 * run["accuracy"] for run in members]
        spread = f"{stdev(tested):5.2f}" if len(tested) > 1 else f"{'-':>5s}"
        work = content["work"][case_of(name)]
        joules = mean(run["energy_pj"] / run["epochs"] for run in members) / 1e12
        lines.append(
            f"{name:22s} {len(members):5d} {mean(tested):7.2f} {spread} "
            f"{work['operations'] / 1e6:10.2f} {work['saved_bytes'] / 1024:10.1f} {joules:8.1f}"
        )
    return "\n".join(lines)


def comparisons(content: dict[str, Any]) -> list[dict[str, Any]]:
    """Paired differences over the seeds that both cases have, with their 95 % interval.

    ``verdict``: ``shown`` or ``contradicted`` where the whole interval lies on one side of what
    is asked, ``open`` where it does not.
    """
    runs, best = content.get("runs", {}), _best(content)
    found = []
    for each in COMPARISONS:
        if not {each.first.name, each.second.name} <= best.keys():
            continue
        first, second = best[each.first.name], best[each.second.name]
        pairs = [
            (runs[one]["accuracy"], runs[other]["accuracy"])
            for seed in range(MOST_SEEDS)
            if (one := f"{first}-seed{seed}") in runs and (other := f"{second}-seed{seed}") in runs
        ]
        gaps = [100 * (a - b) for a, b in pairs]
        if not gaps:
            continue
        half = half_width(gaps) if len(gaps) > 1 else None
        found.append(
            {
                "question": each.question,
                "first": first,
                "second": second,
                "seeds": len(gaps),
                "points": mean(gaps),
                "half_width": half,
                "least": each.least,
                "verdict": _verdict(mean(gaps) - each.least, half),
            }
        )
    return found


def _best(content: dict[str, Any]) -> dict[str, str]:
    """For each case, the rate that ended with the least training loss; in the name of its runs."""
    best: dict[str, tuple[float, float, str]] = {}
    for name, members in by_case(content).items():
        # one rate alone needs no losses; more seeds go before fewer
        losses = [run["losses"][-1] for run in members if "losses" in run] or [0.0]
        entry = (-len(members), mean(losses), name)
        best[case_of(name)] = min(entry, best.get(case_of(name), entry))
    return {case: name for case, (_, _, name) in best.items()}


def case_of(name: str) -> str:
    """Name of the case of runs, whatever their rate."""
    return name.partition("@")[0]


def _verdict(above: float, half: float | None) -> str:
    if half is None or abs(above) <= half:
        return "open"
    return "shown" if above > 0 else "contradicted"


def by_case(content: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """Kept runs of each case and rate, in the order of :data:`CASES`."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for name, run in content.get("runs", {}).items():
        groups.setdefault(name.rpartition("-seed")[0], []).append(run)
    order = {case.name: k for k, case in enumerate(CASES)}
    return dict(
        sorted(groups.items(), key=lambda pair: (order.get(case_of(pair[0]), len(order)), pair[0]))
    )


def shown(content: dict[str, Any]) -> str:
    """The table, and a line for each comparison."""
    if not content.get("runs"):
        return "no runs yet"
    lines = [table(content), ""]
    for each in comparisons(content):
        half = "one seed" if each["half_width"] is None else f"+- {each['half_width']:.2f}"
        lines.append(
            f"{each['question']}: {each['first']} - {each['second']} = {each['points']:+.2f} "
            f"({half}): {each['verdict']}"
        )
    return "\n".join(lines)
