"""Files of JSON lines, each with its checksum, that a crash at any moment leaves whole.

Each line is ``{"crc": "<8 hex>", "data": {...}}`` where the CRC-32 is that of the data in canonical
JSON (sorted keys, no spaces); the first names the schema. A line is on the disk before
:meth:`LineFile.append` returns. A crash may tear the last line: reading leaves it out and opening
for writing cuts it off. A damaged line before the last is an error, never skipped. One process
writes at a time.

Sample stores and journals of searches are such files.
"""

from __future__ import annotations

import fcntl
import json
import os
import shlex
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from cost_models.reading import read_bytes

LARGEST_FILE = 1 << 30
"""Bytes of a file that are read: a thousand times what a campaign writes."""


@dataclass(frozen=True, slots=True)
class Lines:
    """What a file of lines holds.

    Attributes
    ----------
    records
        Data of each line after that of the schema, in order: record ``k`` is on line ``k + 2``.
    whole_bytes
        Length of the whole lines; what follows was torn off by a crash.
    torn_bytes
        Length of that rest.
    """

    records: tuple[dict[str, Any], ...]
    whole_bytes: int
    torn_bytes: int


@dataclass(frozen=True, slots=True)
class LineFormat:
    """A kind of such files.

    Attributes
    ----------
    schema
        What the first line names.
    what
        What its lines are, for messages: ``samples``.
    error
        Raised for all that is wrong.
    again
        How to go on with a file, once it is mended; ``{path}`` stands for it.
    """

    schema: str
    what: str
    error: type[ValueError]
    again: str = "run the same command again"

    def canonical(self, data: Mapping[str, Any]) -> str:
        """One spelling for equal data: sorted keys, no spaces, no NaN; else :attr:`error`."""
        try:
            return json.dumps(data, sort_keys=True, separators=(",", ":"), allow_nan=False)
        except (TypeError, ValueError) as error:
            raise self.error(f"no JSON: {error}; use numbers, text, lists and mappings") from None

    def line(self, data: Mapping[str, Any]) -> bytes:
        """Return a whole line.

        Examples
        --------
        >>> LineFormat("x/1", "things", ValueError).line({"schema": "x"})
        b'{"crc":"f7edcf5e","data":{"schema":"x"}}\\n'
        """
        text = self.canonical(data)
        return f'{{"crc":"{zlib.crc32(text.encode()):08x}","data":{text}}}\n'.encode()

    def read(self, path: Path) -> Lines:
        """Read a file; :attr:`error` if it is missing, not regular, or not of this format."""
        return self.parse(read_bytes(path, LARGEST_FILE, self.error), str(path))

    def parse(self, content: bytes, name: str) -> Lines:
        """Read the content of a file; see :meth:`read`."""
        lines = content.splitlines(keepends=True)
        records, whole = [], 0
        for number, line in enumerate(lines, 1):
            data = self._data_of(line)
            if data is None:
                if 1 < number < len(lines):
                    raise self.error(
                        f"{name}, line {number}: damaged (its checksum does not fit); restore the "
                        "file, or cut it before this line and "
                        + self.again.format(path=shlex.quote(name))
                    )
                break
            records.append(data)
            whole += len(line)
        if records and records[0] != {"schema": self.schema}:
            found = records[0].get("schema", "no schema")
            raise self.error(f"{name}, line 1: {found!r}; this version reads {self.schema!r}")
        if not records and not self.line({"schema": self.schema}).startswith(content):
            raise self.error(f"{name}: is no file of {self.what}; give another name")
        return Lines(tuple(records[1:]), whole, len(content) - whole)

    def _data_of(self, line: bytes) -> dict[str, Any] | None:
        """What a line holds; None if it is not whole."""
        if not line.endswith(b"\n"):
            return None
        try:
            outer = json.loads(line)
            data = outer["data"]
            whole = outer["crc"] == f"{zlib.crc32(self.canonical(data).encode()):08x}"
        except (ValueError, KeyError, TypeError, RecursionError):
            return None
        return data if whole and isinstance(data, dict) else None


class LineFile:
    """A file of lines, open for writing by one process; use :meth:`open`, in a ``with`` block.

    Attributes
    ----------
    found
        What the file held when it was opened. Nothing is written, or cut off, before the first
        :meth:`append`, so that a file that turns out to be another's stays as it is.
    """

    def __init__(self, file: FileIO, path: Path, form: LineFormat, found: Lines) -> None:
        self._file, self.path, self.form, self.found = file, path, form, found
        self._end = found.whole_bytes

    @classmethod
    def open(cls, path: Path, form: LineFormat) -> Self:
        """Create a file, or continue one; its folder must exist.

        Raises
        ------
        ValueError
            ``form.error``: the file cannot be written, is in use, not regular, or of another
            format.
        """
        if path.exists() and not path.is_file():  # opening a pipe would block
            raise form.error(f"{path}: is not a regular file; give another file")
        try:
            file = path.open("a+b", buffering=0)  # nothing may linger in a buffer
        except OSError as error:
            raise form.error(
                f"{path}: cannot be written ({error.strerror or error}); give another file"
            ) from None
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return cls(file, path, form, form.read(path))
        except OSError:
            file.close()
            raise form.error(
                f"{path}: another process is writing {form.what} into it; wait for it, or give "
                "another file"
            ) from None
        except BaseException:
            file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; another process may open it then."""
        self._file.close()

    def append(self, data: Mapping[str, Any]) -> None:
        """Append a line; it is on the disk when this returns.

        Raises
        ------
        ValueError
            ``form.error``: a value has no JSON, or the disk is full. The file is as it was then.
        """
        line = self.form.line(data)
        if not self._end:
            self._write(self.form.line({"schema": self.form.schema}))
            _sync_folder(self.path.absolute().parent)
        self._write(line)

    def _write(self, line: bytes) -> None:
        descriptor = self._file.fileno()
        try:
            if os.fstat(descriptor).st_size > self._end:  # the rest of a crash or a failed write
                os.ftruncate(descriptor, self._end)
            left = memoryview(line)
            while left:
                left = left[self._file.write(left) :]
            os.fsync(descriptor)
        except OSError as error:
            self._cut()
            raise self.form.error(
                f"{self.path}: cannot be written ({error.strerror or error}); what was written "
                f"before is kept; make space and {self._again()}"
            ) from None
        except BaseException:  # an interrupt between write and sync
            self._cut()
            raise
        self._end += len(line)

    def _again(self) -> str:
        """How to go on: from the start while nothing but the schema is written."""
        begun = self._end > len(self.form.line({"schema": self.form.schema}))
        again = self.form.again if begun else "run the same command again"
        return again.format(path=shlex.quote(str(self.path)))

    def _cut(self) -> None:
        """Remove what a failed append left; if that fails too, the next one will."""
        try:
            os.ftruncate(self._file.fileno(), self._end)
        except OSError:
            return


def _sync_folder(folder: Path) -> None:
    """Make a new file's name last, too."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
