"""``mandheling reproduce``: published tables re-derived, with the error of each row."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Annotated, Any

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
REPORT = "report.html"
NOTE = "published values beside ours; a fitted row is marked and counts in no error of predictions"
FAILED = 1
"""Exit code where a study of several failed; the others are shown and written."""


def reproduce(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME|all", help="One study; none: list them.")
    ] = None,
    folder: Annotated[
        Path | None,
        path_option("-o --output", "FOLDER", "Write NAME.json, NAME.svg and report.html there."),
    ] = None,
    as_json: JsonOption = False,
) -> int:
    """Re-derive published tables, with the error of each row.

    It trains nothing: accuracies come from trainings that are kept.
    """
    if name is None:
        _list(folder, as_json)
        return 0
    if folder is not None:
        _check_folder(folder)
    from experiments.reproduce.registry import studies

    written = _Written(folder)
    if name == ALL:
        _run_all(tuple(studies()), written)
    else:
        with working("Reproducing"):
            _run_one(name, written)
    facts = _facts(written.studies)
    if folder is not None:
        _write_report(written, folder, facts)
    document = {
        "note": NOTE,
        "studies": [study.document() for study in written.studies],
        "failed": written.failed,
        "manifest": facts,
    }
    deliver(document, as_json, None)
    if not as_json:
        from experiments.reproduce.shown import print_study

        for study in written.studies:
            print_study(stdout_console(), study)
    return FAILED if written.failed else 0


@dataclass(slots=True)
class _Written:
    """What was re-derived so far; with a folder, each study is written as soon as it is done."""

    folder: Path | None
    studies: list[Study] = field(default_factory=list)
    pictures: dict[str, bytes] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)

    def add(self, study: Study) -> None:
        """Take a study, and write its JSON and picture, each whole or not at all."""
        if self.folder is not None:
            from experiments.reproduce.drawn import draw
            from sim.files import replacing

            picture = draw(study)
            self.folder.mkdir(parents=True, exist_ok=True)
            facts = {"manifest": _facts([study])}
            write_file(self.folder / f"{study.name}.json", to_json(study.document() | facts))
            with replacing(self.folder / f"{study.name}.svg") as file:
                file.write(picture)
            self.pictures[study.name] = picture
        self.studies.append(study)


def _run_one(name: str, written: _Written) -> None:
    from experiments.reproduce.registry import run

    written.add(run(name))
    if written.folder is not None:
        say(f"wrote {written.folder / name}.json and {name}.svg")


def _run_all(names: tuple[str, ...], written: _Written) -> None:
    """Run every study; one that fails costs itself alone, and is told."""
    from experiments.reproduce.registry import run

    for index, name in enumerate(names, 1):
        say(f"{index} of {len(names)}: {name}")
        begin = monotonic()
        try:
            written.add(run(name))
        except Exception as error:  # whatever a study may come to
            text = " ".join(str(error).split())
            written.failed[name] = f"{type(error).__name__}: {text}"
            say(f"{name} failed ({written.failed[name]}); for more: mandheling reproduce {name}")
        else:
            say(_told(written.studies[-1], monotonic() - begin))


def _told(study: Study, seconds: float) -> str:
    met = sum(check.met for check in study.checks)
    rows = f"{len(study.rows)} rows, {len(study.predicted())} of them predictions"
    return f"{study.name}: {rows}, {met} of {len(study.checks)} bounds met, {seconds:.0f} s"


def _facts(studies: Iterable[Study]) -> dict[str, Any]:
    """Manifest: versions, and digests of the trained figures that rows come from."""
    digests = {name: digest for study in studies for name, digest in study.inputs}
    return manifest() | {"inputs_sha256": digests}


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


def _write_report(written: _Written, folder: Path, facts: dict[str, Any]) -> None:
    from experiments.reproduce.page import page

    folder.mkdir(parents=True, exist_ok=True)
    text = page(written.studies, written.pictures, written.failed, facts)
    write_file(folder / REPORT, text)
    say(f"wrote {folder / REPORT}")
