"""The files of a data set: found, read whole, and remembered by their checksums."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import md5, sha256
from pathlib import Path

from experiments.datasets.dataset import DatasetError
from experiments.values import short

MOST = 1 << 31
"""Bytes of a file that is read whole: the largest published, a file of LEAF's, has a tenth."""


class SourceFiles:
    """Reads the files of one data set and keeps their checksums.

    Parameters
    ----------
    name
        The data set, for messages.
    folder
        Where its files are; None is refused with a message that says which are wanted.
    wanted
        Which files, in words.
    origin
        Where they come from.
    published
        MD5 of files as they were published, by file name.

    Raises
    ------
    DatasetError
        No folder.
    """

    def __init__(
        self,
        name: str,
        folder: Path | str | None,
        wanted: str,
        origin: str,
        published: Mapping[str, str],
    ) -> None:
        self._name, self._wanted, self._origin = name, wanted, origin
        self._published = published
        self._official: list[bool | None] = []
        self.sha256: dict[str, str] = {}
        if folder is None or folder == "":  # "" would be the folder that a command is run in
            raise DatasetError(f"{name}: no folder given; {self._needs()}")
        if not isinstance(folder, str | Path):
            raise DatasetError(f"{name}: folder is {short(folder)}; {self._needs()}")
        self.folder = Path(folder)
        try:
            found = self.folder.is_dir()
        except OSError as error:  # a name too long, or a folder above that is closed
            raise DatasetError(f"{name}: {folder}: {error.strerror}; {self._needs()}") from error
        if not found:
            raise DatasetError(f"{name}: {folder} is not a folder; {self._needs()}")

    def _needs(self) -> str:
        return f"give the folder that holds {self._wanted} (from {self._origin})"

    def missing(self, names: Sequence[str]) -> DatasetError:
        """Return the error for files that are not there."""
        listed = ", ".join(names)
        return DatasetError(f"{self._name}: no {listed} in {self.folder}; {self._needs()}")

    def enter(self, *names: str) -> str | None:
        """Go into the first of these folders that exists; None, and stay, if none does."""
        for name in names:
            if self.folder.name == name:
                return name
            if (self.folder / name).is_dir():
                self.folder /= name
                return name
        return None

    def find(self, *names: str) -> Path | None:
        """Return the first of these names that exists here, as a file or not."""
        return next((self.folder / name for name in names if (self.folder / name).exists()), None)

    def content(self, path: Path, size: int | None = None, most: int = MOST) -> bytes:
        """Read a file whole and note its checksum.

        Parameters
        ----------
        path
            The file.
        size
            Bytes that it must have.
        most
            Bytes that it may have, where it is not told how many it must.

        Raises
        ------
        DatasetError
            It is missing, no regular file, cannot be read, or has another size.
        """
        try:
            if not path.exists():
                raise self.missing([path.name])
            if not path.is_file():
                raise DatasetError(f"{path}: is no file, but a folder or a device; {self._needs()}")
            found = path.stat().st_size
            if size is not None and found != size:
                raise wrong_size(path, size, found)
            if found > most:
                raise DatasetError(
                    f"{path}: has {found:,} bytes; up to {most:,} are read. It is another file, or "
                    "holds several in one: fetch it again, or split it"
                )
            content = path.read_bytes()
        except OSError as error:
            raise DatasetError(
                f"{path}: cannot be read ({error.strerror}); check its permissions and the disk"
            ) from error
        self.sha256[str(path.relative_to(self.folder))] = sha256(content).hexdigest()
        known = self._published.get(path.name.removeprefix(f"{self._name}-"))
        found_md5 = md5(content, usedforsecurity=False).hexdigest()
        self._official.append(None if known is None else known == found_md5)
        return content

    @property
    def official(self) -> bool | None:
        """Whether all files read are as published; None where that cannot be told."""
        if False in self._official:
            return False
        return None if None in self._official or not self._official else True


def wrong_size(path: Path, expected: int, found: int) -> DatasetError:
    """Return the error for a file, or what it unpacks to, of another size than it must have."""
    what = "truncated" if found < expected else "too long"
    return DatasetError(
        f"{path}: {what}: {expected:,} bytes expected, {found:,} found; fetch the file again"
    )
