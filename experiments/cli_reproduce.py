"""``mandheling reproduce``: published tables re-derived, with the error of each row."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryFile
from time import monotonic
from typing import TYPE_CHECKING, Annotated, Any

import typer

from experiments.cli_common import (
    CliError,
    JsonOption,
    deliver,
    fail,
    manifest,
    say,
    stdout_console,
    to_json,
    working,
)
from experiments.cli_options import path_option

if TYPE_CHECKING:
    from experiments.reproduce.study import Study

ALL = "all"
REPORT = "report.html"
NOTE = "published values beside ours; a fitted row is marked and counts in no error of predictions"
FAILED = 1
"""Exit code where a study of several failed, or a file was not written; all else is shown."""


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
    written = _Written(folder)
    with _kept_where_used(folder):
        _run(name, written)
        facts = _facts(written.studies)
        written.report(facts)
    if folder is not None and not written.unwritten:
        say(f"wrote {folder / REPORT}, and a .json and a .svg of each study")
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
    return FAILED if written.failed or written.unwritten else 0


@dataclass(slots=True)
class _Written:
    """What was re-derived so far; with a folder, each study is written as soon as it is done."""

    folder: Path | None
    studies: list[Study] = field(default_factory=list)
    pictures: dict[str, bytes] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    unwritten: bool = False

    def add(self, study: Study) -> None:
        """Take a study, and write its JSON and picture, each whole or not at all."""
        if self.folder is None:
            self.studies.append(study)
            return
        from experiments.reproduce.drawn import draw

        self.pictures[study.name] = draw(study)
        self.studies.append(study)
        text = to_json(study.document() | {"manifest": _facts([study])})
        self._write(f"{study.name}.json", text.encode())
        self._write(f"{study.name}.svg", self.pictures[study.name])

    def report(self, facts: dict[str, Any]) -> None:
        """Write the page of all studies, if there is a folder."""
        if self.folder is not None:
            from experiments.reproduce.page import page

            text = page(self.studies, self.pictures, self.failed, facts)
            self._write(REPORT, text.encode())

    def _write(self, name: str, content: bytes) -> None:
        """Write a file; one that cannot be written costs itself alone, and is told."""
        from sim.files import FileError, replacing

        assert self.folder is not None
        try:
            with replacing(self.folder / name) as file:
                file.write(content)
        except FileError as error:
            self.unwritten = True
            fail(str(error))


def _run(name: str, written: _Written) -> None:
    from experiments.reproduce.registry import run, studies

    if name == ALL:
        _run_all(tuple(studies()), written)
    else:
        with working("Reproducing"):
            study = run(name)
        written.add(study)


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


@contextmanager
def _kept_where_used(folder: Path | None) -> Iterator[None]:
    """Make the folder before any work is done for it, and remove it again if it stays empty.

    Raises
    ------
    CliError
        No file can be made in it, or pictures cannot be drawn.
    """
    if folder is None:
        yield
        return
    _check_drawing()
    new = [each for each in (folder, *folder.parents) if not each.exists()]
    try:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            TemporaryFile(dir=folder).close()
        except OSError as error:
            raise CliError(
                f"--output {folder}: no file can be made there ({error.strerror}); give the name "
                "of a folder that can be written"
            ) from None
        yield
    finally:
        for each in new:
            with suppress(OSError):  # it is not empty, or was never made
                each.rmdir()


def _check_drawing() -> None:
    from importlib.util import find_spec

    if find_spec("matplotlib") is None:
        raise CliError(
            "--output draws with matplotlib; install it with pip install "
            "'mandheling-sandbox[report]', or use --json alone"
        )
