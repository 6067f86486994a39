"""``mandheling reproduce``: published tables re-derived, with the error of each row."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from experiments.cli_common import (
    CliError,
    JsonOption,
    deliver,
    manifest,
    say,
    stdout_console,
    to_json,
    working,
    write_file,
)
from experiments.cli_options import path_option

if TYPE_CHECKING:
    from experiments.reproduce.study import Study

ALL = "all"
REPORT = "report.md"
NOTE = "published values beside ours; a fitted row is marked and counts in no error of predictions"


def reproduce(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME|all", help="One study; none: list them.")
    ] = None,
    folder: Annotated[
        Path | None,
        path_option("-o --output", "FOLDER", "Write NAME.json, NAME.svg and report.md there."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Re-derive published tables, with the error of each row."""
    if name is None:
        _list(folder, as_json)
        return
    if folder is not None:
        _check_folder(folder)
    from experiments.reproduce.registry import run, studies

    with working("Reproducing"):
        found = [run(each) for each in (studies() if name == ALL else (name,))]
    document = {
        "note": NOTE,
        "studies": [study.document() for study in found],
        "manifest": manifest(),
    }
    if folder is not None:
        _write(found, folder)
    deliver(document, as_json, None)
    if not as_json:
        from experiments.reproduce.shown import print_study

        for study in found:
            print_study(stdout_console(), study)


def _list(folder: Path | None, as_json: bool) -> None:
    if folder is not None:
        raise CliError(f"--output {folder}: without a study nothing is written; add NAME or all")
    from experiments.reproduce.registry import studies

    known = studies().values()
    deliver({"studies": [{"name": one.name, "title": one.title} for one in known]}, as_json, None)
    if not as_json:
        from experiments.render import show, table

        rows = [(one.name, one.title) for one in known]
        show(stdout_console(), table("Studies", ("name", "what"), rows, left=2))


def _check_folder(folder: Path) -> None:
    """Refuse a folder that cannot take the files, or pictures that cannot be drawn, beforehand."""
    if folder.exists() and not folder.is_dir():
        raise CliError(f"--output {folder}: is no folder; give the name of one")
    from importlib.util import find_spec

    if find_spec("matplotlib") is None:
        raise CliError(
            "--output draws with matplotlib; install it with pip install "
            "'mandheling-sandbox[report]', or use --json alone"
        )


def _write(found: list[Study], folder: Path) -> None:
    """Write each study's JSON and picture, and one report of all."""
    from experiments.reproduce.drawn import draw
    from experiments.reproduce.shown import report
    from sim.files import replacing

    pictures = [draw(study) for study in found]
    folder.mkdir(parents=True, exist_ok=True)
    for study, picture in zip(found, pictures, strict=True):
        target = folder / f"{study.name}.json"
        write_file(target, to_json(study.document() | {"manifest": manifest()}))
        with replacing(folder / f"{study.name}.svg") as file:
            file.write(picture)
        say(f"wrote {target} and {study.name}.svg")
    write_file(folder / REPORT, report(found))
    say(f"wrote {folder / REPORT}")
