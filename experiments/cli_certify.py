"""``mandheling certify``: how much faster than a plan any plan can be, proven."""

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
    integer,
    load_built,
    load_device,
    load_graph,
    manifest,
    stdout_console,
    working,
)

if TYPE_CHECKING:
    from experiments.certify import Bound

MOST_ROUNDS = 100
MOST_WORK = 10_000


def certify(
    model: ModelOption,
    device: DeviceOption,
    plan: PlanOption = "mandheling",
    batch: BatchOption = 64,
    image: ImageOption = None,
    rounds: Annotated[
        int,
        typer.Option(
            "--rounds",
            metavar="N",
            parser=integer(0, MOST_ROUNDS),
            help="Times the bound is tightened; 0 is quick.",
        ),
    ] = 12,
    work: Annotated[
        int,
        typer.Option(
            "--work",
            metavar="N",
            parser=integer(0, MOST_WORK),
            help="Work to tighten it further; 1 is some seconds.",
        ),
    ] = 0,
    as_json: JsonOption = False,
    output: OutputOption = None,
) -> None:
    """Prove how much faster than this plan any other can be."""
    check_target("--output", output)
    phone = load_device(device)
    graph = load_graph(model, batch, image)
    chosen = load_built(plan, graph, phone).plan

    from experiments.certify import lower_bound
    from sim.encoding import Space
    from sim.expected import expect

    time_ns = expect(graph, chosen, phone).time_ns
    space = Space.of(graph, phone, chosen)
    with working(f"bounding all plans of {graph.name}"):
        bound = lower_bound(space, rounds=rounds, work=work)
    document = {
        "note": NOTE,
        "model": graph.name,
        "device": phone.name,
        "batch": graph.batch,
        "plan": chosen.name,
        "time_ns": time_ns,
        "bound_ns": bound.time_ns,
        "gap": bound.gap(time_ns),
        "method": bound.method,
        "parts_ns": dict(bound.parts),
        "held": list(space.held),
        "manifest": manifest(
            graph=graph,
            device=phone,
            plans={chosen.name: chosen},
            config={"rounds": rounds, "work": work},
        ),
    }
    deliver(document, as_json, output)
    if not as_json:
        _print(document, bound)


def _print(document: dict[str, Any], bound: Bound) -> None:
    from experiments.render import ms, percent, show, table

    cells = [
        (what, ms(part), percent(part / bound.time_ns))
        for what, part in sorted(bound.parts.items(), key=lambda pair: -pair[1])
    ]
    title = (
        f"No plan of {document['model']}, batch {document['batch']}, on {document['device']} "
        f"is below {ms(bound.time_ns)} ms"
    )
    show(
        stdout_console(),
        table(title, ("what binds", "ms", "%"), cells),
        f"{document['plan']} takes {ms(document['time_ns'])} ms: no other plan saves more than "
        f"{percent(document['gap'])} % of it. Both are {NOTE}. Limits on risk, memory or energy "
        "are left out: the quickest plan that keeps to one may be slower.",
    )
