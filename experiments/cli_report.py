"""``mandheling report``: one page about a finished search, to open from disk."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from experiments.cli_common import (
    CliError,
    a_path,
    check_target,
    load_device,
    load_graph,
    progress,
    say,
    working,
    write_file,
)
from experiments.cli_options import path_option

if TYPE_CHECKING:
    from cost_models.device import Device
    from experiments.search.result import SearchResult
    from sim.graph import TrainingGraph


def report(
    run: Annotated[
        Path,
        typer.Argument(metavar="RUN", parser=a_path, help="What 'search -o' wrote, a .json file."),
    ],
    output: Annotated[
        Path | None,
        path_option("-o --output", "FILE", "The page; default: RUN with .html as its ending."),
    ] = None,
) -> None:
    """Write a page about a search: front, timelines, sensitivities."""
    target = run.with_suffix(".html") if output is None else output
    check_target("--output", target)
    if target.resolve() == run.resolve():
        raise CliError(f"--output {target}: is RUN itself; give the page another name")

    from experiments.report import plan_count, render_page, report_document

    with working("reading"):
        found = _read(run)
        graph, device = _ground(found, run)
    with progress("explaining plans", plan_count(found)) as advance:
        document = report_document(found, graph, device, advance=advance)
    page = render_page(document)
    write_file(target, page)
    size = len(page.encode()) // 1000
    say(f"wrote {target}: {len(found.front)} plans of the front, {size} kB; open it in a browser")


def _read(path: Path) -> SearchResult:
    from experiments.search.journal import SUFFIX
    from experiments.search.result import SearchResult

    if path.suffix == SUFFIX:
        raise CliError(
            f"{path}: is the journal of a search; go on with it by mandheling search --resume "
            f"{path}, and report on the result that this writes"
        )
    return SearchResult.read(path)


def _ground(found: SearchResult, path: Path) -> tuple[TrainingGraph, Device]:
    """Load what was searched on; the searcher itself need not be installed."""
    from experiments.report import Searched

    problem = Searched.of(found, str(path))
    return load_graph(problem.model, problem.batch, problem.image), load_device(problem.device)
