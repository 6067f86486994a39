"""A comparison as tables: plans, where the time goes, steps, evidence, techniques, waterfalls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from experiments.compare import OFFLOAD, Comparison, Row, Waterfall
from experiments.render import (
    counted,
    joules,
    line,
    mib,
    ms,
    ms_span,
    number,
    percent,
    show,
    span,
    table,
)
from sim.policies.recipes import TECHNIQUES
from sim.taskgraph import CATEGORIES

if TYPE_CHECKING:
    from rich.console import Console, Group

    from experiments.fairness import Terms
    from sim.policies.build import Adoption

EVIDENCE = ("measured", "published", "derived", "assumed")


def print_comparison(console: Console, found: Comparison, reference: str) -> None:
    """Print all tables of a comparison."""
    rows = found.rows
    show(
        console,
        f"{found.model}, batch {found.batch}, on {found.device}: predicted, not measured",
        plans_table(rows, reference),
        breakdown_table(rows, "Where the time of a step goes, %"),
        steps_table(rows),
        evidence_table(rows),
    )
    if any(row.adoptions for row in rows):
        show(console, adoptions_table(rows), adoption_count(rows))
    if found.waterfalls:
        show(console, waterfall_table(found.waterfalls))
    show(console, *_remarks(found))


def short(name: str, rows: Sequence[Row]) -> str:
    """Return a plan's name, shortened to what it adds where the plain offload is listed too."""
    offload = any(row.name == OFFLOAD for row in rows)
    return f" {name.removeprefix(OFFLOAD)}" if offload and name.startswith(f"{OFFLOAD}+") else name


def plans_table(rows: Sequence[Row], reference: str) -> Group:
    """Time, energy and memory of each plan, and its ratios to the reference."""
    columns = ("plan", "time ms", "90 %", "energy J", "MiB", "speed-up", "90 %", "energy x")
    cells = [
        (
            short(row.name, rows),
            ms(row.time_ns),
            ms_span(row.time_interval_ns),
            joules(row.energy_pj),
            mib(row.peak_bytes) + ("!" if row.over_budget else ""),
            number(row.speedup, 3),
            span(row.speedup_interval, 2),
            number(row.energy_ratio, 3),
        )
        for row in rows
    ]
    return table(f"Expected step; speed-up and energy gain against {reference}", columns, cells)


def breakdown_table(rows: Sequence[Row], title: str) -> Group:
    """Share of each category on the critical path."""
    cells = [
        (short(row.name, rows), *(percent(row.breakdown_ns[c] / row.time_ns) for c in CATEGORIES))
        for row in rows
    ]
    return table(title, ("plan", *CATEGORIES), cells)


def steps_table(rows: Sequence[Row]) -> Group:
    """Single steps: the first, and how settled ones scatter."""
    cells = [
        (short(row.name, rows), ms(row.first_step_ns), ms(row.p50_ns), ms(row.p95_ns))
        for row in rows
    ]
    return table(
        "Single steps, ms: the first, then settled ones", ("plan", "first", "p50", "p95"), cells
    )


def evidence_table(rows: Sequence[Row]) -> Group:
    """Share of the time by how well the constants behind it are known."""
    cells = [
        (short(row.name, rows), *(percent(row.evidence[kind]) for kind in EVIDENCE)) for row in rows
    ]
    return table("Predicted time by evidence of the constants, %", ("plan", *EVIDENCE), cells)


def shares(evidence: Mapping[str, float]) -> str:
    """Whole percent by kind of evidence, the strongest first: ``0/1/30/69``; they add up to 100.

    Rounded down; what that leaves goes one by one to the largest remainders.
    """
    exact = [100 * evidence[kind] for kind in EVIDENCE]
    whole = [int(value) for value in exact]
    order = sorted(range(len(exact)), key=lambda k: (whole[k] - exact[k], k))
    for k in order[: 100 - sum(whole)]:
        whole[k] += 1
    return "/".join(map(str, whole))


def calibrations_note(notes: Sequence[str]) -> str:
    """What was fitted elsewhere and used all the same, one line each."""
    return "\n".join(
        ["Calibrations that were fitted on something else:", *(f"  {n}" for n in notes)]
    )


def adoptions_table(rows: Sequence[Row]) -> Group:
    """What became of each technique that a plan was offered."""
    cells = []
    for row in rows:
        for first, one in enumerate(row.adoptions):
            label = "" if first else short(row.name, rows)
            times = (ms(one.before_ns), ms(one.proposed_ns))
            cells.append((label, one.technique, *times, _fate(one)))
    columns = ("plan", "technique", "before ms", "with it ms", "outcome")
    return table("Techniques, each kept only where it shortens the step", columns, cells, left=2)


