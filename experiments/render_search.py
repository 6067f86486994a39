"""What a search shows: a line while it runs, tables when it is done."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from time import monotonic
from typing import TYPE_CHECKING

from experiments.cli_common import say
from experiments.render import budget_mark, counted, joules, mib, ms, number, percent, table

if TYPE_CHECKING:
    from rich.console import Group

    from experiments.certify.bounds import Bound
    from experiments.search.drive import Run
    from experiments.search.projection import Projection
    from experiments.search.result import BaselinePlan, FrontPlan, Measures, SearchResult
    from experiments.search.robustness import Robustness
    from experiments.search.verify import Verification

PLAIN_EVERY_S = 5.0
"""Seconds between lines of progress where there is no terminal."""
SHOWN = 12
"""Plans of a front that are listed."""
RIVAL = "baseline of the space within the limits"
TITLES = {"time": "ms", "energy": "J", "risk": "estimated risk, ppm", "memory": "MiB"}
SHOWS: dict[str, Callable[[int], str]] = {"time": ms, "energy": joules, "risk": str, "memory": mib}
UNITS = {"time": " ms", "energy": " J", "risk": " ppm (estimated)", "memory": " MiB"}


def value(objective: str, amount: int) -> str:
    """Return a measure with its unit."""
    return SHOWS[objective](amount) + UNITS[objective]


def progress_line(run: Run, bound: Bound | None) -> str:
    """Return how far a search is, in one line."""
    objectives, best = run.problem.objectives, run.best
    parts = []
    if best is not None:
        from experiments.search.objectives import places

        values = [best.values[place] for place in places(objectives)]
        parts.append(f"best {value(objectives[0], values[0])}")
        if bound is not None and objectives[0] == "time":
            parts.append(f"bound {ms(bound.time_ns)} ms, gap {_share(bound.gap(values[0]))}")
    if len(objectives) > 1:
        parts.append(f"front of {len(run.front)}")
    rate = run.evaluations / run.seconds if run.seconds else 0
    parts.append(f"{number(rate, 3)} plans/s")
    parts.append(f"{counted(len(run.finished), 'shard')} of {run.budget}, {run.seconds:.0f} s")
    return "; ".join(parts)


@contextmanager
def watching(quiet: bool, bound: Bound | None) -> Iterator[Callable[[Run], None]]:
    """Give what shows the progress on stderr: a live line, or now and then a plain one."""
    from rich.console import Console

    console = Console(stderr=True)
    if quiet:
        yield lambda run: None
        return
    if console.is_terminal:
        with console.status("starting") as status:
            yield lambda run: status.update(progress_line(run, bound))
        return
    said, unsaid = -PLAIN_EVERY_S, ""

    def plainly(run: Run) -> None:
        nonlocal said, unsaid
        unsaid = progress_line(run, bound)
        if monotonic() - said >= PLAIN_EVERY_S:
            say(unsaid)
            said, unsaid = monotonic(), ""

    try:
        yield plainly
    finally:  # the last line is how far it came
        if unsaid:
            say(unsaid)


def best_baseline(result: SearchResult) -> BaselinePlan | None:
    """Return the quickest baseline of the space within the limits; limits may leave none."""
    rivals = [plan for plan in result.baselines if not plan.left_out]
    return min(rivals, key=lambda plan: plan.time_ns, default=None)


def plans_table(result: SearchResult, budget_bytes: int) -> Group:
    """Return baselines and front, all measures of each; ``!`` is over the memory budget."""
    names = ("time", "energy", "memory", "risk")
    problem, fastest = result.manifest.problem, best_baseline(result)
    rows = []
    for one in sorted(result.baselines, key=lambda plan: plan.time_ns):
        name = one.name + (" (-)" if one.left_out else "")
        rows.append((name, *_cells(one, names, budget_bytes), ""))
    rows.append(("found:", *[""] * len(names), ""))
    for plan in _listed(result.front):
        saved = percent(1 - plan.time_ns / fastest.time_ns) if fastest else ""
        mark = " *" if plan.id == result.chosen else ""
        rows.append((plan.id + mark, *_cells(plan, names, budget_bytes), saved))
    title = f"{problem['model']}, batch {problem['batch']}, {problem['device']}: predicted"
    return table(title, ("plan", *(TITLES[n] for n in names), "faster %"), rows)


def _listed(front: Sequence[FrontPlan]) -> list[FrontPlan]:
    """Return the front, or where it is long, plans spread over it, the ends included."""
    if len(front) <= SHOWN:
        return list(front)
    places = [round(k * (len(front) - 1) / (SHOWN - 1)) for k in range(SHOWN)]
    return [front[place] for place in places]


def _cells(plan: Measures, names: Sequence[str], budget_bytes: int) -> list[str]:
    columns = {"time": "time_ns", "energy": "energy_pj", "memory": "memory_bytes"}
    marks = {"memory": budget_mark(plan.memory_bytes, budget_bytes)}
    return [SHOWS[n](getattr(plan, columns.get(n, "risk_ppm"))) + marks.get(n, "") for n in names]


def over_budget_text(result: SearchResult, budget_bytes: int) -> str:
    """Return which plans take more memory than the device lends to training; empty if none does."""
    plans = [*((b.name, b) for b in result.baselines), *((f.id, f) for f in _listed(result.front))]
    over = [name for name, plan in plans if budget_mark(plan.memory_bytes, budget_bytes)]
    if not over:
        return ""
    return (
        f"! over the memory budget of {mib(budget_bytes)} MiB: {', '.join(over)}; "
        f"--limit memory={budget_bytes} leaves such plans out"
    )


def summary(result: SearchResult, projection: Projection | None) -> str:
    """Return in sentences what was searched, how far the optimum may be, and what more costs."""
    manifest, run = result.manifest, result.run
    fastest = best_baseline(result)
    lines = [
        f"*: best in {result.objectives[0]}."
        + (f" faster %: than {fastest.name}, the quickest {RIVAL}." if fastest else "")
        + (f" {len(result.front)} plans in all." if len(result.front) > SHOWN else "")
    ]
    left_out = [f"{one.name} {one.left_out}" for one in result.baselines if one.left_out]
    if left_out:
        lines.append(f"(-): not a {RIVAL}: {'; '.join(left_out)}")
    lines += result.notes
    if result.bound is not None:
        least, share = ms(result.bound.time_ns), _share(result.bound.gap)
        lines.append(
            f"no plan of the space takes less than {least} ms ({result.bound.method}): of the "
            f"time of the quickest found a better plan could save at most {share} (the gap)"
            f"{_limits_text(result)}"
        )
    lines.append(
        f"{manifest.evaluations} plans in {counted(manifest.shards, 'shard')}; front "
        f"{manifest.front_sha256[:16]}; {run.seconds:.1f} s now, {counted(run.workers, 'worker')}"
    )
    if run.workers_lost:
        lines.append(f"workers were lost {run.workers_lost} times; their shards were run again")
    if projection is not None:
        lines.append(
            f"10^9 plans would take {number(projection.core_hours, 3)} core-hours at "
            f"{number(projection.plans_per_second, 3)} plans per second and core"
        )
    return "\n".join(lines)


def _limits_text(result: SearchResult) -> str:
    """Say that the proof knows no limits; empty where nothing is limited."""
    if not result.limits:
        return ""
    return (
        f"; the proof leaves out the limits on {', '.join(result.limits)}, which may make the best "
        "plan within them slower and the true gap smaller"
    )


def _share(share: float) -> str:
    return f"{100 * max(0.0, share):.1f} %"


def robustness_text(found: Robustness, chosen: str, objective: str) -> str:
    """Return how the chosen plan fares against the others over drawn worlds.

    In energy where that is the objective, else in time: nothing else is drawn.
    """
    lines = [f"over {found.worlds} draws of what is not known exactly:"]
    for one in found.gains:
        if one.plan != chosen:
            continue
        if objective == "energy":
            text = f"P(uses less energy than {one.rival}) {one.energy_wins:.3f}; saves "
            low, high, verdict = one.energy_low, one.energy_high, one.energy_verdict
        else:
            text = f"P(faster than {one.rival}) {one.wins:.3f}; saves "
            low, high, verdict = one.low, one.high, one.verdict
        lines.append(f"  {text}{100 * low:.1f} to {100 * high:.1f} %: {verdict}")
    return "\n".join(lines)


def verified_table(found: Verification) -> Group:
    """Return what real training says of the finalists."""
    rows = [
        (
            ", ".join(one.plans),
            f"{100 * one.accuracy:.2f}",
            f"{100 * one.low:.2f}-{100 * one.high:.2f}",
            f"{100 * one.difference:+.2f}",
            "yes" if one.clear else "no",
        )
        for one in found.rows
    ]
    settings = found.settings
    title = f"trained for real: {settings['model']} on {settings['dataset']}, test accuracy"
    columns = ("plans of equal numerics", "%", "95 %", f"to {found.base}", "clear")
    return table(title, columns, rows)
