"""``mandheling simulate``: one plan, step by step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from experiments.cli_common import (
    NOTE,
    STEP_LIMIT,
    BatchOption,
    CliError,
    DeviceOption,
    ImageOption,
    JsonOption,
    ModelOption,
    PlanOption,
    SeedOption,
    check_target,
    deliver,
    integer,
    load_built,
    load_device,
    load_graph,
    manifest,
    progress,
    say,
    stdout_console,
)
from experiments.cli_options import path_option

if TYPE_CHECKING:
    from cost_models.device import Device
    from sim.graph import TrainingGraph
    from sim.plan import Plan
    from sim.run import Run
    from sim.state import ShiftSource, StepState
    from sim.timeline import Timeline

TRACE_STEPS = 64
"""Most steps of one trace: a viewer has no use for more, and a file grows by a MiB each."""


@dataclass(frozen=True, slots=True)
class Simulated:
    """A run whose every timeline was checked, and what its states say beyond the timelines."""

    run: Run
    throttled_steps: int
    busy_steps: int


def simulate(
    model: ModelOption,
    device: DeviceOption,
    plan: PlanOption = "mandheling",
    engine: Annotated[
        str, typer.Option("--engine", help="simpy (the reference) or compiled; the same rows.")
    ] = "compiled",
    steps: Annotated[
        int,
        typer.Option(
            "--steps",
            "-n",
            metavar="N",
            parser=integer(1, STEP_LIMIT),
            help=f"Steps from a cold start, up to {STEP_LIMIT}.",
        ),
    ] = 20,
    seed: SeedOption = 0,
    batch: BatchOption = 64,
    image: ImageOption = None,
    scenario: Annotated[
        str,
        typer.Option("--scenario", help="quiet, sustained (heats up) or busy (other apps)."),
    ] = "quiet",
    trace: Annotated[
        Path | None,
        path_option("--trace", "FILE", "Write the steps as a Perfetto trace."),
    ] = None,
    shifts: Annotated[
        Path | None,
        path_option("--shifts", "FILE", "Replay the shifts that train --trace recorded."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Simulate training steps of one plan from a cold start."""
    check_target("--trace", trace)
    if trace is not None and steps > TRACE_STEPS:
        raise CliError(f"--steps {steps}: a trace holds at most {TRACE_STEPS} steps; take fewer")
    _check_names(engine, scenario)
    source = _source(shifts)
    phone = load_device(device)
    graph = load_graph(model, batch, image)
    chosen = load_built(plan, graph, phone).plan
    with progress("simulating", steps) as advance:
        found = run_steps(graph, chosen, phone, steps, seed, engine, scenario, advance, source)
    if trace is not None:
        from sim.trace import write_trace

        write_trace(trace, found.run.timelines, f"{graph.name}, {chosen.name}, {phone.name}")
    facts = manifest(
        graph=graph,
        device=phone,
        plans={chosen.name: chosen},
        seed=seed,
        config={"engine": engine, "scenario": scenario, "steps": steps},
    )
    result = {
        "note": NOTE,
        "shifts": source.kind,
        "model": graph.name,
        "device": phone.name,
        "plan": chosen.name,
        "engine": engine,
        "scenario": scenario,
        "batch": graph.batch,
        "steps": steps,
        **run_document(found),
        "over_budget": found.run.peak_bytes > int(phone.memory.training_budget_bytes.value),
        "manifest": facts,
    }
    deliver(result, as_json, None)
    if not as_json:
        _print(result, possible_rows(chosen, scenario))
    if trace is not None:
        say(f"wrote {trace}; open it at https://ui.perfetto.dev or in chrome://tracing")


def _check_names(engine: str, scenario: str) -> None:
    """Refuse what is unknown before a plan is built, which may take seconds."""
    from sim.engines import ENGINES
    from sim.state import SCENARIOS

    for option, value, allowed in (
        ("--engine", engine, sorted(ENGINES)),
        ("--scenario", scenario, sorted(SCENARIOS)),
    ):
        if value not in allowed:
            raise CliError(f"{option} {value!r} is unknown; choose one of {', '.join(allowed)}")


def _source(path: Path | None) -> ShiftSource:
    """The true shifts of a rescale trace; drawn ones where no file is given."""
    from sim.state import SyntheticShifts

    if path is None:
        return SyntheticShifts()
    from sim.numeric.records import load_trace

    return load_trace(path).shifts()


