"""Figures of trainings that a study shows: kept in small committed files, never trained by it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from experiments.results import ResultError, read_result
from experiments.values import short

EVERY: Final = "*"
"""In a path of :meth:`Kept.check_numbers`: each member of a list or of an object."""
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
        except ResultError:
            raise
        except (LookupError, TypeError, ValueError, ArithmeticError, AttributeError) as error:
            raise self._damaged(f"{type(error).__name__}: {error}") from error

    def check_numbers(
        self, *path: str, low: float = 0, high: float = 1, whole: bool = False
    ) -> None:
        """Refuse values that are no numbers, or out of range.

        Parameters
        ----------
        path
            Names from the outermost object on; :data:`EVERY` stands for each member.
        low, high
            What is allowed, ends included.
        whole
            Whether only whole numbers are.

        Raises
        ------
        ResultError
            A value is missing, of another kind, or out of range; the message names the field.
        """
        kinds = int if whole else int | float
        found: list[tuple[str, Any]] = [("", self.content)]
        for name in path:
            found = [member for each in found for member in self._members(*each, name)]
        for field, value in found:
            number = isinstance(value, kinds) and not isinstance(value, bool)
            if not number or not low <= value <= high:  # true of NaN
                raise self._damaged(
                    f"{field} is {short(value)}, allowed: a {'whole ' if whole else ''}number from "
                    f"{low:g} to {high:g}"
                )

    def _members(self, field: str, value: Any, name: str) -> list[tuple[str, Any]]:
        """What lies under a name, each with the name of its field."""
        inner = f"{field}." if field else ""
        if name == EVERY and isinstance(value, list | dict):
            pairs = value.items() if isinstance(value, dict) else enumerate(value)
            return [(f"{inner}{key}", member) for key, member in pairs]
        if name == EVERY or not isinstance(value, dict):
            kind = "list or object" if name == EVERY else "object"
            raise self._damaged(f"{field} is {short(value)}, allowed: a JSON {kind}")
        if name not in value:
            raise self._damaged(f"{inner}{name} is missing")
        return [(f"{inner}{name}", value[name])]

    def _damaged(self, what: str) -> ResultError:
        return ResultError(
            f"{self.path}: is not as it was written ({what}); restore it, or remove it and train "
            f"again: {self.command}"
        )

    def missing(self, what: str) -> str:
        """The sentence of a study whose training is not kept."""
        return f"{what}: not trained yet; `{self.command}` trains it and keeps {self.name}."

    def origin(self, what: str) -> str:
        """The sentence of a study that shows what was trained: where from, with which versions.

        Raises
        ------
        ResultError
            The versions are no JSON object.
        """
        versions = self.content.get("versions", {})
        if not isinstance(versions, dict):
            raise self._damaged(f"versions is {short(versions)}, allowed: a JSON object")
        made = ", ".join(f"{name} {version}" for name, version in sorted(versions.items()))
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
