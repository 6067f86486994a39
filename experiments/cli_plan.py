"""``mandheling plan show``, ``plan diff`` and ``explain``: what a plan says, and why."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from experiments.cli_common import (
    NOTE,
    BatchOption,
    DeviceOption,
    ImageOption,
    JsonOption,
    ModelOption,
    OutputOption,
    PlanOption,
    check_target,
    deliver,
    load_built,
    load_device,
    load_graph,
    manifest,
    plan_sha256,
    print_text,
    progress,
    say,
    stdout_console,
    write_file,
)

if TYPE_CHECKING:
    from cost_models.device import Device
    from experiments.explain import Explanation, Option
    from sim.graph import TrainingGraph
    from sim.plan import Plan

LONGEST = 15

app = typer.Typer(help="Show a plan, or what differs between two.", rich_markup_mode=None)


@app.command()
def show(
    model: ModelOption,
    device: DeviceOption,
    plan: PlanOption = "mandheling",
    batch: BatchOption = 64,
    image: ImageOption = None,
    as_json: JsonOption = False,
    output: OutputOption = None,
) -> None:
    """Show a plan: a summary by aspect, or the plan itself as JSON."""
    check_target("--output", output)
    phone = load_device(device)
    graph = load_graph(model, batch, image)
    built = load_built(plan, graph, phone)
    text = built.plan.to_json()
    if output is not None:
        write_file(output, text)
        say(f"wrote {output}")
    if as_json:
        print_text(text)
        return
    from experiments import render
    from experiments.render import ms

    rows = aspect_rows(graph, built.plan, phone)
    title = f"{built.plan.name} for {graph.name}, batch {graph.batch}, on {phone.name}"
    columns = ("aspect", "choice", "stated", "by default")
    console = stdout_console()
    render.show(console, render.table(title, columns, rows, left=2))
    fates = [
        f"{one.technique}: {ms(one.before_ns)} -> {ms(one.proposed_ns)} ms, "
        + ("adopted" if one.adopted else "fell back to doing nothing")
        for one in built.adoptions
    ]
    lines = [*fates, f"plan sha256 {plan_sha256(built.plan)}"]
    render.show(console, "\n".join(lines))


def aspect_rows(
    graph: TrainingGraph, plan: Plan, device: Device
) -> list[tuple[str, str, str, str]]:
    """Return ``(aspect, choice, subjects stated, subjects by default)``, all aspects in order."""
    from collections import Counter

    from sim.aspects import ORDER, STEP_ASPECTS
    from sim.lowering import draft_before

    rows = []
    for aspect in ORDER:
        draft = draft_before(aspect.name, graph, plan, device)
        stated = plan.aspect(aspect.name)
        said: Counter[str] = Counter()
        silent: Counter[str] = Counter()
        for subject, choice in aspect.resolve(draft, plan, device).items():
            (said if subject in stated else silent)[choice] += 1
        for choice in sorted(said | silent, key=lambda c: (-said[c] - silent[c], c)):
            rows.append((aspect.name, choice, _count(said[choice]), _count(silent[choice])))
    for step in STEP_ASPECTS:
        spoken = int((step.name, step.subject) in dict(plan.choices))
        rows.append((step.key, step.resolve(plan, device), _count(spoken), _count(1 - spoken)))
    return rows


def _count(amount: int) -> str:
    return str(amount) if amount else "-"


@app.command()
def diff(
    a: Annotated[str, typer.Argument(metavar="A", help="A plan's name, or a .json file.")],
    b: Annotated[str, typer.Argument(metavar="B", help="A plan's name, or a .json file.")],
    model: ModelOption,
    device: DeviceOption,
    batch: BatchOption = 64,
    image: ImageOption = None,
    as_json: JsonOption = False,
) -> None:
    """List what two plans choose differently."""
    phone = load_device(device)
    graph = load_graph(model, batch, image)
    here, there = (load_built(name, graph, phone).plan for name in (a, b))
    found = here.diff(there)
    facts = manifest(graph=graph, device=phone)
    facts["plan_sha256"] = {"a": plan_sha256(here), "b": plan_sha256(there)}
    document = {
        "a": here.name,
        "b": there.name,
        "differences": [{"aspect": r[0], "subject": r[1], "a": r[2], "b": r[3]} for r in found],
        "manifest": facts,
    }
    deliver(document, as_json, None)
    if as_json:
        return
    from experiments import render

    rows = [(aspect, subject, x or "-", y or "-") for aspect, subject, x, y in found]
    columns = ("aspect", "subject", here.name, there.name)
    title = f"{graph.name}, batch {graph.batch}, on {phone.name}"
    render.show(
        stdout_console(),
        render.table(title, columns, rows, left=4),
        f"{render.counted(len(rows), 'choice')} differ; a dash leaves it to the default.",
    )


def explain(
    model: ModelOption,
    device: DeviceOption,
    plan: PlanOption = "mandheling",
    op: Annotated[
        str | None,
        typer.Option("--op", metavar="NAME", help="One operator, such as conv2.weight_grad."),
    ] = None,
    batch: BatchOption = 64,
    image: ImageOption = None,
    as_json: JsonOption = False,
) -> None:
    """Explain why operators run where they do, and the alternatives."""
    phone = load_device(device)
    graph = load_graph(model, batch, image)
    chosen = load_built(plan, graph, phone).plan

    from experiments.explain import Explainer

    explainer = Explainer(graph, chosen, phone)
    names = [op] if op is not None else explainer.longest(LONGEST)
    found = []
    with progress("trying alternatives", len(names)) as advance:
        for name in names:
            found.append(explainer.explain(name, widest=op is None))
            advance()
    document = {
        "note": NOTE,
        "model": graph.name,
        "device": phone.name,
        "plan": chosen.name,
        "batch": graph.batch,
        "operators": [explanation_document(one) for one in found],
        "manifest": manifest(graph=graph, device=phone, plans={chosen.name: chosen}),
    }
    deliver(document, as_json, None)
    if as_json:
        return
    title = f"{graph.name}, batch {graph.batch}, {chosen.name} on {phone.name}"
    if op is None:
        _print_longest(f"{title}: predicted, not measured", found)
    else:
        _print_one(f"{title}: predicted, not measured", found[0])


def explanation_document(one: Explanation) -> dict[str, Any]:
    """Return an explanation for JSON."""
    return {
        "name": one.subject,
        "kind": one.kind,
        "role": one.role,
        "dtype": one.dtype,
        "unit": one.unit,
        "step_ns": one.step_ns,
        "options": [_option_document(option, one) for option in one.options],
        "vtcm": None
        if one.vtcm is None
        else {
            "slice_bytes": one.vtcm.slice_bytes,
            "vtcm_bytes": one.vtcm.vtcm_bytes,
            "fits": one.vtcm.fits,
            "micro_batch": one.vtcm.micro_batch,
            "batch": one.vtcm.batch,
        },
        "constants": {
            path: {
                "time_ns": one.chosen.alone.behind_ns[path],
                "value": q.value,
                "unit": q.unit,
                "kind": q.kind,
                "source": q.source,
            }
            for path, q in one.constants.items()
        },
    }


def _option_document(option: Option, one: Explanation) -> dict[str, Any]:
    alone = option.alone
    return {
        "unit": alone.unit,
        "alone_ns": alone.time_ns,
        "launch_ns": alone.launch_ns,
        "compute_ns": alone.compute_ns,
        "bytes_ns": alone.bytes_ns,
        "dominated_by": alone.dominated_by,
        "step_ns": option.step_ns,
        "step_change_ns": option.step_ns - one.step_ns,
    }


def _print_longest(title: str, found: list[Explanation]) -> None:
    from experiments.render import ms, show, table

    rows = []
    for one in found:
        other = one.best_alternative
        change = (one.step_ns, other.step_ns) if other else (0, 0)
        rows.append(
            (
                one.subject,
                one.unit,
                ms(one.chosen.alone.time_ns),
                one.chosen.alone.dominated_by,
                other.alone.unit if other else "-",
                ms(other.alone.time_ns) if other else "-",
                f"{(change[1] - change[0]) / 1e6:+.3f}" if other else "-",
            )
        )
    columns = ("operator", "unit", "alone", "mostly", "else", "alone", "step")
    show(
        stdout_console(),
        table(title, columns, rows, left=2),
        f"All in ms. Expected step {ms(found[0].step_ns)}. Last columns: the best other unit, the "
        "time alone there, and how the step would change (negative: the search missed it). "
        "--op NAME tells more of one operator.",
    )


def _print_one(title: str, one: Explanation) -> None:
    from experiments.render import kib, line, ms, show, table

    console = stdout_console()
    rows = []
    for option in one.options:
        alone = option.alone
        parts = (ms(alone.launch_ns), ms(alone.compute_ns), ms(alone.bytes_ns))
        mark = "*" if alone.unit == one.unit else " "
        change = f"{(option.step_ns - one.step_ns) / 1e6:+.3f}"
        rows.append((f"{mark} {alone.unit}", ms(alone.time_ns), *parts, alone.dominated_by, change))
    columns = ("unit", "alone ms", "launch", "compute", "memory", "mostly", "step ms")
    show(
        console,
        title,
        f"{one.subject}: {one.dtype} {one.kind}, {one.role}, placed on {one.unit}",
        table("* is the plan's choice; step ms: change of the expected step", columns, rows),
    )
    if any(option.step_ns < one.step_ns for option in one.options):
        show(console, "A negative change is a move that the search for this plan did not try.")
    if one.vtcm is not None:
        fit = "fits" if one.vtcm.fits else "does not fit: the filter is streamed again and again"
        show(
            console,
            f"VTCM: a slice needs {kib(one.vtcm.slice_bytes)} KiB of {kib(one.vtcm.vtcm_bytes)} "
            f"KiB and {fit}; micro-batch {one.vtcm.micro_batch} of {one.vtcm.batch}.",
        )
    show(console, "The chosen time rests on:")
    for path, q in one.constants.items():
        time = ms(one.chosen.alone.behind_ns[path])
        line(console, f"- {time} ms: {path} = {q.value:g} {q.unit} ({q.kind}): {q.source}")