def run_steps(
    graph: TrainingGraph,
    plan: Plan,
    device: Device,
    steps: int,
    seed: int,
    engine: str,
    scenario: str,
    advance: Callable[[], object],
    shifts: ShiftSource | None = None,
) -> Simulated:
    """Simulate, counting what the state after each step says; ``advance`` is called then."""
    from sim.run import simulate as simulate_plan

    throttled = busy = 0

    def look(_: Timeline, after: StepState) -> None:
        nonlocal throttled, busy
        throttled += after.throttled
        busy += after.scenario.busy_cores(seed, after.step - 1) > 0
        advance()

    run = simulate_plan(
        graph,
        plan,
        device,
        steps=steps,
        seed=seed,
        engine=engine,
        scenario=scenario,
        shifts=shifts,
        on_step=look,
    )
    return Simulated(run, throttled, busy)


def run_document(found: Simulated) -> dict[str, Any]:
    """Return a run for JSON; ``step_ns`` and ``step_pj``: the first, then those after it."""
    run = found.run
    times = [timeline.makespan_ns for timeline in run.timelines]
    later = times[1:] or times
    energies = [timeline.energy_pj for timeline in run.timelines]
    return {
        "makespan_ns": sum(times),
        "energy_pj": sum(energies),
        "step_pj": {"first": energies[0], "mean": sum(energies[1:] or energies) // len(later)},
        "peak_bytes": run.peak_bytes,
        "timeline_sha256": run.sha256,
        "step_ns": {
            "first": times[0],
            "p50": run.percentile_ns(50, skip=1),
            "p95": run.percentile_ns(95, skip=1),
            "mean": sum(later) // len(later),
        },
        "scans": run.final.scans,
        "stale_saturating": run.final.stale_saturating,
        "stale_coarse": run.final.stale_coarse,
        "throttled_steps": found.throttled_steps,
        "busy_steps": found.busy_steps,
        "temperature_mc": run.final.temperature_mc,
    }


SHIFT_ROWS = {
    "rescale scans": "scans",
    "stale shifts, saturating": "stale_saturating",
    "stale shifts, coarse": "stale_coarse",
}


def possible_rows(plan: Plan, scenario: str) -> dict[str, str]:
    """Counts that may differ from 0, with their keys: FP32 has no shifts, a quiet phone no heat."""
    from sim.state import SCENARIOS

    rows: dict[str, str] = {}
    if "int8" in plan.aspect("precision").values():
        rows |= SHIFT_ROWS
    if SCENARIOS[scenario].thermal:
        rows["throttled steps"] = "throttled_steps"
    if SCENARIOS[scenario].busy_cores_ppm:
        rows["steps with cores taken"] = "busy_steps"
    return rows


def _print(result: dict[str, Any], counts: dict[str, str]) -> None:
    from experiments.render import counted, joules, mib, ms, show, table

    step = result["step_ns"]
    steps = counted(result["steps"], "step")
    over = " (over the device's budget)" if result["over_budget"] else ""
    rows = [
        ("first step", f"{ms(step['first'])} ms"),
        ("later steps, p50", f"{ms(step['p50'])} ms"),
        ("later steps, p95", f"{ms(step['p95'])} ms"),
        ("later steps, mean", f"{ms(step['mean'])} ms"),
        (f"{steps} together", f"{ms(result['makespan_ns'])} ms"),
        (f"energy of {steps}", f"{joules(result['energy_pj'])} J"),
        ("energy of a later step", f"{joules(result['step_pj']['mean'])} J"),
        ("peak memory", f"{mib(result['peak_bytes'])} MiB{over}"),
        *((label, str(result[key])) for label, key in counts.items()),
    ]
    if result["temperature_mc"] is not None:
        rows.append(("temperature at the end", f"{result['temperature_mc'] / 1000:.1f} degC"))
    title = f"{result['model']}, batch {result['batch']}, {result['plan']} on {result['device']}"
    show(
        stdout_console(),
        table(f"{title}: predicted, not measured", ("", "value"), rows),
        f"timeline sha256 {result['timeline_sha256']}\n"
        f"{result['engine']} engine, scenario {result['scenario']}, every step checked.",
    )
