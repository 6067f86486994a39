"""``mandheling search``: better plans than the built-in ones, and how sure that is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from experiments.cli_common import (
    BatchOption,
    CliError,
    DeviceOption,
    ImageOption,
    JsonOption,
    OutputOption,
    SeedOption,
    check_target,
    deliver,
    say,
    stdout_console,
    working,
)
from experiments.cli_options import count_option, path_option, text_option

if TYPE_CHECKING:
    from experiments.certify.bounds import Bound
    from experiments.search.backends import Backend
    from experiments.search.budget import Budget
    from experiments.search.drive import Outcome
    from experiments.search.extras import ProvenBound
    from experiments.search.journal import Journal
    from experiments.search.problem import Problem
    from experiments.search.result import SearchResult
    from experiments.search.verify import Verification

ALSO_RESUMED = {
    *("budget", "workers", "backend", "address", "resume", "output", "as_json"),
    *("bound", "robust", "why", "verify", "dataset", "data", "epochs"),
}
"""Options that may be given with --resume; the others are those of the journal."""
GIVEN = "COMMANDLINE"


def search(
    context: typer.Context,
    model: Annotated[
        str | None, text_option("--model -m", "MODEL", "A model, or an .onnx file.")
    ] = None,
    device: DeviceOption = "snapdragon-865",
    batch: BatchOption = 64,
    image: ImageOption = None,
    objectives: Annotated[
        str, text_option("--objectives", "NAMES", "Of time, energy, risk, memory; with commas.")
    ] = "time,energy",
    budget: Annotated[
        str, text_option("--budget", "BUDGET", "A time (10s, 2m, 1h) or shards (16-shards).")
    ] = "10s",
    seed: SeedOption = 0,
    searcher: Annotated[
        str, text_option("--searcher", "NAME", "Built in, or of a package of yours.")
    ] = "annealing",
    hold: Annotated[
        list[str] | None,
        text_option("--hold", "ASPECT", "Leave an aspect as in mandheling; may be repeated."),
    ] = None,
    free: Annotated[
        list[str] | None,
        text_option("--free", "ASPECT", "Search one that is held by default; may be repeated."),
    ] = None,
    start: Annotated[
        list[str] | None,
        text_option("--start", "PLAN", "Start from a plug-in's plan, too; may be repeated."),
    ] = None,
    rule: Annotated[
        list[str] | None,
        text_option("--rule", "RULE", "Search this rescale rule, too; may be repeated."),
    ] = None,
    limit: Annotated[
        str | None,
        text_option("--limit", "LIMITS", "Such as risk=500ppm,memory=300MiB."),
    ] = None,
    workers: Annotated[
        int | None, count_option("--workers", 1, 100_000, "Shards at a time; default: all CPUs.")
    ] = None,
    backend: Annotated[
        str, text_option("--backend", "NAME", "processes, ray (a cluster) or serial.")
    ] = "processes",
    address: Annotated[
        str | None, text_option("--address", "HOST:PORT", "Of the Ray cluster.")
    ] = None,
    resume: Annotated[
        Path | None, path_option("--resume", "FILE", "Go on with the search of a journal.")
    ] = None,
    output: OutputOption = None,
    bound: Annotated[
        bool, typer.Option("--bound/--no-bound", help="Prove how far the optimum may be.")
    ] = True,
    robust: Annotated[
        bool, typer.Option("--robust/--no-robust", help="Compare over drawn constants.")
    ] = True,
    why: Annotated[
        bool, typer.Option("--why/--no-why", help="Explain what the chosen plan changes.")
    ] = True,
    verify: Annotated[
        int, count_option("--verify-top", 0, 1000, "Train that many plans for real; needs -o.")
    ] = 0,
    dataset: Annotated[
        str, text_option("--dataset", "NAME", "What to train on, as for train.")
    ] = "digits",
    data: Annotated[str | None, text_option("--data", "DIR", "Folder of its files.")] = None,
    epochs: Annotated[int, count_option("--epochs", 1, 100_000, "Of each training.")] = 5,
    evaluations_per_shard: Annotated[
        int | None,
        count_option("--evaluations-per-shard", 0, 10_000_000, "0: as many as take a second."),
    ] = None,
    generation: Annotated[
        int | None,
        count_option("--generation", 1, 100_000, "Shards that start from the same plans."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Search for better plans than the built-in ones.

    With -o FILE, finished shards are kept in FILE.journal, so that nothing is lost.
    """
    from experiments.search.budget import Budget
    from experiments.search.extras import quick_bound_of, robustness_of, verified_of, why_of
    from experiments.search.result import Extras, result_of

    amount = Budget.parse(budget)
    if resume is None:
        if model is None:
            raise CliError("--model is missing; give it, or --resume with a journal")
        problem = _problem(
            model, device, batch, image, objectives, seed, searcher,
            held_aspects(hold or (), free or ()), start, rule, limit,
            evaluations_per_shard, generation,
        )  # fmt: skip
    else:
        problem = _resumed(context, resume)
        output = output or _result_path(resume)
    if verify and output is None:
        raise CliError(f"--verify-top {verify}: needs -o FILE; trainings are kept in FILE.runs")
    check_target("--output", output)
    journal = resume or (None if output is None else _new_journal(output))
    with working("preparing"):
        problem.ground()
        least = quick_bound_of(problem) if bound and not as_json else None
    ways = (backend, workers, address)
    outcome, where = _searched(problem, amount, journal, ways, as_json, least)
    if not outcome.front:
        raise CliError(f"--budget {budget}: no plan was found; take a larger one")
    with working("proving a lower bound"):
        proven = _bound(outcome) if bound else None
    with working("comparing over drawn constants"):
        drawn = robustness_of(outcome) if robust else None
        change = why_of(outcome) if why else None
    verified: Verification | None = None
    if output is not None and verify:
        folder = Path(f"{output}.runs")
        verified = verified_of(outcome, verify, dataset, data, epochs, folder)
    result = result_of(outcome, where, Extras(proven, drawn, change, verified))
    deliver(result.to_json(), as_json, output)
    if not as_json:
        _print(result, outcome)
    if output is not None:
        say(f"wrote {output}; its shards are in {journal}")