def _fate(one: Adoption) -> str:
    if one.adopted:
        return f"adopted, {number(one.before_ns / one.proposed_ns, 3)} x"
    return "fell back to doing nothing"


def adoption_count(rows: Sequence[Row]) -> str:
    """One sentence that counts adopted and declined techniques."""
    offers = [one for row in rows for one in row.adoptions]
    kept = sum(one.adopted for one in offers)
    return (
        f"{counted(len(offers), 'offer')}: {kept} adopted, "
        f"{len(offers) - kept} fell back to doing nothing."
    )


def waterfall_table(falls: Sequence[Waterfall]) -> Group:
    """Both orders side by side; each column of changes adds up to the whole difference."""
    rows = []
    for k in range(len(falls[0].times_ns)):
        cells: list[str] = []
        for fall in falls:
            name = f"+ {fall.names[k - 1]}" if k else OFFLOAD
            change = f"{fall.deltas_ns[k - 1] / 1e6:+.3f}" if k else ""
            cells += [name, change, f"{fall.times_ns[k] / 1e6:.3f}"]
        rows.append(tuple(cells))
    last = []
    for fall in falls:
        last += ["in all", f"{sum(fall.deltas_ns) / 1e6:+.3f}", f"{fall.times_ns[-1] / 1e6:.3f}"]
    columns = ("stated order", "change", "ms", "reverse order", "change", "ms")
    title = "One technique after the other, expected ms (kept only if it helps at its turn)"
    return table(title, columns, [*rows, tuple(last)], also_left=(3,))


def terms_table(all_terms: Sequence[Terms], names: Sequence[str]) -> Group:
    """Units, precision, library and layout of each plan."""
    cells = []
    for name, one in zip(names, all_terms, strict=True):
        units = "\n".join(f"{unit} ({count})" for unit, count in one.units.items())
        libraries = ", ".join(f"{library} {layout}" for library, layout in one.libraries.items())
        cells.append((name, units, one.precision, libraries))
    columns = ("plan", "unit:slots (kernels)", "MACs in", "library and layout")
    return table("On what terms the plans run", columns, cells, left=4)


def print_fairness(console: Console, all_terms: Sequence[Terms], rows: Sequence[Row]) -> None:
    """Print the terms of each plan, then the constants behind most of its time."""
    names = [short(row.name, rows) for row in rows]
    notes: dict[str, int] = {}
    cells, texts = [], []
    for name, one in zip(names, all_terms, strict=True):
        for first, constant in enumerate(one.constants):
            if constant.path not in notes:
                notes[constant.path] = len(notes) + 1
                quantity = constant.quantity
                value = f"{quantity.value:g} {quantity.unit} ({quantity.kind})"
                texts.append(f"[{len(notes)}] {constant.path} = {value}: {quantity.source}")
            note = f"[{notes[constant.path]}]"
            label = "" if first else name
            cells.append((label, constant.path, percent(constant.share), note))
    columns = ("plan", "constant", "% of time", "note")
    constants = table("Constants behind most of the time", columns, cells, left=2)
    show(console, terms_table(all_terms, names), constants)
    for text in texts:
        line(console, text)
    console.print()


def _remarks(found: Comparison) -> list[str]:
    remarks = []
    over = [row.name for row in found.rows if row.over_budget]
    if over:
        budget = mib(found.budget_bytes)
        remarks.append(f"! over the memory budget of {budget} MiB: {', '.join(over)}")
    if found.missing:
        lines = "\n".join(f"  {name}: {reason}" for name, reason in found.missing.items())
        remarks.append(f"Not possible on this device:\n{lines}")
    if found.failed:
        lines = "\n".join(f"  {name}: {reason}" for name, reason in found.failed.items())
        remarks.append(f"Failed, and left out:\n{lines}")
    if found.notes:
        remarks.append(calibrations_note(found.notes))
    remarks.append(
        "Every figure is predicted, not measured. 90 %: the central 90 % when the constants vary, "
        "the further the weaker their evidence; in ratios both plans vary together."
    )
    offered = {one.technique for row in found.rows for one in row.adoptions}
    names = ", ".join(f"{key} ({text})" for key, text in TECHNIQUES.items() if key in offered)
    return [*remarks, f"Techniques: {names}."] if offered else remarks
