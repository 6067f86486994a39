"""Figures of trainings that a study shows: kept in small committed files, never trained by it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from experiments.results import ResultError, read_result

ROOT = Path(__file__).resolve().parents[2]
"""Folder of this repository, or of the installed packages, which come without ``results``."""


@dataclass(frozen=True, slots=True)
class Kept:
    """Content of a file of figures.

    Parameters
    ----------
    path
        Where it was looked for.
    name
        How a study names it: with its folder, as in ``results/accuracy.json``.
    command
        What trains, and writes the file.
    content
        The JSON object; empty where there is no file.
    sha256
        Digest of the file; None where there is none.
    """

    path: Path
    name: str
    command: str
    content: dict[str, Any]
    sha256: str | None

    @property
    def inputs(self) -> tuple[tuple[str, str], ...]:
        """Name and digest, for :attr:`experiments.reproduce.study.Study.inputs`."""
        return () if self.sha256 is None else ((self.name, self.sha256),)

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Tell of content that is not what its writer wrote, with the file and a remedy.

        Raises
        ------
        ResultError
            Within the block, something was missing or of another kind.
        """
        try:
            yield
        except (KeyError, TypeError, IndexError, AttributeError) as error:
            found = f"{type(error).__name__}: {error}"
            raise ResultError(
                f"{self.path}: is not as it was written ({found}); restore it, or remove it and "
                f"train again: {self.command}"
            ) from error

    def missing(self, what: str) -> str:
        """The sentence of a study whose training is not kept."""
        return f"{what}: not trained yet; `{self.command}` trains it and keeps {self.name}."

    def origin(self, what: str) -> str:
        """The sentence of a study that shows what was trained: where from, with which versions."""
        versions = self.content.get("versions", {})
        made = ", ".join(f"{name} {version}" for name, version in sorted(dict(versions).items()))
        command = self.content.get("command", self.command)
        return f"{what}: trained with `{command}`{f' ({made})' if made else ''}, in {self.name}."


def read_kept(path: Path, command: str) -> Kept:
    """Read a file of figures; one that is not there gives an empty :class:`Kept`.

    Parameters
    ----------
    path
        A relative one is taken from the folder that the command is run in, else from
        :data:`ROOT`.
    command
        What trains, and writes the file.

    Raises
    ------
    ResultError
        The file is not a JSON object.
    """
    place = path if path.exists() else ROOT / path
    absolute = place.resolve()
    name = absolute.relative_to(ROOT) if absolute.is_relative_to(ROOT) else Path(place.name)
    shown = path if not path.is_absolute() else name
    content = read_result(place)
    digest = sha256(place.read_bytes()).hexdigest() if place.exists() else None
    return Kept(place, shown.as_posix(), command, content, digest)