def _problem(
    model: str,
    device: str,
    batch: int,
    image: int | None,
    objectives: str,
    seed: int,
    searcher: str,
    held: tuple[str, ...],
    start: list[str] | None,
    rule: list[str] | None,
    limit: str | None,
    evaluations_per_shard: int | None,
    generation: int | None,
) -> Problem:
    from experiments.search.limits import parse_limits
    from experiments.search.problem import Problem

    default = Problem(model)
    return Problem(
        model=model,
        batch=batch,
        image=image,
        device=device,
        objectives=tuple(objectives.split(",")),
        limits={} if limit is None else parse_limits(limit),
        held=held,
        starts=tuple(start or ()),
        rules=tuple(rule or ()),
        searcher=searcher,
        seed=seed,
        evaluations_per_shard=evaluations_per_shard or default.evaluations_per_shard,
        generation=generation or default.generation,
    )


def held_aspects(hold: Sequence[str], free: Sequence[str]) -> tuple[str, ...]:
    """Return the aspects that a search holds: those held by default but ``free``, and ``hold``.

    Raises
    ------
    CliError
        ``free`` names an aspect that is not held by default, or that ``hold`` names, too.
    """
    from sim.encoding import HELD

    for name in free:
        if name not in HELD:
            raise CliError(f"--free {name}: not held by default; allowed: {', '.join(HELD)}")
        if name in hold:
            raise CliError(f"--free {name}: --hold names it, too; give one of them")
    return (*(name for name in HELD if name not in free), *hold)


def _resumed(context: typer.Context, path: Path) -> Problem:
    """Return the problem of a journal; options that would make it another are refused."""
    from experiments.search.journal import read_journal

    for name in sorted(context.params.keys() - ALSO_RESUMED):
        source = context.get_parameter_source(name)
        if source is not None and source.name == GIVEN:
            raise CliError(
                f"--{name.replace('_', '-')}: cannot be given with --resume, which goes on with "
                "the search of the journal; leave it out"
            )
    content = read_journal(path)
    if content.problem is None:
        raise CliError(
            f"--resume {path}: no shard is in it, nor what to search; give the command that began "
            "it again, without --resume"
        )
    return content.problem


def _result_path(journal: Path) -> Path | None:
    """Where the result goes whose journal this is, as -o names them."""
    from experiments.search.journal import SUFFIX

    return journal.with_suffix("") if journal.suffix == SUFFIX else None


def _new_journal(output: Path) -> Path:
    """Return the journal beside a result; one that a search was begun in is refused."""
    from experiments.search.journal import SUFFIX, read_journal

    path = Path(f"{output}{SUFFIX}")
    if path.exists() and read_journal(path).problem is not None:
        raise CliError(
            f"-o {output}: {path} holds a search that was begun; go on with it by --resume {path}, "
            "remove it to begin again, or give another name"
        )
    return path


def _searched(
    problem: Problem,
    budget: Budget,
    path: Path | None,
    where: tuple[str, int | None, str | None],
    as_json: bool,
    least: Bound | None,
) -> tuple[Outcome, Backend]:
    """Search, and say on what backend."""
    from contextlib import ExitStack

    from experiments.search.backends import started
    from experiments.search.journal import Journal

    with ExitStack() as stack:
        backend = stack.enter_context(started(*where))
        journal = stack.enter_context(Journal.open(path, problem)) if path is not None else None
        if journal is not None and journal.torn_bytes:
            say(f"{path}: the last line was torn by a crash; its shard is run again")
        return _driven(problem, budget, backend, journal, as_json, least), backend


def _driven(
    problem: Problem,
    budget: Budget,
    backend: Backend,
    journal: Journal | None,
    as_json: bool,
    least: Bound | None,
) -> Outcome:
    from experiments.render_search import watching
    from experiments.search.drive import search as run_search

    try:
        with watching(as_json, least) as watch:
            return run_search(problem, budget, backend, journal, watch)
    except KeyboardInterrupt:
        if journal is not None:
            say(
                f"stopped; {len(journal.finished)} shards are kept; go on with: "
                f"mandheling search --resume {journal.path} --budget {budget}"
            )
        raise


def _bound(outcome: Outcome) -> ProvenBound | None:
    from experiments.certify.relaxation import CertificateError
    from experiments.search.extras import bound_of

    try:
        return bound_of(outcome)
    except CertificateError as error:  # what was found is good without
        say(f"no bound is known: {error}")
        return None


def _print(result: SearchResult, outcome: Outcome) -> None:
    from experiments.render import show
    from experiments.render_search import (
        over_budget_text,
        plans_table,
        robustness_text,
        summary,
        verified_table,
    )
    from experiments.search.projection import projected
    from experiments.search.why_text import print_change

    console = stdout_console()
    memory = outcome.problem.ground().device.memory
    budget_bytes = int(memory.training_budget_bytes.value)
    show(
        console,
        plans_table(result, budget_bytes),
        summary(result, projected(outcome.finished, workers=result.run.workers)),
        *filter(None, [over_budget_text(result, budget_bytes)]),
    )
    if result.why is not None:
        print_change(console, result.why)
    if result.robustness is not None:
        show(
            console,
            robustness_text(result.robustness, result.best.plan["name"], result.objectives[0]),
        )
    if result.verified is not None:
        show(console, verified_table(result.verified), "\n".join(result.verified.notes))
