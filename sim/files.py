"""Writing files whole: a reader finds the old content or the new, never a part."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from secrets import token_hex
from shutil import copymode
from typing import BinaryIO


class FileError(ValueError):
    """A file cannot be written; the message names it and says what to do."""


def write_atomic(path: Path, text: str) -> None:
    """Write ``text`` as UTF-8 to ``path``, replacing what was there in one go.

    See :func:`replacing`.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_atomic(Path(folder, "a.txt"), "whole")
    ...     Path(folder, "a.txt").read_text()
    'whole'
    """
    content = text.encode()
    with replacing(path) as file:
        file.write(content)


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Give a file to write; when the block ends, it takes the place of ``path`` in one go.

    A temporary file in the same folder is written, flushed to the disk and renamed; on failure it
    is removed and ``path`` is as it was. A new file has the permissions that the umask leaves,
    a replaced one keeps its own.

    Parameters
    ----------
    path
        A new file, or a regular one to replace; its folder must exist.

    Raises
    ------
    FileError
        ``path`` is a folder or a device, its folder is missing or closed, or the disk is full.
    """
    target = path.resolve()  # behind a link, the file it leads to is replaced, not the link
    if target.exists() and not target.is_file():
        raise FileError(f"{path}: is not a regular file; give the name of a file")
    if target.exists() and not os.access(target, os.W_OK):
        raise FileError(f"{path}: is not writable; change its permissions or give another name")
    temporary = target.parent / f".{token_hex(8)}.part"
    try:
        with temporary.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if target.exists():
            copymode(target, temporary)
        os.replace(temporary, target)  # noqa: PTH105  # the one call whose atomicity is relied on
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise FileError(
            f"{path}: cannot be written ({error.strerror or error}); "
            "check the folder and the space left"
        ) from error
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
